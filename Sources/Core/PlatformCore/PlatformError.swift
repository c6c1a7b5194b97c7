/// What went wrong above the ports: one line that says what, about which thing, and what to do.
///
/// The message may name fields, files and lines; it never holds feature values, credentials or other people's data
/// beyond the one value that was refused.
public struct PlatformError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure.
    ///
    /// The raw value is the wire code; one table in `Gateway` maps it to an HTTP status.
    public enum Code: String, Sendable, Codable, CaseIterable {
        /// The caller sent something that cannot be used: malformed text, a wrong type, a value out of range.
        case invalidInput = "invalid_input"
        /// The input is larger than the stated limit.
        case tooLarge = "too_large"
        /// The named thing does not exist.
        case notFound = "not_found"
        /// The thing exists already, or changed since the caller looked.
        case conflict
        /// A gate or policy said no.
        case refused
        /// The caller may not do this.
        case forbidden
        /// A stated limit of concurrency or rate is reached; try again later.
        case overloaded
        /// A deadline passed.
        case deadlineExceeded = "deadline_exceeded"
        /// A store, child process or disk failed; the same call may succeed later.
        case unavailable
        /// Stored bytes do not check out.
        case corrupted
        /// A fault of the platform itself.
        case `internal`
    }

    /// The kind of failure.
    public let code: Code
    /// The thing it is about, `source/departures` or `examples/flights/views.yaml:12`.
    public let subject: String
    /// What is wrong, and what to do about it, in one line.
    public let message: String

    /// Makes an error.
    public init(_ code: Code, _ subject: String, _ message: String) {
        self.code = code
        self.subject = subject
        self.message = message
    }

    /// `subject: message`.
    public var description: String { subject.isEmpty ? message : "\(subject): \(message)" }
}

/// The text of any error for people: ours in one line, others as they describe themselves.
public func errorText(_ error: any Error) -> String {
    if let error = error as? PlatformError { return error.description }
    return String(describing: error)
}

/// The known name nearest to a misspelt one, for "did you mean"; `nil` if none is near (Levenshtein distance over 1/3).
public func nearestName(to name: String, among known: some Collection<String>) -> String? {
    func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var previous = Array(0...right.count)
        for (row, byte) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                current.append(
                    min(previous[column] + (byte == other ? 0 : 1), previous[column + 1] + 1, current[column] + 1))
            }
            previous = current
        }
        return previous[right.count]
    }
    let target = Array(name.utf8.prefix(64))
    let scored = known.map { ($0, distance(target, Array($0.utf8.prefix(64)))) }
    guard let best = scored.min(by: { ($0.1, $0.0) < ($1.1, $1.0) }), best.1 <= max(2, target.count / 3) else {
        return nil
    }
    return best.0
}
