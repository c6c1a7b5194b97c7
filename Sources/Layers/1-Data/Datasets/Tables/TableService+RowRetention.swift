import Foundation
public import PlatformCore
import StoragePorts

/// Which rows left a table by its source's retention, or would.
public struct RowRetentionReport: Sendable, Hashable {
    /// One file that holds rows which leave.
    public struct File: Sendable, Hashable {
        /// Path below the table's folder.
        public let path: String
        /// Its rows.
        public let rowCount: Int64
        /// Those that leave.
        public let removedRowCount: Int64
        /// What goes on reading all of its rows in an older version: `dataset/5f2a… (late)`; `nil` for nothing.
        public let heldBy: String?
    }
    /// Rows that happened before this moment leave.
    public let before: EventTime
    /// The files that hold them, in the order of their rows.
    public let files: [File]
    /// Rows of the table beforehand.
    public let rowCount: Int64
    /// The table's version afterwards.
    public let version: Int64
    /// Rows that leave.
    public var removedRowCount: Int64 { files.reduce(0) { $0 + $1.removedRowCount } }
    /// Those of them that an older version keeps readable for as long as something made from it is known.
    public var heldRowCount: Int64 { files.reduce(0) { $0 + ($1.heldBy == nil ? 0 : $1.removedRowCount) } }
}

extension TableService {
    /// Takes rows that happened before a moment out of a table.
    ///
    /// One commit replaces the files that hold such rows by files without them, and notes the moment, so that whoever reads
    /// this version or a later one knows from when on it is whole (`TableScan.retainedFrom`). Older versions stay as they
    /// are until `vacuum` removes them, which it never does to one that something was made from. Flushes and scans go on
    /// meanwhile; only the commit takes a turn with them. Nothing is written where no row is that old.
    ///
    /// - Parameters:
    ///   - references: versions that something was made from, for the report.
    ///   - isRehearsal: only count.
    /// - Throws: `conflict` if another writer removed the files meanwhile, `corrupted` if a file does not hold what the log says.
    @concurrent
    public func removeRows(
        of table: Name, before moment: EventTime, keeping references: [TableReference] = [], isRehearsal: Bool
    ) async throws -> RowRetentionReport {
        try await inTurn("compaction of \(table.text)") {
            let known = try await refreshed(table)
            let old = try await filesWithRows(before: moment, in: known)
            let holders = Self.holders(of: Set(old.map(\.entry.file.path)), in: known, references)
            func report(_ version: Int64) -> RowRetentionReport {
                RowRetentionReport(
                    before: moment,
                    files: old.map {
                        let file = $0.entry.file
                        return RowRetentionReport.File(
                            path: file.path, rowCount: file.rowCount, removedRowCount: $0.count,
                            heldBy: holders[file.path])
                    }, rowCount: Int64(known.snapshot.rowCount), version: version)
            }
            guard !isRehearsal, !old.isEmpty else { return report(known.snapshot.version) }
            var written: [DeltaFile] = []
            defer { for file in written { settle("\(known.folder)/\(file.path)") } }
            var changes: [(removed: String, added: DeltaFile?)] = []
            for (entry, count) in old {
                let rest = entry.file.rowCount - count
                let file = rest > 0 ? try await copy(entry, of: known, from: moment, rowCount: rest, table) : nil
                if let file { written.append(file) }
                changes.append((entry.file.path, file))
            }
            return report(try await commit(changes, before: moment, in: table))
        }
    }

    private func filesWithRows(before moment: EventTime, in table: DeltaTable) async throws -> [(
        entry: DeltaSnapshot.Entry, count: Int64
    )] {
        var paths: [String: DeltaSnapshot.Entry] = [:]
        for entry in table.snapshot.entries {
            paths[try await objects.localPath(of: "\(table.folder)/\(entry.file.path)")] = entry
        }
        guard !paths.isEmpty else { return [] }
        let list = paths.keys.sorted().map(SQLText.literal).joined(separator: ", ")
        let rows = try await engine.rows(
            """
            SELECT filename AS f, count(*) AS n FROM read_parquet([\(list)], filename=true, union_by_name=true)
            WHERE __event_time < \(moment.milliseconds) GROUP BY filename
            """)
        var counts: [String: Int64] = [:]
        for row in rows {
            guard let entry = row["f"]?.stringValue.flatMap({ paths[$0] }) else { continue }
            counts[entry.file.path] = row["n"]?.integerValue
        }
        return table.snapshot.entries.compactMap { entry in counts[entry.file.path].map { (entry, $0) } }
    }

    /// The first reference that needs each file.
    private static func holders(of files: Set<String>, in table: DeltaTable, _ references: [TableReference]) -> [String:
        String]
    {
        var holders: [String: String] = [:]
        for reference in references {
            for entry in table.snapshot(at: reference.version)?.entries ?? []
            where files.contains(entry.file.path) && holders[entry.file.path] == nil {
                holders[entry.file.path] = reference.by
            }
        }
        return holders
    }

    /// Writes the rows of one file that stay, and stores the new file without committing it.
    private func copy(
        _ entry: DeltaSnapshot.Entry, of known: DeltaTable, from moment: EventTime, rowCount: Int64, _ table: Name
    ) async throws -> DeltaFile {
        let path = try await objects.localPath(of: "\(known.folder)/\(entry.file.path)")
        let staged = try await objects.stagingPath(suffix: ".parquet")
        defer { try? FileManager.default.removeItem(atPath: staged) }
        try await engine.execute(
            """
            COPY (SELECT * FROM read_parquet(\(SQLText.literal(path)))
                WHERE __event_time IS NULL OR __event_time >= \(moment.milliseconds))
            TO \(SQLText.literal(staged)) (FORMAT parquet, COMPRESSION zstd)
            """)
        let after = try await engine.rows(
            "SELECT count(*) AS n, min(__sequence) AS low FROM read_parquet(\(SQLText.literal(staged)))"
        ).first
        guard after?["n"]?.integerValue == rowCount else {
            throw StoreError(
                .corrupted, "table/\(table)",
                "'\(entry.file.path)' holds \(after?["n"]?.text ?? "no") younger rows, where the log says \(rowCount); left as it is"
            )
        }
        let name = "part-\(max(0, after?["low"]?.integerValue ?? 0))-\(identifiers.next()).parquet"
        let key = "\(known.folder)/\(name)"
        announce(key)
        do {
            try await objects.adopt(stagedFileAt: staged, at: key)
            guard let info = try await objects.info(key) else {
                throw StoreError(.unavailable, "table/\(table)", "the file that was just stored is not there")
            }
            return DeltaFile(
                path: name, byteCount: Int64(info.byteCount), rowCount: rowCount, modificationTime: clock.now(),
                columns: entry.columns)
        } catch {
            settle(key)
            throw error
        }
    }

    /// Replaces files in one commit; gives its version.
    private func commit(_ changes: [(removed: String, added: DeltaFile?)], before moment: EventTime, in table: Name)
        async throws -> Int64
    {
        try await inTurn(table.text) {
            for _ in 0..<20 {
                var known = try await refreshed(table)
                let present = Set(known.snapshot.entries.map(\.file.path))
                guard changes.allSatisfy({ present.contains($0.removed) }) else { break }
                let now = clock.now()
                let limit = max(known.snapshot.retainedFrom ?? moment, moment)
                var actions: [DeltaAction] = [
                    .commitInfo(time: now, operation: "DELETE", rows: 0),
                    .transaction(application: DeltaSnapshot.retentionApplication, version: limit.milliseconds),
                ]
                for change in changes {
                    actions.append(.remove(DeltaRemoval(path: change.removed, time: now, isRewrite: false)))
                    guard var added = change.added else { continue }
                    if added.columns == known.snapshot.columns { added.columns = nil }
                    actions.append(.add(added))
                }
                if try await known.commit(actions) {
                    remember(known, as: table)
                    return known.snapshot.version
                }
            }
            for case let added? in changes.map(\.added) {
                try await objects.delete("\(folder(of: table))/\(added.path)")
            }
            throw StoreError(
                .conflict, "table/\(table)", "another writer changed the files that rows were to leave; try again")
        }
    }
}
