public import ExperimentTracking
import FeatureStore
import Foundation
public import Logging
public import PlatformCore
public import RuntimePorts
public import TrainingJobs

/// Writes into a job's run what the platform knows of the job: its record, its data, what it takes, how it ended.
///
/// Everything is written the way MLflow's own clients write it, so that they and MLflow's pages show it.
public struct RunRecorder: Sendable {
    /// Where a run keeps its record.
    public static let recordPath = "bottega/record.json"
    /// Where a run keeps the uncommitted change of its code.
    public static let changesPath = "bottega/changes.diff"

    private let tracking: TrackingStore
    private let clock: any PlatformClock
    private let logger: Logger

    /// Writes into `tracking`, at the times of `clock`.
    public init(tracking: TrackingStore, clock: any PlatformClock, logger: Logger) {
        self.tracking = tracking
        self.clock = clock
        self.logger = logger
    }

    /// Keeps the record of a job as artifacts, tags and a dataset of its run.
    public func recorded(_ job: TrainingJob, _ record: TrainingRecord) async {
        guard let json = record.json else { return }
        do {
            let uri = try await tracking.runInfo(job.runID).artifactURI
            if let root = TrackingStore.artifactPath(ofURI: uri) {
                try await tracking.putArtifact(Array(json.prettyText.utf8), at: "\(root)/\(Self.recordPath)")
                if !record.changes.isEmpty {
                    try await tracking.putArtifact(record.changes, at: "\(root)/\(Self.changesPath)")
                }
            }
            let code = json["code"]
            var tags = [
                "mlflow.source.git.commit": code?["commit"]?.stringValue,
                "mlflow.source.git.branch": code?["branch"]?.stringValue,
                "mlflow.source.git.repoURL": code?["remote"]?.stringValue,
                "bottega.record": job.facts?.record?.hex ?? Self.recordPath,
                "bottega.environment": json["environment"]?["lock"]?.stringValue,
                "bottega.features": json["features"]?["service_version"]?.stringValue,
            ].compactMapValues { $0 }.filter { !$0.value.isEmpty }
            if code?["dirty"]?.boolValue == true { tags["bottega.dirty"] = "true" }
            try await tracking.logBatch(run: job.runID, tags: tags.sorted { $0.key < $1.key }.map(TrackedTag.init))
            let inputs = (json["data"]?.arrayValue ?? []).compactMap { dataset -> DatasetInput? in
                guard let hash = dataset["hash"]?.stringValue else { return nil }
                let name = dataset["name"]?.stringValue ?? ""
                return DatasetInput(
                    dataset: TrackedDataset(
                        name: name.isEmpty ? "training set" : name, digest: String(hash.prefix(36)),
                        sourceType: "bottega", source: JSONValue.object(["dataset": .string(hash)]).text,
                        profile: dataset["rows"].map { JSONValue.object(["num_rows": $0]).text }),
                    tags: [TrackedTag("mlflow.data.context", "training")])
            }
            try await tracking.logInputs(run: job.runID, datasets: inputs)
        } catch { warn("the record of a job was not kept in its run", job, error) }
    }

    /// Logs what a job takes under the names that MLflow gives such metrics; here they are the job's, not the machine's.
    public func used(_ job: TrainingJob, _ usage: JobUsage) async {
        let information = ProcessInfo.processInfo
        let now = clock.now()
        let step = usage.elapsed.milliseconds / 1000
        let share = usage.processorsInUse / Double(max(1, information.activeProcessorCount))
        let memory = Double(usage.residentByteCount)
        let metrics = [
            Metric("system/cpu_utilization_percentage", min(100, share * 100), measuredAt: now, step: step),
            Metric("system/system_memory_usage_megabytes", memory / 1e6, measuredAt: now, step: step),
            Metric(
                "system/system_memory_usage_percentage", memory / Double(max(1, information.physicalMemory)) * 100,
                measuredAt: now, step: step),
        ]
        do { try await tracking.logMetrics(metrics, run: job.runID) } catch {
            warn("what a job takes was not logged", job, error)
        }
    }

    /// Closes the run of a job that did not succeed.
    public func finished(_ job: TrainingJob) async {
        if job.state != .succeeded { try? await tracking.finishRun(job.runID, status: .failed) }
    }

    private func warn(_ what: String, _ job: TrainingJob, _ error: any Error) {
        logger.warning("\(what)", metadata: ["job": "\(job.id)", "error": "\(errorText(error))"])
    }
}
