import Dispatch
import Synchronization

/// A value that one side gives once and the other waits for; what is given later is dropped.
public final class OneAnswer<Value: Sendable>: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Value, Never>)
        case given(Value)
    }
    private let state = Mutex(State.open)

    /// Nothing is given yet.
    public init() {}

    /// Whether it is given.
    public var isGiven: Bool { state.withLock { if case .given = $0 { true } else { false } } }

    /// Gives the value unless there is one.
    /// - Returns: whether this one counts.
    @discardableResult
    public func give(_ value: Value) -> Bool {
        let (isFirst, waiter) = state.withLock { state -> (Bool, CheckedContinuation<Value, Never>?) in
            switch state {
            case .open:
                state = .given(value)
                return (true, nil)
            case .awaited(let waiter):
                state = .given(value)
                return (true, waiter)
            case .given: return (false, nil)
            }
        }
        waiter?.resume(returning: value)
        return isFirst
    }

    /// Gives a value at a moment, if there is none until then.
    public func give(_ value: Value, at moment: ContinuousClock.Instant) {
        let delay = max(0, min(1e12, (moment - .now) / .microseconds(1)))
        DispatchQueue.global().asyncAfter(deadline: .now() + .microseconds(Int(delay))) { [weak self] in
            self?.give(value)
        }
    }

    /// Waits for the value; at most one waits at a time.
    public func value() async -> Value {
        await withCheckedContinuation { continuation in
            let given = state.withLock { state -> Value? in
                if case .given(let value) = state { return value }
                state = .awaited(continuation)
                return nil
            }
            if let given { continuation.resume(returning: given) }
        }
    }
}
