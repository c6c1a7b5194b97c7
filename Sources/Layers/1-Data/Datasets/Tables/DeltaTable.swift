public import PlatformCore
import StoragePorts

/// One commit of a table, for people and for time travel.
public struct TableVersion: Sendable, Hashable {
    /// Its number, from 0.
    public let version: Int64
    /// When it was written.
    public let time: EventTime
    /// What was done, `WRITE`.
    public let operation: String
    /// Rows that it added.
    public let rowsAdded: Int
    /// Rows of the table at this version.
    public let rowCount: Int
}

/// A table at one version.
struct DeltaSnapshot: Sendable {
    struct Entry: Sendable {
        let file: DeltaFile
        /// Names of the table's columns when the file was added: what can be in it.
        let columns: [String]
    }
    var version: Int64 = -1
    var tableID = ""
    var columns: [DeltaColumn] = []
    var entries: [Entry] = []
    var transactions: [String: Int64] = [:]

    var rowCount: Int { Int(clamping: entries.reduce(Int64(0)) { min(1 << 62, $0 + $1.file.rowCount) }) }

    /// The table after one more commit.
    mutating func apply(_ actions: [DeltaAction], version: Int64) {
        self.version = version
        for action in actions {  // columns first: a commit may name them behind its files
            if case .metadata(let id, let columns) = action {
                tableID = id
                self.columns = columns
            }
        }
        var removed: Set<String> = []
        for action in actions { if case .remove(let path) = action { removed.insert(path) } }
        if !removed.isEmpty { entries.removeAll { removed.contains($0.file.path) } }
        let names = columns.map(\.name)
        for action in actions {
            switch action {
            case .add(let file): entries.append(Entry(file: file, columns: names))
            case .transaction(let application, let version): transactions[application] = version
            case .protocolVersions, .metadata, .remove, .commitInfo: break
            }
        }
    }
}

/// A Delta Lake table in an object store: reads and extends its log.
///
/// Replays commit by commit, from 0; a log whose beginning was removed after a checkpoint is not read.
struct DeltaTable: Sendable {
    /// Folder of the table, `tables/departures`.
    let folder: String
    let objects: any ObjectStore
    private(set) var commits: [[DeltaAction]] = []
    private(set) var snapshot = DeltaSnapshot()

    init(folder: String, objects: any ObjectStore) {
        self.folder = folder
        self.objects = objects
    }

    private func key(of version: Int64) -> String {
        let digits = String(version)
        return "\(folder)/_delta_log/" + String(repeating: "0", count: max(0, 20 - digits.count)) + digits + ".json"
    }

    /// Reads the commits that were written since.
    mutating func refresh() async throws {
        while let bytes = try await commitBytes(snapshot.version + 1) {
            let next = snapshot.version + 1
            do { try take(DeltaAction.parse(bytes), version: next) } catch {
                throw StoreError(.corrupted, "table/\(folder)", "version \(next) of the table's log: \(error)")
            }
        }
    }

    private func commitBytes(_ version: Int64) async throws -> [UInt8]? {
        do {
            return try await objects.get(key(of: version), byteCountMax: DeltaAction.commitByteCountMax)
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
        do { try await objects.put(DeltaAction.encode(actions), at: key(of: version)) } catch {
            if error.code == .conflict { return false }
            throw error
        }
        try take(actions, version: version)
        return true
    }

    /// The table at an older version; `nil` if there is none such.
    func snapshot(at version: Int64) -> DeltaSnapshot? {
        if version == snapshot.version { return snapshot }
        guard version >= 0, version < snapshot.version else { return nil }
        var older = DeltaSnapshot()
        for number in 0...version { older.apply(commits[Int(number)], version: number) }
        return older
    }

    /// All versions, oldest first.
    var history: [TableVersion] {
        var table = DeltaSnapshot()
        return commits.enumerated().map { number, actions in
            let version = Int64(number)
            table.apply(actions, version: version)
            var time = EventTime(milliseconds: 0)
            var operation = ""
            var rowsAdded: Int64 = 0
            for action in actions {
                switch action {
                case .commitInfo(let written, let name, _): (time, operation) = (written, name)
                case .add(let file): rowsAdded = min(1 << 62, rowsAdded + file.rowCount)
                default: break
                }
            }
            return TableVersion(
                version: version, time: time, operation: operation, rowsAdded: Int(clamping: rowsAdded),
                rowCount: table.rowCount)
        }
    }
}
