import Foundation
import PlatformCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A folder of the caller's that partitions of scores are written to: each whole or not at all.
///
/// The server publishes the partition first; its files are fetched into `.new/date=DAY` and take their place in one rename. So
/// the server writes nowhere but into its own directory, and it may be on another machine.
struct ScoresFolder {
    let path: String

    private static let manifestName = "_manifest.json"

    /// `nil` where `out` is the name of a table: neither has it a slash, nor does it begin with `.` or `~`.
    init?(_ out: String) {
        guard out.contains("/") || out.hasPrefix(".") || out.hasPrefix("~") else { return nil }
        path = URL(fileURLWithPath: NSString(string: out).expandingTildeInPath).standardizedFileURL.path
    }

    /// The folder's own name, as the table's.
    func tableName() throws -> String {
        let name = URL(fileURLWithPath: path).lastPathComponent
        guard Name(name) != nil else {
            throw CommandFailure(
                exitCode: 2, description: "'\(name)' cannot be the name of a table of scores; give one with --table")
        }
        return name
    }

    /// Whether a text is a day as folders name it.
    static func isDay(_ date: String) -> Bool { EventTime(text: "\(date)T00:00:00Z")?.dateText == date }

    /// Makes the folder, and refuses a day that is none, or is taken by something else, before anything is scored.
    func prepare(for date: String?, of table: String, replaces: Bool) throws {
        if let date, !Self.isDay(date) {
            throw CommandFailure(exitCode: 2, description: "--date: '\(date.prefix(40))' is no day such as 2026-11-21")
        }
        try Self.make(path)
        guard let date, !replaces else { return }
        let final = "\(path)/date=\(date)"
        guard let manifest = FileManager.default.contents(atPath: "\(final)/\(Self.manifestName)") else {
            if !Self.isVacant(final) { throw Self.taken(final) }
            return
        }
        guard (try? JSONValue.parse(Array(manifest)))?["table"]?.stringValue == table else { throw Self.taken(final) }
    }

    /// Writes a partition that the server has, unless it is there, and gives its folder.
    func write(_ date: String, of table: String, replaces: Bool, _ client: APIClient) async throws -> String {
        let (final, new) = ("\(path)/date=\(date)", "\(path)/.new/date=\(date)")
        let source = "/api/v1/scores/\(table)/\(date)"
        let manifest = try await client.download("\(source)/\(Self.manifestName)")
        let parts = try Self.parts(manifest)
        try Self.make("\(path)/.new")
        let lock = try await FolderLock(path)
        defer {
            withExtendedLifetime(lock) {
                // What ended commands left goes, too: nobody writes there but who has the lock.
                let ours = lock.isHeld ? ["\(path)/.new"] : [new, "\(new).old"]
                for path in ours { try? FileManager.default.removeItem(atPath: path) }
                rmdir("\(path)/.new")
            }
        }
        let isOurs = FileManager.default.contents(atPath: "\(final)/\(Self.manifestName)") == manifest
        if isOurs, parts.allSatisfy({ Self.size("\(final)/\($0.name)") == $0.size }) { return final }
        guard isOurs || replaces || Self.isVacant(final) else { throw Self.taken(final) }
        try? FileManager.default.removeItem(atPath: new)
        try Self.make(new)
        for part in parts {
            try await client.download("\(source)/\(part.name)", to: "\(new)/\(part.name)")
            try Self.synchronize("\(new)/\(part.name)")
        }
        // Whoever replaced the partition meanwhile has replaced the manifest with it.
        guard try await client.download("\(source)/\(Self.manifestName)") == manifest,
            parts.allSatisfy({ Self.size("\(new)/\($0.name)") == $0.size })
        else {
            throw CommandFailure(
                exitCode: 3,
                description: "scores/\(table): the partition \(date) was replaced while it was written; ask again")
        }
        try Self.trying(new) { try manifest.write(to: URL(fileURLWithPath: "\(new)/\(Self.manifestName)")) }
        try Self.synchronize("\(new)/\(Self.manifestName)")
        try Self.synchronize(new)
        try Self.place(new, at: final)
        try Self.synchronize(path)
        return final
    }

    /// Puts a folder where it belongs; one that is there changes places with it.
    private static func place(_ new: String, at final: String) throws {
        if rename(new, final) == 0 { return }
        guard [EEXIST, ENOTEMPTY].contains(errno) else { throw failure(final) }
        if FileCalls.exchange(new, final) { return }
        // A crash between these two leaves the day out; the same command writes it again.
        let old = "\(new).old"
        try? FileManager.default.removeItem(atPath: old)
        guard rename(final, old) == 0 else { throw failure(final) }
        guard rename(new, final) == 0 else {
            let failure = failure(final)
            _ = rename(old, final)
            throw failure
        }
    }

    private static func parts(_ manifest: Data) throws -> [(name: String, size: Int64)] {
        let limits = JSONLimits(byteCountMax: 64 << 20, depthMax: 32)
        let parts = (try? JSONValue.parse(Array(manifest), limits: limits))?["parts"]?.arrayValue ?? []
        return try parts.map { part in
            guard let name = part["file"]?.stringValue, Name(name) != nil, let size = part["bytes"]?.integerValue else {
                throw CommandFailure(exitCode: 1, description: "the partition's manifest names a file '\(part.text)'")
            }
            return (name, size)
        }
    }

    /// Whether nothing is there, or an empty folder.
    private static func isVacant(_ path: String) -> Bool {
        guard FileManager.default.fileExists(atPath: path) else { return true }
        return (try? FileManager.default.contentsOfDirectory(atPath: path))?.isEmpty == true
    }

    private static func size(_ path: String) -> Int64? {
        ((try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? NSNumber)?.int64Value
    }

    private static func taken(_ path: String) -> CommandFailure {
        CommandFailure(
            exitCode: 3, description: "\(path) holds something else; choose another folder or --date, or say --replace")
    }

    private static func failure(_ path: String, _ number: Int32 = errno) -> CommandFailure {
        CommandFailure(exitCode: 2, description: "\(path): cannot be written (\(String(cString: strerror(number))))")
    }

    private static func make(_ folder: String) throws {
        try trying(folder) {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }
    }

    private static func trying(_ path: String, _ body: () throws -> Void) throws {
        do { try body() } catch {
            throw CommandFailure(
                exitCode: 2, description: "\(path): cannot be written (\((error as NSError).localizedDescription))")
        }
    }

    /// Waits until a file, or the names in a folder, are on the disk.
    private static func synchronize(_ path: String) throws {
        do throws(FileCallFailure) { try FileCalls.synchronize(path) } catch { throw failure(path, error.number) }
    }
}

/// The right to write into a folder, which one command has at a time; it ends with the process at the latest.
private final class FolderLock {
    private let descriptor: CInt
    /// Whether there is one: some file systems know no locks; renames keep partitions whole there all the same.
    private(set) var isHeld = false

    init(_ path: String) async throws {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        while descriptor >= 0 {
            isHeld = flock(descriptor, LOCK_EX | LOCK_NB) == 0
            if isHeld || (errno != EWOULDBLOCK && errno != EINTR) { break }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }
}
