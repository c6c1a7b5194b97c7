public import Definitions
import Foundation
public import ModelRegistry
import ModelServing
public import PlatformCore
import RuntimePorts
import Statistics
public import StoragePorts

/// Lets a candidate answer logged traffic with the features as they were: what a live shadow finds out in days.
///
/// The log is read once, from its oldest wanted record to its end, in portions; what is kept is bounded, whatever the
/// span.
public struct ShadowReplay: Sendable {
    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    private let log: any EventLog
    private let readers: LogReaders
    private let content: ContentStore
    private let clock: any PlatformClock
    private let definitions: @Sendable () -> DefinitionSet
    private let service: @Sendable (ContentHash) async throws -> ServiceVersion?
    private let identifiers: IdentifierSource
    private let store: any MetadataStore
    private let history: StateHistory<ShadowReplayReport>

    /// Names what it works with; `service` finds a version of a feature service, also one no longer in force.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, log: any EventLog, readers: LogReaders,
        content: ContentStore, metadata: any MetadataStore, clock: any PlatformClock,
        definitions: @escaping @Sendable () -> DefinitionSet,
        service: @escaping @Sendable (ContentHash) async throws -> ServiceVersion?, identifiers: IdentifierSource
    ) {
        self.desk = desk
        self.registry = registry
        self.log = log
        self.readers = readers
        self.content = content
        self.clock = clock
        self.definitions = definitions
        self.service = service
        self.identifiers = identifiers
        store = metadata
        history = StateHistory(store: metadata, kind: "shadow_replay")
    }

    /// The newest replay of each version, and every one by its identifier.
    public func reports() async throws -> [ShadowReplayReport] { try await history.latest().map(\.state) }

    /// One replay.
    /// - Throws: `notFound`.
    public func report(_ id: String) async throws -> ShadowReplayReport {
        guard let found = try await reports().first(where: { $0.id == id }) else {
            throw PlatformError(.notFound, "shadow-replay/\(id.prefix(64))", "there is no such replay")
        }
        return found
    }

    /// Replays the last `span` of a model's traffic through a version.
    /// - Returns: the report, and the hash under which it is kept.
    /// - Throws: `refused` if nothing in the span has the features that the version reads.
    public func run(_ model: Name, _ number: Int, span: TimeSpan, actor: String, progress: ProgressReporter)
        async throws -> (report: ShadowReplayReport, evidence: ContentHash)
    {
        let now = clock.now()
        let since = EventTime(milliseconds: now.milliseconds - span.milliseconds)
        return try await readers.holding(LogReader(name: "a replay of \(model)", since: since)) {
            try await run(model, number, since: since, now: now, span: span, actor: actor, progress: progress)
        }
    }

    private func run(
        _ model: Name, _ number: Int, since: EventTime, now: EventTime, span: TimeSpan, actor: String,
        progress: ProgressReporter
    ) async throws -> (report: ShadowReplayReport, evidence: ContentHash) {
        let begin = ContinuousClock.now
        let candidate = try await desk.served(model, number)
        let policy = definitions().deployment(of: model)
        let topic = PlatformTopic.predictions
        var offset = try await log.firstOffset(topic, partition: 0, atOrAfter: since)
        let (first, end) = (offset, try await log.endOffset(topic, partition: 0))
        var labelOffset = try await log.firstOffset(PlatformTopic.labels, partition: 0, atOrAfter: since)
        var run = ReplayRun(
            candidate: candidate, since: since, until: now, metric: policy?.rollout.metric?.measure,
            report: try await begun(
                ShadowReplayReport(
                    id: identifiers.next(), model: model, version: number, from: since, to: now, actor: actor)))
        while offset < end {
            try Task.checkCancellation()
            let stored = try await log.read(topic, from: offset)
            guard let last = stored.last else { break }
            offset = last.offset + 1
            var batch: [PredictionRecord] = []
            for item in stored where item.record.key == model.text && item.record.time >= since {
                guard let record = try? PredictionRecord(decoding: item.record.value), run.wants(record) else {
                    continue
                }
                if run.needsMapping(of: record.serviceVersion) {
                    let known = try await ContentHash(hex: record.serviceVersion).flatMapAsync { try await service($0) }
                    run.map(record.serviceVersion, known?.service)
                }
                batch.append(record)
            }
            await run.score(batch)
            labelOffset = try await readLabels(from: labelOffset, until: last.record.time, into: &run)
            progress.report(
                "\(run.report.pairs) pairs", done: Double(min(offset, end) - first), total: Double(end - first),
                unit: "records")
        }
        _ = try await readLabels(from: labelOffset, until: nil, into: &run)
        var report = run.finished()
        guard report.pairs + report.failures > 0 else {
            let reasons = report.skipped.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
            throw PlatformError(
                .refused, "model/\(model)/versions/\(number)",
                "none of \(report.read) predictions in the last \(span) can be replayed"
                    + (reasons.isEmpty ? "" : ": " + reasons.joined(separator: ", "))
                    + (report.gap.map { "; \($0)" } ?? ""))
        }
        if let policy { report.checks = Self.checks(report, policy) }
        report.seconds = Double((ContinuousClock.now - begin) / .milliseconds(1)) / 1000
        try await history.append(report.id, report)
        return (report, try await content.put(try JSONValue.of(report).canonicalBytes))
    }

    /// A report that says so if its span begins before the records do.
    private func begun(_ report: ShadowReplayReport) async throws -> ShadowReplayReport {
        let topic = PlatformTopic.predictions
        let kept: [StoredRecord]
        do throws(StoreError) {
            // Reading begins with the first record that is kept.
            kept = try await log.read(topic, partition: 0, from: 0, recordCountMax: 1, byteCountMax: 1)
        } catch {
            // Its time nobody knows; what is replayed is read for itself.
            guard error.code == .corrupted else { throw error }
            return report
        }
        guard let first = kept.first, first.record.time > report.from
        else { return report }
        var report = report
        if first.offset > 0 {
            // What went may all be older than the span; then nobody asked in its first time.
            guard let release = try await LogRetention.release(of: topic, at: report.from, store: store) else {
                return report
            }
            report.recordsWentBy = release.rule
        }
        report.recordsFrom = first.record.time
        return report
    }

    /// How long a replay stands for the traffic of its span.
    private static let freshness = TimeSpan(milliseconds: 3_600_000)

    /// What gates ask: the replay of this span that somebody made within the last hour, else a new one.
    public func evidence(_ model: Name, _ number: Int, span: TimeSpan, actor: String) async throws -> ReplayEvidence {
        let now = clock.now()
        let known = try await reports().last { report in
            let age = now.since(report.to).milliseconds
            return report.model == model && report.version == number
                && report.to.since(report.from).milliseconds == span.milliseconds
                && 0...Self.freshness.milliseconds ~= age
        }
        let report: ShadowReplayReport
        if let known {
            report = known
        } else {
            report = try await run(model, number, span: span, actor: actor, progress: ProgressReporter()).report
        }
        return ReplayEvidence(
            id: report.id, report: try await content.put(try JSONValue.of(report).canonicalBytes).hex,
            pairs: report.pairs, failures: report.failures, disagreement: report.disagreement,
            meanDifference: report.meanDifference, predictionPSI: report.predictionPSI,
            recordsFrom: report.recordsFrom)
    }

    private func readLabels(from start: UInt64, until time: EventTime?, into run: inout ReplayRun) async throws
        -> UInt64
    {
        var offset = start
        while true {
            let stored = try await log.read(PlatformTopic.labels, from: offset)
            for item in stored {
                if let time, item.record.time > time { return offset }
                if let label = try? LabelRecord(decoding: item.record.value) { run.label(label) }
                offset = item.offset + 1
            }
            if stored.isEmpty { return offset }
        }
    }

    /// What the guardrails would say of a shadow that saw this.
    private static func checks(_ report: ShadowReplayReport, _ policy: DeploymentDefinition) -> [RolloutCheck] {
        func check(_ name: String, _ value: Double?, _ bound: Double?, _ sentence: (String) -> String) -> RolloutCheck?
        {
            guard let value, let bound else { return nil }
            return RolloutCheck(
                name, value > bound ? .failed : .passed, value: value, bound: bound, sentence(RolloutState.text(value)))
        }
        let total = report.pairs + report.failures
        let errors = total > 0 ? Double(report.failures) / Double(total) : nil
        var checks = [
            check("error_rate", errors, policy.errorRateMax) { _ in
                "\(report.failures) of \(total) answers failed"
            },
            check("prediction_psi", report.predictionPSI, policy.predictionPSIMax) { "prediction PSI \($0)" },
            check("disagreement", report.disagreement, policy.rollout.disagreementMax) {
                "a share of \($0) of paired answers decides otherwise"
            },
            check("mean_difference", report.meanDifference, policy.rollout.meanDifferenceMax) {
                "paired answers differ by \($0) on average"
            },
            check("score_p99", report.scoreP99Milliseconds, policy.latencyP99MillisecondsMax) {
                "scoring one row takes \($0) ms at p99"
            },
        ].compactMap(\.self)
        if let labels = report.labels {
            checks.append(
                RolloutCheck(
                    "labels", labels.verdict == "worse" ? .failed : .passed, value: labels.difference?.estimate,
                    bound: 0, "\(labels.measure.rawValue) on \(labels.pairs) labelled pairs is \(labels.verdict)"))
        }
        return checks
    }
}

extension Optional {
    /// `flatMap` for what has to be waited for.
    fileprivate func flatMapAsync<Result>(_ body: (Wrapped) async throws -> Result?) async rethrows -> Result? {
        guard let self else { return nil }
        return try await body(self)
    }
}
