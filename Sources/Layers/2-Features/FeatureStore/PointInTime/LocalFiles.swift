public import ColumnFiles
import Foundation
import PlatformCore
package import StoragePorts
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A local file that is read piece by piece.
public final class FileBytes: ByteSource {
    private let descriptor: Int32
    private let path: String
    /// Size when it was opened.
    public let byteCount: Int

    /// Opens a file.
    /// - Throws: `unavailable` with the system's reason.
    public init(_ path: String) throws(ColumnFileError) {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ColumnFileError(.unavailable, "'\(path)' cannot be read: \(String(cString: strerror(errno)))")
        }
        byteCount = max(0, Int(lseek(descriptor, 0, SEEK_END)))
    }

    deinit { close(descriptor) }

    /// Reads; a file that became shorter is `corrupted`.
    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ColumnFileError) {
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let count = pread(descriptor, base + done, buffer.count - done, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw ColumnFileError(
                    count == 0 ? .corrupted : .unavailable, "'\(path)' ends before byte \(offset + buffer.count)")
            }
            done += count
        }
    }
}

/// A file that is written from its beginning to its end.
package final class OutputFile: Sendable {
    private let descriptor: Int32
    private let path: String

    /// Makes an empty file, or empties the one that is there.
    package init(_ path: String) throws(StoreError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw StoreError(.unavailable, path, "cannot be written: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close(descriptor) }

    /// Writes after what was written before.
    package func write(_ bytes: [UInt8]) throws(StoreError) {
        let outcome = bytes.withUnsafeBytes { part in
            Result { () throws(StoreError) in try writeAll(descriptor, part, path) }
        }
        try outcome.get()
    }

    /// Waits until what was written is on the disk.
    package func synchronize() throws(StoreError) {
        guard fsync(descriptor) == 0 else {
            throw StoreError(.unavailable, path, "cannot be synchronized: \(String(cString: strerror(errno)))")
        }
    }
}

private func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int? = nil, _ path: String)
    throws(StoreError)
{
    do { try FileCalls.writeAll(bytes, to: descriptor, at: offset) } catch {
        let isFull = [ENOSPC, EDQUOT, EFBIG].contains(error.number)
        throw StoreError(
            isFull ? .full : .unavailable, path,
            isFull
                ? "no space is left on the disk; free some, or give the build more memory so that it spills less"
                : "cannot be written: \(error)")
    }
}

/// What does not fit in memory: one file, deleted as soon as it is open, so that nothing stays behind however the process ends.
final class SpillFile: Sendable {
    private let folder: String
    private let state = Mutex<(descriptor: Int32, end: Int)>((-1, 0))

    init(folder: String) { self.folder = folder }

    deinit {
        let descriptor = state.withLock { $0.descriptor }
        if descriptor >= 0 { close(descriptor) }
    }

    /// Bytes written so far.
    var byteCount: Int { state.withLock { $0.end } }

    /// Writes and gives the place.
    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) -> Int {
        let (descriptor, offset) = try state.withLock { (state) throws(StoreError) in
            if state.descriptor < 0 { state.descriptor = try Self.openDeleted(in: folder) }
            let offset = state.end
            state.end += bytes.count
            return (state.descriptor, offset)
        }
        try writeAll(descriptor, bytes, at: offset, "spill file in \(folder)")
        return offset
    }

    private static func openDeleted(in folder: String) throws(StoreError) -> Int32 {
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        var template = Array("\(folder)/spill-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else {
            throw StoreError(
                .unavailable, folder, "no spill file can be made here: \(String(cString: strerror(errno)))")
        }
        unlink(&template)
        return descriptor
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        let descriptor = state.withLock { $0.descriptor }
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let count = pread(descriptor, base + done, buffer.count - done, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw StoreError(.unavailable, "spill file in \(folder)", "cannot be read back") }
            done += count
        }
    }
}
