public import Definitions
import Foundation
public import ModelRegistry
public import ModelServing
public import PlatformCore
public import StoragePorts

/// What a rehearsed rollback did to the traffic.
public struct DrillReport: Sendable, Codable {
    /// One stretch of the drill.
    public struct Phase: Sendable, Codable {
        /// `before`, `during` (rolled back) or `after`.
        public let name: String
        /// How long it took.
        public let seconds: Double
        /// Answers given, by version.
        public let answers: [String: Int]
        /// Answers that the fallback gave, and requests that were refused with a status of 500 or more.
        public let errors: Int
        /// Median of whole requests in milliseconds; `nil` without answers.
        public let p50Milliseconds: Double?
        /// p99 of whole requests in milliseconds; `nil` without answers.
        public let p99Milliseconds: Double?

        /// Answers in all.
        public var answerCount: Int { answers.values.reduce(0, +) }
    }
    /// The deployment.
    public let deployment: Name
    /// The model.
    public let model: Name
    /// When it began.
    public let time: EventTime
    /// Who asked for it.
    public let actor: String
    /// Versions in front of traffic before and after.
    public let from: [Int]
    /// Versions that a rollback goes back to.
    public let to: [Int]
    /// From the order until the last answer of a version that was left, in milliseconds.
    public let rollbackMilliseconds: Double
    /// The same for the way back.
    public let returnMilliseconds: Double
    /// Whether the drill asked questions of its own, taken from the log, for want of traffic.
    public let hasProbes: Bool
    /// Before, during, after.
    public let phases: [Phase]
    /// What is wrong; `nil` if the rollback took effect within a second and nothing failed.
    public let fault: String?
}

/// Rehearses a rollback under live traffic.
///
/// Nothing is written but the report: the route of the earlier policy is put in front of the traffic for a while, and then
/// that of the stored policy again. A process that dies in between starts with the stored one.
public struct RollbackDrill: Sendable {
    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    private let predictor: Predictor
    private let archive: PredictionArchive
    private let clock: any PlatformClock
    private let content: ContentStore
    private let history: StateHistory<DrillReport>

    /// Time within which a rollback has to take effect.
    public static let effectMillisecondsMax = 1000.0
    /// Requests a second below which the drill asks questions of its own.
    private static let trafficMin = 20.0

    /// Names what it works with.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, predictor: Predictor, archive: PredictionArchive,
        clock: any PlatformClock, content: ContentStore, metadata: any MetadataStore
    ) {
        self.desk = desk
        self.registry = registry
        self.predictor = predictor
        self.archive = archive
        self.clock = clock
        self.content = content
        history = StateHistory(store: metadata, kind: "rollback_drill")
    }

    /// The newest drill of each deployment.
    public func latest() async throws -> [DrillReport] { try await history.latest().map(\.state) }

    /// Rehearses the rollback of a deployment; each of the three stretches takes `seconds`.
    /// - Returns: the report, and the hash under which it is kept.
    /// - Throws: `notFound` if nothing was deployed, `refused` if there is nothing to go back to.
    public func run(_ deployment: DeploymentDefinition, seconds: Double, actor: String, progress: ProgressReporter)
        async throws -> (report: DrillReport, evidence: ContentHash)
    {
        let subject = "deployment/\(deployment.name)"
        guard let current = try await registry.current(deployment.name) else {
            throw PlatformError(.notFound, subject, "nothing was ever deployed")
        }
        guard let goal = try await registry.rollbackGoal(deployment.name) else {
            throw PlatformError(
                .refused, subject, "no earlier policy is left to go back to; a rollback would be refused")
        }
        let started = clock.now()
        let from = current.policy.variants.map(\.version)
        let to = goal.policy.variants.map(\.version)
        let meter = TrafficMeter(model: deployment.model.text, metrics: predictor.metrics)
        progress.report("looking at the traffic", done: 0, total: 3, unit: "phases")
        // Several short looks: traffic that has just ended is no traffic.
        var rate = Double.infinity
        for _ in 0..<4 {
            let first = meter.reading()
            try await Task.sleep(for: .milliseconds(200))
            rate = min(rate, Double(meter.reading().count(since: first)) * 5)
        }
        let isQuiet = rate < Self.trafficMin
        let probes = isQuiet ? try await self.probes(deployment.model) : []
        let outcome = try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<(probes.isEmpty ? 0 : 2) { group.addTask { await self.ask(probes, deployment.model) } }
            defer { group.cancelAll() }
            return try await rehearse(
                current, goal, leaving: Set(from).subtracting(to), entering: Set(to).subtracting(from), meter, seconds,
                progress)
        }
        let during = outcome.phases[1]
        var fault: String?
        if during.answerCount == 0 {
            let reason = isQuiet ? "and the log has no question to ask" : "though somebody did before; try again"
            fault = "nobody asked anything during the drill, \(reason); it shows nothing"
        } else if outcome.rollback > Self.effectMillisecondsMax {
            fault = "the rollback took \(Int(outcome.rollback)) ms to take effect, more than a second"
        } else if outcome.phases.contains(where: { $0.errors > 0 }) {
            let errors = outcome.phases.map { "\($0.errors) \($0.name)" }.joined(separator: ", ")
            fault = "answers failed: \(errors)"
        }
        let report = DrillReport(
            deployment: deployment.name, model: deployment.model, time: started, actor: actor, from: from, to: to,
            rollbackMilliseconds: outcome.rollback, returnMilliseconds: outcome.back, hasProbes: !probes.isEmpty,
            phases: outcome.phases, fault: fault)
        try await history.append(deployment.name.text, report)
        return (report, try await content.put(try JSONValue.of(report).canonicalBytes))
    }

    private func rehearse(
        _ current: PolicyRevision, _ goal: PolicyRevision, leaving: Set<Int>, entering: Set<Int>, _ meter: TrafficMeter,
        _ seconds: Double, _ progress: ProgressReporter
    ) async throws -> (phases: [DrillReport.Phase], rollback: Double, back: Double) {
        progress.report("before", done: 0, total: 3, unit: "phases")
        let start = meter.reading()
        try await Task.sleep(for: .seconds(seconds))
        let before = meter.reading()
        progress.report("rolled back", done: 1, total: 3, unit: "phases")
        let rollback: Double
        do {
            let order = ContinuousClock.now
            try await desk.rehearse(goal)
            rollback = try await meter.lastAnswer(of: leaving, after: order, within: seconds)
        } catch {
            // Whatever happened, also a shutdown: the stored policy comes back.
            try await desk.reroute(current.deployment)
            throw error
        }
        let during = meter.reading()
        progress.report("after", done: 2, total: 3, unit: "phases")
        let order = ContinuousClock.now
        try await desk.reroute(current.deployment)
        let back = try await meter.lastAnswer(of: entering, after: order, within: seconds)
        let end = meter.reading()
        return (
            [
                before.phase("before", since: start), during.phase("during", since: before),
                end.phase("after", since: during),
            ], rollback, back
        )
    }

    // MARK: Questions of its own

    /// Questions of the newest logged predictions, as their callers asked them.
    private func probes(_ model: Name) async throws -> [[UInt8]] {
        guard let binding = predictor.routes.route(model.text)?.variants.first?.version.binding else { return [] }
        let definition = binding.definition
        return try await archive.sample(model: model.text, count: 64, seed: 1).compactMap { record in
            guard record.inputs.count == binding.inputCount else { return nil }
            var entities: [String: JSONValue] = [:]
            for entity in record.entities { entities[entity.key] = entity.value.map(JSONValue.string) ?? .null }
            var features: [String: JSONValue] = [:]
            for (feature, value) in zip(definition.request, record.inputs) where !value.isNaN {
                switch feature.kind {
                case .number: features[feature.name] = .number(value)
                case .category(let values):
                    guard let place = Int(exactly: value), values.indices.contains(place) else { return nil }
                    features[feature.name] = .string(values[place])
                }
            }
            return JSONValue.object(["entities": .object(entities), "features": .object(features)]).canonicalBytes
        }
    }

    /// Asks until it is cancelled; what is answered is not logged.
    @concurrent
    private func ask(_ probes: [[UInt8]], _ model: Name) async {
        var scratch = PredictionScratch()
        var next = 0
        while !Task.isCancelled {
            let probe = probes[next % probes.count]
            let answer = probe.withUnsafeBytes {
                predictor.answer(model: model.text, body: $0, caller: "drill", scratch: scratch)
            }
            if answer.isLeft {  // by a model that has to be waited for
                _ = await predictor.answerLater(model: model.text, body: probe, caller: "drill", explaining: .left)
            }
            next += 1
            if next % 1000 == 0 { scratch = PredictionScratch() }
            try? await Task.sleep(for: .milliseconds(2))
        }
    }
}

/// Reads what a model's traffic did from the counters that every answer goes through.
struct TrafficMeter: Sendable {
    let model: String
    let metrics: ServingMetrics

    struct Reading: Sendable {
        let time: ContinuousClock.Instant
        let latencies: [ServingMetrics.Key: LatencyHistogram]
        let refused: Int

        private func difference(since earlier: Reading) -> [ServingMetrics.Key: LatencyHistogram] {
            var result: [ServingMetrics.Key: LatencyHistogram] = [:]
            for (key, histogram) in latencies {
                result[key] = earlier.latencies[key].map { histogram.since($0) } ?? histogram
            }
            return result
        }

        func count(since earlier: Reading) -> Int {
            difference(since: earlier).values.reduce(0) { $0 + Int($1.count) }
        }

        func phase(_ name: String, since earlier: Reading) -> DrillReport.Phase {
            let changes = difference(since: earlier)
            var answers: [String: Int] = [:]
            var all = LatencyHistogram()
            var fallbacks = 0
            for (key, histogram) in changes where histogram.count > 0 {
                all = all.merged(with: histogram)
                if key.choice == .fallback { fallbacks += Int(histogram.count) }
                answers[String(key.version), default: 0] += Int(histogram.count)
            }
            return DrillReport.Phase(
                name: name, seconds: Double((time - earlier.time) / .milliseconds(1)) / 1000, answers: answers,
                errors: fallbacks + refused - earlier.refused,
                p50Milliseconds: all.count > 0 ? all.quantile(0.5) / 1000 : nil,
                p99Milliseconds: all.count > 0 ? all.quantile(0.99) / 1000 : nil)
        }
    }

    func reading() -> Reading {
        let failures = metrics.refused()[model]?.filter { $0.key >= 500 }.values.reduce(0, +) ?? 0
        return Reading(
            time: .now, latencies: metrics.latencies().filter { $0.key.model == model }, refused: failures)
    }

    /// Milliseconds from `order` to the last answer that one of these versions gave within `seconds`; how long it takes
    /// to be sure of that is not part of it.
    func lastAnswer(of versions: Set<Int>, after order: ContinuousClock.Instant, within seconds: Double) async throws
        -> Double
    {
        func count() -> UInt64 {
            metrics.latencies().reduce(0) {
                $0 + ($1.key.model == model && versions.contains($1.key.version) ? $1.value.count : 0)
            }
        }
        var known = count()
        var last = ContinuousClock.now
        while ContinuousClock.now - order < .seconds(seconds) {
            try await Task.sleep(for: .milliseconds(1))
            let now = count()
            if now != known {
                known = now
                last = .now
            }
        }
        return Double((last - order) / .microseconds(1)) / 1000
    }
}
