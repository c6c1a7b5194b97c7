import Foundation
import Synchronization

/// Where the platform's time comes from.
///
/// Given through `init`, so that a test, or a replayed year, brings its own.
public protocol PlatformClock: Sendable {
    /// The present moment.
    func now() -> EventTime
}

/// The machine's clock.
public struct SystemClock: PlatformClock {
    /// Makes a clock that reads the machine's.
    public init() {}

    /// The machine's time, cut to milliseconds.
    public func now() -> EventTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return EventTime(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }
}

/// A clock that stands still until it is told to move, and never moves back.
public final class ManualClock: PlatformClock {
    private let current: Atomic<Int64>

    /// Starts at `start`.
    public init(startingAt start: EventTime) { current = Atomic(start.milliseconds) }

    /// The moment last set.
    public func now() -> EventTime { EventTime(milliseconds: current.load(ordering: .relaxed)) }

    /// Moves to `moment` if that is later; returns the moment the clock shows afterwards.
    @discardableResult
    public func advance(to moment: EventTime) -> EventTime {
        let (_, value) = current.max(moment.milliseconds, ordering: .relaxed)
        return EventTime(milliseconds: value)
    }
}
