import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import StoragePorts
import Testing

/// Questions from files, SQL and PostgreSQL.
struct SpineTests {
    private static let keys = ["flight", "planned", "tail", "carrier", "distance"]

    /// Files of the test's own folder, without patterns.
    private struct Files: SourceFileStore {
        func list(_ location: String) async throws(StoreError) -> [SourceFileInfo] {
            guard let bytes = FileManager.default.contents(atPath: location) else {
                throw StoreError(.notFound, location, "no such file")
            }
            return [SourceFileInfo(location: location, byteCount: bytes.count, stamp: "")]
        }
        func localPath(of location: String) async throws(StoreError) -> String { location }
        func unpack(_ path: String, to target: String, byteCountMax: Int) async throws(StoreError) {}
    }

    /// What a database would answer.
    private struct Database: RowSource {
        var columns: [String] = []
        var rows: [[String?]] = []
        func read(
            _ query: RowQuery, columns: @escaping @Sendable ([RowColumn]) throws -> Void,
            rows: @escaping @Sendable ([[String?]]) throws -> Void
        ) async throws {
            guard query.connection == "the address" else { throw StoreError(.unavailable, query.subject, "no") }
            try columns(self.columns.map { RowColumn(name: $0, type: "text") })
            try rows(self.rows)
        }
    }

    private struct World {
        let tables = TrainingSetTests.generate()
        let store: FolderObjectStore
        var database = Database()
        var limits = SpineLimits()

        init() throws { store = try FolderObjectStore() }

        func set(_ spine: String, label: String? = nil) throws -> DefinitionSet {
            var text = TrainingSetTests.yaml.replacing("spine: scheduled", with: "spine: \(spine)")
            if let label {
                text.replace(
                    "label: {name: is_late, source: arrivals, join: [flight], column: delay, greater_than: 30, horizon: 6h}",
                    with: label)
            }
            return try DefinitionCompiler.compile([DefinitionFile(path: "test.yaml", folder: "/", text: text)])
        }

        func scan(_ set: DefinitionSet, _ name: Name) throws -> TableScan {
            let source = try #require(set.sources[name])
            return TrainingSetTests.scan(source, name.text == "scheduled" ? tables.scheduled : tables.arrivals)
        }

        func build(_ spine: String, label: String? = nil, asOf: Int64 = 1000) async throws -> DatasetBuild {
            let set = try set(spine, label: label)
            let definition = try #require(set.trainingSets[Name(static: "late")])
            let content = ContentStore(base: store)
            let engine = try CommandLineEngine()
            let reader = SpineReader(
                engine: engine, content: content, files: Files(), database: database,
                secret: { $0 == "SHOP" ? "the address" : nil }, limits: limits)
            let (start, hour) = (TrainingSetTests.start, TrainingSetTests.hour)
            return try await TrainingSetBuilder(engine: engine, content: content, spines: reader).build(
                definition, in: set, from: EventTime(milliseconds: start + hour),
                to: EventTime(milliseconds: start + 24 * hour),
                asOf: EventTime(milliseconds: start + asOf * hour), scans: { try scan(set, $0) })
        }

        /// The scheduled flights as a file.
        func file(_ suffix: String, _ options: String, columns: [String] = SpineTests.keys) async throws -> String {
            let path = try await store.stagingPath(suffix: suffix)
            let scan = try scan(try set("scheduled"), Name(static: "scheduled"))
            let list = columns.map {
                $0 == "planned" && suffix != ".parquet" ? "strftime(planned, '%Y-%m-%dT%H:%M:%S.%gZ') AS planned" : $0
            }
            // In another order than they are asked, with a column that nobody reads.
            try await CommandLineEngine().execute(
                "COPY (SELECT 1 AS other, \(list.joined(separator: ", ")) FROM \(scan.sql) ORDER BY md5(CAST(flight AS VARCHAR))) TO '\(path)' (\(options))"
            )
            return path
        }

        func rows(_ build: DatasetBuild) async throws -> [String] {
            var lines: [String] = []
            for slice in build.manifest.slices {
                let path = try await ContentStore(base: store).localPath(of: slice.part)
                lines += try await CommandLineEngine().rows(
                    "SELECT * EXCLUDE (__sequence) FROM read_parquet('\(path)') ORDER BY ALL"
                ).map(\.text)
            }
            return lines
        }
    }

    @Test
    func theSameQuestionsAreTheSameSetHoweverTheyCome() async throws {
        var world = try World()
        let bySource = try await world.build("scheduled")
        #expect(bySource.manifest.spine == nil)
        let csv = try await world.file(".csv", "FORMAT csv, HEADER")
        let json = try await world.file(".ndjson", "FORMAT json")
        let parquet = try await world.file(".parquet", "FORMAT parquet")
        world.database.columns = Self.keys
        world.database.rows = world.tables.scheduled.map { logged in
            [0, 1, 3, 4, 5].map { place -> String? in
                switch logged.row.cells[place] {
                case .integer(let value) where place == 1: EventTime(milliseconds: value).description
                case .integer(let value): String(value)
                case .double(let value): "\(value)"
                case .text(let value): value
                default: nil
                }
            }
        }
        let query = "SELECT planned, flight, tail, carrier, distance FROM scheduled -- all of them"
        var builds: [String: DatasetBuild] = [:]
        for (name, spine) in [
            ("csv", "{files: \(csv), event_time: planned}"), ("json", "{files: \(json), event_time: planned}"),
            ("parquet", "{files: \(parquet), event_time: planned}"),
            ("sql", "{sql: \"\(query)\", sources: [scheduled], event_time: planned}"),
            ("postgres", "{postgres: {connection: SHOP, query: select}, event_time: planned}"),
        ] {
            builds[name] = try await world.build(spine)
        }
        let expected = try await world.rows(bySource)
        let part = builds["csv"]?.manifest.spine?.part
        for (name, build) in builds {
            #expect(build.manifest.spine?.part == part, "\(name)")
            #expect(build.manifest.spine?.rows == 300)
            #expect(build.manifest.slices == builds["csv"]?.manifest.slices, "\(name)")
            #expect(build.manifest.questionsWithoutLabel == bySource.manifest.questionsWithoutLabel)
            #expect(try await world.rows(build) == expected, "\(name)")
            #expect(
                build.manifest.tableVersions.keys.sorted()
                    == (name == "sql" ? ["arrivals", "scheduled"] : ["arrivals"]))
        }
        // A leak would be found here too: the detector reads the questions where they are kept.
        let build = try #require(builds["parquet"])
        let set = try world.set("{files: \(parquet), event_time: planned}")
        let definition = try #require(set.trainingSets[Name(static: "late")])
        let content = ContentStore(base: world.store)
        var paths: [String: String] = [:]
        for slice in build.manifest.slices { paths[slice.name] = try await content.localPath(of: slice.part) }
        let contract = try #require(definition.outsideSpine?.contract)
        let report = try await LeakageDetector(engine: try CommandLineEngine()).check(
            build.hash, manifest: build.manifest, paths: paths, definition: definition, definitions: set,
            spine: try await SpineReader.scan(try #require(build.manifest.spine), as: contract, in: content),
            scans: { try world.scan(set, $0) })
        #expect(report.findings.isEmpty)
    }

    @Test
    func theLabelMayStandInTheQuestionOrBeLeftOut() async throws {
        let world = try World()
        let parquet = try await world.file(".parquet", "FORMAT parquet")
        let spine = "{files: \(parquet), event_time: planned}"
        let own = try await world.build(spine, label: "label: {name: far, column: distance, greater_than: 100}")
        #expect(own.manifest.rows == 276)
        #expect(own.manifest.columns.last?.name == "far")
        let labels = try await world.rows(own).map { try JSONValue.parse(Array($0.utf8)) }
        #expect(labels.allSatisfy { ($0["far"]?.integerValue == 1) == (($0["distance"]?.doubleValue ?? 0) > 100) })
        let bare = try await world.build(spine, label: "")
        #expect(bare.manifest.label == nil)
        #expect(bare.manifest.rows == 276)
        #expect(!bare.manifest.columns.contains { $0.role == .label })
        #expect(bare.manifest.slices.allSatisfy { $0.positiveShare == nil })
        // A source may bring the label of its own rows as well.
        let sameRow = try await world.build("scheduled", label: "label: {name: far, column: distance}")
        #expect(sameRow.manifest.rows == 276)
    }

    @Test
    func aQuerySeesOnlyWhatWasKnown() async throws {
        let world = try World()
        // Flights are known a day before their time, so three hours before the first one the 252 of the next 21 hours are.
        let error = await #expect(throws: PlatformError.self) {
            try await world.build("{sql: SELECT * FROM scheduled, sources: [scheduled], event_time: planned}", asOf: -3)
        }
        #expect(error?.message.hasPrefix("none of 252 questions") == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [
        ("SELECT 1 AS x FROM scheduled", "no column 'planned'"),
        (
            "SELECT flight, planned, tail AS tali, carrier, distance FROM scheduled",
            "no column 'tail'; did you mean 'tali'?"
        ),
        ("SELECT * FROM arrivals", "arrivals"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM scheduled); COPY (SELECT 1) TO '/tmp/x.csv'; (SELECT 1", "cannot be read"),
        ("SELECT * REPLACE (planned AT TIME ZONE 'UTC' AS planned) FROM scheduled", "without a zone"),
        ("SELECT * REPLACE (CAST(distance AS VARCHAR) AS distance) FROM scheduled", "'distance' is VARCHAR"),
        ("SELECT * FROM scheduled WHERE false", "holds no question"),
    ])
    func aQueryThatCannotBeASpineIsRefused(query: String, reason: String) async throws {
        let world = try World()
        let text = query.replacing("\"", with: "'")
        let error = await #expect(throws: PlatformError.self) {
            try await world.build("{sql: \"\(text)\", sources: [scheduled], event_time: planned}")
        }
        #expect(error?.code == .invalidInput)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [
        ("flight,planned,tail,carrier,distance\n1,2013-07-01,N1,UA,1", "row 1 of the spine: 'planned' is '2013-07-01'"),
        ("flight,planned,tail,carrier,distance\n1,,N1,UA,1", "'planned' is missing"),
        ("flight,planned,tail,carrier,distance\n1,2013-02-30T00:00:00Z,N1,UA,1", "'planned' is '2013-02-30T00:00:00Z'"),
        (
            "flight,planned,tail,carrier,distance\n1.5,2013-07-01T00:00:00Z,N1,UA,1",
            "'flight' is '1.5', which must be a whole number"
        ),
        ("flight,planned,tail,carrier,distance\n1,2013-07-01T00:00:00Z,N1,UA,inf", "'distance' is 'inf'"),
        ("flight,planned,tail,carrier,distance\n1,1850-07-01T00:00:00Z,N1,UA,1", "between 1900 and 2199"),
        ("flight,planned,carrier,distance\n1,2013-07-01T00:00:00Z,UA,1", "no column 'tail'"),
        ("flight,planned,tail,carrier,distance\n", "holds no question"),
    ])
    func aFileThatCannotBeASpineIsRefused(text: String, reason: String) async throws {
        let world = try World()
        let path = try await world.store.stagingPath(suffix: ".csv")
        try Data(text.utf8).write(to: URL(filePath: path))
        let error = await #expect(throws: PlatformError.self) {
            try await world.build("{files: \(path), event_time: planned}")
        }
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
        // The same as JSON lines, where texts are no numbers.
        guard text.hasSuffix(",1") || text.hasSuffix(",inf") else { return }
        let names = text.split(separator: "\n")[0].split(separator: ",")
        let cells = text.split(separator: "\n")[1].split(separator: ",", omittingEmptySubsequences: false)
        let members = zip(names, cells).compactMap { name, cell -> String? in
            if cell.isEmpty { return nil }
            return Double(cell).map { $0.isFinite } == true ? "\"\(name)\":\(cell)" : "\"\(name)\":\"\(cell)\""
        }
        let lines = try await world.store.stagingPath(suffix: ".ndjson")
        try Data("{\(members.joined(separator: ","))}\n".utf8).write(to: URL(filePath: lines))
        await #expect(throws: PlatformError.self) { try await world.build("{files: \(lines), event_time: planned}") }
    }

    @Test
    func tooMuchIsRefused() async throws {
        var world = try World()
        let path = try await world.file(".csv", "FORMAT csv, HEADER")
        world.limits.rowCountMax = 299
        let rows = await #expect(throws: PlatformError.self) {
            try await world.build("{files: \(path), event_time: planned}")
        }
        #expect(rows?.code == .tooLarge)
        world.limits.byteCountMax = 1000
        let bytes = await #expect(throws: PlatformError.self) {
            try await world.build("{files: \(path), event_time: planned}")
        }
        #expect(bytes?.message.contains("more than 1000") == true)
    }

    @Test(arguments: [
        ("{event_time: planned}", "needs 'files', 'sql' or 'postgres'"),
        ("{files: a.csv, sql: x, event_time: planned}", "one of 'files', 'sql', 'postgres'"),
        ("{sql: select 1, sources: [scheduld], event_time: planned}", "did you mean 'scheduled'"),
        ("{sql: select 1, event_time: planned}", "'sources' is missing"),
        ("{files: a.csv, event_tme: planned}", "did you mean 'event_time'"),
        ("{files: a.csv, format: xls, event_time: planned}", "csv, parquet, ndjson"),
        ("{postgres: {connection: 'host=x password=y', query: q}, event_time: planned}", "environment variable"),
    ])
    func aSpineThatSaysTooLittleIsRefused(spine: String, reason: String) throws {
        let world = try World()
        let error = #expect(throws: (any Error).self) { try world.set(spine) }
        #expect(error.map { "\($0)".contains(reason) } == true, "\(String(describing: error))")
    }
}
