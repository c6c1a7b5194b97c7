import APIContract
import Datasets
import Definitions
import FeatureStore
import PlatformCore

extension FeastRoutes {
    /// A tag of a source: rows pushed under this name go there too.
    static let pushTag = "feast-push-source:"

    func push(_ request: APIRequest) async throws -> APIResponse {
        let body = try FeastRequest(
            request, byteCountMax: Self.frameByteCountMax,
            known: ["push_source_name", "df", "allow_registry_cache", "to", "transform_on_write"])
        let name = try body.text("push_source_name")
        let to = try body["to"].map { _ in try body.text("to") } ?? "online"
        // One log feeds the tables and the online state, so each of the three means both.
        guard ["online", "offline", "online_and_offline"].contains(to) else {
            throw FeastError.invalid(
                "\(to.prefix(64)) is not a supported push format. Please specify one of these ['online', 'offline',"
                    + " 'online_and_offline'].")
        }
        let set = definitions()
        let sources = set.sources.values.filter { source in
            source.name.text == name || set.tags["Source/\(source.name)"]?.contains(Self.pushTag + name) == true
        }.sorted { $0.name < $1.name }
        guard !sources.isEmpty else {
            throw FeastError.unknownPushSource(name, among: set.sources.keys.map(\.text))
        }
        let frame = try DataFrame(body["df"])
        for source in sources {
            // A name that stands for several sources names them by tag: each takes the columns that it has.
            let known = sources.count == 1 ? frame : frame.keeping(source, among: sources)
            try await store(known.rows(of: source, renamed: [:]), in: source, request)
        }
        return APIResponse()
    }

    func writeToOnlineStore(_ request: APIRequest) async throws -> APIResponse {
        let body = try FeastRequest(
            request, byteCountMax: Self.frameByteCountMax,
            known: ["feature_view_name", "df", "allow_registry_cache", "transform_on_write"])
        let set = definitions()
        let text = try body.text("feature_view_name")
        guard let name = Name(text), let view = set.featureViews[name] else {
            throw FeastError.unknownView(text, among: set.featureViews.keys.map(\.text))
        }
        let source = set.source(of: view)
        let columns = try Self.columns(view, source)
        try Self.check(sharing: view, columns, set)
        let frame = try DataFrame(body["df"])
        let times = [source.eventTimeColumn, source.ingestTimeColumn ?? "created", "event_timestamp", "created"]
        let known = view.joinKeys + view.features.map(\.name) + times
        // Feast's client sends all that its own view has; where the source drops other columns, they are dropped here too.
        for column in frame.columns.keys.sorted() where source.schemaChange == .refuse && !known.contains(column) {
            throw FeastError.invalid(
                "'df.\(column.prefix(64))' is neither a join key nor a feature of '\(name)'"
                    + FeastError.suggestion(column, known))
        }
        let missing = (view.joinKeys + view.features.map(\.name)).filter { frame.columns[$0] == nil }
        guard missing.isEmpty else {
            throw FeastError.invalid("'df' lacks \(missing.prefix(20).joined(separator: ", ")) of '\(name)'")
        }
        try await store(try frame.rows(of: source, renamed: columns), in: source, request)
        return .json(.null)
    }

    /// Where a view's features come from: source column to feature.
    private static func columns(_ view: FeatureViewDefinition, _ source: SourceDefinition) throws -> [String: String] {
        var columns: [String: String] = [:]
        for feature in view.features {
            guard feature.aggregate == .last, feature.window == nil, feature.condition == nil,
                let column = feature.column,
                source.column(column) != nil
            else {
                throw FeastError.invalid(
                    "'\(view.name):\(feature.name)' is computed from events and cannot be written;"
                        + " push rows to source '\(source.name)'")
            }
            guard columns[column] == nil else {
                throw FeastError.invalid(
                    "'\(view.name)' has two features of column '\(column)'; push rows to source '\(source.name)'")
            }
            columns[column] = feature.name
        }
        return columns
    }

    /// A row that is written for one view is an event of every view of its source: it must not empty their features.
    private static func check(
        sharing view: FeatureViewDefinition, _ columns: [String: String], _ set: DefinitionSet
    ) throws {
        for other in set.featureViews.values.sorted(by: { $0.name < $1.name })
        where other.source == view.source && other.name != view.name {
            let sees = other.features.allSatisfy { feature in
                other.derivedColumns.isEmpty && feature.column.map { columns[$0] != nil } ?? true
            }
            guard sees, Set(other.joinKeys).isSubset(of: view.joinKeys) else {
                throw FeastError.invalid(
                    "'\(other.name)' reads the same source and needs columns that '\(view.name)' does not have;"
                        + " push whole rows to '\(view.source)'")
            }
        }
    }

    private func store(_ rows: [JSONValue], in source: SourceDefinition, _ request: APIRequest) async throws {
        let report = try await ingest.push(
            source, rows: rows, idempotencyKey: request.headers["idempotency-key"], now: clock.now())
        guard report.quarantined == 0 else {
            let reasons = report.rejected.prefix(3).map { "row \($0.position): \($0.reasons.joined(separator: ", "))" }
            throw FeastError.invalid(
                "\(report.quarantined) of \(rows.count) rows break the contract of source '\(source.name)' and are in its"
                    + " quarantine, the others are stored; \(reasons.joined(separator: "; "))")
        }
    }
}

extension DataFrame {
    /// The columns of one of several sources: its own, and those that none of them has.
    func keeping(_ source: SourceDefinition, among sources: [SourceDefinition]) -> DataFrame {
        DataFrame(
            columns: columns.filter { name, _ in
                source.column(name) != nil || !sources.contains { $0.column(name) != nil }
            }, rowCount: rowCount)
    }

    private init(columns: [String: [JSONValue]], rowCount: Int) {
        self.columns = columns
        self.rowCount = rowCount
    }
}
