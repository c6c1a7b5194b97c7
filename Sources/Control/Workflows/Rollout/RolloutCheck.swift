/// One thing that a step of a rollout was judged by: what was seen, what was asked for, what came of it.
public struct RolloutCheck: Sendable, Hashable, Codable {
    /// The ways it can stand.
    public enum Verdict: String, Sendable, Codable {
        /// It holds.
        case passed
        /// Not yet.
        case waiting
        /// It does not hold.
        case failed
        /// Nothing was seen yet that it could judge; it holds nothing up.
        case unknown
    }
    /// What was looked at, such as `error_rate`.
    public let name: String
    /// How it stands.
    public let verdict: Verdict
    /// What was seen; `nil` where it is no number or nothing was.
    public let value: Double?
    /// What was asked for; `nil` where it is no number.
    public let bound: Double?
    /// A sentence.
    public let detail: String

    /// Whether a rate or a latency is past its guardrail, be it that too few answers were seen to act on it.
    var isAboveGuardrail: Bool {
        guard let value, let bound, ["error_rate", "latency_p99"].contains(name) else { return false }
        return value > bound
    }

    /// Makes a check.
    public init(_ name: String, _ verdict: Verdict, value: Double? = nil, bound: Double? = nil, _ detail: String) {
        self.name = name
        self.verdict = verdict
        self.value = value.flatMap { $0.isFinite ? $0 : nil }
        self.bound = bound
        self.detail = detail
    }
}
