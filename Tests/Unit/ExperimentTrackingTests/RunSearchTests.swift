import ExperimentTracking
import Foundation
import PlatformCore
import StoragePorts
import Testing

/// Searches compared with a slow obvious one over everything.
@Suite struct RunSearchTests {
    let fixture: TrackingFixture
    var store: TrackingStore { fixture.store }

    init() async throws { fixture = try await TrackingFixture() }

    private func fill(_ count: Int, _ generator: inout SeededGenerator) async throws -> [TrackedRun] {
        _ = try await store.createExperiment(name: "other")
        var ids: [String] = []
        for index in 0..<count {
            let run = try await store.createRun(
                experiment: Int.random(in: 0..<5, using: &generator) == 0 ? "1" : "0", name: "n\(index % 7)",
                startedAt: EventTime(milliseconds: Int64.random(in: 0...20, using: &generator)))
            ids.append(run.info.id)
            let now = EventTime(milliseconds: 5)
            var metrics: [Metric] = []
            for key in ["a", "b"] where Int.random(in: 0..<4, using: &generator) > 0 {
                let value = Int.random(in: 0..<8, using: &generator)
                metrics.append(Metric(key, value == 0 ? .nan : Double(value), measuredAt: now))
            }
            let params =
                Bool.random(using: &generator)
                ? [TrackedTag("p", String(Int.random(in: 0..<4, using: &generator)))] : []
            let tags =
                Bool.random(using: &generator) ? [TrackedTag("t", "x\(Int.random(in: 0..<3, using: &generator))")] : []
            try await store.logBatch(run: run.info.id, metrics: metrics, params: params, tags: tags)
        }
        var runs: [TrackedRun] = []
        for id in ids { runs.append(try await store.run(id)) }
        return runs
    }

    @Test(arguments: UInt64(0)..<6)
    func everyPlanFindsWhatAScanFinds(seed: UInt64) async throws {
        var generator = SeededGenerator(state: seed)
        let runs = try await fill(120, &generator)
        let filters: [(String, (TrackedRun) -> Bool)] = [
            ("", { _ in true }),
            ("metrics.a > 3", { ($0.metric("a") ?? .nan) > 3 }),
            ("metrics.a != 3", { $0.metric("a").map { $0 != 3 } ?? false }),
            (
                "metrics.a >= 2 AND metrics.b < 6 AND tags.t = 'x1'",
                {
                    ($0.metric("a") ?? .nan) >= 2 && ($0.metric("b") ?? .nan) < 6 && $0.tag("t") == "x1"
                }
            ),
            ("params.p = '2'", { $0.param("p") == "2" }),
            ("params.p != '2'", { $0.param("p").map { $0 != "2" } ?? false }),
            ("tags.t LIKE 'x%' and attributes.run_name = 'n3'", { $0.tag("t") != nil && $0.info.name == "n3" }),
            ("metrics.b IS NULL", { $0.metric("b") == nil }),
            ("tags.t IS NOT NULL AND start_time < 11", { $0.tag("t") != nil && $0.info.startedAt.milliseconds < 11 }),
        ]
        for (text, passes) in filters {
            for order in [
                [], ["metrics.a DESC"], ["metrics.a"], ["params.p ASC", "metrics.b DESC"], ["start_time"],
                ["run_name DESC", "run_id"],
            ] {
                for experiments in [["0"], ["0", "1"]] {
                    let orders = try SearchOrder.list(order)
                    let expected = Self.sorted(
                        runs.filter { experiments.contains($0.info.experimentID) && passes($0) }, orders
                    ).map(\.info.id)
                    var found: [String] = []
                    var token: String?
                    let size = Int.random(in: 1...60, using: &generator)
                    repeat {
                        let page = try await store.searchRuns(
                            experiments: experiments, filter: SearchFilter(text), orders: orders, pageToken: token,
                            countMax: size)
                        found += page.runs.map(\.info.id)
                        token = page.nextPageToken
                    } while token != nil
                    #expect(found == expected, "\(text) by \(order) in pages of \(size)")
                }
            }
        }
    }

    /// NaN behind numbers, nothing behind NaN; the run that started last first.
    private static func sorted(_ runs: [TrackedRun], _ orders: [SearchOrder]) -> [TrackedRun] {
        func key(_ run: TrackedRun, _ order: SearchOrder) -> (rank: Int, number: Double, text: String) {
            switch (order.entity, order.key) {
            case ("metrics", let key):
                guard let value = run.metric(key) else { return (2, 0, "") }
                return value.isNaN ? (1, 0, "") : (0, value, "")
            case ("params", let key): return run.param(key).map { (0, 0, $0) } ?? (1, 0, "")
            case (_, "start_time"): return (0, Double(run.info.startedAt.milliseconds), "")
            case (_, "run_name"): return (0, 0, run.info.name)
            default: return (0, 0, run.info.id)
            }
        }
        return runs.sorted { left, right in
            for order in orders {
                let (first, second) = (key(left, order), key(right, order))
                if first.rank != second.rank { return first.rank < second.rank }
                if first.number != second.number { return (first.number < second.number) == order.isAscending }
                if first.text != second.text { return (first.text < second.text) == order.isAscending }
            }
            if left.info.startedAt != right.info.startedAt { return left.info.startedAt > right.info.startedAt }
            return left.info.id < right.info.id
        }
    }

    @Test func aTokenIsGoodForItsQueryAlone() async throws {
        for _ in 0..<5 { _ = try await store.createRun(experiment: "0") }
        let token = try #require(try await store.searchRuns(experiments: ["0"], countMax: 2).nextPageToken)
        func code(_ token: String, filter: String = "", orders: [String] = []) async -> PlatformError.Code? {
            do {
                _ = try await store.searchRuns(
                    experiments: ["0"], filter: SearchFilter(filter), orders: SearchOrder.list(orders),
                    pageToken: token)
                return nil
            } catch { return (error as? PlatformError)?.code }
        }
        #expect(await code(token) == nil)
        #expect(await code(token, filter: "tags.a = 'b'") == .invalidInput)
        #expect(await code(token, orders: ["metrics.a"]) == .invalidInput)
        #expect(await code("eyJvZmZzZXQiOjJ9") == .invalidInput)
        #expect(await code(String(token.dropLast()) + (token.hasSuffix("A") ? "B" : "A")) == .invalidInput)
        #expect(await code("%%%") == .invalidInput)
        #expect(await code(String(repeating: "A", count: 100_000)) == .invalidInput)
    }
}
