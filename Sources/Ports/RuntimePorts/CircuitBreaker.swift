/// Stops asking who keeps failing: after some failures in a row calls are refused for a while, then one is tried.
///
/// The pause doubles with each failed trial, up to a bound; a success closes the breaker and forgets.
public struct CircuitBreaker: Sendable {
    private let failureCountMax: Int
    private let pauseMin: Duration
    private let pauseMax: Duration
    private var failureCount = 0
    private var pause: Duration
    private var openUntil: ContinuousClock.Instant?
    /// How often it has opened.
    public private(set) var openingCount = 0

    /// A closed breaker that opens after `failureCountMax` failures in a row, first for `pauseMin`.
    public init(failureCountMax: Int = 5, pauseMin: Duration = .milliseconds(500), pauseMax: Duration = .seconds(30)) {
        self.failureCountMax = failureCountMax
        self.pauseMin = pauseMin
        self.pauseMax = pauseMax
        pause = pauseMin
    }

    /// Whether calls are refused until a trial succeeds.
    public var isOpen: Bool { openUntil != nil }

    /// Whether a call may be made now.
    ///
    /// Of an open breaker whose pause is over, it lets one call through, and the next one after another pause, whatever
    /// became of the first.
    public mutating func allows(at now: ContinuousClock.Instant) -> Bool {
        guard let openUntil else { return true }
        guard now >= openUntil else { return false }
        self.openUntil = now + pause
        return true
    }

    /// Hears that a call succeeded.
    public mutating func succeeded() {
        failureCount = 0
        pause = pauseMin
        openUntil = nil
    }

    /// Hears that a call failed.
    public mutating func failed(at now: ContinuousClock.Instant) {
        failureCount += 1
        if isOpen {
            pause = min(pause * 2, pauseMax)
            openUntil = now + pause
        } else if failureCount >= failureCountMax {
            openingCount += 1
            openUntil = now + pause
        }
    }
}
