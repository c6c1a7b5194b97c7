public import Definitions

/// What one request asks for beside a prediction, and by when.
public struct RequestTerms: Sendable {
    /// Who asks.
    public var caller: String
    /// Until when the caller waits; `nil` for no bound of its own.
    public var deadline: ContinuousClock.Instant?
    /// How urgent it is; `nil` leaves it to the deployment.
    public var priority: RequestPriority?
    /// Whether nobody waits for the answer, so that the deployment's deadline does not count.
    public var hasTime = false
    /// What is wrong with the terms themselves; such a request is refused.
    public var fault: FieldFault?
    /// Whether the ages of features are told.
    public var withAges: Bool
    /// Whether it is told where the time went.
    public var withLatency: Bool
    /// Whether explanations can be had here.
    public var explaining: Predictor.Explaining

    /// A request without wishes.
    public init(
        caller: String = "", deadline: ContinuousClock.Instant? = nil, priority: RequestPriority? = nil,
        withAges: Bool = false, withLatency: Bool = false, explaining: Predictor.Explaining = .left
    ) {
        self.caller = caller
        self.deadline = deadline
        self.priority = priority
        self.withAges = withAges
        self.withLatency = withLatency
        self.explaining = explaining
    }

    /// Longest time that a request may state, in milliseconds: a day.
    static let timeoutMillisecondsMax = 86_400_000

    /// Takes over what the header fields of a request say, each as its bytes.
    ///
    /// - Parameters:
    ///   - timeout: `X-Request-Timeout-Ms`: whole milliseconds from now on.
    ///   - priority: `X-Priority`: `low`, `normal` or `high`, without regard to case.
    public mutating func read(timeout: (some Collection<UInt8>)?, priority: (some Collection<UInt8>)?) {
        if let timeout {
            if let duration = Self.timeout(timeout) {
                deadline = ContinuousClock.now + duration
            } else {
                fault = FieldFault(
                    field: "X-Request-Timeout-Ms",
                    message: "whole milliseconds from 1 to \(Self.timeoutMillisecondsMax) are expected")
            }
        }
        if let priority {
            let word = String(decoding: priority.prefix(16), as: UTF8.self).lowercased()
            self.priority = RequestPriority(rawValue: word)
            if self.priority == nil {
                fault = FieldFault(field: "X-Priority", message: "low, normal or high is expected")
            }
        }
    }

    static func timeout(_ text: some Collection<UInt8>) -> Duration? {
        guard 1...8 ~= text.count, text.allSatisfy({ 48...57 ~= $0 }) else { return nil }
        let milliseconds = text.reduce(0) { $0 * 10 + Int($1 - 48) }
        guard 1...timeoutMillisecondsMax ~= milliseconds else { return nil }
        return .milliseconds(milliseconds)
    }
}
