import Foundation

/// Keeps the beginning of a job's output in a file, counts the rest, and remembers the last lines of all of it.
struct OutputKeeper {
    /// Bytes that are in the file.
    private(set) var keptByteCount = 0
    /// Bytes that came and are not in the file.
    private(set) var droppedByteCount = 0
    /// Why the file takes no more bytes, other than the limit: a full disk.
    private(set) var failure: String?

    private let file: Int32
    private let byteCountMax: Int
    private var tail: [UInt8] = []
    private static let tailByteCount = 4096

    /// Writes to an open file, at most `byteCountMax` bytes.
    init(file: Int32, byteCountMax: Int) {
        self.file = file
        self.byteCountMax = max(0, byteCountMax)
    }

    mutating func take(_ bytes: UnsafeRawBufferPointer) {
        let recent = bytes.suffix(Self.tailByteCount)
        if tail.count + recent.count > 2 * Self.tailByteCount { tail.removeFirst(tail.count - Self.tailByteCount) }
        tail.append(contentsOf: recent)

        var room = failure == nil ? min(bytes.count, byteCountMax - keptByteCount) : 0
        var at = 0
        while room > 0, let base = bytes.baseAddress {
            let count = write(file, base + at, room)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                failure = String(cString: strerror(errno))
                break
            }
            at += count
            room -= count
        }
        keptByteCount += at
        droppedByteCount += bytes.count - at
    }

    /// The last line that is not blank, without control characters, at most 300 characters; `nil` if there is none.
    var lastLine: String? {
        for line in tail.split(whereSeparator: { $0 == 10 || $0 == 13 }).reversed() {
            let text = String(decoding: line, as: UTF8.self)
            let visible = String(
                String.UnicodeScalarView(text.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 })
            )
            .trimmingCharacters(in: .whitespaces)
            if !visible.isEmpty { return visible.count > 300 ? String(visible.prefix(299)) + "…" : visible }
        }
        return nil
    }
}
