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
                elements: try page.rows.map { try Self.state(RegisteredModel(row: $0), in: transaction) },
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
        let rows = try ModelStage.allCases.flatMap { stage in
            try transaction.query(
                "SELECT * FROM model_versions WHERE model = ? AND stage = ? AND deleted_at IS NULL "
                    + "ORDER BY number DESC LIMIT 1", [.text(model.id.text), .text(stage.rawValue)])
        }
        return ModelState(
            model: model, tags: try tags(model.id, 0, in: transaction), aliases: try aliases(model.id, in: transaction),
            latest: try states(of: rows, in: transaction).sorted { $0.version.number < $1.version.number })
    }

    private static func aliases(_ model: Name, in transaction: any MetadataTransaction) throws -> [String: Int] {
        Dictionary(
            try transaction.query("SELECT alias, number FROM model_aliases WHERE model_id = ?", [.text(model.text)])
                .map { ($0.text("alias"), Int($0.integer("number"))) }, uniquingKeysWith: { $1 })
    }

    /// Versions of rows with their labels; tags and aliases are read once for each model.
    private static func states(of rows: [MetadataRow], in transaction: any MetadataTransaction) throws -> [VersionState]
    {
        struct Labels {
            var name = ""
            var tags: [Int: [String: String]] = [:]
            var aliases: [Int: [String]] = [:]
        }
        var known: [String: Labels] = [:]
        for (model, rows) in Dictionary(grouping: rows, by: { $0.text("model") }) {
            var labels = Labels()
            labels.name =
                try transaction.query("SELECT name FROM models WHERE model_id = ?", [.text(model)]).first?.text("name")
                ?? model
            let numbers = rows.map { $0["number"] }
            for start in stride(from: 0, to: numbers.count, by: 500) {
                let some = numbers[start..<min(start + 500, numbers.count)]
                for tag in try transaction.query(
                    "SELECT number, key, value FROM model_tags WHERE model_id = ? AND number IN "
                        + "(\(some.map { _ in "?" }.joined(separator: ", ")))", [.text(model)] + some)
                {
                    labels.tags[Int(tag.integer("number")), default: [:]][tag.text("key")] = tag.text("value")
                }
            }
            for alias in try transaction.query(
                "SELECT alias, number FROM model_aliases WHERE model_id = ? ORDER BY alias", [.text(model)])
            {
                labels.aliases[Int(alias.integer("number")), default: []].append(alias.text("alias"))
            }
            known[model] = labels
        }
        return try rows.map { row in
            let labels = known[row.text("model")] ?? Labels()
            let number = Int(row.integer("number"))
            return VersionState(
                version: try ModelVersion(row: row), modelName: labels.name,
                stage: ModelStage(rawValue: row.text("stage")) ?? .development,
                updatedAt: EventTime(milliseconds: row.integer("updated_at")), description: row["note"].textValue,
                label: row["label"].textValue, tags: labels.tags[number] ?? [:], aliases: labels.aliases[number] ?? [])
        }
    }
}
