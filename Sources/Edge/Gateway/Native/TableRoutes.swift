import APIContract
import Catalogue
import Datasets
import Definitions
import Governance
import PlatformCore
import Workflows

/// Tables of sources and of refused rows: versions, rows as they were, compaction, retention.
enum TableRoutes {
    /// Most rows in one answer.
    static let rowCountMax = 1000

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/api/v1/tables") { _ in
                var list: [JSONValue] = []
                for name in try await services.tables.names() {
                    let state = try await services.tables.state(of: name)
                    list.append([
                        "name": .string(name.text), "version": .integer(state.version),
                        "rows": .integer(Int64(state.rowCount)), "files": .integer(Int64(state.files.count)),
                        "bytes": .integer(state.files.reduce(0) { $0 + $1.byteCount }),
                    ])
                }
                return .json(["tables": .array(list)])
            },
            Route("GET", "/api/v1/tables/{table}") { request in
                let name = try await table(request, services)
                let state = try await services.tables.state(of: name, at: try moment(request))
                return .json(describe(name, state))
            },
            Route("GET", "/api/v1/tables/{table}/versions") { request in
                let name = try await table(request, services)
                let history = try await services.tables.history(of: name)
                return .json([
                    "versions": .array(
                        history.map {
                            [
                                "version": .integer($0.version), "time": .string($0.time.description),
                                "operation": .string($0.operation), "rows_added": .integer(Int64($0.rowsAdded)),
                                "rows": .integer(Int64($0.rowCount)), "files": .integer(Int64($0.fileCount)),
                                "bytes": .integer($0.byteCount),
                            ]
                        })
                ])
            },
            Route("GET", "/api/v1/tables/{table}/rows") { request in
                let name = try await table(request, services)
                let state = try await services.tables.state(of: name, at: try moment(request))
                let seed = try request.queryValue("seed").map { try wholeNumber($0, "seed") }
                let rows = try await services.tables.rows(
                    of: state, knownAt: try time(request, "known_at"), seed: seed.map { Int(truncatingIfNeeded: $0) },
                    countMax: try request.count("limit", default: 10, most: rowCountMax))
                let hidden = sensitiveColumns(name, services)
                return .json([
                    "version": .integer(state.version),
                    "columns": .array(state.columns.map { .string($0.name) }),
                    "rows": .array(rows.map { mask($0, hidden) }),
                ])
            },
            Route("POST", "/api/v1/tables/{table}/compact") { request in
                let name = try await table(request, services)
                return try services.start { progress in
                    progress.report("compacting \(name)")
                    let input = LineageDataset("source/\(name)")
                    let report = try await services.lineage.record(
                        "compact.\(name)", kind: "COMPACTION", inputs: [input],
                        outcome: { report in
                            var output = input
                            (output.version, output.rowCount) = (String(report.version), Int(clamping: report.rows))
                            (output.byteCount, output.fileCount) = (Int(clamping: report.bytesAfter), report.filesAfter)
                            return ([input], [output])
                        }, { try await services.tables.compact(name) })
                    return [
                        "version": .integer(report.version), "rows": .integer(report.rows),
                        "files_before": .integer(Int64(report.filesBefore)),
                        "files_after": .integer(Int64(report.filesAfter)),
                        "bytes_before": .integer(report.bytesBefore), "bytes_after": .integer(report.bytesAfter),
                    ]
                }
            },
            Route("POST", "/api/v1/tables/{table}/retain") { request in
                let name = try await table(request, services)
                let body = try RequestBody(request)
                try body.checkKeys(["dry_run"])
                let isRehearsal = body["dry_run"]?.boolValue ?? true
                let actor = request.actor
                return try services.start { progress in
                    progress.report("looking for rows of \(name) that are older than its retention")
                    if isRehearsal {
                        return describe(
                            try await services.maintenance.retain(name, isRehearsal: true), isRehearsal: true)
                    }
                    let report = try await services.maintenance.retain(name, by: actor)
                    return describe(report, isRehearsal: false)
                }
            },
            Route("POST", "/api/v1/tables/{table}/vacuum") { request in
                let name = try await table(request, services)
                let body = try RequestBody(request)
                try body.checkKeys(["dry_run", "retention"])
                let isRehearsal = body["dry_run"]?.boolValue ?? true
                var retention: TimeSpan?
                if body["retention"] != nil {
                    let text = try body.text("retention")
                    guard let span = TimeSpan(text: text) else {
                        throw PlatformError(
                            .invalidInput, "request body",
                            "'retention' must be a span such as 30d, not '\(text.prefix(40))'")
                    }
                    retention = span
                }
                let actor = request.actor
                return try services.start { [retention] progress in
                    progress.report("looking at the files of \(name)")
                    if isRehearsal {
                        let report = try await services.maintenance.vacuum(
                            name, retention: retention, isRehearsal: true)
                        return describe(report, isRehearsal: true)
                    }
                    let report = try await services.maintenance.vacuum(name, retention: retention, by: actor)
                    return describe(report, isRehearsal: false)
                }
            },
        ]
    }

    static func describe(_ name: Name, _ state: TableState) -> JSONValue {
        [
            "name": .string(name.text), "version": .integer(state.version), "rows": .integer(Int64(state.rowCount)),
            "columns": .array(state.columns.map { ["name": .string($0.name), "type": .string($0.type)] }),
            "files": .array(
                state.files.map {
                    [
                        "path": .string($0.path), "bytes": .integer($0.byteCount), "rows": .integer($0.rowCount),
                    ]
                }), "next_offsets": .object(state.nextOffsets.mapValues { .integer($0) }),
        ]
    }

    private static func describe(_ report: RowRetentionReport, isRehearsal: Bool) -> JSONValue {
        [
            "dry_run": .bool(isRehearsal), "version": .integer(report.version),
            "before": .string(report.before.description), "rows": .integer(report.rowCount),
            "removed_rows": .integer(report.removedRowCount), "held_rows": .integer(report.heldRowCount),
            "files": .array(
                report.files.map {
                    [
                        "path": .string($0.path), "rows": .integer($0.rowCount),
                        "removed_rows": .integer($0.removedRowCount),
                        "held_by": $0.heldBy.map(JSONValue.string) ?? .null,
                    ]
                }),
        ]
    }

    private static func describe(_ report: VacuumReport, isRehearsal: Bool) -> JSONValue {
        [
            "dry_run": .bool(isRehearsal), "version": .integer(report.version),
            "oldest_version": .integer(report.oldestVersion),
            "removed_files": .integer(Int64(report.removedFileCount)),
            "removed_bytes": .integer(Int64(report.removedByteCount)),
            "kept_bytes": .integer(Int64(report.keptByteCount)),
            "files": .array(
                report.files.map {
                    [
                        "path": .string($0.path), "bytes": .integer(Int64($0.byteCount)),
                        "removed": .bool($0.isRemoved),
                        "reason": .string($0.reason),
                    ]
                }),
        ]
    }

    /// The table that a request names: one that exists, or that of a defined source.
    static func table(_ request: APIRequest, _ services: PlatformServices) async throws -> Name {
        let name = try request.name("table")
        let sources = services.catalog.current.sources
        if sources[name] != nil { return name }
        let known = try await services.tables.names()
        if known.contains(name) { return name }
        let near = nearestName(to: name.text, among: known.map(\.text) + sources.keys.map(\.text))
        throw PlatformError(
            .notFound, "table/\(name)", "there is no such table" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    static func moment(_ request: APIRequest) throws -> TableMoment {
        let time = try time(request, "as_of")
        guard let text = request.queryValue("version") else { return time.map(TableMoment.time) ?? .newest }
        guard time == nil else {
            throw PlatformError(.invalidInput, "query", "'version' and 'as_of' exclude each other")
        }
        return .version(try wholeNumber(text, "version"))
    }

    static func time(_ request: APIRequest, _ key: String) throws -> EventTime? {
        guard let text = request.queryValue(key) else { return nil }
        guard let time = EventTime(written: text), time.isAccepted else {
            throw PlatformError(.invalidInput, "query", "'\(key)' must be a time such as 2013-07-01T00:00:00Z")
        }
        return time
    }

    private static func wholeNumber(_ text: String, _ key: String) throws -> Int64 {
        guard let number = Int64(text), number >= 0 else {
            throw PlatformError(.invalidInput, "query", "'\(key)' must be a whole number, not '\(text.prefix(40))'")
        }
        return number
    }

    /// Columns whose values are not shown: those marked `sensitive`, and in a table of refused rows the rows themselves.
    static func sensitiveColumns(_ table: Name, _ services: PlatformServices) -> Set<String> {
        let sources = services.catalog.current.sources
        if let source = sources[table] { return Set(source.columns.filter(\.isSensitive).map(\.name)) }
        let prefix = "quarantine_"
        guard table.text.hasPrefix(prefix), let source = Name(String(table.text.dropFirst(prefix.count))),
            sources[source]?.columns.contains(where: \.isSensitive) ?? true
        else { return [] }
        return ["row"]
    }

    static func mask(_ row: JSONValue, _ hidden: Set<String>) -> JSONValue {
        guard !hidden.isEmpty, case .object(var members) = row else { return row }
        for column in hidden where members[column].map({ !$0.isNull }) ?? false { members[column] = "•••" }
        return .object(members)
    }
}
