import Definitions
import PlatformCore
import Synchronization

/// Decides which requests are let in when there are more than can be answered in time.
///
/// Two things are bounded: how many requests are in hand, in all and for each deployment, and how long a request waits
/// before it is looked at. Low priority is refused first, high last.
public final class Admission: Sendable {
    /// Requests that wait for something: the prediction log, a worker, the framework.
    private let waitingCount = Atomic<Int>(0)
    private let waitingMax: Int
    /// How much is refused, as the event loop that is worst off sees it.
    private let worstPressure = Atomic<Int>(0)

    /// Makes one that holds up to `waitingMax` requests.
    public init(waitingMax: Int = 10_000) { self.waitingMax = waitingMax }

    /// Share of a bound that a priority may fill.
    static func bound(_ whole: Int, for priority: RequestPriority) -> Int {
        switch priority {
        case .high: whole
        case .normal: max(1, whole - whole / 10)
        case .low: max(1, whole / 2)
        }
    }

    /// A request begins to wait for something.
    public func beginWaiting() { waitingCount.add(1, ordering: .relaxed) }
    /// It waits no longer.
    public func endWaiting() { waitingCount.subtract(1, ordering: .relaxed) }
    /// Requests that wait.
    public var waiting: Int { waitingCount.load(ordering: .relaxed) }

    /// Pressure in thousandths: up to 1000 that share of low requests is refused, beyond it also of normal ones.
    public var pressure: Int { worstPressure.load(ordering: .relaxed) }
    /// Hears of the pressure on the event loops.
    public func setPressure(_ pressure: Int) { worstPressure.store(pressure, ordering: .relaxed) }

    /// Why a request is refused; `nil` lets it in.
    func refusal(_ priority: RequestPriority, pressure: Int) -> String? {
        if pressure > 0 {
            let share = priority == .high ? 0 : priority == .low ? pressure : pressure - 1000
            if share > 0, Int.random(in: 0..<1000) < share { return "requests wait too long before they are looked at" }
        }
        if waiting >= Self.bound(waitingMax, for: priority) { return "too many requests are in hand" }
        return nil
    }
}

/// Requests of one deployment that are in hand.
public final class ConcurrencyLimit: Sendable {
    private let count = Atomic<Int>(0)

    /// Nothing is in hand.
    init() {}

    /// Requests in hand.
    public var inHand: Int { count.load(ordering: .relaxed) }

    /// Takes a place; `nil` if there is none for this priority.
    func enter(_ priority: RequestPriority, of countMax: Int) -> AdmissionTicket? {
        let bound = Admission.bound(countMax, for: priority)
        guard count.add(1, ordering: .relaxed).newValue <= bound else {
            count.subtract(1, ordering: .relaxed)
            return nil
        }
        return AdmissionTicket(self)
    }

    fileprivate func leave() { count.subtract(1, ordering: .relaxed) }
}

/// A request's place among those of its deployment that are in hand; given back when nobody holds the ticket.
public final class AdmissionTicket: Sendable {
    private let limit: ConcurrencyLimit
    fileprivate init(_ limit: ConcurrencyLimit) { self.limit = limit }
    deinit { limit.leave() }
}

/// How long requests wait for one event loop, and what that means for the next ones.
///
/// The idea is CoDel's (Nichols and Jacobson, *Controlling Queue Delay*, 2012): not the length of the queue nor a single
/// delay says that there is too much, but the least delay over an interval. While it is above the target the pressure
/// rises, below it the pressure falls, so that the share that is refused settles where the rest is in time.
public struct LoopPressure: Sendable {
    /// Delay that is accepted, in nanoseconds; 0 refuses nothing.
    private let target: UInt64
    private var least = UInt64.max
    private var sampleCount = 0
    private var delaySum: UInt64 = 0
    /// Most samples of an interval.
    public static let intervalSampleCountMax = 10
    /// Delays, in nanoseconds, that make an interval before it has all its samples; two are needed, for one delay says nothing.
    private static let intervalDelaySum: UInt64 = 100_000_000
    /// Pressure in thousandths, 0 to 2000.
    public private(set) var pressure = 0

    /// Makes one for a target in nanoseconds.
    public init(targetNanoseconds: UInt64) { target = targetNanoseconds }

    /// Takes one observed delay in nanoseconds.
    public mutating func observe(delay: UInt64) {
        least = min(least, delay)
        sampleCount += 1
        delaySum += delay
        guard sampleCount >= Self.intervalSampleCountMax || sampleCount >= 2 && delaySum >= Self.intervalDelaySum else {
            return
        }
        if target > 0, least > target {
            let excess = min(4, Double(least) / Double(target))
            pressure = min(2000, pressure + Int(50 * excess))
        } else {
            pressure = max(0, pressure - 25)
        }
        (least, sampleCount, delaySum) = (.max, 0, 0)
    }
}
