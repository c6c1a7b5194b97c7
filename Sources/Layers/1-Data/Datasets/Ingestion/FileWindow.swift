import Foundation
import PlatformCore

/// A file read in portions: the bytes from the current position on, as many as were asked for.
struct FileWindow: ~Copyable {
    private let handle: FileHandle
    private(set) var bytes: [UInt8] = []
    /// Where the unread bytes begin in `bytes`.
    private(set) var start = 0
    private(set) var isAtEnd = false
    /// Bytes consumed so far.
    private(set) var consumedByteCount = 0
    private static let portion = 1 << 20

    init(path: String, subject: String) throws {
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw PlatformError(.notFound, subject, "the file cannot be read")
        }
        self.handle = handle
    }
    deinit { try? handle.close() }

    /// Reads one more portion behind the unread bytes.
    mutating func fill() throws {
        if start > 0 {
            bytes.removeFirst(start)
            start = 0
        }
        guard let data = try handle.read(upToCount: Self.portion), !data.isEmpty else {
            isAtEnd = true
            return
        }
        bytes.append(contentsOf: data)
    }

    /// Unread bytes at hand.
    var availableCount: Int { bytes.count - start }

    /// Goes on at another byte of the file.
    mutating func move(to position: Int) throws {
        try handle.seek(toOffset: UInt64(position))
        bytes = []
        start = 0
        isAtEnd = false
        consumedByteCount = position
    }

    mutating func consume(_ count: Int) {
        start += count
        consumedByteCount += count
    }
}

/// What stands next in a file.
enum FileItem: Sendable {
    /// A record's fields, and the line that it begins on.
    case record(line: Int, fields: [String])
    /// A line that cannot be read, with the reason.
    case malformed(line: Int, text: String, reason: String)
}
