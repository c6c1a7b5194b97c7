import PlatformCore
import StoragePorts

extension TrainingSetBuilder {
    /// Inputs some of whose values are whole numbers that float32 cannot hold: a model is trained with others than it is asked
    /// with.
    ///
    /// The statistics of the Parquet files say which columns are looked at; those in one pass.
    func roundingWarnings(of files: [String], columns: [DatasetManifest.Column], rowCount: Int64) async -> [String] {
        let list = files.map(SQLText.literal).joined(separator: ", ")
        let largest =
            "max(greatest(abs(TRY_CAST(stats_min_value AS DOUBLE)), abs(TRY_CAST(stats_max_value AS DOUBLE))))"
        // Nothing that is computed is lost for a word about it.
        let found = try? await leakageEngine.rows(
            """
            SELECT path_in_schema AS name FROM parquet_metadata([\(list)]) WHERE num_values > 0 GROUP BY 1
            HAVING coalesce(\(largest) > \(Self.wholeMax), true) OR count(stats_max_value) < count(*)
            """, limits: limits)
        let large = Set((found ?? []).compactMap { $0["name"]?.stringValue })
        let inputs = columns.filter {
            [.request, .feature].contains($0.role) && ["int64", "float64"].contains($0.type) && large.contains($0.name)
        }
        guard !inputs.isEmpty else { return [] }
        let counts = inputs.enumerated().map { place, column in
            let name = SQLText.identifier(column.name)
            let isRounded =
                "isfinite(\(name)::DOUBLE) AND \(name) = round(\(name)) AND abs(\(name)::DOUBLE) > \(Self.wholeMax) "
                + "AND TRY_CAST(\(name) AS FLOAT)::DOUBLE IS DISTINCT FROM \(name)::DOUBLE"
            let example = "min(\(name)) FILTER (\(isRounded))"
            return "count(*) FILTER (\(isRounded)) AS n\(place), printf('%.0f', \(example)::DOUBLE) AS x\(place), "
                + "printf('%.0f', TRY_CAST(\(example) AS FLOAT)::DOUBLE) AS r\(place)"
        }
        let row = try? await leakageEngine.rows(
            "SELECT \(counts.joined(separator: ", ")) FROM read_parquet([\(list)])", limits: limits
        ).first
        guard let row else { return [] }
        return inputs.enumerated().compactMap { place, column in
            guard let count = row["n\(place)"]?.integerValue, count > 0, let value = row["x\(place)"]?.stringValue
            else { return nil }
            return
                "'\(column.name)' has whole numbers that float32 cannot hold in \(count) of \(rowCount) rows: \(value) "
                + "reaches a model as \(row["r\(place)"]?.stringValue ?? "no finite number"); give it a difference, a smaller "
                + "unit or a category"
        }
    }

    /// Up to here float32 holds every whole number: 2^24.
    private static let wholeMax = 16_777_216
}
