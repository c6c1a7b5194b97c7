import Datasets
import Definitions
import Expressions
import FeatureStore
import Foundation
import PlatformCore
import StoragePorts
import Testing

struct TrainingSetTests {
    static let yaml = """
        kind: Entity
        name: plane
        keys: [tail]
        ---
        kind: Source
        name: scheduled
        event_time: planned
        ingest_time: known
        key: [flight]
        schema:
          - {name: flight, type: int64}
          - {name: planned, type: timestamp}
          - {name: known, type: timestamp}
          - {name: tail, type: string}
          - {name: carrier, type: string}
          - {name: distance, type: float64}
        ---
        kind: Source
        name: arrivals
        event_time: arrived
        key: [flight]
        schema:
          - {name: flight, type: int64}
          - {name: arrived, type: timestamp}
          - {name: tail, type: string}
          - {name: delay, type: float64}
        ---
        kind: FeatureView
        name: plane_delays
        entities: [plane]
        source: arrivals
        features:
          - {name: mean_1h, aggregate: mean, column: delay, window: 1h}
          - {name: n_1h, aggregate: count, window: 1h}
          - {name: max_1d, aggregate: max, column: delay, window: 1d}
          - {name: newest, aggregate: last, column: delay}
        ---
        kind: FeatureService
        name: flights
        request:
          - {name: carrier, type: category, values: [UA, DL]}
          - {name: distance, type: number}
        views: [plane_delays]
        on_demand:
          - {name: miles_each, expression: "distance / (1 + abs(coalesce(plane_delays__mean_1h, 0)))"}
          - {name: carrier_bucket, expression: "hash(carrier, 16) + plane_delays__n_1h * 100"}
          - {name: is_ua, expression: "carrier = 'UA'"}
        ---
        kind: TrainingSet
        name: late
        service: flights
        spine: scheduled
        label: {name: is_late, source: arrivals, join: [flight], column: delay, greater_than: 30, horizon: 6h}
        split: {by: time, validation: 0.2, test: 0.25}
        """

    struct Tables {
        var scheduled: [LoggedRow] = []
        var arrivals: [LoggedRow] = []
    }

    static let start: Int64 = 1_372_636_800_000
    static let hour: Int64 = 3_600_000

    static func generate() -> Tables {
        var random = SeededGenerator(seed: 5)
        var tables = Tables()
        for flight in 0..<300 {
            let planned = start + Int64(flight / 2) * 600_000
            let tail = "N\(flight % 7)"
            let delay = Double.random(in: -20...90, using: &random)
            tables.scheduled.append(
                LoggedRow(
                    row: SourceRow(
                        eventTime: EventTime(milliseconds: planned),
                        ingestTime: EventTime(milliseconds: planned - 24 * hour),
                        cells: [
                            .integer(Int64(flight)), .integer(planned), .integer(planned - 24 * hour), .text(tail),
                            flight % 11 == 0 ? .text("ZZ") : .text(flight % 2 == 0 ? "UA" : "DL"),
                            .double(Double(flight)),
                        ]), sequence: UInt64(flight)))
            // Every tenth flight is cancelled, every seventeenth arrives after the horizon, one delay is unknown.
            if flight % 10 == 3 { continue }
            let arrived = planned + (flight % 17 == 5 ? 7 * hour : hour + Int64(delay * 60_000))
            tables.arrivals.append(
                LoggedRow(
                    row: SourceRow(
                        eventTime: EventTime(milliseconds: arrived), ingestTime: EventTime(milliseconds: arrived),
                        cells: [
                            .integer(Int64(flight)), .integer(arrived), .text(tail),
                            flight == 40 ? .null : .double(delay),
                        ]),
                    sequence: UInt64(tables.arrivals.count)))
        }
        // A correction, known an hour later: what was late was not.
        if let first = tables.arrivals.first {
            tables.arrivals.append(
                LoggedRow(
                    row: SourceRow(
                        eventTime: first.row.eventTime,
                        ingestTime: EventTime(milliseconds: first.row.ingestTime.milliseconds + hour),
                        cells: Array(first.row.cells.prefix(3)) + [.double(-5)]), sequence: 100_000))
        }
        return tables
    }

    static func scan(_ source: SourceDefinition, _ rows: [LoggedRow]) -> TableScan {
        let lines = rows.map { logged in
            let cells = zip(logged.row.cells, source.columns).map { cell, column -> String in
                switch cell {
                case .null: "NULL::\(column.type == .float64 ? "DOUBLE" : "VARCHAR")"
                case .integer(let value):
                    column.type == .timestamp ? "make_timestamptz(\(value * 1000))" : "\(value)::BIGINT"
                case .double(let value): "\(value)::DOUBLE"
                case .bool(let value): "\(value)"
                case .text(let value): SQLText.literal(value)
                case .list: preconditionFailure("these sources have no lists")
                }
            }
            return
                "(\((cells + ["\(logged.row.eventTime.milliseconds)", "\(logged.row.ingestTime.milliseconds)", "\(logged.sequence)"]).joined(separator: ",")))"
        }
        let names =
            source.columns.map { SQLText.identifier($0.name) } + ["__event_time", "__ingest_time", "__sequence"]
        return TableScan(
            table: source.name, version: 4,
            sql: "(VALUES \(lines.joined(separator: ","))) AS \(source.name)(\(names.joined(separator: ",")))",
            rowCount: rows.count)
    }

    func build(
        _ tables: Tables, to content: ContentStore, threads: Int = 2, asOf: Int64 = 1000,
        split: String = "by: time, validation: 0.2, test: 0.25", by other: (any OfflineEngine)? = nil,
        kernel: PointInTimeJoin.Settings? = PointInTimeJoin.Settings(), files: [Name: [String]] = [:],
        scans: (@Sendable (SourceDefinition, [LoggedRow]) async throws -> TableScan)? = nil
    ) async throws -> DatasetBuild {
        let text = Self.yaml.replacing("by: time, validation: 0.2, test: 0.25", with: split)
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "test.yaml", folder: "/", text: text)])
        let definition = try #require(set.trainingSets[Name(static: "late")])
        var engine = try CommandLineEngine()
        engine.threads = threads
        return try await TrainingSetBuilder(engine: other ?? engine, content: content, kernel: kernel).build(
            definition, in: set, from: EventTime(milliseconds: Self.start + Self.hour),
            to: EventTime(milliseconds: Self.start + 24 * Self.hour),
            asOf: EventTime(milliseconds: Self.start + asOf * Self.hour),
            scans: { name in
                guard let source = set.sources[name] else {
                    throw PlatformError(.notFound, name.text, "no such source")
                }
                let rows = name.text == "scheduled" ? tables.scheduled : tables.arrivals
                let scan = try await scans?(source, rows) ?? Self.scan(source, rows)
                guard let paths = files[name] else { return scan }
                return TableScan(
                    table: scan.table, version: scan.version, sql: scan.sql, rowCount: scan.rowCount, files: paths)
            })
    }

    @Test
    func theSameRowsGiveTheSameHashWhateverTheirOrderOrTheThreads() async throws {
        let tables = Self.generate()
        let store = try FolderObjectStore()
        let first = try await build(tables, to: ContentStore(base: store))
        #expect(first.hash == first.manifest.hash)
        var random = SeededGenerator(seed: 1)
        let shuffled = Tables(
            scheduled: tables.scheduled.shuffled(using: &random), arrivals: tables.arrivals.shuffled(using: &random))
        let again = try await build(shuffled, to: ContentStore(base: store), threads: 1)
        #expect(again.manifest == first.manifest)
        #expect(again.hash == first.hash)
        #expect(try await TrainingSetBuilder.manifest(first.hash, in: ContentStore(base: store)) == first.manifest)
        #expect(first.manifest.tableVersions == ["arrivals": 4, "scheduled": 4])
        #expect(
            first.manifest.columns.map(\.name) == [
                "__event_time", "__sequence", "carrier", "distance", "plane_delays__mean_1h", "plane_delays__n_1h",
                "plane_delays__max_1d", "plane_delays__newest", "miles_each", "carrier_bucket", "is_ua", "is_late",
            ])
    }

    @Test
    func kernelAndDuckDBWriteTheSameBytes() async throws {
        let tables = Self.generate()
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "test.yaml", folder: "/", text: Self.yaml)])
        let arrivals = try #require(set.sources[Name(static: "arrivals")])
        let store = try FolderObjectStore()
        let content = ContentStore(base: store)
        let bySQL = try await build(tables, to: content, kernel: nil)
        // Tables that only SQL can say; tables as files; files that must be written anew, for their codec.
        let kernel = try await build(tables, to: content)
        let scan = Self.scan(arrivals, tables.arrivals)
        var files: [String] = []
        for codec in ["zstd", "gzip"] {
            let path = try await store.stagingPath(suffix: ".parquet")
            try await CommandLineEngine().execute(
                "COPY (SELECT * FROM \(scan.sql)) TO '\(path)' (FORMAT parquet, COMPRESSION \(codec))")
            files.append(path)
        }
        let fromFiles = try await build(tables, to: content, files: [arrivals.name: [files[0]]])
        let rewritten = try await build(tables, to: content, files: [arrivals.name: [files[1]]])
        for other in [kernel, fromFiles, rewritten] {
            #expect(other.manifest.slices == bySQL.manifest.slices)
            #expect(other.manifest.columns == bySQL.manifest.columns)
            #expect(other.hash == kernel.hash)
            #expect(other.manifest.engine == bySQL.manifest.engine + "; windows: bottega 1")
        }
        // What was put aside on the way is gone.
        let left = try FileManager.default.contentsOfDirectory(atPath: store.root.path).filter {
            $0.hasPrefix("staged-")
        }
        #expect(left.count == files.count)
    }

    @Test
    func everyCellIsTheOraclesAndNothingComesFromTheFuture() async throws {
        let tables = Self.generate()
        let store = try FolderObjectStore()
        let content = ContentStore(base: store)
        let built = try await build(tables, to: content)
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "test.yaml", folder: "/", text: Self.yaml)])
        let view = try #require(set.featureViews[Name(static: "plane_delays")])
        let service = try #require(set.featureServices[Name(static: "flights")])
        #expect(service.onDemand.count == 3)
        let expected = Self.expectedRows(tables, view, set.source(of: view))
        var found: [JSONValue] = []
        for slice in built.manifest.slices {
            let path = try await content.localPath(of: slice.part)
            let rows = try await CommandLineEngine().rows(
                "SELECT *, file_row_number AS place FROM read_parquet(\(SQLText.literal(path)), file_row_number = true) ORDER BY place"
            )
            #expect(rows.count == slice.rows)
            found += rows
        }
        #expect(found.count == expected.count)
        #expect(built.manifest.questions == 276)
        #expect(built.manifest.questionsWithoutLabel == 276 - expected.count)
        for (row, wanted) in zip(found, expected) {
            for (name, value) in wanted {
                #expect(row[name]?.text == value.text, "\(name) of \(wanted["__sequence"]?.text ?? "")")
            }
            for feature in service.onDemand {
                let cells = feature.inputs.map { GeneratedExpressions.cell(wanted[$0.name], $0.type) }
                let answer = GeneratedExpressions.cell(row[feature.name], feature.expression.type)
                #expect(answer == feature.expression.evaluate(cells), "\(feature.name)")
            }
        }
        // No moment is in two slices, and they follow each other.
        let slices = built.manifest.slices
        for (left, right) in zip(slices, slices.dropFirst()) {
            let (end, start) = (try #require(left.lastEventTime), try #require(right.firstEventTime))
            #expect(end < start)
        }
        #expect(abs(Double(slices[2].rows) / Double(found.count) - 0.25) < 0.02)
    }

    /// Every question in order with a label that arrived in time, its features by the oracle.
    private static func expectedRows(_ tables: Tables, _ view: FeatureViewDefinition, _ arrivals: SourceDefinition)
        -> [[String: JSONValue]]
    {
        let asked = tables.scheduled.filter {
            $0.row.eventTime.milliseconds >= start + hour && $0.row.eventTime.milliseconds < start + 24 * hour
        }.sorted { ($0.row.eventTime, $0.sequence) < ($1.row.eventTime, $1.sequence) }
        return asked.compactMap { question in
            let time = question.row.eventTime.milliseconds
            let labels = tables.arrivals.filter {
                $0.row.cells[0] == question.row.cells[0] && $0.row.eventTime.milliseconds >= time
                    && $0.row.eventTime.milliseconds <= time + 6 * hour
            }.sorted { ($0.row.eventTime, $0.row.ingestTime) < ($1.row.eventTime, $1.row.ingestTime) }
            guard case .double(let delay)? = labels.last?.row.cells[3] else { return nil }
            let answer = OracleFeatures.answer(
                view, arrivals, rows: tables.arrivals, keys: [question.row.cells[3].keyText], at: time)
            var row: [String: JSONValue] = [
                "__event_time": .integer(time), "__sequence": .integer(Int64(question.sequence)),
                "carrier": question.row.cells[4] == .text("ZZ") ? .null : question.row.cells[4].json,
                "distance": question.row.cells[5].json, "is_late": .integer(delay > 30 ? 1 : 0),
            ]
            for (feature, value) in zip(view.features, answer.values) {
                row["plane_delays__\(feature.name)"] = value.json
            }
            return row
        }
    }

    @Test
    func whatWasNotKnownByTheMomentOfTheBuildDoesNotExist() async throws {
        let tables = Self.generate()
        let content = ContentStore(base: try FolderObjectStore())
        let early = try await build(tables, to: content, asOf: 12)
        let late = try await build(tables, to: content)
        #expect(early.manifest.rows < late.manifest.rows)
        var later = tables
        later.arrivals.append(
            LoggedRow(
                row: SourceRow(
                    eventTime: EventTime(milliseconds: Self.start + 2 * Self.hour),
                    ingestTime: EventTime(milliseconds: Self.start + 12 * Self.hour),
                    cells: [.integer(7), .integer(Self.start + 2 * Self.hour), .text("N1"), .double(500)]),
                sequence: 200_000))
        #expect(try await build(later, to: content, asOf: 12).hash == early.hash)
        #expect(try await build(later, to: content).hash != late.hash)
        await #expect(throws: PlatformError.self) { try await build(tables, to: content, asOf: 0) }
    }

    private func tails(_ built: DatasetBuild, _ content: ContentStore, _ tables: Tables) async throws -> [String: Set<
        String
    >] {
        var tails: [String: Set<String>] = [:]
        for slice in built.manifest.slices {
            let path = try await content.localPath(of: slice.part)
            for row in try await CommandLineEngine().rows(
                "SELECT __sequence FROM read_parquet(\(SQLText.literal(path)))")
            {
                let asked = tables.scheduled.first { Int64($0.sequence) == row["__sequence"]?.integerValue }
                tails[slice.name, default: []].insert(try #require(asked?.row.cells[3].keyText))
            }
        }
        return tails
    }

    @Test
    func anEntityStandsInOneSliceOnly() async throws {
        let tables = Self.generate()
        let content = ContentStore(base: try FolderObjectStore())
        let split = "by: entity, keys: [tail], validation: 0.3, test: 0.3, seed: 4"
        let built = try await build(tables, to: content, split: split)
        let found = try await tails(built, content, tables)
        let all = found.values.reduce(0) { $0 + $1.count }
        #expect(all == Set(found.values.flatMap { $0 }).count && all == 7)
        #expect(found.count >= 2)
        #expect(try await build(tables, to: content, threads: 1, split: split).hash == built.hash)
        #expect(try await build(tables, to: content, split: split.replacing("4", with: "5")).hash != built.hash)
    }

    @Test
    func aRandomSplitCutsTheSharesAskedForAndIsTheSameEveryTime() async throws {
        let tables = Self.generate()
        let content = ContentStore(base: try FolderObjectStore())
        let split = "by: random, validation: 0.2, test: 0.25, seed: 1"
        let built = try await build(tables, to: content, split: split)
        let total = Double(built.manifest.rows)
        for (slice, share) in zip(built.manifest.slices, [0.55, 0.2, 0.25]) {
            #expect(abs(Double(slice.rows) / total - share) < 0.08, "\(slice.name)")
        }
        #expect(try await build(tables, to: content, threads: 1, split: split).hash == built.hash)
    }
}
