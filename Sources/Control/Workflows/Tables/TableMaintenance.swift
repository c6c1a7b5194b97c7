public import Datasets
public import Definitions
public import FeatureStore
public import Governance
public import Logging
public import ModelRegistry
public import PlatformCore
public import ServiceLifecycle
public import StoragePorts
import Synchronization

/// When tables are looked after.
public struct TableMaintenanceConfiguration: Sendable {
    /// Time between two rounds; zero for no rounds at all.
    public var interval: Duration
    /// Small files beside each other that make a compaction due.
    public var fileCountMin: Int
    /// How long a replaced version stays readable where its source does not say otherwise.
    public var retention: TimeSpan
    /// Rounds between two vacuums.
    public var roundsPerVacuum: Int
    /// Makes a configuration.
    public init(
        interval: Duration = .seconds(60), fileCountMin: Int = 16, retention: TimeSpan = .days(30),
        roundsPerVacuum: Int = 60
    ) {
        self.interval = interval
        self.fileCountMin = fileCountMin
        self.retention = retention
        self.roundsPerVacuum = roundsPerVacuum
    }
}

/// Keeps tables small in files and bounded in history, and knows which of their versions something was made from.
///
/// It works beside everything else: one table after the other, never in the way of a push, a flush or a scan.
public final class TableMaintenance: Service {
    let tables: TableService
    private let datasets: DatasetIndex
    private let registry: ModelVersionRegistry
    private let content: ContentStore
    let definitions: @Sendable () -> DefinitionSet
    private let configuration: TableMaintenanceConfiguration
    let clock: any PlatformClock
    let audit: AuditLog
    let changed: @Sendable () -> Void
    private let logger: Logger
    let retaining = Mutex(RetentionDesk())  // held for one look-up
    private let manifests = Mutex<[ContentHash: DatasetManifest]>([:])  // manifests never change; held for one copy

    /// Makes the service.
    /// - Parameters:
    ///   - audit: gets an entry for all that a round takes away.
    ///   - changed: is called after each of them.
    public init(
        tables: TableService, datasets: DatasetIndex, registry: ModelVersionRegistry, content: ContentStore,
        definitions: @escaping @Sendable () -> DefinitionSet, configuration: TableMaintenanceConfiguration,
        clock: any PlatformClock, audit: AuditLog, changed: @escaping @Sendable () -> Void, logger: Logger
    ) {
        self.audit = audit
        self.changed = changed
        self.clock = clock
        self.tables = tables
        self.datasets = datasets
        self.registry = registry
        self.content = content
        self.definitions = definitions
        self.configuration = configuration
        self.logger = logger
    }

    /// Runs rounds until graceful shutdown.
    public func run() async throws {
        guard configuration.interval > .zero else {
            try? await gracefulShutdown()
            return
        }
        await cancelWhenGracefulShutdown {
            var round = 0
            while !Task.isCancelled {
                try? await Task.sleep(for: self.configuration.interval)
                if Task.isCancelled { return }
                round += 1
                await self.round(withVacuum: round % max(1, self.configuration.roundsPerVacuum) == 0)
            }
        }
    }

    private func round(withVacuum: Bool) async {
        do {
            for table in try await tables.names() where !Task.isCancelled {
                do {
                    let report = try await tables.maintain(table, fileCountMin: configuration.fileCountMin)
                    if report.filesBefore > 0 {
                        logger.info(
                            "a table was compacted",
                            metadata: [
                                "table": "\(table)", "files": "\(report.filesBefore) to \(report.filesAfter)",
                                "rows": "\(report.rows)",
                            ])
                    }
                    if let report = try await retainIfDue(table), report.removedRowCount > 0 {
                        logger.info(
                            "rows left a table by its source's retention",
                            metadata: [
                                "table": "\(table)", "rows": "\(report.removedRowCount)", "before": "\(report.before)",
                            ])
                    }
                    if withVacuum { _ = try await vacuum(table, retention: nil, by: Self.actor) }
                } catch {
                    logger.warning(
                        "a table could not be looked after",
                        metadata: ["table": "\(table)", "error": "\(errorText(error))"])
                }
            }
        } catch {
            logger.warning("tables cannot be listed", metadata: ["error": "\(errorText(error))"])
        }
    }

    /// Who takes away what nobody asked to be taken away, in the audit chain.
    static let actor = "tables"

    /// How long replaced versions of a table stay readable.
    public func retention(of table: Name) -> TimeSpan {
        definitions().sources[table]?.versionRetention ?? configuration.retention
    }

    /// Removes what no version within retention and no training set or model needs; see `TableService.vacuum`.
    /// - Parameter retention: `nil` for what the source or the settings say.
    public func vacuum(_ table: Name, retention: TimeSpan?, isRehearsal: Bool) async throws -> VacuumReport {
        try await tables.vacuum(
            table, keeping: try await references()[table] ?? [], retention: retention ?? self.retention(of: table),
            isRehearsal: isRehearsal)
    }

    /// Removes it, with an entry in the audit chain.
    public func vacuum(_ table: Name, retention: TimeSpan?, by actor: String) async throws -> VacuumReport {
        defer { changed() }
        return try await audit.during(
            actor, "table.vacuumed", "table/\(table)",
            outcome: { report in
                report.removedFileCount == 0
                    ? nil
                    : [
                        "files": .integer(Int64(report.removedFileCount)),
                        "bytes": .integer(Int64(report.removedByteCount)),
                        "oldest_version": .integer(report.oldestVersion),
                    ]
            }, { try await vacuum(table, retention: retention, isRehearsal: false) })
    }

    /// What was made from which version of which table.
    ///
    /// - Throws: if any manifest cannot be read: a reference that is not known must not look like none.
    public func references() async throws -> [Name: [TableReference]] {
        var users: [ContentHash: String] = [:]
        for entry in try await datasets.all() {
            users[entry.hash] = "dataset/\(entry.hash.short) (\(entry.trainingSet))"
        }
        for model in try await registry.models() {
            for version in try await registry.versions(of: model) {
                guard let hash = version.candidate.origin.dataset else { continue }
                users[hash] = "model/\(model)/versions/\(version.number), trained on " + (users[hash] ?? hash.short)
            }
        }
        var found: [Name: [TableReference]] = [:]
        for (hash, user) in users.sorted(by: { $0.key.hex < $1.key.hex }) {
            guard let manifest = try await manifest(hash) else { continue }
            for (table, version) in manifest.tableVersions {
                if let name = Name(table) {
                    found[name, default: []].append(TableReference(version: version, by: user))
                }
            }
        }
        return found
    }

    /// A dataset's manifest; `nil` where a version was trained on something that is no dataset of ours.
    public func manifest(_ hash: ContentHash) async throws -> DatasetManifest? {
        if let known = manifests.withLock({ $0[hash] }) { return known }
        guard try await content.contains(hash) else { return nil }
        let manifest = try await TrainingSetBuilder.manifest(hash, in: content)
        manifests.withLock { $0[hash] = manifest }
        return manifest
    }
}
