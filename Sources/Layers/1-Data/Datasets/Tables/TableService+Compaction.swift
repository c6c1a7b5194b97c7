import Foundation
public import PlatformCore
import StoragePorts

/// What a compaction did.
public struct CompactionReport: Sendable, Hashable {
    /// Files that were replaced.
    public var filesBefore = 0
    /// Files that stand for them.
    public var filesAfter = 0
    /// Bytes of the files that were replaced.
    public var bytesBefore: Int64 = 0
    /// Bytes of the files that stand for them.
    public var bytesAfter: Int64 = 0
    /// Rows that were written again.
    public var rows: Int64 = 0
    /// The table's version afterwards.
    public var version: Int64 = -1
}

extension TableService {
    /// Replaces runs of small files by larger ones, without changing a row or the order of rows.
    ///
    /// The new file is written while flushes and scans go on; only its commit takes a turn with them. Each commit removes
    /// the small files and adds the large one, marked as no change of data, so a reader sees one or the other. A file left
    /// behind by a crash belongs to nothing; `vacuum` removes it. Older versions keep reading the small files.
    ///
    /// - Parameter fileCountMin: runs of fewer small files are left alone. With more than 2, a file larger than all that
    ///   follow it in its run is left alone too: then a row is rewritten a logarithmic number of times as its table grows.
    /// - Returns: what changed; all zero if nothing had to.
    /// - Throws: `conflict` if another writer removed the files meanwhile (the table is as that writer left it).
    @concurrent
    @discardableResult
    public func compact(_ table: Name, fileCountMin: Int = 2) async throws -> CompactionReport {
        try await inTurn("compaction of \(table.text)") {
            var report = CompactionReport()
            var known = try await refreshed(table)
            while let run = nextRun(known.snapshot, fileCountMin: fileCountMin) {
                let file = try await rewrite(run, of: known, table)
                try await replace(run, by: file, in: table)
                known = try await refreshed(table)
                report.filesBefore += run.count
                report.filesAfter += 1
                report.bytesBefore += run.reduce(0) { $0 + $1.file.byteCount }
                report.bytesAfter += file.byteCount
                report.rows += file.rowCount
            }
            report.version = known.snapshot.version
            return report
        }
    }

    /// Small files that stand beside each other in a table and may become one.
    func smallFileCount(_ table: Name) async throws -> Int {
        nextRun(try await refreshed(table).snapshot, fileCountMin: 2)?.count ?? 0
    }

    private func nextRun(_ snapshot: DeltaSnapshot, fileCountMin: Int) -> [DeltaSnapshot.Entry]? {
        var run: [DeltaSnapshot.Entry] = []
        var rows: Int64 = 0
        var bytes: Int64 = 0
        func finished() -> [DeltaSnapshot.Entry]? {
            var rest = run[...]
            while fileCountMin > 2, let first = rest.first,
                first.file.rowCount > rest.dropFirst().reduce(0, { $0 + $1.file.rowCount })
            {
                rest = rest.dropFirst()
            }
            return rest.count >= max(2, fileCountMin) ? Array(rest) : nil
        }
        for entry in snapshot.entries {
            let file = entry.file
            let isSmall =
                file.rowCount * 2 <= Int64(fileRowCountMax) && file.byteCount <= Int64(fileByteCountMax) / 2
            let fits =
                rows + file.rowCount <= Int64(fileRowCountMax) && bytes + file.byteCount <= Int64(fileByteCountMax)
                && run.first.map { $0.columns == entry.columns } ?? true
            if !isSmall || !fits {
                if let found = finished() { return found }
                (run, rows, bytes) = ([], 0, 0)
                if !isSmall { continue }
            }
            run.append(entry)
            rows += file.rowCount
            bytes += file.byteCount
        }
        return finished()
    }

    /// Writes one file with the rows of several, in their order, and stores it without committing it.
    private func rewrite(_ run: [DeltaSnapshot.Entry], of known: DeltaTable, _ table: Name) async throws -> DeltaFile {
        var paths: [String] = []
        for entry in run { paths.append(try await objects.localPath(of: "\(known.folder)/\(entry.file.path)")) }
        let files = paths.map(SQLText.literal).joined(separator: ", ")
        let staged = try await objects.stagingPath(suffix: ".parquet")
        defer { try? FileManager.default.removeItem(atPath: staged) }
        let from = "read_parquet([\(files)], union_by_name=true)"
        // The engine keeps the order of files and of rows in them; the sums below would show it if it did not.
        try await engine.execute(
            "COPY (SELECT * FROM \(from)) TO \(SQLText.literal(staged)) (FORMAT parquet, COMPRESSION zstd)")
        let sums = "SELECT count(*) AS n, min(__sequence) AS low, max(__sequence) AS high"
        let (before, after) = (
            try await engine.rows("\(sums) FROM \(from)"),
            try await engine.rows("\(sums) FROM read_parquet(\(SQLText.literal(staged)))")
        )
        let rowCount = run.reduce(Int64(0)) { $0 + $1.file.rowCount }
        guard before == after, after.first?["n"]?.integerValue == rowCount else {
            throw StoreError(
                .corrupted, "table/\(table)",
                "its files hold \(before.first?.text ?? "nothing"), where the log says \(rowCount) rows; left as it is")
        }
        let first = after.first?["low"]?.integerValue ?? 0
        let name = "part-\(max(0, first))-\(identifiers.next()).parquet"
        let key = "\(known.folder)/\(name)"
        announce(key)
        do {
            try await objects.adopt(stagedFileAt: staged, at: key)
            guard let info = try await objects.info(key) else {
                throw StoreError(.unavailable, "table/\(table)", "the file that was just stored is not there")
            }
            return DeltaFile(
                path: name, byteCount: Int64(info.byteCount), rowCount: rowCount, modificationTime: clock.now(),
                columns: run.first?.columns, isRewrite: true)
        } catch {
            settle(key)
            throw error
        }
    }

    private func replace(_ run: [DeltaSnapshot.Entry], by file: DeltaFile, in table: Name) async throws {
        let key = "\(folder(of: table))/\(file.path)"
        defer { settle(key) }
        try await inTurn(table.text) {
            for _ in 0..<20 {
                var known = try await refreshed(table)
                let present = Set(known.snapshot.entries.map(\.file.path))
                guard run.allSatisfy({ present.contains($0.file.path) }) else { break }
                var added = file
                if added.columns == known.snapshot.columns { added.columns = nil }
                let now = clock.now()
                let actions: [DeltaAction] =
                    [.commitInfo(time: now, operation: "OPTIMIZE", rows: file.rowCount)]
                    + run.map { .remove(DeltaRemoval(path: $0.file.path, time: now, isRewrite: true)) } + [.add(added)]
                if try await known.commit(actions) {
                    remember(known, as: table)
                    return
                }
            }
            try await objects.delete(key)
            throw StoreError(.conflict, "table/\(table)", "another writer changed the files that were being compacted")
        }
    }
}
