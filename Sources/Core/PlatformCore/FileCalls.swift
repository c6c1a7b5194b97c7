#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Why the system refused a call on a file.
package struct FileCallFailure: Error, Equatable, CustomStringConvertible {
    /// The system's number, `ENOSPC`.
    package let number: Int32
    /// The system's words for it.
    package var description: String { String(cString: strerror(number)) }
}

/// Calls on files that Foundation does not have, and that more than one target makes.
package enum FileCalls {
    /// Lets two folders, or two files, change places in one step; `false` where the system cannot.
    package static func exchange(_ first: String, _ second: String) -> Bool {
        typealias Function =
            @convention(c) (CInt, UnsafePointer<CChar>, CInt, UnsafePointer<CChar>, CUnsignedInt) -> CInt
        // Not in the C library's Swift overlay; `RENAME_EXCHANGE` is 2.
        guard let symbol = dlsym(nil, "renameat2") else { return false }
        return unsafeBitCast(symbol, to: Function.self)(AT_FDCWD, first, AT_FDCWD, second, 2) == 0
    }

    /// Waits until a file, or the names in a folder, are on the disk.
    package static func synchronize(_ path: String) throws(FileCallFailure) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileCallFailure(number: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw FileCallFailure(number: errno) }
    }

    /// Writes all of these bytes: from `position` on, or where the file stands.
    package static func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, at position: Int? = nil)
        throws(FileCallFailure)
    {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count =
                if let position { pwrite(descriptor, base + done, bytes.count - done, off_t(position + done)) } else {
                    write(descriptor, base + done, bytes.count - done)
                }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw FileCallFailure(number: errno) }
            done += count
        }
    }
}

/// Writes what arrives piece by piece into a file, one piece after the other, and has the disk begin early.
package struct FileStream {
    private let descriptor: Int32
    /// After so many bytes the disk begins with them; `nil` to leave that to the system.
    private let windowByteCount: Int?
    /// Where the next byte goes.
    package private(set) var position: Int
    private var begunUpTo: Int

    /// Writes into an open file, which stays the caller's to close.
    package init(into descriptor: Int32, from position: Int = 0, windowByteCount: Int?) {
        self.descriptor = descriptor
        self.position = position
        self.windowByteCount = windowByteCount
        begunUpTo = position
    }

    /// Writes all of these bytes.
    package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(FileCallFailure) {
        try FileCalls.writeAll(bytes, to: descriptor, at: position)
        position += bytes.count
        if let windowByteCount, position - begunUpTo >= windowByteCount { begin() }
    }

    /// Has the disk begin with what was written: a flush has little left to wait for then.
    package mutating func begin() {
        guard position > begunUpTo else { return }
        // Linux begins to write the range's changed pages and returns; they stay in memory until they are written.
        _ = posix_fadvise(descriptor, off_t(begunUpTo), off_t(position - begunUpTo), POSIX_FADV_DONTNEED)
        begunUpTo = position
    }
}
