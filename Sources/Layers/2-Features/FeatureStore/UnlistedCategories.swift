public import Definitions
import PlatformCore
public import StoragePorts

/// Values of category features that stand in no list: they are null to a model.
public enum UnlistedCategories {
    /// What there is of them in a table, for people: a line for each feature that has some.
    ///
    /// Nothing that is computed is lost for a word about it: an engine that cannot say gives no line.
    /// - Parameters:
    ///   - table: a table, or what stands for one in `FROM`, in DuckDB's words.
    ///   - features: those of the kind `category` are looked at; columns are named as they are.
    public static func warnings(
        in table: String, of features: [RequestFeatureDefinition], engine: any OfflineEngine, limits: QueryLimits
    ) async -> [String] {
        let lists = features.compactMap { feature -> (name: String, values: [String])? in
            guard case .category(let values) = feature.kind else { return nil }
            return (feature.name, values)
        }
        guard !lists.isEmpty else { return [] }
        let counts = lists.enumerated().map { place, list in
            let text = "CAST(\(SQLText.identifier(list.name)) AS VARCHAR)"
            let isUnlisted = "\(text) NOT IN (\(list.values.map(SQLText.literal).joined(separator: ", ")))"
            return "count(*) FILTER (\(isUnlisted)) AS n\(place), min(\(text)) FILTER (\(isUnlisted)) AS x\(place)"
        }
        let row = try? await engine.rows(
            "SELECT count(*) AS n, \(counts.joined(separator: ", ")) FROM \(table)", limits: limits
        ).first
        guard let row, let rows = row["n"]?.integerValue else { return [] }
        return lists.enumerated().compactMap { place, list in
            guard let count = row["n\(place)"]?.integerValue, count > 0, let example = row["x\(place)"]?.stringValue
            else { return nil }
            return warning(list.name, listed: list.values, count: Int(count), of: Int(rows), example: example)
        }
    }

    /// What is said of one feature.
    ///
    /// - Parameters:
    ///   - count: rows whose value stands in no list.
    ///   - rowCount: rows looked at.
    ///   - example: one of the values.
    public static func warning(
        _ name: String, listed values: [String], count: Int, of rowCount: Int, example: String
    ) -> String {
        let near = nearestName(to: example, among: values).map { " (the list has '\($0)')" } ?? ""
        return
            "'\(name)' has values outside of its list in \(count) of \(rowCount) rows, such as '\(example.prefix(60))'\(near): "
            + "they are null to the model"
    }
}
