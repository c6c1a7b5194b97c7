import Datasets
import Definitions
import ExperimentTracking
import FeatureStore
import FileSystemAdapter
import Foundation
import Governance
import Logging
import ModelRegistry
import ModelServing
import PlatformCore
import SQLiteAdapter
import StoragePorts
import TrainingJobs
import Workflows

/// What every part stands on: the stores with their tables and topics, the clocks, and the chain of changes.
struct PlatformBase {
    let stores: PlatformStores
    let directory: String
    let objects: GuardedObjectStore
    let content: ContentStore
    let clockFile: ClockFile
    /// The clock that callers move, where the settings ask for one.
    let manualClock: ManualClock?
    let clock: any PlatformClock
    /// Identifiers by the platform's clock.
    let identifiers: IdentifierSource
    /// Identifiers by the machine's clock, whatever the platform's says.
    let machineIdentifiers: IdentifierSource
    let migrations: [MetadataMigration]
    let audit: AuditLog
    let relay: ChangeRelay
    let announce: Announcer

    var log: SegmentEventLog { stores.log }
    var metadata: SQLiteMetadataStore { stores.metadata }

    init(_ settings: Settings, logger: Logger) async throws {
        stores = try PlatformStores(settings, logger: logger)
        directory = settings.dataDirectory
        let (log, metadata) = (stores.log, stores.metadata)
        objects = GuardedObjectStore(base: stores.objects)
        content = ContentStore(base: objects)
        clockFile = ClockFile(path: "\(directory)/clock")
        manualClock =
            settings.clockMode == .manual
            ? ManualClock(
                startingAt: max(
                    try clockFile.read() ?? EventTime(milliseconds: 0),
                    settings.clockStart ?? EventTime(milliseconds: 0))) : nil
        clock = manualClock ?? SystemClock()
        identifiers = IdentifierSource(clock: clock)
        machineIdentifiers = IdentifierSource(clock: SystemClock())

        // Both wait for the disk many times on an empty directory, and neither needs the other.
        async let topics: Void = Self.createTopics(log)
        migrations =
            DefinitionCatalog.migrations + StateHistory<RolloutState>.migrations + ModelVersionRegistry.migrations
            + FeatureVersionKeeper.migrations + TrainingJobService.migrations + AuditLog.migrations
            + IngestService.migrations + TrackingStore.migrations + DatasetIndex.migrations
            + EvaluationIndex.migrations + ChangeRelay.migrations
            + WebhookStore.migrations + PredictionJobStore.migrations + LogRetention.migrations
        try await DirectoryCheck.refuseLaterTables(metadata, known: migrations, place: "\(directory)/metadata.sqlite")
        try await metadata.migrate(migrations)
        try await topics
        audit = AuditLog(store: metadata, clock: clock)
        let interrupted = try await audit.closeInterrupted()
        if interrupted > 0 {
            logger.notice(
                "changes were interrupted by the end of the last process", metadata: ["count": "\(interrupted)"])
        }
        relay = ChangeRelay(audit: audit, store: metadata, log: log, logger: logger)
        announce = Announcer(audit: audit, relay: relay, logger: logger)
    }

    private static func createTopics(_ log: any EventLog) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for topic in [
                PlatformTopic.predictions, PlatformTopic.labels, PlatformTopic.platform, PlatformTopic.monitoring,
            ] {
                group.addTask { try await log.createTopic(topic, partitions: 1) }
            }
            try await group.waitForAll()
        }
    }
}

/// Writes changes to the audit log; `ChangeRelay` tells the topic `platform` from there.
struct Announcer: Sendable {
    let audit: AuditLog
    let relay: ChangeRelay
    let logger: Logger

    func publish(_ event: PlatformEvent) async {
        await audit(AuditRecord(actor: event.actor, action: event.kind, subject: event.subject, after: event.details))
    }

    func audit(_ record: AuditRecord) async {
        do {
            _ = try await audit.append(record)
            relay.wake()
        } catch {
            logger.error(
                "an audit entry cannot be written",
                metadata: ["action": "\(record.action)", "error": "\(errorText(error))"])
        }
    }
}
