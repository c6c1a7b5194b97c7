import Datasets
import Definitions
import Expressions
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
    let dialect: SQLDialect

    static let sliceNames = ["train", "validation", "test"]

    /// Names of the tables' sources, those of spine and label included.
    static func sources(_ definition: TrainingSetDefinition, _ service: FeatureServiceDefinition, _ set: DefinitionSet)
        -> Set<Name>
    {
        definition.ownSources.union(service.features.compactMap { set.featureViews[$0.view]?.source })
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
        for feature in service.onDemand {
            let type = feature.expression.type == .timestamp ? ColumnType.int64 : feature.expression.type
            columns.append(column(feature.name, .feature, type.rawValue))
        }
        guard let label = definition.label else { return columns }
        return columns + [column(label, .label, definition.labelExpression == .value ? "float64" : "int64")]
    }

    private func table(_ source: Name) -> String {
        guard let scan = scans[source] else { preconditionFailure("every source was scanned") }
        return scan.sql(dialect)
    }

    func source(_ name: Name) -> SourceDefinition {
        guard let source = definitions.sources[name] else { preconditionFailure("a checked set has its sources") }
        return source
    }

    /// Statements that leave the table `dataset`, in no order, with `__row` (the order) and `__slice`, and the table
    /// `question` with every question asked.
    /// - Throws: `invalidInput` for a feature that the dialect cannot say.
    func statements() throws(PlatformError) -> [String] {
        var out = questionStatements
        for index in viewOrder.indices { out += try featureStatements(ofView: index) }
        return out + [datasetStatement]
    }

    /// Statements that leave `question`, and `labelled`: the questions with a label, `__row` and `__slice`.
    var questionStatements: [String] {
        dialect.preparation + [questionStatement, labelStatement] + splitStatements
    }

    /// The features of the service's view at `index` in `viewOrder`, and the names of their columns.
    func outputs(ofView index: Int) -> [FeatureSQL.Output] {
        service.features.filter { $0.view == viewOrder[index] }.map {
            FeatureSQL.Output(feature: $0.feature, column: $0.servedName)
        }
    }

    /// Statements that compute a view's features for `labelled` into its table.
    func featureStatements(ofView index: Int) throws(PlatformError) -> [String] {
        guard let view = definitions.featureViews[viewOrder[index]] else { return [] }
        let sql = try FeatureSQL(
            view: view, source: source(view.source), outputs: outputs(ofView: index), dialect: dialect)
        return sql.statements(
            events: table(view.source), knownBefore: asOf, questions: "labelled", result: Self.table(ofView: index))
    }

    /// Name of the table with a view's features and `__row`.
    static func table(ofView index: Int) -> String { "view\(index)" }

    /// Makes `dataset` of `labelled` and the views' tables.
    var datasetStatement: String {
        let joins = viewOrder.indices.map { " JOIN view\($0) ON view\($0).__row = labelled.__row" }.joined()
        let requests = service.request.map {
            ", labelled.\(dialect.identifier("r_" + $0.name)) AS \(dialect.identifier($0.name))"
        }
        let features = service.features.map { ", \(dialect.identifier($0.servedName))" }
        let onDemand = service.onDemand.map { ", \(onDemandSQL($0)) AS \(dialect.identifier($0.name))" }
        let label = definition.label.map { [", labelled.__label AS \(dialect.identifier($0))"] } ?? []
        return dialect.create(
            "dataset", reused: true,
            as: """
                SELECT labelled.__row, labelled.__slice, labelled.__time AS __event_time, labelled.__sequence\
                \((requests + features + onDemand + label).joined())
                FROM labelled\(joins)
                """)
    }

    /// An on-demand feature over the columns of the join.
    ///
    /// Whole numbers go through a double, as they do when they are served.
    private func onDemandSQL(_ feature: OnDemandFeatureDefinition) -> String {
        OnDemandSQL(feature: feature, service: service, dialect: dialect).value { name in
            "labelled.\(dialect.identifier("r_" + name))"
        } served: { name, type in
            let column = dialect.identifier(name)
            return switch type {
            case .int64, .timestamp: "TRY_CAST(CAST(\(column) AS DOUBLE) AS BIGINT)"
            default: column
            }
        }
    }

    /// The service's views, in the order of their first features.
    var viewOrder: [Name] {
        var order: [Name] = []
        for feature in service.features where !order.contains(feature.view) { order.append(feature.view) }
        return order
    }

    /// Rows of the spine in the span, with keys as text, request features and label keys.
    private var questionStatement: String {
        let spine = definitions.spine(of: definition)
        var columns = ["__event_time AS __time", "__ingest_time AS __known", "__sequence"]
        for key in service.joinKeys {
            guard let column = spine.column(key) else { preconditionFailure("a checked spine has the join keys") }
            columns.append("\(FeatureSQL.keyText(column, dialect)) AS \(dialect.identifier(key))")
        }
        for request in service.request {
            guard let column = spine.column(request.name) else {
                preconditionFailure("a checked spine has the request")
            }
            let name = dialect.identifier(request.name)
            let value: String
            switch request.kind {
            case .number:
                value = "CAST(\(column.type == .timestamp ? dialect.milliseconds(name) : name) AS DOUBLE)"
            case .category(let values):
                // Text outside the list is no category of this feature: null, as it is for a request.
                let list = values.map(dialect.literal).joined(separator: ", ")
                value =
                    "CASE WHEN CAST(\(name) AS \(dialect.text)) IN (\(list)) THEN CAST(\(name) AS \(dialect.text)) END"
            }
            columns.append("\(value) AS \(dialect.identifier("r_" + request.name))")
        }
        for key in definition.labelKeys {
            columns.append("\(dialect.identifier(key)) AS \(dialect.identifier("l_" + key))")
        }
        if definition.label != nil, definition.labelSource == nil {
            columns.append("\(dialect.identifier(definition.labelColumn)) AS __value")
        }
        return dialect.create(
            "question", reused: true,
            as: """
                SELECT \(columns.joined(separator: ", ")) FROM \(questions(dialect))
                """)
    }

    /// What stands in `FROM` for the rows of the spine in the span.
    func questions(_ dialect: SQLDialect) -> String {
        guard let scan = scans[definition.spine] else { preconditionFailure("every source was scanned") }
        return """
            \(scan.sql(dialect))
            WHERE __event_time >= \(from.milliseconds) AND __event_time < \(to.milliseconds)
            AND __ingest_time < \(asOf.milliseconds)
            """
    }

    /// Questions with the newest label that happened within the horizon and was known, in the order of the files.
    private var labelStatement: String {
        guard definition.label != nil else { return dialect.create("answered", as: "SELECT * FROM question") }
        let value: String
        switch definition.labelExpression {
        case .value: value = "CAST(__value AS DOUBLE)"
        case .greaterThan(let bound):
            value =
                "CAST(CASE WHEN CAST(__value AS DOUBLE) > \(dialect.real(Double(bound))) THEN 1 ELSE 0 END AS BIGINT)"
        }
        guard let labelSource = definition.labelSource else {
            return dialect.create(
                "answered", as: "SELECT *, \(value) AS __label FROM question WHERE __value IS NOT NULL")
        }
        let keys = definition.labelKeys.map(dialect.identifier)
        let join = definition.labelKeys.map {
            "q.\(dialect.identifier("l_" + $0)) = l.\(dialect.identifier($0))"
        }
        let order = "ORDER BY l.l_time DESC, l.l_known DESC, l.l_place DESC"
        return dialect.create(
            "answered",
            as: """
                SELECT *, \(value) AS __label FROM (
                SELECT q.*, l.__value, row_number() OVER (PARTITION BY q.__sequence \(order)) AS __pick FROM question q JOIN (
                SELECT \(keys.joined(separator: ", ")), \(dialect.identifier(definition.labelColumn)) AS __value,
                __event_time AS l_time, __ingest_time AS l_known, __sequence AS l_place FROM \(table(labelSource))
                WHERE __ingest_time < \(asOf.milliseconds)) l
                ON \(join.joined(separator: " AND ")) AND l.l_time >= q.__time
                AND l.l_time <= q.__time + \(definition.labelHorizon.milliseconds)
                ) p WHERE __pick = 1 AND __value IS NOT NULL
                """)
    }

    /// Puts every answered question into a slice, and numbers them in the order of the files.
    private var splitStatements: [String] {
        let slice: String
        switch definition.split {
        case .time(let validation, let test):
            // A moment is never in two slices.
            func boundary(_ share: Double) -> String {
                "(SELECT __time FROM numbered WHERE __row = (SELECT CAST(floor(count(*) * \(dialect.real(share))) AS BIGINT) FROM numbered))"
            }
            slice =
                "WHEN __time >= \(boundary(1 - test)) THEN 'test' WHEN __time >= \(boundary(1 - test - validation)) THEN 'validation'"
        case .random(let validation, let test, let seed):
            slice = hashedSlice("CAST(__sequence AS \(dialect.text))", validation, test, seed)
        case .entity(let keys, let validation, let test, let seed):
            let text = keys.map { "coalesce(\(dialect.identifier($0)), '')" }.joined(separator: " || chr(31) || ")
            slice = hashedSlice(text, validation, test, seed)
        }
        return [
            dialect.create(
                "numbered", reused: true,
                as:
                    "SELECT *, CAST(row_number() OVER (ORDER BY __time, __sequence) - 1 AS BIGINT) AS __row FROM answered"
            ),
            dialect.create(
                "labelled", reused: true, as: "SELECT *, CASE \(slice) ELSE 'train' END AS __slice FROM numbered"),
        ] + dialect.drop(["answered", "numbered"])
    }

    /// The MD5 of seed and text as a share of 1.
    ///
    /// Its first eight bytes, the lowest first, of which the top 52 bits count: exact in a double, so the same on every machine.
    private func hashedSlice(_ text: String, _ validation: Double, _ test: Double, _ seed: Int) -> String {
        let share = "(CAST(\(dialect.digest("'\(seed):' || \(text)")) AS DOUBLE) / \(dialect.real(0x1p52)))"
        return
            "WHEN \(share) < \(dialect.real(test)) THEN 'test' WHEN \(share) < \(dialect.real(test + validation)) THEN 'validation'"
    }

    /// Writes one slice as one file in the order of the rows; equal rows give equal bytes.
    func write(slice: String, to path: String) -> String {
        let names = columns.map { dialect.identifier($0.name) }.joined(separator: ", ")
        return dialect.write(
            names, from: "dataset WHERE __slice = \(dialect.literal(slice))", orderedBy: "__row", to: path)
    }

    /// One row for each slice that has rows, and one with an empty name for the questions.
    var summary: String {
        let positive = definition.label.map { "CASE WHEN \(dialect.identifier($0)) > 0 THEN 1 ELSE 0 END" } ?? "NULL"
        return """
            SELECT __slice AS slice, count(*) AS n, CAST(sum(\(positive)) AS BIGINT) AS positive,
            min(__event_time) AS first, max(__event_time) AS last FROM dataset GROUP BY __slice
            UNION ALL SELECT '', count(*), 0, NULL, NULL FROM question
            """
    }
}
