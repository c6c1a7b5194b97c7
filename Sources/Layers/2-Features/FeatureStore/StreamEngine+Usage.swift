public import PlatformCore
import StoragePorts
import Synchronization

/// Counts how often one plan is read; shared by all who hold the plan.
final class ReadCounter: Sendable {
    /// Who reads: `service/loss`.
    let consumer: String
    let features: [ServingPlan.Feature]
    let count = Atomic<UInt64>(0)
    private let isListed = Atomic<Bool>(false)

    convenience init(service: Name, features: [ServingPlan.Feature]) {
        self.init(consumer: "service/\(service)", features: features)
    }

    init(consumer: String, features: [ServingPlan.Feature]) {
        self.consumer = consumer
        self.features = features
    }

    /// Adds reads; says whether these are the first.
    func add(_ reads: Int) -> Bool {
        count.add(UInt64(reads), ordering: .relaxed)
        if isListed.load(ordering: .relaxed) { return false }
        return isListed.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged
    }

    /// Makes the next read list the counter again.
    func unlist() { isListed.store(false, ordering: .sequentiallyConsistent) }
}

/// Reads of one feature by one consumer.
public struct FeatureReads: Sendable, Hashable {
    /// The version of the view.
    public let version: Name
    /// The feature's name within the view.
    public let feature: String
    /// Who read: `service/loss`, or `view` for a read by the view's name.
    public let consumer: String
    /// How many entities were read.
    public let count: UInt64

    /// Makes a count.
    public init(version: Name, feature: String, consumer: String, count: UInt64) {
        self.version = version
        self.feature = feature
        self.consumer = consumer
        self.count = count
    }
}

/// What one version of a view cost.
public struct ViewCost: Sendable, Hashable {
    /// Rows applied.
    public var rows: UInt64 = 0
    /// Time that took, on one core.
    public var nanoseconds: UInt64 = 0
}

/// Counters of reads and costs since they were last taken.
final class UsageDesk: Sendable {
    private struct State {
        var counters: [ReadCounter] = []
        var viewReads: [Name: (features: [String], count: UInt64)] = [:]
        var costs: [Name: ViewCost] = [:]
        var total = ViewCost()
    }
    private let state = Mutex(State())

    func list(_ counter: ReadCounter) { state.withLock { $0.counters.append(counter) } }

    func read(_ version: Name, features: [String], count: Int) {
        state.withLock { $0.viewReads[version, default: (features, 0)].count += UInt64(count) }
    }

    func spent(_ version: Name, rows: Int, time: Duration) {
        let nanoseconds = UInt64(max(0, time / .nanoseconds(1)))
        state.withLock {
            $0.costs[version, default: ViewCost()].rows += UInt64(rows)
            $0.costs[version, default: ViewCost()].nanoseconds += nanoseconds
            $0.total.rows += UInt64(rows)
            $0.total.nanoseconds += nanoseconds
        }
    }

    var total: ViewCost { state.withLock { $0.total } }

    func take() -> (reads: [FeatureReads], costs: [Name: ViewCost]) {
        let (counters, views, costs) = state.withLock { state in
            let taken = (state.counters, state.viewReads, state.costs)
            state.viewReads = [:]
            state.costs = [:]
            state.counters = []  // a plan that is still read lists its counter again; one that is gone must not stay
            return taken
        }
        var reads: [FeatureReads] = []
        for counter in counters {
            counter.unlist()
            let count = counter.count.exchange(0, ordering: .relaxed)
            guard count > 0 else { continue }
            for feature in counter.features {
                reads.append(
                    FeatureReads(
                        version: feature.viewVersion, feature: feature.feature, consumer: counter.consumer,
                        count: count))
            }
        }
        for (version, read) in views {
            for feature in read.features {
                reads.append(FeatureReads(version: version, feature: feature, consumer: "view", count: read.count))
            }
        }
        return (reads, costs)
    }
}

extension StreamEngine {
    /// Reads and costs since this was last called: reads by version, feature and consumer, costs by version.
    public func takeUsage() -> (reads: [FeatureReads], costs: [Name: ViewCost]) { usage.take() }

    /// Rows of one view applied in a second by this process, on one core; `nil` before there were enough to tell.
    public var rowsPerSecond: Double? {
        let total = usage.total
        guard total.rows >= 1000, total.nanoseconds > 0 else { return nil }
        return Double(total.rows) / (Double(total.nanoseconds) / 1e9)
    }

    /// Entities of a version in memory: all of them, unless there are too many to be kept there.
    public func entityCount(of version: Name) -> Int { snapshot.withLock { $0.views[version] }?.entityCount ?? 0 }

    /// Entities and bytes of a version in the online store, as of its last checkpoint; reads all of them.
    @concurrent
    public func storedSize(of version: Name) async throws -> (rows: Int, byteCount: Int) {
        var size = (rows: 0, byteCount: 0)
        try await online.forEach(in: version) { keyed in
            // The later pages of a long series carry no times of their own.
            if keyed.row.sequence > 0 || keyed.row.eventTime.milliseconds != 0 { size.rows += 1 }
            size.byteCount += keyed.row.payload.count + keyed.key.joined.utf8.count
            return true
        }
        return size
    }
}
