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
        do { try bytes.withUnsafeBytes { try FileCalls.writeAll($0, to: file) } } catch {
            close(file)
            throw failure("cannot be written: \(error)")
        }
        let synchronized = fsync(file) == 0
        guard close(file) == 0, synchronized, rename(beside, path) == 0 else {
            throw failure("cannot be replaced: \(String(cString: strerror(errno)))")
        }
        try? FileCalls.synchronize((path as NSString).deletingLastPathComponent)
    }

    private func failure(_ reason: String) -> PlatformError {
        PlatformError(.unavailable, "monitor state \(path)", reason)
    }
}
