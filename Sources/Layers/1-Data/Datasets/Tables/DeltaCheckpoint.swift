import Foundation
import PlatformCore
import StoragePorts
import Synchronization

/// The state of a Delta table at one version as one Parquet file.
///
/// - SeeAlso: the Delta Transaction Log Protocol, *Checkpoints*, classic single-part form.
enum DeltaCheckpoint {
    private static let types = [
        "txn": "STRUCT(appId VARCHAR, version BIGINT, lastUpdated BIGINT)",
        "add": """
        STRUCT(path VARCHAR, partitionValues MAP(VARCHAR, VARCHAR), size BIGINT, modificationTime BIGINT, \
        dataChange BOOLEAN, stats VARCHAR, tags MAP(VARCHAR, VARCHAR))
        """,
        "remove": "STRUCT(path VARCHAR, deletionTimestamp BIGINT, dataChange BOOLEAN)",
        "metaData": """
        STRUCT(id VARCHAR, "name" VARCHAR, description VARCHAR, format STRUCT(provider VARCHAR, \
        "options" MAP(VARCHAR, VARCHAR)), schemaString VARCHAR, partitionColumns VARCHAR[], createdTime BIGINT, \
        configuration MAP(VARCHAR, VARCHAR))
        """,
        "protocol": "STRUCT(minReaderVersion INTEGER, minWriterVersion INTEGER)",
    ]
    private static let kinds = ["protocol", "metaData", "txn", "remove", "add"]

    /// The actions that make the table from nothing, one on each line, files in their order.
    static func lines(_ table: DeltaSnapshot) -> [UInt8] {
        var actions: [DeltaAction] = [
            .protocolVersions(reader: 1, writer: 2), .metadata(id: table.tableID, columns: table.columns),
        ]
        for (application, version) in table.transactions.sorted(by: { $0.key < $1.key }) {
            actions.append(.transaction(application: application, version: version))
        }
        for entry in table.entries {
            var file = entry.file
            file.columns = entry.columns == table.columns ? nil : entry.columns
            file.isRewrite = true  // what a checkpoint adds is never new
            actions.append(.add(file))
        }
        return DeltaAction.encode(actions)
    }

    static func write(_ lines: [UInt8], to target: String, spool: String, engine: any OfflineEngine) async throws {
        try Data(lines).write(to: URL(fileURLWithPath: spool))
        defer { try? FileManager.default.removeItem(atPath: spool) }
        let columns = kinds.map { "\(SQLText.identifier($0)): \(SQLText.literal(types[$0] ?? ""))" }
        let names = kinds.map(SQLText.identifier).joined(separator: ", ")
        try await engine.execute(
            """
            COPY (SELECT \(names) FROM read_json(\(SQLText.literal(spool)), format='newline_delimited',
                columns={\(columns.joined(separator: ", "))}, maximum_object_size=\(DeltaAction.commitByteCountMax)))
            TO \(SQLText.literal(target)) (FORMAT parquet)
            """)
    }

    /// The actions of a checkpoint, that of another writer too.
    static func read(_ path: String, engine: any OfflineEngine) async throws -> [DeltaAction] {
        let source = "read_parquet(\(SQLText.literal(path)))"
        let described = try await engine.rows("SELECT column_name AS c FROM (DESCRIBE SELECT * FROM \(source))")
        let present = Set(described.compactMap { $0["c"]?.stringValue })
        let cells = kinds.filter(present.contains).map {
            "CAST(to_json(\(SQLText.identifier($0))) AS VARCHAR) AS \(SQLText.identifier($0))"
        }
        guard present.contains("add"), present.contains("metaData") else {
            throw DecodingFailure("it has no columns 'add' and 'metaData'")
        }
        let collected = Mutex<[DeltaAction]>([])
        try await engine.query(
            "SELECT \(cells.joined(separator: ", ")) FROM \(source)", setup: "", limits: QueryLimits()
        ) {
            row in
            for (kind, cell) in row.objectValue ?? [:] {
                guard let text = cell.stringValue, text != "null" else { continue }
                let body = try JSONValue.parse(text)
                if let action = try DeltaAction.action(kind, body) { collected.withLock { $0.append(action) } }
            }
        }
        return collected.withLock { $0 }
    }
}
