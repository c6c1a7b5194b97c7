public import Datasets
public import Definitions
public import FeatureStore
public import ModelRegistry
public import PlatformCore
public import StoragePorts
import Synchronization

/// Finds things, says what they look like, and what they are made from.
///
/// The index and the graph of definitions are made once for each revision; builds, versions and what others told are added
/// when a question is asked. Statistics are computed when asked for and kept for as long as the table's version is the newest.
public final class CatalogueService: Sendable {
    /// Statistics of some columns and what they were computed over.
    public struct Profile: Sendable {
        /// `table/departures@12`, `dataset/5f2a…, slice train`; empty where there is no data yet.
        public let basis: String
        /// Rows.
        public let rowCount: Int
        /// The columns that were asked for and exist.
        public let columns: [ColumnStatistics]

        /// Makes a profile; without arguments that of nothing.
        public init(basis: String = "", rowCount: Int = 0, columns: [ColumnStatistics] = []) {
            self.basis = basis
            self.rowCount = rowCount
            self.columns = columns
        }
    }
    private struct State {
        var revision = -1
        var mark = -1
        var index = CatalogueIndex(DefinitionSet())
        var graph = LineageGraph()
        var statistics: [String: [String: ColumnStatistics]] = [:]
        var order: [String] = []
    }

    private let definitions: @Sendable () -> (set: DefinitionSet, revision: Int)
    private let tables: TableService
    private let ingest: IngestService
    private let datasets: DatasetIndex
    private let registry: ModelVersionRegistry
    private let content: ContentStore
    private let engine: any OfflineEngine
    private let external: ExternalLineage
    private let extensions = Mutex<[@Sendable (inout LineageGraph) async throws -> Void]>([])
    private let others = Mutex<(mark: @Sendable () -> Int, items: @Sendable () -> [CatalogueItem])>(({ 0 }, { [] }))
    private let state = Mutex(State())  // held for copies and look-ups
    private static let basisCountMax = 200

    /// Makes the service.
    public init(
        definitions: @escaping @Sendable () -> (set: DefinitionSet, revision: Int), tables: TableService,
        ingest: IngestService, datasets: DatasetIndex, registry: ModelVersionRegistry, content: ContentStore,
        engine: any OfflineEngine, external: ExternalLineage
    ) {
        self.definitions = definitions
        self.tables = tables
        self.ingest = ingest
        self.datasets = datasets
        self.registry = registry
        self.content = content
        self.engine = engine
        self.external = external
    }

    // MARK: Search

    /// The index of the definitions in force.
    public var index: CatalogueIndex { current.index }

    private var current: (index: CatalogueIndex, graph: LineageGraph) {
        let (set, revision) = definitions()
        let others = others.withLock { $0 }
        let mark = others.mark()
        if let known = state.withLock({ $0.revision == revision && $0.mark == mark ? ($0.index, $0.graph) : nil }) {
            return known
        }
        let made = (CatalogueIndex(set, others: others.items()), LineageGraph(set))
        state.withLock { state in
            guard (state.revision, state.mark) < (revision, mark) else { return }
            (state.revision, state.mark, state.index, state.graph) = (revision, mark, made.0, made.1)
        }
        return made
    }

    /// Adds items that no definition makes.
    ///
    /// - Parameters:
    ///   - mark: rises when there are others; asked for with every search.
    ///   - items: what there is now.
    public func list(mark: @escaping @Sendable () -> Int, items: @escaping @Sendable () -> [CatalogueItem]) {
        others.withLock { $0 = (mark, items) }
    }

    // MARK: Statistics

    /// What columns of a source's table look like.
    /// - Parameter columns: `nil` for all that are not sensitive; sensitive ones are left out in any case.
    public func profile(of source: SourceDefinition, columns: [String]? = nil) async throws -> Profile {
        let table = try await tables.state(of: source.name)
        let hidden = Set(source.columns.filter(\.isSensitive).map(\.name))
        let wanted = (columns ?? source.columns.map(\.name)).filter { !hidden.contains($0) }
        guard let sql = table.sql else { return Profile(basis: "", rowCount: 0, columns: []) }
        let basis = "table/\(source.name)@\(table.version)"
        return Profile(
            basis: basis, rowCount: table.rowCount,
            columns: try await statistics(of: wanted, in: sql, basis: basis))
    }

    /// What features of a view look like: over the training slice of the newest dataset that has them.
    public func profile(of view: FeatureViewDefinition, features: [String]? = nil) async throws -> Profile {
        let wanted = (features ?? view.features.map(\.name)).map { "\(view.name)__\($0)" }
        for entry in try await datasets.all().reversed().prefix(50) {
            guard let manifest = try? await TrainingSetBuilder.manifest(entry.hash, in: content),
                manifest.columns.contains(where: { wanted.contains($0.name) }),
                let slice = manifest.slices.first(where: { $0.rows > 0 })
            else { continue }
            let path = try await content.localPath(of: slice.part)
            let basis = "dataset/\(entry.hash.hex), slice \(slice.name)"
            let found = try await statistics(
                of: wanted, in: "read_parquet(\(SQLText.literal(path)))", basis: basis)
            return Profile(basis: basis, rowCount: slice.rows, columns: found)
        }
        return Profile(basis: "", rowCount: 0, columns: [])
    }

    private func statistics(of columns: [String], in sql: String, basis: String) async throws -> [ColumnStatistics] {
        let known = state.withLock { $0.statistics[basis] ?? [:] }
        let missing = columns.filter { known[$0] == nil }
        guard !missing.isEmpty else { return columns.compactMap { known[$0] } }
        let computed = try await StatisticsQuery(engine: engine, table: sql).statistics(of: missing)
        let all = known.merging(computed.map { ($0.column, $0) }, uniquingKeysWith: { $1 })
        state.withLock { state in
            if state.statistics[basis] == nil {
                state.order.append(basis)
                if state.order.count > Self.basisCountMax { state.statistics[state.order.removeFirst()] = nil }
            }
            state.statistics[basis, default: [:]].merge(all, uniquingKeysWith: { $1 })
        }
        return columns.compactMap { all[$0] }
    }

    /// The newest moments in a source's table and how many rows wait to be flushed into it.
    public func freshness(of source: Name) async throws -> (eventTime: EventTime?, ingestTime: EventTime?, waiting: Int)
    {
        let table = try await tables.state(of: source)
        let rows = try await ingest.counts(of: source).rows
        guard let sql = table.sql else { return (nil, nil, rows) }
        let answer = try await engine.rows("SELECT max(__event_time) AS e, max(__ingest_time) AS i FROM \(sql)").first
        return (
            answer?["e"]?.integerValue.map(EventTime.init(milliseconds:)),
            answer?["i"]?.integerValue.map(EventTime.init(milliseconds:)), max(0, rows - table.rowCount)
        )
    }

    /// Some rows of a source's table; sensitive columns are not read.
    public func sample(of source: SourceDefinition, seed: Int?, countMax: Int) async throws -> [JSONValue] {
        let table = try await tables.state(of: source.name)
        let present = Set(table.columns.map(\.name))
        let shown = source.columns.filter { !$0.isSensitive && present.contains($0.name) }.map(\.name)
        return shown.isEmpty ? [] : try await tables.rows(of: table, seed: seed, columns: shown, countMax: countMax)
    }

    // MARK: Lineage

    /// Adds what another part of the platform makes to the graph, each time it is asked for.
    public func extend(with addition: @escaping @Sendable (inout LineageGraph) async throws -> Void) {
        extensions.withLock { $0.append(addition) }
    }

    /// What is made from what: definitions, datasets, model versions, live deployments, and what others told.
    public func graph() async throws -> LineageGraph {
        var graph = current.graph
        for entry in try await datasets.all() {
            guard let manifest = try? await TrainingSetBuilder.manifest(entry.hash, in: content) else { continue }
            Self.add(entry, manifest, to: &graph)
        }
        for model in try await registry.models() {
            let live = try await registry.live(model, at: EventTime.latestAccepted)
            let stages = try await registry.stages(of: model)
            for version in try await registry.versions(of: model) {
                let identifier = "version/\(model).\(version.number)"
                let stage = stages[version.number].map { ", \($0.rawValue)" } ?? ""
                graph.add(
                    LineageNode(
                        identifier: identifier, label: "\(model) version \(version.number)",
                        detail: "model version\(stage)"))
                if let dataset = version.candidate.origin.dataset {
                    graph.add(LineageEdge(from: "dataset/\(dataset.hex)", to: identifier, detail: "trained on"))
                }
                graph.add(LineageEdge(from: identifier, to: "model/\(model)", kind: .part, detail: "version"))
                for (deployment, revision) in live.policies {
                    let share = revision.policy.variants.first { $0.version == version.number }?.share
                    guard share != nil || revision.policy.shadows.contains(version.number) else { continue }
                    let detail = share.map { "answers \(Int(($0 * 100).rounded())) %" } ?? "shadow"
                    graph.add(LineageEdge(from: identifier, to: "deployment/\(deployment)", detail: detail))
                }
            }
        }
        for addition in extensions.withLock({ $0 }) { try await addition(&graph) }
        external.extend(&graph)
        return graph
    }

    private static func add(_ entry: DatasetIndex.Entry, _ manifest: DatasetManifest, to graph: inout LineageGraph) {
        let identifier = "dataset/\(entry.hash.hex)"
        graph.add(
            LineageNode(
                identifier: identifier, label: "\(entry.trainingSet) \(entry.hash.short)",
                detail: "\(manifest.rows) rows, \(manifest.from.dateText) to \(manifest.to.dateText)"))
        graph.add(LineageEdge(from: "training_set/\(entry.trainingSet)", to: identifier, detail: "built as defined"))
        for (table, version) in manifest.tableVersions {
            graph.add(
                LineageEdge(
                    from: "source/\(table)", to: identifier, kind: .condition, detail: "table version \(version)"))
        }
        for column in manifest.columns where column.role == .feature {
            guard column.viewVersion != nil else {
                let computed = "on_demand/\(manifest.service).\(column.name)"
                graph.add(LineageEdge(from: computed, to: identifier, detail: "column \(column.name)"))
                continue
            }
            guard let range = column.name.firstRange(of: "__") else { continue }
            let feature = "\(column.name[..<range.lowerBound]).\(column.name[range.upperBound...])"
            let version = column.viewVersion.map { ", view version \($0.prefix(8))" } ?? ""
            graph.add(
                LineageEdge(from: "feature/\(feature)", to: identifier, detail: "column \(column.name)\(version)"))
        }
    }

    /// The identifier of the node that a person means: as it stands, a hash's beginning, or a name of any kind.
    /// - Throws: `notFound` with the nearest name, `invalidInput` if several things have the name.
    public func resolve(_ name: String, in graph: LineageGraph) throws(PlatformError) -> String {
        if graph.contains(name) { return name }
        let hash = name.hasPrefix("dataset/") ? String(name.dropFirst(8)) : name
        if hash.count >= 6, hash.allSatisfy(\.isHexDigit) {
            let datasets = graph.identifiers.filter { $0.hasPrefix("dataset/\(hash)") }
            if datasets.count == 1, let only = datasets.first { return only }
        }
        let named = index.items(named: name).map(\.identifier).filter { graph.contains($0) }
        if named.count == 1 { return named[0] }
        if named.count > 1 {
            throw PlatformError(
                .invalidInput, "lineage", "'\(name.prefix(100))' may be \(named.joined(separator: ", ")); say which")
        }
        let near = nearestName(to: name, among: Array(graph.identifiers))
        throw PlatformError(
            .notFound, "lineage/\(name.prefix(100))",
            "nothing has this name" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    // MARK: From a dataset back to what was sent

    /// Where every row of a dataset came from: tables, their versions and files, the log they were written from, and the
    /// files that were loaded into it.
    public func origin(of hash: ContentHash) async throws -> JSONValue {
        let manifest = try await TrainingSetBuilder.manifest(hash, in: content)
        var list: [JSONValue] = []
        for (table, version) in manifest.tableVersions.sorted(by: { $0.key < $1.key }) {
            guard let name = Name(table), version >= 0 else { continue }
            let state = try await tables.state(of: name, at: .version(version))
            let loads = try await ingest.loads(of: name, countMax: 1000)
            list.append([
                "table": .string(table), "version": .integer(version), "rows": .integer(Int64(state.rowCount)),
                "topic": .string(PlatformTopic.source(name).text), "first_offset": 0,
                "next_offset": .integer(state.nextOffsets[PlatformTopic.source(name).text] ?? 0),
                "files": .array(state.files.map { ["path": .string($0.path), "rows": .integer($0.rowCount)] }),
                "loads": .array(
                    loads.map {
                        [
                            "file": .string($0.file), "sha256": .string($0.contentHash.hex),
                            "batch": .string("load-\($0.contentHash.hex.prefix(16))"),
                        ]
                    }),
            ])
        }
        return [
            "dataset": .string(hash.hex), "training_set": .string(manifest.trainingSet.text),
            "rows": .integer(Int64(manifest.rows)), "as_of": .string(manifest.asOf.description), "tables": .array(list),
        ]
    }
}
