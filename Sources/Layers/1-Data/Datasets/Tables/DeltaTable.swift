import Foundation
public import PlatformCore
import StoragePorts

/// One commit of a table, for people and for time travel.
public struct TableVersion: Sendable, Hashable {
    /// Its number, from 0.
    public let version: Int64
    /// When it was written.
    public let time: EventTime
    /// What was done: `WRITE`, `OPTIMIZE` for a compaction, `DELETE` where rows left by their source's retention.
    public let operation: String
    /// Rows that it added; 0 for a compaction, and where rows left.
    public let rowsAdded: Int
    /// Rows of the table at this version.
    public let rowCount: Int
    /// Files of the table at this version.
    public let fileCount: Int
    /// Bytes of these files.
    public let byteCount: Int64
}

/// A table at one version.
struct DeltaSnapshot: Sendable {
    struct Entry: Sendable {
        let file: DeltaFile
        /// The table's columns when the file was added: what can be in it.
        let columns: [DeltaColumn]
    }
    var version: Int64 = -1
    var tableID = ""
    var columns: [DeltaColumn] = []
    var entries: [Entry] = []
    var transactions: [String: Int64] = [:]

    /// The application under which a table keeps from when on its rows are whole, in milliseconds.
    static let retentionApplication = "bottega.retention"
    /// Rows that happened before it have left the table; `nil` where none have.
    var retainedFrom: EventTime? { transactions[Self.retentionApplication].map { EventTime(milliseconds: $0) } }

    var rowCount: Int { Int(clamping: entries.reduce(Int64(0)) { min(1 << 62, $0 + $1.file.rowCount) }) }
    var byteCount: Int64 { entries.reduce(Int64(0)) { min(1 << 62, $0 + min(1 << 61, $1.file.byteCount)) } }

    /// The table after one more commit.
    ///
    /// Files that stand for removed ones take their place, so that files stay in the order of their rows: those named right
    /// behind a removal its place, others with rows of before that of the first removal.
    mutating func apply(_ actions: [DeltaAction], version: Int64) {
        self.version = version
        var removed: Set<String> = []
        for action in actions {  // columns first: a commit may name them behind its files
            switch action {
            case .metadata(let id, let columns): (tableID, self.columns) = (id, columns)
            case .remove(let removal): removed.insert(removal.path)
            case .transaction(let application, let version): transactions[application] = version
            case .add, .protocolVersions, .commitInfo: break
            }
        }
        var replacements: [String: [Entry]] = [:]
        var appended: [Entry] = []
        var place = removed.isEmpty ? nil : entries.first { removed.contains($0.file.path) }?.file.path
        var isBehindRemoval = false
        for action in actions {
            switch action {
            case .remove(let removal): (place, isBehindRemoval) = (removal.path, true)
            case .add(let file):
                let entry = Entry(file: file, columns: file.columns ?? columns)
                if let place, isBehindRemoval || file.isRewrite {
                    replacements[place, default: []].append(entry)
                } else {
                    appended.append(entry)
                }
            default: break
            }
        }
        if !removed.isEmpty {
            entries = entries.flatMap { entry in
                removed.contains(entry.file.path) ? replacements.removeValue(forKey: entry.file.path) ?? [] : [entry]
            }
            // What stands for a file that the table did not have stands at its end.
            appended = replacements.sorted { $0.key < $1.key }.flatMap(\.value) + appended
        }
        entries += appended
    }
}

/// A Delta Lake table in an object store: reads and extends its log.
///
/// Replays commit by commit: from 0, or from the oldest checkpoint where the log's beginning was removed.
struct DeltaTable: Sendable {
    /// Folder of the table, `tables/departures`.
    let folder: String
    let objects: any ObjectStore
    /// Reads and writes checkpoints.
    let engine: any OfflineEngine
    /// The table before the first of `commits`.
    private(set) var base = DeltaSnapshot()
    /// What the commit that made `base` says of itself.
    private var baseActions: [DeltaAction] = []
    private(set) var commits: [[DeltaAction]] = []
    private(set) var snapshot = DeltaSnapshot()

    init(folder: String, objects: any ObjectStore, engine: any OfflineEngine) {
        self.folder = folder
        self.objects = objects
        self.engine = engine
    }

    // MARK: The log

    func logKey(_ version: Int64, _ suffix: String = ".json") -> String {
        let digits = String(version)
        return "\(folder)/_delta_log/" + String(repeating: "0", count: max(0, 20 - digits.count)) + digits + suffix
    }

    /// Reads the commits that were written since.
    mutating func refresh() async throws {
        var first: [UInt8]?
        if snapshot.version < 0 {
            first = try await commitBytes(0)
            if first == nil {
                try await beginAtCheckpoint()
                // Another writer may have begun the log in between.
                if snapshot.version < 0 { first = try await commitBytes(0) }
            }
        }
        while true {
            let next = snapshot.version + 1
            let read = next == 0 ? first : try await commitBytes(next)
            guard let bytes = read else { return }
            do { try take(DeltaAction.parse(bytes), version: next) } catch {
                throw StoreError(.corrupted, "table/\(folder)", "version \(next) of the table's log: \(error)")
            }
        }
    }

    private func commitBytes(_ version: Int64) async throws -> [UInt8]? {
        do {
            return try await objects.get(logKey(version), byteCountMax: DeltaAction.commitByteCountMax)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }

    private mutating func take(_ actions: [DeltaAction], version: Int64) throws(DecodingFailure) {
        if version == 0, !actions.contains(where: { if case .metadata = $0 { true } else { false } }) {
            throw DecodingFailure("the first commit names no columns")
        }
        commits.append(actions)
        snapshot.apply(actions, version: version)
    }

    /// Writes the next version; false if another writer took its number first (nothing is then written).
    mutating func commit(_ actions: [DeltaAction]) async throws -> Bool {
        let version = snapshot.version + 1
        do { try await objects.put(DeltaAction.encode(actions), at: logKey(version)) } catch {
            if error.code == .conflict { return false }
            throw error
        }
        try take(actions, version: version)
        return true
    }

    // MARK: Versions

    /// The table at an older version; `nil` if there is none such, or its log was removed.
    func snapshot(at version: Int64) -> DeltaSnapshot? {
        if version == snapshot.version { return snapshot }
        guard version >= max(0, base.version), version < snapshot.version else { return nil }
        var older = base
        for number in base.version..<version {
            older.apply(commits[Int(number - base.version)], version: number + 1)
        }
        return older
    }

    /// All versions whose log is there, oldest first.
    var history: [TableVersion] {
        var table = base
        var versions = base.version < 0 ? [] : [Self.describe(baseActions, table)]
        for actions in commits {
            table.apply(actions, version: table.version + 1)
            versions.append(Self.describe(actions, table))
        }
        return versions
    }

    private static func describe(_ actions: [DeltaAction], _ table: DeltaSnapshot) -> TableVersion {
        var time = EventTime(milliseconds: 0)
        var operation = ""
        var rowsAdded: Int64 = 0
        for action in actions {
            switch action {
            case .commitInfo(let written, let name, _): (time, operation) = (written, name)
            case .add(let file) where !file.isRewrite && operation != "DELETE":
                rowsAdded = min(1 << 62, rowsAdded + file.rowCount)
            default: break
            }
        }
        return TableVersion(
            version: table.version, time: time, operation: operation, rowsAdded: Int(clamping: rowsAdded),
            rowCount: table.rowCount, fileCount: table.entries.count, byteCount: table.byteCount)
    }

    /// Files that a commit removed, with the version and the time at which that happened.
    var removals: [String: (version: Int64, time: EventTime)] {
        var found: [String: (version: Int64, time: EventTime)] = [:]
        for (index, actions) in commits.enumerated() {
            for case .remove(let removal) in actions {
                found[removal.path] = (base.version + Int64(index) + 1, removal.time)
            }
        }
        return found
    }

    /// Forgets what stood before a version.
    mutating func forget(before version: Int64) {
        guard version > base.version, let older = snapshot(at: version) else { return }
        let count = Int(version - base.version)
        baseActions = commits[count - 1]
        commits.removeFirst(count)
        base = older
    }

    // MARK: Checkpoints

    /// Writes the table's state at a version as a Parquet checkpoint, so that readers need no commit before it.
    func writeCheckpoint(at version: Int64, spool: String) async throws {
        guard let table = snapshot(at: version) else {
            throw StoreError(.notFound, "table/\(folder)", "there is no version \(version) to make a checkpoint of")
        }
        if try await objects.info(logKey(version, ".checkpoint.parquet")) == nil {
            let bytes = DeltaCheckpoint.lines(table)
            let staged = try await objects.stagingPath(suffix: ".parquet")
            defer { try? FileManager.default.removeItem(atPath: staged) }
            try await DeltaCheckpoint.write(bytes, to: staged, spool: spool, engine: engine)
            do { try await objects.adopt(stagedFileAt: staged, at: logKey(version, ".checkpoint.parquet")) } catch {
                if error.code != .conflict { throw error }
            }
        }
        // A pointer that only saves readers a listing: between removal and writing it may be missing.
        let pointer = "\(folder)/_delta_log/_last_checkpoint"
        if let known = try? await objects.get(pointer, byteCountMax: 1 << 20),
            let old = try? JSONValue.parse(known)["version"]?.integerValue, old >= version
        {
            return
        }
        try await objects.delete(pointer)
        let size = Int64(table.entries.count + table.transactions.count + 2)
        let text: JSONValue = ["version": .integer(version), "size": .integer(size)]
        try await objects.put(text.canonicalBytes, at: pointer)
    }

    /// The version of the newest checkpoint that is pointed to; -1 for none.
    func lastCheckpoint() async throws -> Int64 {
        do {
            let bytes = try await objects.get("\(folder)/_delta_log/_last_checkpoint", byteCountMax: 1 << 20)
            return (try? JSONValue.parse(bytes))?["version"]?.integerValue ?? -1
        } catch {
            if error.code == .notFound { return -1 }
            throw error
        }
    }

    /// Begins with the oldest checkpoint from which every later commit is there.
    private mutating func beginAtCheckpoint() async throws {
        let prefix = "\(folder)/_delta_log/"
        var checkpoints: [Int64] = []
        var present: Set<Int64> = []
        for object in try await objects.list(prefix: prefix) {
            let name = object.key.dropFirst(prefix.count)
            guard name.count > 20, let version = Int64(name.prefix(20)) else { continue }
            if name.dropFirst(20) == ".checkpoint.parquet" { checkpoints.append(version) }
            if name.dropFirst(20) == ".json" { present.insert(version) }
        }
        guard let newest = (checkpoints + present).max() else { return }
        // Walk back from the newest version while the log has no gap.
        var reach = newest
        while present.contains(reach) { reach -= 1 }
        guard reach >= 0 else { return }
        guard let start = checkpoints.filter({ $0 >= reach }).min() else {
            throw StoreError(
                .corrupted, "table/\(folder)", "the log lacks version \(reach), and no later checkpoint stands for it")
        }
        let path = try await objects.localPath(of: logKey(start, ".checkpoint.parquet"))
        let actions: [DeltaAction]
        do { actions = try await DeltaCheckpoint.read(path, engine: engine) } catch let failure as DecodingFailure {
            throw StoreError(.corrupted, "table/\(folder)", "the checkpoint of version \(start): \(failure)")
        }
        base = DeltaSnapshot()
        base.apply(actions, version: start)
        if let bytes = try await commitBytes(start) { baseActions = (try? DeltaAction.parse(bytes)) ?? [] }
        snapshot = base
        commits = []
    }
}
