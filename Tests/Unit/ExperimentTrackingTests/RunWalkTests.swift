import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

@testable import ExperimentTracking

/// Searches that are ordered by a metric, over enough runs that walking along its values and looking at every row of a
/// clause are both worth it.
struct RunWalkTests {
    private struct Run {
        let id: String
        let experiment: Int
        let startedAt: Int
        let a: Double?
        let b: Double?
        let group: String
    }

    /// Runs whose metric `a` rises with their group and their start, so that clauses say something of each other.
    private static func fill(_ fixture: TrackingFixture, count: Int, seed: UInt64) async throws -> [Run] {
        var generator = SeededGenerator(state: seed)
        _ = try await fixture.store.createExperiment(name: "other")
        var runs: [Run] = []
        for index in 0..<count {
            let group = Int.random(in: 0..<8, using: &generator)
            func number(_ value: Int) -> Double? {
                switch Int.random(in: 0..<20, using: &generator) {
                case 0: nil
                case 1: .nan
                default: Double(value)
                }
            }
            let a = number(index * 40 / count + 5 * group + Int.random(in: 0..<5, using: &generator))
            let b = number(Int.random(in: 0..<100, using: &generator))
            runs.append(
                Run(
                    id: "r\((index * 7919) % count + 100_000)",
                    experiment: Int.random(in: 0..<10, using: &generator) == 0 ? 1 : 0, startedAt: index / 3, a: a,
                    b: b,
                    group: "g\(group)"))
        }
        let written = runs
        try await fixture.metadata.write { transaction in
            for (number, run) in written.enumerated() {
                let number = MetadataValue.integer(Int64(number + 1))
                try transaction.execute(
                    """
                    INSERT INTO tracking_run (number, run_id, experiment_number, name, user_name, status, started_at,
                        ended_at, artifact_uri, is_deleted) VALUES (?, ?, ?, '', '', 'FINISHED', ?, NULL, '', 0)
                    """,
                    [number, .text(run.id), .integer(Int64(run.experiment)), .integer(Int64(run.startedAt))])
                try transaction.execute(
                    "INSERT INTO tracking_run_tag (run_number, key, value) VALUES (?, 'grp', ?)",
                    [number, .text(run.group)])
                for (key, value) in [("a", run.a), ("b", run.b)] {
                    guard let value else { continue }
                    try transaction.execute(
                        """
                        INSERT INTO tracking_metric_latest (run_number, key, step, measured_at, value, is_nan)
                        VALUES (?, ?, 0, 0, ?, ?)
                        """, [number, .text(key), .real(value.isNaN ? 0 : value), .integer(value.isNaN ? 1 : 0)])
                }
            }
        }
        return runs
    }

    private static func expected(
        _ runs: [Run], by key: String, isAscending: Bool, _ passes: (Run) -> Bool
    ) -> [String] {
        func place(_ run: Run) -> (Int, Double) {
            guard let value = key == "a" ? run.a : run.b else { return (2, 0) }
            return value.isNaN ? (1, 0) : (0, isAscending ? value : -value)
        }
        return runs.filter { $0.experiment == 0 && passes($0) }.sorted { left, right in
            let (first, second) = (place(left), place(right))
            if first != second { return first < second }
            return (right.startedAt, left.id) < (left.startedAt, right.id)
        }.map(\.id)
    }

    @Test(arguments: UInt64(0)..<3)
    func pagesInTheOrderOfAMetricHoldWhatAScanFinds(seed: UInt64) async throws {
        let fixture = try await TrackingFixture()
        var generator = SeededGenerator(state: seed &+ 100)
        let runs = try await Self.fill(fixture, count: 1500, seed: seed)
        for _ in 0..<24 {
            let low = Double(Int.random(in: 0..<90, using: &generator))
            let high = Double(Int.random(in: 0..<110, using: &generator))
            let group = "g\(Int.random(in: 0..<8, using: &generator))"
            let filters: [(String, (Run) -> Bool)] = [
                ("tags.grp = '\(group)'", { $0.group == group }),
                (
                    "metrics.a > \(low) and metrics.b < \(high) and tags.grp = '\(group)'",
                    { ($0.a ?? .nan) > low && ($0.b ?? .nan) < high && $0.group == group }
                ),
                (
                    "metrics.a <= \(low) and metrics.b >= \(high)",
                    { ($0.a ?? .nan) <= low && ($0.b ?? .nan) >= high }
                ),
            ]
            for (text, passes) in filters {
                let key = Bool.random(using: &generator) ? "a" : "b"
                let isAscending = Bool.random(using: &generator)
                let size = Int.random(in: 3...80, using: &generator)
                let order = "metrics.\(key) \(isAscending ? "ASC" : "DESC")"
                var found: [String] = []
                var token: String?
                repeat {
                    let page = try await fixture.store.findRuns(
                        experiments: ["0"], filter: SearchFilter(text), orders: SearchOrder.list([order]),
                        pageToken: token, countMax: size)
                    found += page.runs.map(\.info.id)
                    token = page.nextPageToken
                } while token != nil
                #expect(
                    found == Self.expected(runs, by: key, isAscending: isAscending, passes),
                    "\(text) by \(order) in pages of \(size)")
            }
        }
    }

    /// A clause of which only a part was counted says nothing of how far the walk must go: taken for the whole, it made
    /// every such search walk too short, and look at every run of the rarest clause afterwards.
    @Test func aClauseThatWasNotCountedToItsEndDoesNotCutTheWalkShort() async throws {
        let fixture = try await TrackingFixture()
        _ = try await Self.fill(fixture, count: 4000, seed: 1)
        let query = try RunQuery(
            experiments: [0], filter: SearchFilter("metrics.b > 10 and metrics.a > -1 and tags.grp = 'g3'"),
            orders: SearchOrder.list(["metrics.b DESC"]), view: .active)
        let (runs, statements) = try await fixture.metadata.read { transaction in
            let recorder = Recorder(base: transaction)
            return (try query.runs(behind: nil, countMax: 20, recorder), recorder.statements)
        }
        #expect(runs.count == 20)
        let searches = statements.filter { $0.hasPrefix("SELECT r.*") }
        #expect(searches.count == 1, "\(searches)")
        #expect(searches.first?.contains("FROM tracking_metric_latest o CROSS JOIN") == true)
        #expect(searches.first?.contains("+o.run_number IN (") == true, "the rarest clause is a set")
    }

    /// The set must not become what the database begins with: it would look up and sort every run of it.
    @Test func aWalkUsesTheIndexOfTheValues() async throws {
        let fixture = try await TrackingFixture()
        _ = try await Self.fill(fixture, count: 4000, seed: 2)
        let query = try RunQuery(
            experiments: [0], filter: SearchFilter("metrics.a > -1 and tags.grp = 'g3'"),
            orders: SearchOrder.list(["metrics.b"]), view: .active)
        let plan = try await fixture.metadata.read { transaction in
            let recorder = Recorder(base: transaction)
            _ = try query.runs(behind: nil, countMax: 20, recorder)
            guard let (sql, arguments) = recorder.asked.last else { return [String]() }
            return try transaction.query("EXPLAIN QUERY PLAN " + sql, arguments).map { $0.text("detail") }
        }
        #expect(plan.first?.contains("o USING COVERING INDEX tracking_metric_by_value") == true, "\(plan)")
    }
}

/// Remembers what is asked.
private final class Recorder: MetadataTransaction {
    let base: any MetadataTransaction
    private(set) var asked: [(sql: String, arguments: [MetadataValue])] = []
    var statements: [String] { asked.map(\.sql) }

    init(base: any MetadataTransaction) { self.base = base }

    func query(_ sql: String, _ arguments: [MetadataValue]) throws -> [MetadataRow] {
        asked.append((sql, arguments))
        return try base.query(sql, arguments)
    }

    func execute(_ sql: String, _ arguments: [MetadataValue]) throws -> Int { try base.execute(sql, arguments) }
}
