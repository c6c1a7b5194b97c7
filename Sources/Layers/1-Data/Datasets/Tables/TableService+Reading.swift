public import PlatformCore
import StoragePorts

/// Which state of a table is meant.
public enum TableMoment: Sendable, Hashable {
    /// The newest.
    case newest
    /// The one with this number.
    case version(Int64)
    /// The one that was the newest at this moment.
    case time(EventTime)
}

/// A column of a table as its log names it.
public struct TableColumn: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Delta's type: `string`, `long`, `double`, `boolean`, `timestamp`, or another writer's.
    public let type: String
}

/// A file of a table and the part of the source's log that it holds.
public struct TableFile: Sendable, Hashable {
    /// Path below the table's folder.
    public let path: String
    /// Its size.
    public let byteCount: Int64
    /// Its rows.
    public let rowCount: Int64
}

/// A table at one version.
public struct TableState: Sendable, Hashable {
    /// The version; -1 for a table without any commit.
    public let version: Int64
    /// Its columns, `__event_time`, `__ingest_time` and `__sequence` last.
    public let columns: [TableColumn]
    /// Its rows.
    public let rowCount: Int
    /// Its files, in the order of their rows.
    public let files: [TableFile]
    /// Up to which offset (exclusive) each topic of the log was read, by topic.
    public let nextOffsets: [String: Int64]
    /// A SQL table expression over the files, with all columns that any of them has; `nil` for no rows.
    public let sql: String?
}

extension TableService {
    /// Names of all tables, sorted.
    public func names() async throws -> [Name] {
        var names: Set<Name> = []
        for object in try await objects.list(prefix: "tables/") where object.key.contains("/_delta_log/") {
            let parts = object.key.split(separator: "/")
            if parts.count == 4, let name = Name(String(parts[1])) { names.insert(name) }
        }
        return names.sorted()
    }

    /// A table as it was.
    /// - Throws: `notFound` for a version or moment that does not exist or is past its retention.
    public func state(of name: Name, at moment: TableMoment = .newest) async throws -> TableState {
        let table = try await refreshed(name)
        let version: Int64?
        switch moment {
        case .newest: version = nil
        case .version(let number): version = number
        case .time(let time):
            guard let found = table.history.last(where: { $0.time <= time }) else {
                let first = table.history.first.map { "; the oldest that is kept is of \($0.time)" } ?? ""
                throw StoreError(.notFound, "table/\(name)", "had no version at \(time)\(first)")
            }
            version = found.version
        }
        let snapshot = try Self.snapshot(of: table, at: version, name)
        let paths = try await paths(of: snapshot, in: table, name)
        let list = paths.map(SQLText.literal).joined(separator: ", ")
        let topics = snapshot.transactions.compactMap { application, next in
            application.hasPrefix("log.") ? (String(application.dropFirst(4)), next) : nil
        }
        return TableState(
            version: snapshot.version, columns: snapshot.columns.map { TableColumn(name: $0.name, type: $0.type) },
            rowCount: snapshot.rowCount,
            files: snapshot.entries.map {
                TableFile(path: $0.file.path, byteCount: $0.file.byteCount, rowCount: $0.file.rowCount)
            }, nextOffsets: Dictionary(topics, uniquingKeysWith: { $1 }),
            sql: paths.isEmpty ? nil : "read_parquet([\(list)], union_by_name=true)")
    }

    /// Some rows of a table, in the order of the log.
    ///
    /// - Parameters:
    ///   - state: as `state(of:at:)` gives it.
    ///   - knownAt: rows that could not have been known before this moment are left out; `nil` for no limit.
    ///   - seed: `nil` for the first rows, else a random choice that this number decides.
    ///   - columns: those to read; `nil` for all.
    public func rows(
        of state: TableState, knownAt: EventTime? = nil, seed: Int? = nil, columns: [String]? = nil, countMax: Int
    ) async throws -> [JSONValue] {
        guard let sql = state.sql, countMax > 0 else { return [] }
        let cells = columns.map { $0.map(SQLText.identifier).joined(separator: ", ") } ?? "*"
        let condition = knownAt.map { " WHERE __ingest_time < \($0.milliseconds)" } ?? ""
        let order =
            seed.map { "hash(__sequence + \(Int64($0) &* 1_000_003))" } ?? "__sequence"
        return try await engine.rows(
            "SELECT \(cells) FROM (SELECT * FROM \(sql)\(condition) ORDER BY \(order) LIMIT \(countMax)) ORDER BY __sequence"
        )
    }
}
