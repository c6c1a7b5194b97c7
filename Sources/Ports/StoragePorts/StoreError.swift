/// A store's failure: what, about which thing, and why.
public struct StoreError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure; callers branch on it.
    public enum Code: String, Sendable, Codable, CaseIterable {
        /// The named thing is not there.
        case notFound
        /// A unique key is taken, or the thing exists already.
        case conflict
        /// A stated condition did not hold.
        case preconditionFailed
        /// The input cannot be stored or run: malformed, too large, a query that does not compile.
        case invalidInput
        /// A limit of memory or time was reached.
        case limitExceeded
        /// No space is left.
        case full
        /// Stored bytes do not check out.
        case corrupted
        /// Another process holds the store.
        case locked
        /// The store cannot be reached or failed; the same call may succeed later.
        case unavailable
    }

    /// The kind of failure.
    public let code: Code
    /// The thing it is about, `topic/source.departures`: names only, never feature values or secrets.
    public let subject: String
    /// What happened, in one line, and what to do where that is known.
    public let message: String
    /// What led to it.
    public let cause: (any Error)?

    /// Makes an error.
    public init(_ code: Code, _ subject: String, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.subject = subject
        self.message = message
        self.cause = cause
    }

    /// `subject: message`.
    public var description: String { "\(subject): \(message)" + (cause.map { " (\($0))" } ?? "") }
}
