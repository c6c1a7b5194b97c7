public import ExperimentTracking
import Foundation
public import PlatformCore
public import RuntimePorts
public import StoragePorts
public import TrainingJobs

/// Answers questions about runs, and makes runs of training jobs again.
public struct RunDesk: Sendable {
    let tracking: TrackingStore
    let jobs: TrainingJobService
    let pipeline: TrainingPipeline
    let content: ContentStore
    let runner: any JobRunner
    let scratchFolder: String
    let searchPath: String
    let identifiers: IdentifierSource

    /// Makes a desk; copies of code are made below `scratchFolder`, by the `git` in `searchPath`.
    public init(
        tracking: TrackingStore, jobs: TrainingJobService, pipeline: TrainingPipeline, content: ContentStore,
        runner: any JobRunner, scratchFolder: String, searchPath: String = "/usr/local/bin:/usr/bin:/bin",
        identifiers: IdentifierSource
    ) {
        self.tracking = tracking
        self.jobs = jobs
        self.pipeline = pipeline
        self.content = content
        self.runner = runner
        self.scratchFolder = scratchFolder
        self.searchPath = searchPath
        self.identifiers = identifiers
    }

    /// Everything known of a run.
    /// - Throws: `notFound`.
    public func report(_ id: String) async throws -> RunReport {
        let run = try await tracking.run(id)
        var job: TrainingJob?
        if let name = run.tag("bottega.job"), let found = try? await jobs.job(name), found.runID == id { job = found }
        var record: JSONValue?
        if let hash = job?.facts?.record {
            // The platform's own copy: what a script wrote over the run's artifact does not count.
            record = try JSONValue.parse(try await content.get(hash, byteCountMax: 16 << 20))
        }
        var files: [String: StoredArtifact] = [:]
        if let root = TrackingStore.artifactPath(ofURI: run.info.artifactURI) {
            for file in try await tracking.allArtifacts(below: root) {
                files[String(file.path.dropFirst(root.count + 1))] = file
            }
        }
        if record == nil, let file = files[RunRecorder.recordPath], file.byteCount <= 16 << 20 {
            let bytes = try await content.get(file.hash, byteCountMax: 16 << 20)
            record = try? JSONValue.parse(bytes, limits: JSONLimits(byteCountMax: 16 << 20, depthMax: 16))
        }
        for model in try await tracking.loggedModels(ofRun: id) {
            guard let root = TrackingStore.artifactPath(ofURI: model.artifactURI) else { continue }
            for file in try await tracking.allArtifacts(below: root) {
                files["\(model.name)/\(file.path.dropFirst(root.count + 1))"] = file
            }
        }
        return RunReport(run: run, job: job, record: record, files: files)
    }

    /// Runs beside each other, in the given order.
    public func compare(_ ids: [String]) async throws -> RunComparison {
        var reports: [RunReport] = []
        for id in ids { reports.append(try await report(id)) }
        return RunComparison(reports)
    }
}
