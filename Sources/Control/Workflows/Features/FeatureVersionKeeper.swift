public import Catalogue
import Definitions
public import FeatureStore
import Foundation
public import Logging
public import ModelRegistry
public import PlatformCore
public import StoragePorts
import Synchronization

/// Decides which versions of feature views are served: those in force, and every older one that something still uses.
///
/// A version is in use while a definition in force has it, a version of a model outside the archive or in a deployment's
/// policy was trained with it, somebody pinned it, or it stands in for one that is still being built. What nobody uses is
/// parked by the stream engine, and removed only when somebody says so.
public actor FeatureVersionKeeper {
    let catalog: DefinitionCatalog
    let registry: ModelVersionRegistry
    let stream: StreamEngine
    let store: any MetadataStore
    let clock: any PlatformClock
    private let logger: Logger
    private let publish: @Sendable (PlatformEvent) async -> Void
    private let lineage: LineageOutbox
    private let gate = AsyncGate()
    /// Versions that were ready when this was last looked at; `nil` before the first time.
    private var known: Set<Name>?
    /// Versions of feature services that models needed when the engine was last told what to serve.
    private var reconciled: Set<ContentHash>?
    var sizes: [Name: (offset: UInt64, rows: Int, byteCount: Int)] = [:]

    /// Schema of what it remembers.
    public static let migrations = [
        MetadataMigration(
            name: "feature-versions-1",
            statements: [
                """
                CREATE TABLE feature_version_marks (
                    version TEXT PRIMARY KEY, unused_since BIGINT, retired_at BIGINT, retired_by TEXT,
                    pinned_at BIGINT, pinned_by TEXT, pin_reason TEXT)
                """,
                """
                CREATE TABLE feature_reads (
                    version TEXT NOT NULL, feature TEXT NOT NULL, consumer TEXT NOT NULL, reads BIGINT NOT NULL,
                    last_read BIGINT NOT NULL, PRIMARY KEY (version, feature, consumer))
                """,
                """
                CREATE TABLE feature_costs (
                    version TEXT PRIMARY KEY, rows_applied BIGINT NOT NULL, nanoseconds BIGINT NOT NULL)
                """,
            ])
    ]

    /// Makes a keeper; `reconcile` acts.
    /// - Parameters:
    ///   - catalog: the definitions in force and before.
    ///   - registry: which versions of models there are, and where they serve.
    ///   - stream: what serves views.
    ///   - store: pins and marks; the migrations have run.
    ///   - clock: times of marks.
    ///   - lineage: hears which versions were built from history.
    ///   - logger: hears of versions that cannot be served.
    ///   - publish: hears when a version is built, `feature.version.ready`, or cannot be, `feature.version.failed`.
    public init(
        catalog: DefinitionCatalog, registry: ModelVersionRegistry, stream: StreamEngine, store: any MetadataStore,
        clock: any PlatformClock, lineage: LineageOutbox, logger: Logger,
        publish: @escaping @Sendable (PlatformEvent) async -> Void
    ) {
        self.catalog = catalog
        self.registry = registry
        self.stream = stream
        self.store = store
        self.clock = clock
        self.lineage = lineage
        self.logger = logger
        self.publish = publish
    }

    /// Builds what is asked for until the task is cancelled, and keeps the engine in step with what is in use.
    public func run() async {
        await stream.runBackfills { news in await self.hear(news) }
    }

    private func hear(_ news: BackfillNews) async {
        switch news {
        case .ready(let status, let seconds):
            tell(status, seconds: seconds)
            await publish(
                PlatformEvent(
                    kind: "feature.version.ready", subject: "feature_view/\(status.versionName)", time: clock.now(),
                    actor: "features",
                    details: [
                        "rows": .integer(Int64(clamping: status.nextOffset)), "source": .string(status.source.text),
                        "seconds": .number((seconds * 1000).rounded() / 1000),
                    ]))
            await follow()
        case .failed(let version, let reason):
            logger.error(
                "a version of a feature view cannot be built; trying again",
                metadata: ["version": "\(version)", "error": "\(reason)"])
        }
    }

    /// Reconciles, and says in the log if that fails; the next occasion tries again.
    public func follow() async {
        do { try await reconcile() } catch {
            logger.error("versions of feature views cannot be served", metadata: ["error": "\(errorText(error))"])
        }
    }

    /// Tells the stream engine what to serve: the definitions in force, and older versions in use.
    /// - Throws: what the stores throw; what was served before is served still.
    public func reconcile() async throws {
        try await gate.pass {
            reconciled = nil
            let services = try await registry.serviceVersionsInUse()
            try await reconcileAll()
            reconciled = services
        }
    }

    /// Reconciles if models need other versions of services than when that was last done.
    ///
    /// Called after every change of the registry, of which most change nothing here.
    public func followModels() async {
        do {
            try await gate.pass {
                let services = try await registry.serviceVersionsInUse()
                if services == reconciled { return }
                reconciled = nil
                try await reconcileAll()
                reconciled = services
            }
        } catch {
            logger.error("versions of feature views cannot be served", metadata: ["error": "\(errorText(error))"])
        }
    }

    private func reconcileAll() async throws {
        var kept = try await usage()
        try await stream.update(definitions: catalog.current, keeping: kept.views)
        if kept.hasStandIns {
            // What stood in for a version that was built at once is not needed any more.
            let after = try await usage()
            if after.views != kept.views {
                kept = after
                try await stream.update(definitions: catalog.current, keeping: kept.views)
            }
        }
        tellOfNewVersions()
        try await mark(kept)
    }

    /// Tells of versions that were built from history before the call that asked for them returned.
    private func tellOfNewVersions() {
        let ready = stream.versions.filter { $0.state == .ready }
        // What answers when the process begins was told when it was built.
        if let known { for status in ready where !known.contains(status.versionName) { tell(status, seconds: 0) } }
        known = Set(ready.map(\.versionName))
    }

    private func tell(_ status: ViewVersionStatus, seconds: Double) {
        known?.insert(status.versionName)
        guard status.nextOffset > 0, let held = stream.held(status.versionName) else { return }
        let (inputs, outputs) = RunLineage.built(held, rows: Int(clamping: status.nextOffset))
        let span = TimeSpan(milliseconds: -Int64(seconds * 1000))
        lineage.completed(
            "materialize.\(held.view.name)", kind: "MATERIALIZATION", from: clock.now().advanced(by: span),
            inputs: inputs, outputs: outputs)
    }

    // MARK: What is in use

    /// Who uses which version.
    struct Usage {
        /// Sentences by version name.
        var users: [Name: [FeatureVersionUser]] = [:]
        /// Older versions to keep, the newest of a view first.
        var views: [HeldView] = []
        /// Service versions that models need and that no revision defines.
        var missing: [String] = []
        /// Whether an older version answers until another one is built.
        var hasStandIns = false
    }

    func usage() async throws -> Usage {
        let current = catalog.current
        var usage = Usage()
        var older: [Name: HeldView] = [:]
        let inForce = Set(current.featureViews.values.map(\.versionName))
        var seen: [Name: Set<FeatureVersionUser>] = [:]
        func use(_ held: HeldView, _ user: FeatureVersionUser) {
            if !inForce.contains(held.versionName) { older[held.versionName] = held }
            if seen[held.versionName, default: []].insert(user).inserted {
                usage.users[held.versionName, default: []].append(user)
            }
        }
        var services: [ContentHash: ServiceVersion?] = [:]
        for view in current.featureViews.values {
            use(
                HeldView(view: view, source: current.source(of: view)),
                FeatureVersionUser(kind: .definition, name: "FeatureView/\(view.name)", detail: "in force"))
        }
        for (version, detail) in try await modelVersionsInUse() {
            guard let wanted = version.candidate.origin.serviceVersion else { continue }
            let service: ServiceVersion?
            if let known = services[wanted] { service = known } else { service = try await catalog.service(wanted) }
            services[wanted] = .some(service)
            guard let service else {
                usage.missing.append("\(version.subject) needs feature service version \(wanted.short)")
                continue
            }
            for held in service.views {
                use(held, FeatureVersionUser(kind: .model, name: version.subject, detail: detail))
            }
        }
        let history = try await catalog.versions(of: "FeatureView")
        for (version, pin) in try await marks().filter({ $0.value.pinReason != nil }) {
            guard let held = try await find(version, in: history) else { continue }
            use(
                held,
                FeatureVersionUser(kind: .pin, name: pin.pinnedBy ?? "", detail: pin.pinReason ?? ""))
        }
        let built = try await stream.builtVersions()
        let byView = Dictionary(grouping: history, by: \.identifier)
        for view in current.featureViews.values where !stream.serves(view.versionName) {
            for version in byView["FeatureView/\(view.name)"] ?? [] {
                guard let hash = version.version, hash != view.version,
                    built.contains(FeatureViewDefinition.versionName(view.name, hash)),
                    let set = try await catalog.set(with: version.identifier, at: hash),
                    let held = HeldView(view.name, in: set)
                else { continue }
                usage.hasStandIns = true
                use(
                    held,
                    FeatureVersionUser(
                        kind: .standIn, name: "FeatureView/\(view.name)",
                        detail: "answers until \(view.versionName) is built"))
                break
            }
        }
        let order = Dictionary(
            history.compactMap { version in
                version.version.flatMap { hash in
                    Name(version.identifier.dropFirst("FeatureView/".count)).map {
                        (FeatureViewDefinition.versionName($0, hash), version.revision)
                    }
                }
            }, uniquingKeysWith: { max($0, $1) })
        usage.views = older.values.sorted {
            (order[$1.versionName] ?? 0, $0.versionName.text) < (order[$0.versionName] ?? 0, $1.versionName.text)
        }
        return usage
    }

    /// Versions of models outside the archive, and archived ones that a deployment still routes to or can go back to.
    func modelVersionsInUse() async throws -> [(version: ModelVersion, detail: String)] {
        var found: [(version: ModelVersion, detail: String)] = []
        var routed: [Name: [Int: String]] = [:]
        for deployment in try await registry.deployments() {
            guard let revision = try await registry.current(deployment) else { continue }
            let policy = revision.policy
            for number in policy.versions {
                let role =
                    policy.variants.contains { $0.version == number }
                    ? "answers" : policy.shadows.contains(number) ? "shadow" : "previous"
                routed[revision.model, default: [:]][number] = "\(role) in deployment/\(deployment)"
            }
        }
        for model in try await registry.models() {
            let stages = try await registry.stages(of: model)
            for version in try await registry.versions(of: model) {
                let stage = stages[version.number] ?? .development
                let route = routed[model]?[version.number]
                guard stage != .archived || route != nil else { continue }
                found.append((version, stage.rawValue + (route.map { ", \($0)" } ?? "")))
            }
        }
        return found
    }

    /// A version of a view by its name in the online store.
    private func find(_ version: Name, in history: [DefinitionCatalog.Version]) async throws -> HeldView? {
        for entry in history {
            guard let hash = entry.version, let view = Name(entry.identifier.dropFirst("FeatureView/".count)),
                FeatureViewDefinition.versionName(view, hash) == version,
                let set = try await catalog.set(with: entry.identifier, at: hash)
            else { continue }
            return HeldView(view, in: set)
        }
        return nil
    }

    // MARK: Marks

    struct Mark: Sendable {
        var unusedSince: EventTime?
        var retiredAt: EventTime?
        var retiredBy: String?
        var pinnedAt: EventTime?
        var pinnedBy: String?
        var pinReason: String?
    }

    func marks() async throws -> [Name: Mark] {
        let rows = try await store.read { try $0.query("SELECT * FROM feature_version_marks") }
        func time(_ row: MetadataRow, _ column: String) -> EventTime? {
            row[column].integerValue.map(EventTime.init(milliseconds:))
        }
        return Dictionary(
            rows.compactMap { row in
                Name(row.text("version")).map { name in
                    (
                        name,
                        Mark(
                            unusedSince: time(row, "unused_since"), retiredAt: time(row, "retired_at"),
                            retiredBy: row["retired_by"].textValue, pinnedAt: time(row, "pinned_at"),
                            pinnedBy: row["pinned_by"].textValue, pinReason: row["pin_reason"].textValue)
                    )
                }
            }, uniquingKeysWith: { $1 })
    }

    /// Remembers since when versions are unused.
    private func mark(_ usage: Usage) async throws {
        let before = try await marks()
        let now = clock.now().milliseconds
        var changes: [(Name, EventTime?)] = []
        for status in stream.versions {
            let isUsed = usage.users[status.versionName] != nil
            let mark = before[status.versionName]
            if isUsed, mark?.unusedSince != nil || mark?.retiredAt != nil { changes.append((status.versionName, nil)) }
            if !isUsed, mark?.unusedSince == nil {
                changes.append((status.versionName, EventTime(milliseconds: now)))
            }
        }
        guard !changes.isEmpty else { return }
        let list = changes
        _ = try await store.write { transaction in
            for (version, time) in list {
                try transaction.execute(
                    """
                    INSERT INTO feature_version_marks (version, unused_since) VALUES (?, ?) \
                    ON CONFLICT (version) DO UPDATE SET unused_since = excluded.unused_since, retired_at = NULL, \
                    retired_by = NULL
                    """, [.text(version.text), MetadataValue(time?.milliseconds)])
            }
            return list.count
        }
    }
}

/// Why a version of a feature view is in use.
public struct FeatureVersionUser: Sendable, Hashable {
    /// The kinds of users.
    public enum Kind: String, Sendable, Codable {
        /// It is the version in force.
        case definition
        /// A version of a model was trained with it.
        case model
        /// Somebody wants it kept.
        case pin
        /// It answers until the version in force is built.
        case standIn = "stand_in"
    }
    /// What uses it.
    public let kind: Kind
    /// Which one.
    public let name: String
    /// Stage and role, or the reason.
    public let detail: String

    /// `model/loss/versions/3 (production, answers in deployment/loss)`.
    public var text: String { kind == .pin ? "pinned by \(name): \(detail)" : "\(name) (\(detail))" }
}
