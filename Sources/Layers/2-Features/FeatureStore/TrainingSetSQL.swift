import Datasets
import Definitions
import PlatformCore
import StoragePorts

/// The statements of one training set, apart from where files go.
struct TrainingSetSQL {
    let definition: TrainingSetDefinition
    let service: FeatureServiceDefinition
    let definitions: DefinitionSet
    let scans: [Name: TableScan]
    let from: EventTime
    let to: EventTime
    let asOf: EventTime

    static let sliceNames = ["train", "validation", "test"]

    /// Names of the tables' sources, spine and label included.
    static func sources(_ definition: TrainingSetDefinition, _ service: FeatureServiceDefinition, _ set: DefinitionSet)
        -> Set<Name>
    {
        Set(
            service.features.compactMap { set.featureViews[$0.view]?.source } + [
                definition.spine, definition.labelSource,
            ])
    }

    /// The columns of the files, in order.
    var columns: [DatasetManifest.Column] {
        func column(
            _ name: String, _ role: DatasetManifest.Role, _ type: String, categories: [String]? = nil, view: Name? = nil
        ) -> DatasetManifest.Column {
            DatasetManifest.Column(
                name: name, role: role, type: type, categories: categories, viewVersion: view?.text)
        }
        var columns = [column("__event_time", .question, "int64"), column("__sequence", .question, "int64")]
        for request in service.request {
            switch request.kind {
            case .number: columns.append(column(request.name, .request, "float64"))
            case .category(let values): columns.append(column(request.name, .request, "category", categories: values))
            }
        }
        for served in service.features {
            guard let view = definitions.featureViews[served.view],
                let feature = view.features.first(where: { $0.name == served.feature })
            else { preconditionFailure("a checked service names features that exist") }
            let type = feature.type == .timestamp ? ColumnType.int64 : feature.type
            columns.append(column(served.servedName, .feature, type.rawValue, view: view.versionName))
        }
        let isClass = definition.labelExpression != .value
        return columns + [column(definition.label, .label, isClass ? "int64" : "float64")]
    }

    private func table(_ source: Name) -> String {
        guard let scan = scans[source] else { preconditionFailure("every source was scanned") }
        return scan.sql
    }

    private func source(_ name: Name) -> SourceDefinition {
        guard let source = definitions.sources[name] else { preconditionFailure("a checked set has its sources") }
        return source
    }

    /// Statements that leave the table `dataset`, in no order, with `__row` (the order) and `__slice`, and the table
    /// `question` with every question asked.
    /// - Throws: `invalidInput` for a feature that the dialect cannot say.
    func statements() throws(PlatformError) -> [String] {
        var out = SQLDialect.duckdb.preparation + [questionStatement, labelStatement] + splitStatements
        var joins = ""
        for (index, view) in viewOrder.enumerated() {
            guard let definition = definitions.featureViews[view] else { continue }
            let outputs = service.features.filter { $0.view == view }.map {
                FeatureSQL.Output(feature: $0.feature, column: $0.servedName)
            }
            let sql = try FeatureSQL(view: definition, source: source(definition.source), outputs: outputs)
            out += sql.statements(
                events: table(definition.source), knownBefore: asOf, questions: "labelled", result: "view\(index)")
            joins += " JOIN view\(index) ON view\(index).__row = labelled.__row"
        }
        let requests = service.request.map {
            ", labelled.\(SQLText.identifier("r_" + $0.name)) AS \(SQLText.identifier($0.name))"
        }
        let features = service.features.map { ", \(SQLText.identifier($0.servedName))" }
        out.append(
            """
            CREATE TEMP TABLE dataset AS SELECT labelled.__row, labelled.__slice, labelled.__time AS __event_time,
            labelled.__sequence\((requests + features).joined()), labelled.__label AS \(SQLText.identifier(definition.label))
            FROM labelled\(joins)
            """)
        return out
    }

    private var viewOrder: [Name] {
        var order: [Name] = []
        for feature in service.features where !order.contains(feature.view) { order.append(feature.view) }
        return order
    }

    /// Rows of the spine in the span, with keys as text, request features and label keys.
    private var questionStatement: String {
        let spine = source(definition.spine)
        var columns = ["__event_time AS __time", "__ingest_time AS __known", "__sequence"]
        for key in service.joinKeys {
            guard let column = spine.column(key) else { preconditionFailure("a checked spine has the join keys") }
            columns.append("\(FeatureSQL.keyText(column)) AS \(SQLText.identifier(key))")
        }
        for request in service.request {
            guard let column = spine.column(request.name) else {
                preconditionFailure("a checked spine has the request")
            }
            let name = SQLText.identifier(request.name)
            let value: String
            switch request.kind {
            case .number:
                value = column.type == .timestamp ? "CAST(epoch_ms(\(name)) AS DOUBLE)" : "CAST(\(name) AS DOUBLE)"
            case .category(let values):
                // Text outside the list is no category of this feature: null, as it is for a request.
                let list = values.map(SQLText.literal).joined(separator: ", ")
                value = "CASE WHEN CAST(\(name) AS VARCHAR) IN (\(list)) THEN CAST(\(name) AS VARCHAR) END"
            }
            columns.append("\(value) AS \(SQLText.identifier("r_" + request.name))")
        }
        for key in definition.labelKeys {
            columns.append("\(SQLText.identifier(key)) AS \(SQLText.identifier("l_" + key))")
        }
        return """
            CREATE TEMP TABLE question AS SELECT \(columns.joined(separator: ", ")) FROM \(table(definition.spine))
            WHERE __event_time >= \(from.milliseconds) AND __event_time < \(to.milliseconds)
            AND __ingest_time < \(asOf.milliseconds)
            """
    }

    /// Questions with the newest label that happened within the horizon and was known, in the order of the files.
    private var labelStatement: String {
        let keys = definition.labelKeys.map(SQLText.identifier)
        let join = definition.labelKeys.map {
            "q.\(SQLText.identifier("l_" + $0)) = l.\(SQLText.identifier($0))"
        }
        let value: String
        switch definition.labelExpression {
        case .value: value = "CAST(value AS DOUBLE)"
        case .greaterThan(let bound):
            value = "CAST(CASE WHEN CAST(value AS DOUBLE) > \(bound)::DOUBLE THEN 1 ELSE 0 END AS BIGINT)"
        }
        return """
            CREATE TEMP TABLE answered AS SELECT * EXCLUDE (value), \(value) AS __label FROM (
            SELECT q.*, l.value FROM question q JOIN (
            SELECT \(keys.joined(separator: ", ")), \(SQLText.identifier(definition.labelColumn)) AS value,
            __event_time AS l_time, __ingest_time AS l_known, __sequence AS l_place FROM \(table(definition.labelSource))
            WHERE __ingest_time < \(asOf.milliseconds)) l
            ON \(join.joined(separator: " AND ")) AND l.l_time >= q.__time AND l.l_time <= q.__time + \(definition.labelHorizon.milliseconds)
            QUALIFY row_number() OVER (PARTITION BY q.__sequence ORDER BY l.l_time DESC, l.l_known DESC, l.l_place DESC) = 1
            ) WHERE value IS NOT NULL
            """
    }

    /// Puts every answered question into a slice, and numbers them in the order of the files.
    private var splitStatements: [String] {
        let slice: String
        switch definition.split {
        case .time(let validation, let test):
            // A moment is never in two slices.
            func boundary(_ share: Double) -> String {
                "(SELECT __time FROM numbered WHERE __row = (SELECT CAST(floor(count(*) * \(share)::DOUBLE) AS BIGINT) FROM numbered))"
            }
            slice =
                "WHEN __time >= \(boundary(1 - test)) THEN 'test' WHEN __time >= \(boundary(1 - test - validation)) THEN 'validation'"
        case .random(let validation, let test, let seed):
            slice = Self.hashedSlice("CAST(__sequence AS VARCHAR)", validation, test, seed)
        case .entity(let keys, let validation, let test, let seed):
            let text = keys.map { "coalesce(\(SQLText.identifier($0)), '')" }.joined(separator: " || chr(31) || ")
            slice = Self.hashedSlice(text, validation, test, seed)
        }
        return [
            """
            CREATE TEMP TABLE numbered AS SELECT *,
            CAST(row_number() OVER (ORDER BY __time, __sequence) - 1 AS BIGINT) AS __row FROM answered
            """,
            "CREATE TEMP TABLE labelled AS SELECT *, CASE \(slice) ELSE 'train' END AS __slice FROM numbered",
            "DROP TABLE answered", "DROP TABLE numbered",
        ]
    }

    /// The MD5 of seed and text as a share of 1: its first eight bytes, the lowest first, of which the top 52 bits count. Exact in
    /// a double, so the same on every machine.
    private static func hashedSlice(_ text: String, _ validation: Double, _ test: Double, _ seed: Int) -> String {
        let share = "(CAST(md5_number_upper('\(seed):' || \(text)) >> 12 AS DOUBLE) / 4503599627370496.0::DOUBLE)"
        return
            "WHEN \(share) < \(test)::DOUBLE THEN 'test' WHEN \(share) < \(test + validation)::DOUBLE THEN 'validation'"
    }

    /// Writes one slice; on one thread, so that equal rows give equal bytes.
    func write(slice: String, to path: String) -> String {
        let names = columns.map { SQLText.identifier($0.name) }.joined(separator: ", ")
        return """
            COPY (SELECT \(names) FROM dataset WHERE __slice = \(SQLText.literal(slice)) ORDER BY __row)
            TO \(SQLText.literal(path)) (FORMAT parquet, COMPRESSION zstd)
            """
    }

    /// One row for each slice that has rows, and one with an empty name for the questions.
    var summary: String {
        """
        SELECT __slice AS slice, count(*) AS n, sum(CASE WHEN \(SQLText.identifier(definition.label)) > 0 THEN 1 ELSE 0 END)::BIGINT AS positive,
        min(__event_time) AS first, max(__event_time) AS last FROM dataset GROUP BY __slice
        UNION ALL SELECT '', count(*), 0, NULL, NULL FROM question
        """
    }
}
