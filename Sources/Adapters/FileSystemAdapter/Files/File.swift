import Glibc
import PlatformCore
import StoragePorts

/// Turns an error number of the system into the port's error.
///
/// - Parameter doing: what was attempted, `writing /data/log/…`.
func systemFailure(_ number: Int32, _ subject: String, _ doing: String) -> StoreError {
    let code: StoreError.Code =
        switch number {
        case ENOSPC, EDQUOT, EFBIG: .full
        case ENOENT: .notFound
        case EEXIST, ENOTEMPTY: .conflict
        case ELOOP: .corrupted
        default: .unavailable
        }
    return StoreError(code, subject, "\(doing): \(String(cString: strerror(number)))")
}

/// An open file; closed when the last reference goes.
final class File: Sendable {
    let descriptor: Int32
    let path: String
    private let subject: String

    /// Opens a file by its path.
    init(_ path: String, _ flags: Int32, mode: mode_t = 0o644, subject: String) throws(StoreError) {
        descriptor = open(path, flags | O_CLOEXEC, mode)
        self.path = path
        self.subject = subject
        if descriptor < 0 { throw systemFailure(errno, subject, "opening \(path)") }
    }

    /// Takes over a descriptor.
    init(descriptor: Int32, path: String, subject: String) {
        self.descriptor = descriptor
        self.path = path
        self.subject = subject
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func byteCount() throws(StoreError) -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw systemFailure(errno, subject, "looking at \(path)") }
        return Int(status.st_size)
    }

    /// Reads up to the size of `target`; gives how much there was.
    func read(into target: UnsafeMutableRawBufferPointer, at position: Int) throws(StoreError) -> Int {
        var done = 0
        while done < target.count {
            let count = pread(descriptor, target.baseAddress?.advanced(by: done), target.count - done, position + done)
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw systemFailure(errno, subject, "reading \(path)")
            }
            done += count
        }
        return done
    }

    /// The bytes from `position`; fewer than `count` at the end of the file.
    func read(_ count: Int, at position: Int) throws(StoreError) -> [UInt8] {
        var failure: StoreError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { target, filled in
            do throws(StoreError) { filled = try read(into: UnsafeMutableRawBufferPointer(target), at: position) } catch
            {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Writes all of `bytes` at `position`.
    func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws(StoreError) {
        do { try FileCalls.writeAll(bytes, to: descriptor, at: position) } catch {
            throw systemFailure(error.number, subject, "writing \(path)")
        }
    }

    func write(_ bytes: [UInt8], at position: Int) throws(StoreError) {
        let outcome = bytes.withUnsafeBytes { part in
            Result { () throws(StoreError) in try write(part, at: position) }
        }
        try outcome.get()
    }

    /// Returns when content and size are on the disk.
    func synchronizeData() throws(StoreError) {
        guard fdatasync(descriptor) == 0 else { throw systemFailure(errno, subject, "synchronizing \(path)") }
    }

    /// Returns when everything about the file, or the entries of a directory, are on the disk.
    func synchronize() throws(StoreError) {
        guard fsync(descriptor) == 0 else { throw systemFailure(errno, subject, "synchronizing \(path)") }
    }

    func truncate(to byteCount: Int) throws(StoreError) {
        guard ftruncate(descriptor, byteCount) == 0 else { throw systemFailure(errno, subject, "cutting \(path)") }
    }
}
