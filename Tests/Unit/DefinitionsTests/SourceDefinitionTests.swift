import Definitions
import PlatformCore
import Testing

/// What a source may say of its rows, its loads, and where it fetches them.
struct SourceDefinitionTests {
    private static let base = """
        kind: Source
        name: sales
        event_time: at
        key: [sale]
        schema:
          - {name: sale, type: string, nullable: false}
          - {name: at, type: timestamp}
          - {name: amount, type: float64}
          - {name: pieces, type: int64}

        """

    private func compile(_ more: String) throws -> SourceDefinition {
        let file = DefinitionFile(path: "s.yaml", folder: "/definitions", text: Self.base + more)
        return try #require(try DefinitionCompiler.compile([file]).sources[Name(static: "sales")])
    }

    @Test func readsExpectationsOnRowsAndLoads() throws {
        let source = try compile(
            """
            filter: amount > 0
            sample: 25%
            expectations:
              - {column: sale, unique: true}
              - {name: pair, unique: [sale, pieces], severity: warn}
              - {column: amount, not_null: true}
              - {freshness: 2h}
              - {name: volume, row_count_change: [50%, 200%], loads: 3}
              - {column: amount, distribution: {mean: [0, 10], p99: [~, 1e3], null_share: [0, 5%]}}
              - {name: none_negative, sql: "SELECT * FROM batch WHERE amount < 0;"}
            """)
        #expect(source.expectations.map(\.name) == ["sale_1", "pair", "amount_3"])
        #expect(source.expectations[1].check == .unique(columns: ["sale", "pieces"]))
        #expect(source.loadChecks.map(\.name) == ["freshness_4", "volume", "amount_6", "none_negative"])
        #expect(source.loadChecks[1].check == .rowCountChange(minimum: 0.5, maximum: 2, loads: 3))
        #expect(source.loadChecks[3].check == .sql("SELECT * FROM batch WHERE amount < 0"))
        #expect(source.sample == 0.25 && source.filter != nil)
    }

    @Test func readsWhereRowsAreFetched() throws {
        #expect(try compile("from: {files: in/*.csv}").origin == .files(location: "/definitions/in/*.csv", format: nil))
        let source = try compile(
            "from: {every: 5m, postgres: {connection: SHOP, query: SELECT 1;, cursor: at, overlap: 1m}}")
        guard case .postgreSQL(let query) = source.origin else {
            Issue.record("no query")
            return
        }
        #expect(query.query == "SELECT 1" && query.cursor == "at" && query.overlap.milliseconds == 60_000)
        #expect(source.every?.milliseconds == 300_000)
    }

    @Test(arguments: [
        ("expectations: [{column: sale, unique: true, in: [a]}]", "exactly one"),
        ("expectations: [{unique: [sale, nothing]}]", "no column 'nothing'"),
        ("expectations: [{freshness: soon}]", "span of time"),
        ("expectations: [{freshness: 1h, sql: SELECT 1}]", "two expectations"),
        ("expectations: [{column: sale, distribution: {mean: [0, 1]}}]", "needs a number column"),
        ("expectations: [{column: amount, distribution: {maen: [0, 1]}}]", "unknown figure 'maen'"),
        ("expectations: [{column: amount, distribution: {p101: [0, 1]}}]", "unknown figure 'p101'"),
        ("expectations: [{row_count_change: [2, 1]}]", "is empty"),
        ("expectations: [{name: x, freshness: 1h}, {name: x, freshness: 2h}]", "two expectations are called 'x'"),
        ("sample: 0", "above 0"), ("sample: 101%", "between 0 and 100%"), ("filter: amount", "must be true or false"),
        ("filter: amont > 1", "amount"), ("from: {}", "needs 'files' or 'postgres'"),
        ("from: {files: x, format: xml}", "csv, parquet, ndjson"), ("from: {files: x, every: 10ms}", "at least 1s"),
        ("from: {postgres: {connection: \"host=x password=secret\", query: SELECT 1}}", "name of an environment"),
        ("from: {postgres: {connection: SHOP, query: SELECT 1, cursor: amount}}", "timestamp, int64 or string"),
        ("from: {postgres: {connection: SHOP, query: SELECT 1, overlap: 1m}}", "needs a 'cursor'"),
        ("on_schema_change: wide", "did you mean 'widen'"),
    ])
    func aFaultIsNamedWithItsLine(text: String, words: String) {
        do {
            _ = try compile(text)
            Issue.record("'\(text)' was accepted")
        } catch {
            let shown = "\(error)"
            #expect(shown.contains(words) && shown.contains("s.yaml:10"), "\(shown)")
            #expect(!shown.contains("secret"))
        }
    }
}
