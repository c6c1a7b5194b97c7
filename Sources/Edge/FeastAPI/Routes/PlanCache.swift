import PlatformCore
import Synchronization

/// Plans of the questions that were asked last, by their text.
final class PlanCache: Sendable {
    /// Most plans; beyond it all are forgotten, and those in use are made again.
    static let countMax = 256
    private let plans = Mutex<[String: FeastPlan]>([:])  // held for a look-up

    subscript(key: String) -> FeastPlan? {
        get { plans.withLock { $0[key] } }
        set {
            plans.withLock {
                if $0.count >= Self.countMax { $0 = [:] }
                $0[key] = newValue
            }
        }
    }
}

/// Views that an asynchronous call is materializing.
final class ViewsUnderWay: Sendable {
    private let names = Mutex<Set<Name>>([])  // held for a comparison

    /// Claims views; gives those that somebody else has claimed, and then claims none unless `isForced`.
    func claim(_ wanted: [Name], isForced: Bool) -> [Name] {
        names.withLock { names in
            let busy = isForced ? [] : wanted.filter(names.contains)
            if busy.isEmpty { names.formUnion(wanted) }
            return busy
        }
    }

    /// Gives views back.
    func release(_ wanted: [Name]) { names.withLock { $0.subtract(wanted) } }
}
