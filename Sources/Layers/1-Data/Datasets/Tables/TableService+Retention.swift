import Foundation
public import PlatformCore
import StoragePorts

/// Something that needs a table's rows as they were at one version: a training set, a model trained on it.
public struct TableReference: Sendable, Hashable {
    /// The version.
    public let version: Int64
    /// What needs it, for people: `dataset/5f2a…`.
    public let by: String

    /// Makes a reference.
    public init(version: Int64, by: String) {
        self.version = version
        self.by = by
    }
}

/// What a vacuum did, or would do, with each file of a table's folder.
public struct VacuumReport: Sendable, Hashable {
    /// One file.
    public struct File: Sendable, Hashable {
        /// Path below the table's folder.
        public let path: String
        /// Its size.
        public let byteCount: Int
        /// Whether it was, or would be, removed.
        public let isRemoved: Bool
        /// Why it stays or goes.
        public let reason: String
    }
    /// Every file, those of the log included, by path.
    public let files: [File]
    /// The oldest version that can be read afterwards.
    public let oldestVersion: Int64
    /// The table's newest version.
    public let version: Int64
    /// Bytes that were, or would be, freed.
    public var removedByteCount: Int { files.reduce(0) { $0 + ($1.isRemoved ? $1.byteCount : 0) } }
    /// Files that were, or would be, removed.
    public var removedFileCount: Int { files.count { $0.isRemoved } }
    /// Bytes that stay.
    public var keptByteCount: Int { files.reduce(0) { $0 + ($1.isRemoved ? 0 : $1.byteCount) } }
}

extension TableService {
    /// Age below which a file that no commit names is left alone: another writer may be about to commit it.
    private static let leftoverAgeMin: Int64 = 3_600_000  // milliseconds

    /// Removes files and log entries that no version within retention and no reference needs.
    ///
    /// Kept are the files of the newest version, of every version named by `references`, and of every version that was the
    /// newest at some moment of the last `retention`. Everything older loses its log too, after a checkpoint has taken its
    /// place. Files that neither this program wrote nor the log names are never touched.
    ///
    /// - Parameters:
    ///   - references: versions that must stay readable, however old.
    ///   - retention: how long a version stays readable after it was replaced.
    ///   - isRehearsal: only say what would happen, file by file.
    @concurrent
    public func vacuum(
        _ table: Name, keeping references: [TableReference], retention: TimeSpan, isRehearsal: Bool
    ) async throws -> VacuumReport {
        try await inTurn("compaction of \(table.text)") {
            try await inTurn(table.text) {
                try await vacuumInTurn(table, references, retention, isRehearsal)
            }
        }
    }

    private func vacuumInTurn(
        _ name: Name, _ references: [TableReference], _ retention: TimeSpan, _ isRehearsal: Bool
    ) async throws -> VacuumReport {
        var table = try await refreshed(name)
        let newest = table.snapshot.version
        let kept = Self.keptVersions(
            table, references, cutoff: clock.now().advanced(by: TimeSpan(milliseconds: -retention.milliseconds)),
            retention)
        var needed: [String: String] = [:]
        for version in kept.keys.sorted(by: >) {
            for entry in table.snapshot(at: version)?.entries ?? [] where needed[entry.file.path] == nil {
                needed[entry.file.path] = kept[version]
            }
        }
        let oldest = kept.keys.min() ?? newest
        let removals = table.removals
        var files: [VacuumReport.File] = []
        let prefix = "\(table.folder)/"
        for object in try await objects.list(prefix: prefix) {
            let path = String(object.key.dropFirst(prefix.count))
            let verdict: (isRemoved: Bool, reason: String)
            if path.hasPrefix("_delta_log/") {
                verdict = Self.verdictOnLog(path, oldest: oldest)
            } else if let reason = needed[path] {
                verdict = (false, reason)
            } else if isInFlight(object.key) {
                verdict = (false, "being written")
            } else if let removal = removals[path] {
                verdict = (true, "left the table in version \(removal.version), at \(removal.time)")
            } else {
                verdict = Self.verdictOnUnknown(path)
            }
            files.append(
                VacuumReport.File(
                    path: path, byteCount: object.byteCount, isRemoved: verdict.isRemoved, reason: verdict.reason))
        }
        let report = VacuumReport(files: files, oldestVersion: oldest, version: newest)
        if isRehearsal || newest < 0 { return report }
        // The checkpoint first: from then on nobody needs what goes.
        if files.contains(where: { $0.isRemoved && $0.path.hasPrefix("_delta_log/") }) {
            try await writeCheckpoint(table, at: oldest)
        }
        for file in files where file.isRemoved { try await objects.delete(prefix + file.path) }
        table.forget(before: oldest)
        remember(table, as: name)
        return report
    }

    /// Versions that stay, each with the reason; the newest among them.
    private static func keptVersions(
        _ table: DeltaTable, _ references: [TableReference], cutoff: EventTime, _ retention: TimeSpan
    ) -> [Int64: String] {
        var kept: [Int64: String] = [:]
        let history = table.history
        for (index, version) in history.enumerated() where index + 1 < history.count {
            // A version was the newest until the next one came.
            if history[index + 1].time >= cutoff {
                kept[version.version] = "version \(version.version), replaced less than \(retention) ago"
            }
        }
        for reference in references where reference.version >= 0 && reference.version <= table.snapshot.version {
            kept[reference.version] = "version \(reference.version), which \(reference.by) was made from"
        }
        if table.snapshot.version >= 0 {
            kept[table.snapshot.version] = "version \(table.snapshot.version), the newest"
        }
        return kept.filter { $0.key >= table.base.version }
    }

    private static func verdictOnLog(_ path: String, oldest: Int64) -> (isRemoved: Bool, reason: String) {
        let name = path.dropFirst("_delta_log/".count)
        guard name.count > 20, let version = Int64(name.prefix(20)),
            [".json", ".checkpoint.parquet"].contains(name.dropFirst(20))
        else { return (false, "log") }
        return version < oldest
            ? (true, "log of version \(version), before the oldest that is kept")
            : (false, "log of version \(version)")
    }

    private static func verdictOnUnknown(_ path: String) -> (isRemoved: Bool, reason: String) {
        let parts = path.split(separator: "-", maxSplits: 2)
        guard !path.contains("/"), path.hasSuffix(".parquet"), parts.count == 3, parts[0] == "part",
            Int64(parts[1]) != nil,
            let time = IdentifierSource.time(of: String(parts[2].dropLast(".parquet".count)))
        else { return (false, "not written by this program") }
        return time < SystemClock().now().advanced(by: TimeSpan(milliseconds: -leftoverAgeMin))
            ? (true, "left behind at \(time): no version names it") : (false, "no version names it, but it is young")
    }

    func writeCheckpoint(_ table: DeltaTable, at version: Int64) async throws {
        try FileManager.default.createDirectory(atPath: spoolFolder, withIntermediateDirectories: true)
        try await table.writeCheckpoint(
            at: version, spool: "\(spoolFolder)/checkpoint-\(identifiers.next()).ndjson")
    }

    /// Does what is due for one table: compacts it if it has many small files, and writes a checkpoint after many commits.
    ///
    /// - Parameters:
    ///   - fileCountMin: small files beside each other that make a compaction due.
    ///   - commitCountMax: commits since the last checkpoint that make the next one due.
    @concurrent
    public func maintain(_ table: Name, fileCountMin: Int = 16, commitCountMax: Int = 50) async throws
        -> CompactionReport
    {
        let report = try await compact(table, fileCountMin: max(3, fileCountMin))
        let known = try await refreshed(table)
        let last = try await known.lastCheckpoint()
        if known.snapshot.version - max(last, known.base.version) >= Int64(max(1, commitCountMax)) {
            try await writeCheckpoint(known, at: known.snapshot.version)
        }
        return report
    }
}
