import ContentHashing
import Foundation
import PlatformCore

/// Reading and copying files of any size through one buffer.
enum LargeFile {
    private static let portionByteCount = 1 << 20

    /// The hash and the size of a file's bytes.
    /// - Throws: `unavailable`.
    static func hash(_ path: String) throws(PlatformError) -> (hash: ContentHash, byteCount: Int) {
        var hasher = ContentHasher()
        let byteCount = try portions(of: path) { portion, _ throws(PlatformError) in hasher.update(portion) }
        return (hasher.finalize(), byteCount)
    }

    /// Adds a range of a file's bytes to a hash.
    /// - Throws: `unavailable`.
    static func hash(_ range: Range<Int>, of path: String, into hasher: inout ContentHasher) throws(PlatformError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("opened") }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: min(portionByteCount, max(1, range.count)))
        var position = range.lowerBound
        while position < range.upperBound {
            let wanted = min(buffer.count, range.upperBound - position)
            let count = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, wanted, off_t(position)) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure("read") }
            buffer.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            position += count
        }
    }

    /// The size of a file.
    /// - Throws: `unavailable`.
    static func byteCount(_ path: String) throws(PlatformError) -> Int {
        var status = stat()
        guard stat(path, &status) == 0 else { throw failure("read") }
        return Int(status.st_size)
    }

    /// Writes a file's bytes into another one, from `position` on.
    /// - Throws: `unavailable`.
    static func copy(_ source: String, to target: String, at position: Int) throws(PlatformError) {
        let descriptor = open(target, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("opened for writing") }
        defer { close(descriptor) }
        try portions(of: source) { portion, start throws(PlatformError) in
            var written = 0
            while written < portion.count {
                let count = portion.withUnsafeBytes { bytes in
                    pwrite(
                        descriptor, bytes.baseAddress.map { $0 + written }, bytes.count - written,
                        off_t(position + start + written))
                }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw failure("written") }
                written += count
            }
        }
    }

    /// Gives a file's bytes in portions, each with the place where it begins; the size of all.
    @discardableResult
    private static func portions(
        of path: String, _ body: (_ portion: [UInt8], _ start: Int) throws(PlatformError) -> Void
    ) throws(PlatformError) -> Int {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("opened") }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: portionByteCount)
        var position = 0
        while true {
            let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("read") }
            if count == 0 { return position }
            if count == buffer.count {
                try body(buffer, position)
            } else {
                try body(Array(buffer[..<count]), position)
            }
            position += count
        }
    }

    private static func failure(_ what: String) -> PlatformError {
        PlatformError(
            .unavailable, "artifact", "its file cannot be \(what): \(String(cString: strerror(errno)))")
    }
}
