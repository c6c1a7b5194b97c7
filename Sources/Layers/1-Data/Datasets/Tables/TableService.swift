public import Definitions
import Foundation
public import PlatformCore
public import StoragePorts
import Synchronization

/// What a flush did.
public struct FlushReport: Sendable, Hashable {
    /// Rows that it added to the table.
    public let rows: Int
    /// The table's version afterwards; -1 for a table without any commit.
    public let version: Int64
    /// The log offset up to which the table now reaches.
    public let nextOffset: UInt64
}

/// Keeps a source's rows as a Delta Lake table of Parquet files: `tables/<source>/` in the object store.
///
/// A commit holds the files and, as a `txn` action, how far the log was read: after a crash the next flush goes on exactly
/// there, so no row is lost and none stands twice. A file that was written but not committed belongs to nothing. Commits to
/// one table take turns; scans never wait for them. Maintenance is in `TableService+Compaction` and `+Retention`.
public final class TableService: Sendable {
    private let log: any EventLog
    let objects: any ObjectStore
    let engine: any OfflineEngine
    let spoolFolder: String
    let identifiers: IdentifierSource
    let clock: any PlatformClock
    private let shapes: SourceShapes?
    let fileRowCountMax: Int
    let fileByteCountMax: Int
    private struct State {
        var tables: [Name: DeltaTable] = [:]
        var turns: [String: TurnLine] = [:]
        var filesInFlight: Set<String> = []
    }
    private let state = Mutex(State())  // held for one look-up or copy

    /// Makes the service.
    ///
    /// - Parameters:
    ///   - log: where rows come from.
    ///   - objects: where tables are.
    ///   - engine: writes Parquet.
    ///   - spoolFolder: folder for files of the moment; made if missing. Rows on their way take about their size in the log.
    ///   - identifiers: names files.
    ///   - clock: times of commits.
    ///   - shapes: columns that sources gained by policy; they are the table's too.
    ///   - fileRowCountMax: rows after which a file is closed.
    ///   - fileByteCountMax: bytes of log records after which a file is closed.
    public init(
        log: any EventLog, objects: any ObjectStore, engine: any OfflineEngine, spoolFolder: String,
        identifiers: IdentifierSource, clock: any PlatformClock, shapes: SourceShapes? = nil,
        fileRowCountMax: Int = 1_000_000,
        fileByteCountMax: Int = 512 << 20
    ) {
        self.log = log
        self.objects = objects
        self.engine = engine
        self.spoolFolder = spoolFolder
        self.identifiers = identifiers
        self.clock = clock
        self.shapes = shapes
        self.fileRowCountMax = max(1, fileRowCountMax)
        self.fileByteCountMax = max(1, fileByteCountMax)
    }

    // MARK: Surface

    /// Moves everything that the source's log holds into its table.
    @concurrent
    @discardableResult
    public func flush(_ source: SourceDefinition) async throws -> FlushReport { try await flush(rows(of: source)) }

    private func rows(of source: SourceDefinition) -> TableLayout { .rows(of: shapes?.effective(source) ?? source) }

    /// Moves the source's refused rows into table `quarantine_<source>`.
    @concurrent
    @discardableResult
    public func flushQuarantine(of source: Name) async throws -> FlushReport {
        try await flush(.quarantine(of: source))
    }

    /// The source's table as the offline engine reads it.
    ///
    /// - Parameters:
    ///   - source: its columns are those of the scan; one that the table did not have yet reads as null.
    ///   - version: `nil` for the newest.
    /// - Throws: `notFound` for a version that does not exist, `corrupted`.
    public func scan(_ source: SourceDefinition, version: Int64? = nil) async throws -> TableScan {
        try await scan(rows(of: source), version: version)
    }

    /// The table of the source's refused rows: `reason`, `row` (JSON), `origin`, `batch`, `position`.
    public func scanQuarantine(of source: Name, version: Int64? = nil) async throws -> TableScan {
        try await scan(.quarantine(of: source), version: version)
    }

    /// The versions of a table, oldest first; empty for a table without any commit.
    public func history(of table: Name) async throws -> [TableVersion] { try await refreshed(table).history }

    // MARK: Shared with maintenance

    func folder(of table: Name) -> String { "tables/\(table.text)" }

    func refreshed(_ name: Name) async throws -> DeltaTable {
        var table =
            state.withLock { $0.tables[name] } ?? DeltaTable(folder: folder(of: name), objects: objects, engine: engine)
        try await table.refresh()
        remember(table, as: name)
        return table
    }

    func remember(_ table: DeltaTable, as name: Name) {
        state.withLock { state in
            guard let known = state.tables[name] else { return state.tables[name] = table }
            let (old, new) = (known.snapshot.version, table.snapshot.version)
            // Of two copies at one version, the one that has forgotten more is the newer.
            if old < new || (old == new && known.base.version <= table.base.version) { state.tables[name] = table }
        }
    }

    /// Runs `body` while nobody else of this service does so with the same name.
    func inTurn<Value>(_ name: String, _ body: () async throws -> Value) async throws -> Value {
        let turns = state.withLock { state in
            if let known = state.turns[name] { return known }
            let fresh = TurnLine()
            state.turns[name] = fresh
            return fresh
        }
        await turns.take()
        defer { turns.pass() }
        return try await body()
    }

    /// Says that a file is on its way into its table, so that nobody takes it for a leftover.
    func announce(_ key: String) { _ = state.withLock { $0.filesInFlight.insert(key) } }
    func settle(_ key: String) { _ = state.withLock { $0.filesInFlight.remove(key) } }
    func isInFlight(_ key: String) -> Bool { state.withLock { $0.filesInFlight.contains(key) } }

    // MARK: Reading

    private func scan(_ layout: TableLayout, version: Int64?) async throws -> TableScan {
        let table = try await refreshed(layout.table)
        let snapshot = try Self.snapshot(of: table, at: version, layout.table)
        let paths = try await paths(of: snapshot, in: table, layout.table)
        return TableScan(
            table: layout.table, version: snapshot.version, sql: layout.scan(snapshot.entries, paths: paths),
            sparkSQL: layout.sparkScan(snapshot.entries, paths: paths), rowCount: snapshot.rowCount, files: paths,
            retainedFrom: snapshot.retainedFrom)
    }

    static func snapshot(of table: DeltaTable, at version: Int64?, _ name: Name) throws(StoreError) -> DeltaSnapshot {
        guard let version else { return table.snapshot }
        if let snapshot = table.snapshot(at: version) { return snapshot }
        if version >= 0, version < table.base.version {
            throw StoreError(
                .notFound, "table/\(name)",
                "version \(version) is past its retention; the oldest that is kept is \(table.base.version)")
        }
        throw StoreError(
            .notFound, "table/\(name)", "has no version \(version); the newest is \(table.snapshot.version)")
    }

    /// Local files of a snapshot, in the order of their rows.
    func paths(of snapshot: DeltaSnapshot, in table: DeltaTable, _ name: Name) async throws -> [String] {
        var paths: [String] = []
        for entry in snapshot.entries {
            let key = "\(table.folder)/\(entry.file.path)"
            if snapshot.version != table.snapshot.version, try await objects.info(key) == nil {
                throw StoreError(
                    .notFound, "table/\(name)",
                    "version \(snapshot.version) is past its retention: its file '\(entry.file.path)' was removed")
            }
            paths.append(try await objects.localPath(of: key))
        }
        return paths
    }

    // MARK: Flushing

    private func flush(_ layout: TableLayout) async throws -> FlushReport {
        try await inTurn(layout.table.text) { try await flushInTurn(layout) }
    }

    private func flushInTurn(_ layout: TableLayout) async throws -> FlushReport {
        var table = try await refreshed(layout.table)
        let application = "log.\(layout.topic.text)"
        func position() -> UInt64 { UInt64(clamping: table.snapshot.transactions[application] ?? 0) }
        guard try await log.topics().contains(layout.topic) else {
            return FlushReport(rows: 0, version: table.snapshot.version, nextOffset: position())
        }
        let end = try await log.endOffset(layout.topic, partition: 0)
        try FileManager.default.createDirectory(atPath: spoolFolder, withIntermediateDirectories: true)
        var rows = 0
        while position() < end {
            let first = position()
            let spool = "\(spoolFolder)/flush-\(identifiers.next()).ndjson"
            defer { try? FileManager.default.removeItem(atPath: spool) }
            let next = try await write(from: first, to: end, of: layout.topic, into: spool, rewrite: nil)
            guard next > first else { break }
            let staged = try await objects.stagingPath(suffix: ".parquet")
            defer { try? FileManager.default.removeItem(atPath: staged) }  // what an engine left that died over it
            if let refusal = try await copy(layout, from: spool, to: staged) {
                // Rows of before a column changed its type: the same records, with the cells that no longer fit as null.
                guard let rewrite = layout.rewrite else { throw refusal }
                _ = try await write(from: first, to: next, of: layout.topic, into: spool, rewrite: rewrite)
                try? FileManager.default.removeItem(atPath: staged)
                try await engine.execute(layout.copy(from: spool, to: staged))
            }
            let name = "part-\(String(first))-\(identifiers.next()).parquet"
            let key = "\(table.folder)/\(name)"
            announce(key)
            defer { settle(key) }
            try await objects.adopt(stagedFileAt: staged, at: key)
            guard let info = try await objects.info(key) else {
                throw StoreError(.unavailable, "table/\(layout.table)", "the file that was just stored is not there")
            }
            let added = Int64(clamping: next - first)
            let now = clock.now()
            let file = DeltaFile(
                path: name, byteCount: Int64(info.byteCount), rowCount: added, modificationTime: now)
            var committed = false
            for _ in 0..<20 where !committed && position() == first {
                committed = try await table.commit(
                    Self.actions(for: file, layout, table.snapshot, application, next: next, time: now, identifiers))
                if !committed { try await table.refresh() }
            }
            if committed {
                rows += Int(clamping: added)
            } else {
                try await objects.delete(key)
                guard position() != first else {
                    throw StoreError(
                        .conflict, "table/\(layout.table)", "other writers took every version number tried")
                }
            }
            remember(table, as: layout.table)
        }
        if let consumer = Name("table.\(layout.table.text)") {  // for people who ask how far behind tables are
            try await log.commit(consumer, topic: layout.topic, partition: 0, offset: position())
        }
        return FlushReport(rows: rows, version: table.snapshot.version, nextOffset: position())
    }

    /// Makes a Parquet file of the spooled records; gives the engine's refusal if they do not fit.
    private func copy(_ layout: TableLayout, from spool: String, to target: String) async throws -> StoreError? {
        do {
            try await engine.execute(layout.copy(from: spool, to: target))
            return nil
        } catch {
            if error.code == .invalidInput { return error }
            throw error
        }
    }

    private static func actions(
        for file: DeltaFile, _ layout: TableLayout, _ snapshot: DeltaSnapshot, _ application: String, next: UInt64,
        time: EventTime, _ identifiers: IdentifierSource
    ) -> [DeltaAction] {
        var actions: [DeltaAction] = [.commitInfo(time: time, operation: "WRITE", rows: file.rowCount)]
        if snapshot.version < 0 { actions.append(.protocolVersions(reader: 1, writer: 2)) }
        // Columns that the source no longer has stay in the table: its older files have them.
        let wanted = layout.deltaColumns
        let names = Set(wanted.map(\.name))
        let columns = wanted + snapshot.columns.filter { !names.contains($0.name) }
        if snapshot.version < 0 || Set(columns) != Set(snapshot.columns) {
            let id = snapshot.tableID.isEmpty ? identifiers.next() : snapshot.tableID
            actions.append(.metadata(id: id, columns: columns))
        }
        actions.append(.transaction(application: application, version: Int64(clamping: next)))
        actions.append(.add(file))
        return actions
    }

    /// Writes records as JSON lines `{"s":offset,"d":record}`; gives the offset behind the last one.
    private func write(
        from first: UInt64, to end: UInt64, of topic: Name, into path: String,
        rewrite: (@Sendable ([UInt8]) -> [UInt8]?)?
    ) async throws -> UInt64 {
        guard FileManager.default.createFile(atPath: path, contents: nil), let file = FileHandle(forWritingAtPath: path)
        else { throw StoreError(.full, "spool", "cannot write to '\(spoolFolder)'") }
        defer { try? file.close() }
        var offset = first
        var byteCount = 0
        var buffer: [UInt8] = []
        while offset < end, Int(clamping: offset - first) < fileRowCountMax, byteCount < fileByteCountMax {
            let room = min(20_000, fileRowCountMax - Int(clamping: offset - first), Int(clamping: end - offset))
            let records = try await log.read(
                topic, partition: 0, from: offset, recordCountMax: room, byteCountMax: 16 << 20)
            guard let last = records.last else { break }
            buffer.removeAll(keepingCapacity: true)
            for stored in records {
                let value = rewrite.flatMap { $0(stored.record.value) } ?? stored.record.value
                buffer.append(contentsOf: "{\"s\":\(stored.offset),\"d\":".utf8)
                buffer.append(contentsOf: value)
                buffer.append(contentsOf: [0x7D, 10])
            }
            byteCount += buffer.count
            do { try file.write(contentsOf: buffer) } catch {
                throw StoreError(.full, "spool", "cannot write to '\(spoolFolder)'", cause: error)
            }
            offset = last.offset + 1
        }
        return offset
    }
}

/// Whose turn it is: one at a time, in order of arrival.
private final class TurnLine: Sendable {
    private struct State {
        var isTaken = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func take() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.isTaken {
                    state.waiting.append(continuation)
                    return false
                }
                state.isTaken = true
                return true
            }
            if isFree { continuation.resume() }
        }
    }

    func pass() {
        let next = state.withLock { state in
            if state.waiting.isEmpty {
                state.isTaken = false
                return nil as CheckedContinuation<Void, Never>?
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
