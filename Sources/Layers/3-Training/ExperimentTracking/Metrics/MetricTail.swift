import PlatformCore
import Synchronization

/// Metrics that are durable in the journal and not yet in the metadata store.
///
/// What a call acknowledged is here or there at any moment, or in both; who reads looks here first.
final class MetricTail: Sendable {
    /// What waits of one metric of a run.
    struct Series: Sendable {
        var points: [MetricPoint]
        var latest: Metric
    }
    /// A metric that describes a logged model.
    struct ModelMetric: Sendable {
        let runID: String
        let metric: Metric
    }
    struct Content: Sendable {
        var runs: [Int64: [String: Series]] = [:]
        var modelMetrics: [ModelMetric] = []
        var pointCount = 0
        /// Number of the last entry in it.
        var lastNumber: UInt64 = 0

        var isEmpty: Bool { pointCount == 0 }

        mutating func add(_ entry: MetricEntry, number: UInt64) {
            for metric in entry.metrics {
                add(metric, run: entry.run)
                if metric.modelID != nil { modelMetrics.append(ModelMetric(runID: entry.runID, metric: metric)) }
            }
            pointCount += entry.metrics.count
            lastNumber = max(lastNumber, number)
        }

        private mutating func add(_ metric: Metric, run: Int64) {
            if runs[run]?[metric.key]?.points.append(MetricPoint(metric)) != nil {
                if runs[run]?[metric.key]?.latest.isLatest(beside: metric) == false {
                    runs[run]?[metric.key]?.latest = metric
                }
            } else {
                runs[run, default: [:]][metric.key] = Series(points: [MetricPoint(metric)], latest: metric)
            }
        }
    }
    private struct State {
        var open = Content()
        /// On its way to the metadata store.
        var folding: Content?
        var feeds: [Int64: [UInt64: AsyncStream<RunUpdate>.Continuation]] = [:]
        var feedCount: UInt64 = 0
        var updateCounts: [Int64: UInt64] = [:]
    }

    private let state = Mutex(State())  // held for appends and copies, never while something waits
    /// Says that there is something to fold.
    let arrivals: AsyncStream<Void>
    private let arrived: AsyncStream<Void>.Continuation

    init() { (arrivals, arrived) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

    /// How many points wait.
    var pointCount: Int { state.withLock { $0.open.pointCount + ($0.folding?.pointCount ?? 0) } }

    /// Takes what the journal has made durable.
    func add(_ entry: MetricEntry, number: UInt64) {
        let isFirst = state.withLock { state in
            let isFirst = state.open.isEmpty
            state.open.add(entry, number: number)
            Self.publish(entry.metrics, nil, run: entry.run, &state)
            return isFirst
        }
        if isFirst { arrived.yield() }
    }

    /// What waits of a run; by key.
    func series(ofRun run: Int64) -> [String: Series] {
        state.withLock { state in
            var found = state.folding?.runs[run] ?? [:]
            for (key, series) in state.open.runs[run] ?? [:] {
                guard let older = found[key] else {
                    found[key] = series
                    continue
                }
                found[key] = Series(
                    points: older.points + series.points,
                    latest: older.latest.isLatest(beside: series.latest) ? older.latest : series.latest)
            }
            return found
        }
    }

    /// What waits of one metric.
    func points(ofRun run: Int64, key: String) -> [MetricPoint] {
        state.withLock { state in
            (state.folding?.runs[run]?[key]?.points ?? []) + (state.open.runs[run]?[key]?.points ?? [])
        }
    }

    // MARK: Folding, one at a time

    /// Takes what waits out of the way of new metrics; it stays visible until `finishFolding`.
    func startFolding() -> Content? {
        state.withLock { state in
            if state.open.isEmpty { return nil }
            let content = state.open
            state.open = Content()
            state.folding = content
            return content
        }
    }

    /// Forgets what was taken, or, if it could not be put in its place, keeps it for the next time.
    func finishFolding(isDone: Bool) {
        state.withLock { state in
            guard let folding = state.folding else { return }
            state.folding = nil
            if isDone { return }
            let newer = state.open
            state.open = folding
            for (run, byKey) in newer.runs {
                for (key, series) in byKey {
                    guard let older = state.open.runs[run]?[key] else {
                        state.open.runs[run, default: [:]][key] = series
                        continue
                    }
                    state.open.runs[run]?[key] = Series(
                        points: older.points + series.points,
                        latest: older.latest.isLatest(beside: series.latest) ? older.latest : series.latest)
                }
            }
            state.open.modelMetrics += newer.modelMetrics
            state.open.pointCount += newer.pointCount
            state.open.lastNumber = max(folding.lastNumber, newer.lastNumber)
        }
    }

    // MARK: News

    /// News of a run from now on.
    func updates(ofRun run: Int64) -> AsyncStream<RunUpdate> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: RunUpdate.self, bufferingPolicy: .bufferingNewest(256))
        let number = state.withLock { state in
            state.feedCount += 1
            state.feeds[run, default: [:]][state.feedCount] = continuation
            return state.feedCount
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { state in
                state.feeds[run]?[number] = nil
                if state.feeds[run]?.isEmpty == true {
                    state.feeds[run] = nil
                    state.updateCounts[run] = nil
                }
            }
        }
        return stream
    }

    /// Tells those who listen to a run.
    func publish(_ metrics: [Metric], _ status: RunStatus?, run: Int64) {
        state.withLock { Self.publish(metrics, status, run: run, &$0) }
    }

    private static func publish(_ metrics: [Metric], _ status: RunStatus?, run: Int64, _ state: inout State) {
        guard !state.feeds.isEmpty, let feeds = state.feeds[run] else { return }
        let number = state.updateCounts[run, default: 0] + 1
        state.updateCounts[run] = number
        for feed in feeds.values { feed.yield(RunUpdate(number: number, metrics: metrics, status: status)) }
    }
}

/// News of a run, as it comes.
public struct RunUpdate: Sendable {
    /// Rises by one from each update of a run to the next; a gap says that a slow listener missed some and has to
    /// read the histories again.
    public let number: UInt64
    /// Metrics that were logged; they are durable.
    public let metrics: [Metric]
    /// The run's new status, if that is the news.
    public let status: RunStatus?
}
