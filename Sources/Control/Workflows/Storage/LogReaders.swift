public import PlatformCore
import Synchronization

/// Somebody who reads predictions and labels from a moment on.
public struct LogReader: Sendable, Hashable {
    /// Who, in words.
    public let name: String
    /// The earliest moment that is wanted.
    public let since: EventTime

    /// Names a reader.
    public init(name: String, since: EventTime) {
        self.name = name
        self.since = since
    }
}

/// Those who are reading just now and do not commit how far they are.
public final class LogReaders: Sendable {
    private let readers = Mutex<(next: Int, known: [Int: LogReader])>((0, [:]))  // held for one look-up

    /// Nobody.
    public init() {}

    /// Those who read now.
    public var all: [LogReader] { readers.withLock { Array($0.known.values) } }

    /// Reads with `work`, while the log keeps what `reader` wants.
    func holding<Found>(_ reader: LogReader, _ work: () async throws -> Found) async rethrows -> Found {
        let number = readers.withLock { readers in
            readers.next += 1
            readers.known[readers.next] = reader
            return readers.next
        }
        defer { readers.withLock { readers in readers.known[number] = nil } }
        return try await work()
    }
}
