import Definitions
public import ExperimentTracking
import PlatformCore
import StoragePorts

/// One page of a search and where the next one begins.
public struct RegistryPage<Element: Sendable>: Sendable {
    /// What was found.
    public let elements: [Element]
    /// Where the next page begins; `nil` at the end.
    public let next: String?
}

/// A model with what a list shows of it.
public struct ModelState: Sendable {
    /// The model.
    public let model: RegisteredModel
    /// Its tags.
    public let tags: [String: String]
    /// Its aliases and the versions they point at.
    public let aliases: [String: Int]
    /// The newest version of each stage, oldest first.
    public let latest: [VersionState]
}

extension ModelVersionRegistry {
    /// Models that pass a filter, by name unless `orders` says otherwise.
    ///
    /// - Parameters:
    ///   - filter: over `name`, `creation_timestamp`, `last_updated_timestamp` and `tags.…`.
    ///   - orders: sort keys.
    ///   - token: where the page begins, as an earlier page said; `nil` for the first.
    ///   - countMax: most models of a page.
    /// - Throws: `invalidInput` for a key that there is not, or for a token of another search.
    public func searchModels(
        _ filter: SearchFilter = .all, orders: [SearchOrder] = [], after token: String? = nil, countMax: Int
    ) async throws -> RegistryPage<ModelState> {
        let query = try RegistryQuery(.models, filter: filter, orders: orders)
        return try await store.read { transaction in
            let page = try query.page(after: token, countMax: countMax, in: transaction)
            return RegistryPage(
                elements: try Self.states(of: page.rows.map { try RegisteredModel(row: $0) }, in: transaction),
                next: page.next)
        }
    }

    /// Versions that pass a filter, those that changed last first unless `orders` says otherwise.
    public func searchVersions(
        _ filter: SearchFilter = .all, orders: [SearchOrder] = [], after token: String? = nil, countMax: Int
    ) async throws -> RegistryPage<VersionState> {
        let query = try RegistryQuery(.versions, filter: filter, orders: orders)
        return try await store.read { transaction in
            let page = try query.page(after: token, countMax: countMax, in: transaction)
            return RegistryPage(elements: try Self.states(of: page.rows, in: transaction), next: page.next)
        }
    }

    /// A model with its labels and newest versions.
    /// - Throws: `notFound`.
    public func modelState(named name: String) async throws -> ModelState {
        try await store.read { try Self.state(Self.model(named: name, in: $0), in: $0) }
    }

    /// A version as it is now.
    /// - Throws: `notFound`, also for one that was deleted.
    public func versionState(_ number: Int, of name: String) async throws -> VersionState {
        try await store.read { transaction in
            let model = try Self.model(named: name, in: transaction)
            let state = try Self.states(of: [Self.row(model.id, number, in: transaction)], in: transaction).first
            guard let state else { throw Self.unknown(model.id, number) }
            return state
        }
    }

    // MARK: Inside a transaction

    static func state(_ model: RegisteredModel, in transaction: any MetadataTransaction) throws -> ModelState {
        try states(of: [model], in: transaction).first
            ?? ModelState(model: model, tags: [:], aliases: [:], latest: [])
    }

    /// Most values in the list of one statement.
    private static let listCountMax = 500

    /// Asks once for each portion of some values; `sql` gets as many marks as the portion has values.
    private static func rows<Value>(
        for values: [Value], in transaction: any MetadataTransaction, _ mark: String,
        _ arguments: (Value) -> [MetadataValue], _ sql: (_ marks: String) -> String
    ) throws -> [MetadataRow] {
        var rows: [MetadataRow] = []
        for start in stride(from: 0, to: values.count, by: listCountMax) {
            let some = values[start..<min(start + listCountMax, values.count)]
            rows += try transaction.query(
                sql(some.map { _ in mark }.joined(separator: ", ")), some.flatMap(arguments))
        }
        return rows
    }

    /// Models with their labels and newest versions, a handful of statements for all of them.
    private static func states(
        of models: [RegisteredModel], in transaction: any MetadataTransaction
    ) throws -> [ModelState] {
        let ids = models.map(\.id.text)
        let stages = ModelStage.allCases.map { "SELECT '\($0.rawValue)' AS stage" }.joined(separator: " UNION ALL ")
        // Of each model and stage the greatest number, which the index gives without looking at the others.
        let newest = try rows(for: ids, in: transaction, "?", { [.text($0)] }) { marks in
            """
            SELECT v.* FROM models m CROSS JOIN (\(stages)) s JOIN model_versions v ON v.model = m.model_id
            AND v.number = (SELECT x.number FROM model_versions x WHERE x.model = m.model_id AND x.stage = s.stage
            AND x.deleted_at IS NULL ORDER BY x.number DESC LIMIT 1) WHERE m.model_id IN (\(marks))
            """
        }
        let latest = Dictionary(grouping: try states(of: newest, in: transaction)) { $0.version.model.text }
        var tags: [String: [String: String]] = [:]
        for tag in try rows(
            for: ids, in: transaction, "?", { [.text($0)] },
            { "SELECT model_id, key, value FROM model_tags WHERE model_id IN (\($0)) AND number = 0" })
        {
            tags[tag.text("model_id"), default: [:]][tag.text("key")] = tag.text("value")
        }
        var aliases: [String: [String: Int]] = [:]
        for alias in try Self.aliases(of: ids, in: transaction) {
            aliases[alias.text("model_id"), default: [:]][alias.text("alias")] = Int(alias.integer("number"))
        }
        return models.map { model in
            ModelState(
                model: model, tags: tags[model.id.text] ?? [:], aliases: aliases[model.id.text] ?? [:],
                latest: (latest[model.id.text] ?? []).sorted { $0.version.number < $1.version.number })
        }
    }

    private static func aliases(of ids: [String], in transaction: any MetadataTransaction) throws -> [MetadataRow] {
        try rows(for: ids, in: transaction, "?", { [.text($0)] }) {
            "SELECT model_id, alias, number FROM model_aliases WHERE model_id IN (\($0)) ORDER BY model_id, alias"
        }
    }

    /// A version by its model and number.
    private struct Place: Hashable {
        let model: String
        let number: Int64

        init(_ row: MetadataRow, model: String) {
            (self.model, number) = (row.text(model), row.integer("number"))
        }
    }

    /// Versions of rows with their labels, a handful of statements for all of them.
    private static func states(of rows: [MetadataRow], in transaction: any MetadataTransaction) throws -> [VersionState]
    {
        let places = rows.map { Place($0, model: "model") }
        let ids = Set(places.map(\.model)).sorted()
        let names = Dictionary(
            try Self.rows(
                for: ids, in: transaction, "?", { [.text($0)] },
                { "SELECT model_id, name FROM models WHERE model_id IN (\($0))" }
            ).map { ($0.text("model_id"), $0.text("name")) }, uniquingKeysWith: { $1 })
        var tags: [Place: [String: String]] = [:]
        for tag in try Self.rows(
            for: places, in: transaction, "(?, ?)", { [.text($0.model), .integer($0.number)] },
            { "SELECT model_id, number, key, value FROM model_tags WHERE (model_id, number) IN (VALUES \($0))" })
        {
            tags[Place(tag, model: "model_id"), default: [:]][tag.text("key")] = tag.text("value")
        }
        var aliases: [Place: [String]] = [:]
        for alias in try Self.aliases(of: ids, in: transaction) {
            aliases[Place(alias, model: "model_id"), default: []].append(alias.text("alias"))
        }
        return try zip(rows, places).map { row, place in
            VersionState(
                version: try ModelVersion(row: row), modelName: names[place.model] ?? place.model,
                stage: ModelStage(rawValue: row.text("stage")) ?? .development,
                updatedAt: EventTime(milliseconds: row.integer("updated_at")), description: row["note"].textValue,
                label: row["label"].textValue, tags: tags[place] ?? [:], aliases: aliases[place] ?? [])
        }
    }
}
