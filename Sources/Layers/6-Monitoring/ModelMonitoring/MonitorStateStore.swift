import Foundation
import PlatformCore

/// Keeps the monitor's snapshot: one value that is replaced whole or not at all.
public protocol MonitorStateStore: Sendable {
    /// The bytes last saved; `nil` if nothing was.
    func load() throws -> [UInt8]?
    /// Replaces the bytes; durable when it returns.
    func save(_ bytes: [UInt8]) throws
}

/// A snapshot in a file: written beside it, synchronized, then renamed over it.
public struct FileMonitorStateStore: MonitorStateStore {
    private let path: String

    /// Uses the file at `path`; its folder must exist.
    public init(path: String) { self.path = path }

    /// The file's bytes; `nil` if there is no file.
    /// - Throws: `PlatformError` (`unavailable`).
    public func load() throws -> [UInt8]? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        guard let data = FileManager.default.contents(atPath: path) else { throw failure("cannot be read") }
        return Array(data)
    }

    /// Replaces the file.
    /// - Throws: `PlatformError` (`unavailable`) with the system's reason.
    public func save(_ bytes: [UInt8]) throws {
        let beside = path + ".new"
        let file = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("cannot be written: \(String(cString: strerror(errno)))") }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { write(file, $0.baseAddress?.advanced(by: written), $0.count - written) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let reason = String(cString: strerror(errno))
                close(file)
                throw failure("cannot be written: \(reason)")
            }
            written += count
        }
        let synchronized = fsync(file) == 0
        guard close(file) == 0, synchronized, rename(beside, path) == 0 else {
            throw failure("cannot be replaced: \(String(cString: strerror(errno)))")
        }
        let folder = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return }
        fsync(folder)
        close(folder)
    }

    private func failure(_ reason: String) -> PlatformError {
        PlatformError(.unavailable, "monitor state \(path)", reason)
    }
}
