import APIContract
public import Catalogue
public import Datasets
import Definitions
public import ExperimentTracking
public import FeatureStore
import Foundation
public import Governance
public import ModelRegistry
public import ModelServing
public import PlatformCore
public import RuntimePorts
public import StoragePorts
public import TrainingJobs
public import Workflows

/// Everything the native routes speak to; put together by the composition root.
public struct PlatformServices: Sendable {
    /// Definitions in force.
    public let catalog: DefinitionCatalog
    /// Which versions of feature views are served, and for whom.
    public let features: FeatureVersionKeeper
    /// Judges, promotes and deploys versions.
    public let desk: ModelDesk
    /// Facts about versions.
    public let registry: ModelVersionRegistry
    /// Retrainings and rollouts.
    public let lifecycle: LifecycleService
    /// Rehearses rollbacks.
    public let drill: RollbackDrill
    /// Lets candidates answer logged traffic.
    public let replays: ShadowReplay
    /// Long operations.
    public let operations: OperationRunner
    /// Answers predictions.
    public let predictor: Predictor
    /// Past predictions.
    public let archive: PredictionArchive
    /// The event log.
    public let log: any EventLog
    /// The platform's time.
    public let clock: any PlatformClock
    /// The clock that can be set, if it can.
    public let manualClock: ManualClock?
    /// Keeps the time that a manual clock was set to.
    public let rememberClock: @Sendable (EventTime) throws -> Void

    /// Takes rows in.
    public let ingest: IngestService
    /// Tables of sources.
    public let tables: TableService
    /// Feature state.
    public let stream: StreamEngine
    /// Training sets, jobs, registration.
    public let pipeline: TrainingPipeline
    /// Training jobs.
    public let jobs: TrainingJobService
    /// Compares runs and makes them again.
    public let runs: RunDesk
    /// Runs and their files.
    public let tracking: TrackingStore
    /// Evaluates versions on any data.
    public let evaluations: EvaluationService
    /// Scores batches.
    public let scoring: ScoringService
    /// Makes parity certificates.
    public let parity: FeatureParityService
    /// Computes views that are not applied.
    public let trial: FeatureTrial
    /// What the monitor found.
    public let monitoring: MonitoringIndex
    /// Says that the audit chain grew.
    public let changed: @Sendable () -> Void
    /// Keeps what was changed, and verifies that.
    public let auditLog: AuditLog
    /// Whether a monitor process is supervised by this one.
    public let expectsMonitor: Bool
    /// Looks after tables.
    public let maintenance: TableMaintenance
    /// Finds things and says what they are made from.
    public let catalogue: CatalogueService
    /// Lineage events, ours and those of others.
    public let lineage: LineageOutbox
    /// Who hears of changes.
    public let webhooks: WebhookStore
    /// Finds what names each stored blob.
    public let collector: BlobCollector
    /// Lets go of old records of the log.
    public let retention: LogRetention
    /// Predictions that are fetched later.
    public let predictionJobs: PredictionJobService
    /// When this process began.
    public let startedAt = ContinuousClock.now
    /// What runtimes of models tell for the metrics page.
    public var measurements: @Sendable () -> [RuntimeMeasurement] = { [] }

    /// Puts them together.
    public init(
        catalog: DefinitionCatalog, features: FeatureVersionKeeper, desk: ModelDesk, registry: ModelVersionRegistry,
        lifecycle: LifecycleService, drill: RollbackDrill, replays: ShadowReplay,
        operations: OperationRunner, predictor: Predictor, archive: PredictionArchive, log: any EventLog,
        clock: any PlatformClock, manualClock: ManualClock?,
        rememberClock: @escaping @Sendable (EventTime) throws -> Void,
        ingest: IngestService, tables: TableService, stream: StreamEngine, pipeline: TrainingPipeline,
        jobs: TrainingJobService, runs: RunDesk,
        tracking: TrackingStore, evaluations: EvaluationService, scoring: ScoringService, parity: FeatureParityService,
        trial: FeatureTrial,
        monitoring: MonitoringIndex,
        changed: @escaping @Sendable () -> Void,
        auditLog: AuditLog, expectsMonitor: Bool, maintenance: TableMaintenance, catalogue: CatalogueService,
        lineage: LineageOutbox, webhooks: WebhookStore, collector: BlobCollector,
        retention: LogRetention, predictionJobs: PredictionJobService
    ) {
        self.drill = drill
        self.replays = replays
        self.predictionJobs = predictionJobs
        self.webhooks = webhooks
        self.collector = collector
        self.retention = retention
        self.lineage = lineage
        self.catalogue = catalogue
        self.maintenance = maintenance
        self.ingest = ingest
        self.tables = tables
        self.stream = stream
        self.pipeline = pipeline
        self.jobs = jobs
        self.runs = runs
        self.tracking = tracking
        self.parity = parity
        self.trial = trial
        self.evaluations = evaluations
        self.scoring = scoring
        self.monitoring = monitoring
        self.changed = changed
        self.auditLog = auditLog
        self.expectsMonitor = expectsMonitor
        self.catalog = catalog
        self.features = features
        self.desk = desk
        self.registry = registry
        self.lifecycle = lifecycle
        self.operations = operations
        self.predictor = predictor
        self.archive = archive
        self.log = log
        self.clock = clock
        self.manualClock = manualClock
        self.rememberClock = rememberClock
    }

    /// Does work that no single transaction does, with an entry in the audit chain whatever becomes of it.
    func audited<Result: Sendable>(
        _ actor: String, _ action: String, _ subject: String, outcome: (Result) -> JSONValue?,
        _ work: () async throws -> Result
    ) async throws -> Result {
        defer { changed() }
        return try await auditLog.during(actor, action, subject, outcome: outcome, work)
    }

    /// Starts a long operation and answers 202 with its identifier.
    func start(_ work: @escaping @Sendable (ProgressReporter) async throws -> JSONValue) throws -> APIResponse {
        .json(["operation": .string(try operations.start(work))], status: 202)
    }
}

/// Fields of a JSON request body, with errors that name the field.
struct RequestBody {
    private let members: [String: JSONValue]

    init(_ request: APIRequest) throws { try self.init(try request.json()) }

    init(_ json: JSONValue) throws {
        guard case .object(let members) = json else {
            throw PlatformError(.invalidInput, "request body", "an object is expected, not \(json.kindName)")
        }
        self.members = members
    }

    func checkKeys(_ known: [String]) throws {
        for key in members.keys.sorted() where !known.contains(key) {
            let near = nearestName(to: key, among: known)
            throw PlatformError(
                .invalidInput, "request body",
                "unknown field '\(key.prefix(64))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
    }

    subscript(key: String) -> JSONValue? { members[key]?.unlessNull }

    func text(_ key: String) throws -> String {
        guard let value = self[key] else { throw PlatformError(.invalidInput, "request body", "'\(key)' is missing") }
        guard let text = value.stringValue else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' must be text, not \(value.kindName)")
        }
        return text
    }

    func reason() throws -> String {
        let reason = try text("reason").trimmingCharacters(in: .whitespacesAndNewlines)
        guard !reason.isEmpty, reason.utf8.count <= 10_000 else {
            throw PlatformError(
                .invalidInput, "request body", "'reason' must say why, in at most 10,000 bytes; it is kept for ever")
        }
        return reason
    }

    func name(_ key: String) throws -> Name { try checkedName(try text(key), key) }

    func time(_ key: String) throws -> EventTime? {
        guard let value = self[key] else { return nil }
        let time =
            value.stringValue.flatMap { EventTime(written: $0) }
            ?? value.integerValue.map(EventTime.init(milliseconds:))
        guard let time else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' must be a time such as 2013-07-01T00:00:00Z")
        }
        guard time.isAccepted else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' must lie within the years 1900 to 2199")
        }
        return time
    }

    func requiredTime(_ key: String) throws -> EventTime {
        guard let time = try time(key) else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' is missing")
        }
        return time
    }

    /// Definition files as commands send them.
    func definitionFiles() throws -> [DefinitionFile] {
        guard let list = self["files"]?.arrayValue, 1...10_000 ~= list.count else {
            throw PlatformError(.invalidInput, "request body", "'files' must be a list of {path, folder, text}")
        }
        return try list.map { file in
            guard let path = file["path"]?.stringValue, let folder = file["folder"]?.stringValue,
                let text = file["text"]?.stringValue
            else { throw PlatformError(.invalidInput, "request body", "each file needs 'path', 'folder' and 'text'") }
            return DefinitionFile(path: path, folder: folder, text: text)
        }
    }

    func integer(_ key: String, default value: Int64, in range: ClosedRange<Int64>) throws -> Int64 {
        guard let given = self[key] else { return value }
        guard let number = given.integerValue, range.contains(number) else {
            throw PlatformError(
                .invalidInput, "request body",
                "'\(key)' must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The revision of a deployment's policy that the caller saw; `nil` if it does not say.
    func expectedRevision() throws -> Int? {
        guard self["expected_revision"] != nil else { return nil }
        return Int(try integer("expected_revision", default: 0, in: 0...Int64(Int32.max)))
    }
}

/// Checks a name from a path or body.
func checkedName(_ text: String, _ what: String) throws -> Name {
    guard let name = Name(text) else { throw PlatformError(.invalidInput, what, "'\(text.prefix(64))' is not a name") }
    return name
}

extension APIRequest {
    func name(_ parameter: String) throws -> Name { try checkedName(parameters[parameter] ?? "", parameter) }

    func versionNumber(_ parameter: String = "version") throws -> Int {
        guard let text = parameters[parameter], let number = Int(text), number > 0 else {
            throw PlatformError(
                .invalidInput, "path", "'\(parameters[parameter]?.prefix(64) ?? "")' is no version number")
        }
        return number
    }

    func count(_ key: String, default value: Int, most: Int) throws -> Int {
        guard let text = queryValue(key) else { return value }
        guard let number = Int(text), 1...most ~= number else {
            throw PlatformError(.invalidInput, "query", "'\(key)' must be a whole number from 1 to \(most)")
        }
        return number
    }
}

extension EventTime {
    /// Reads a moment as people write one; a year alone, which would be some seconds of 1970, is none.
    init?(written text: String) {
        guard text.utf8.count > 4 else { return nil }
        self.init(text: text)
    }
}
