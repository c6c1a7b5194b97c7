import APIContract
import Catalogue
import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Workflows

/// The catalogue: search, what things look like, rows of them, and the pages that show it.
enum CatalogueRoutes {
    /// Most hits in one answer.
    static let hitCountMax = 500

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/api/v1/catalog/search") { request in
                let start = ContinuousClock.now
                let query = try CatalogueQuery(request.queryValue("q") ?? "")
                let answer = services.catalogue.index.search(
                    query, countMax: try request.count("limit", default: 25, most: hitCountMax))
                return .json([
                    "hits": .array(answer.hits.map { describe($0.item) }), "count": .integer(Int64(answer.count)),
                    "kinds": .object(
                        Dictionary(
                            uniqueKeysWithValues: answer.kinds.map { ($0.key.rawValue, .integer(Int64($0.value))) })),
                    "milliseconds": .number((ContinuousClock.now - start) / .milliseconds(1)),
                ])
            },
            Route("GET", "/api/v1/catalog/items/{item...}") { request in
                .json(try await Self.item(try resolve(request.parameters["item"] ?? "", services), services))
            },
            .page("/catalog") { request in try CataloguePage.search(request.queryValue("q") ?? "", services) },
            .page("/catalog/{item...}") { request in
                try await CataloguePage.item(try resolve(request.parameters["item"] ?? "", services), services)
            },
        ]
    }

    static func describe(_ item: CatalogueItem) -> JSONValue {
        [
            "id": .string(item.identifier), "kind": .string(item.kind.rawValue), "name": .string(item.qualifiedName),
            "owner": .string(item.owner), "description": .string(item.description),
            "tags": .array(item.tags.map(JSONValue.string)), "type": item.type.map(JSONValue.string) ?? .null,
            "columns": .array(item.columns.map(JSONValue.string)),
        ]
    }

    /// The item that a path or a person names.
    static func resolve(_ name: String, _ services: PlatformServices) throws -> CatalogueItem {
        let found = services.catalogue.index.items(named: name)
        if found.count == 1 { return found[0] }
        if found.count > 1 {
            throw PlatformError(
                .invalidInput, "catalog/\(name.prefix(100))",
                "may be \(found.map(\.identifier).joined(separator: ", ")); say which")
        }
        let near = nearestName(to: name, among: services.catalogue.index.items.map(\.identifier))
        throw PlatformError(
            .notFound, "catalog/\(name.prefix(100))",
            "nothing has this name" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    /// Everything about one thing.
    static func item(_ item: CatalogueItem, _ services: PlatformServices) async throws -> JSONValue {
        let details = try await CatalogueDetails(item, services)
        var members = describe(item).objectValue ?? [:]
        members["version"] = details.version.map(JSONValue.string) ?? .null
        members["basis"] = .string(details.profile.basis)
        members["rows"] = .integer(Int64(details.profile.rowCount))
        members["statistics"] = .array(details.profile.columns.map(\.json))
        members["sample"] = .array(details.sample)
        members["newest_event_time"] = details.newestEventTime.map { .string($0.description) } ?? .null
        members["newest_ingest_time"] = details.newestIngestTime.map { .string($0.description) } ?? .null
        members["waiting_rows"] = .integer(Int64(details.waiting))
        members["used_by"] = .array(details.users.map(JSONValue.string))
        return .object(members)
    }
}

/// What there is to say about one thing of the catalogue.
struct CatalogueDetails {
    /// Rows of a sample.
    static let sampleCount = 8

    let item: CatalogueItem
    var version: String?
    var profile = CatalogueService.Profile()
    var sample: [JSONValue] = []
    var newestEventTime: EventTime?
    var newestIngestTime: EventTime?
    var waiting = 0
    /// Definitions that lean on it, near and far.
    var users: [String] = []
    var source: SourceDefinition?
    var view: FeatureViewDefinition?

    init(_ item: CatalogueItem, _ services: PlatformServices) async throws {
        self.item = item
        let set = services.catalog.current
        let catalogue = services.catalogue
        let owner = Name(item.parent ?? item.name)
        switch item.kind {
        case .source, .column:
            guard let name = owner, let source = set.sources[name] else { break }
            self.source = source
            let columns: [String] = item.kind == .column ? [item.name] : source.columns.prefix(100).map { $0.name }
            profile = try await catalogue.profile(of: source, columns: columns)
            let freshness = try await catalogue.freshness(of: name)
            (newestEventTime, newestIngestTime, waiting) = (
                freshness.eventTime, freshness.ingestTime, freshness.waiting
            )
            if item.kind == .source {
                sample = try await catalogue.sample(of: source, seed: nil, countMax: Self.sampleCount)
            }
            version = set.meanings["Source/\(name)"]?.short
            users = set.dependents(of: "Source/\(name)")
        case .view, .feature:
            guard let name = owner, let view = set.featureViews[name] else { break }
            self.view = view
            source = set.source(of: view)
            profile = try await catalogue.profile(
                of: view, features: item.kind == .feature ? [item.name] : view.features.prefix(100).map { $0.name })
            let freshness = try await catalogue.freshness(of: view.source)
            (newestEventTime, newestIngestTime) = (freshness.eventTime, freshness.ingestTime)
            version = view.version.short
            users = set.dependents(of: "FeatureView/\(name)")
        case .service, .onDemand:
            version = owner.flatMap { set.featureServices[$0]?.version.short }
            users = set.dependents(of: "FeatureService/\(item.parent ?? item.name)")
        case .entity: users = set.dependents(of: "Entity/\(item.name)")
        case .trainingSet: users = set.dependents(of: "TrainingSet/\(item.name)")
        case .model: users = set.dependents(of: "Model/\(item.name)")
        case .deployment, .monitor, .scores: break
        }
    }
}
