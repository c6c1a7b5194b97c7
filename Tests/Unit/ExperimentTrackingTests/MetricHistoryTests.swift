import Foundation
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

@testable import ExperimentTracking

@Suite struct MetricHistoryTests {
    let fixture: TrackingFixture
    var store: TrackingStore { fixture.store }

    init() async throws { fixture = try await TrackingFixture() }

    private func at(_ milliseconds: Int64) -> EventTime { EventTime(milliseconds: milliseconds) }

    @Test func aMetricIsThereBeforeAndAfterItIsSettled() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        try await store.logMetrics([Metric("loss", 2, measuredAt: at(1), step: 1)], run: id)
        #expect(try await store.run(id).metric("loss") == 2)
        #expect(try await store.metricHistory(run: id, key: "loss").points.map(\.value) == [2])
        try await store.settle()
        #expect(store.tail.pointCount == 0)
        #expect(try await store.run(id).metric("loss") == 2)
        #expect(try await store.metricHistory(run: id, key: "loss").points.map(\.value) == [2])
    }

    @Test func whatWasAcknowledgedIsThereAfterACrash() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        for step in 0..<10 {
            try await store.logMetrics([Metric("loss", Double(step), measuredAt: at(1), step: Int64(step))], run: id)
            if step == 4 { try await store.settle() }
        }
        let reopened = try await fixture.reopened()
        #expect(reopened.tail.pointCount == 5)
        #expect(try await reopened.metricHistory(run: id, key: "loss").points.map(\.value) == (0..<10).map(Double.init))
        #expect(try await reopened.run(id).metric("loss") == 9)
        try await reopened.settle()
        #expect(try await reopened.metricSummaries(id).map(\.pointCount) == [10])
        // New entries get numbers behind the old ones, also in a journal that starts empty.
        try await reopened.logMetrics([Metric("loss", 10, measuredAt: at(1), step: 10)], run: id)
        #expect(try await fixture.reopened().run(id).metric("loss") == 10)
    }

    /// Compared with a set of all points, in any order and however the portions fall.
    @Test(arguments: UInt64(0)..<12)
    func aHistoryIsWhatWasLoggedInOrder(seed: UInt64) async throws {
        var generator = SeededGenerator(state: seed)
        let id = try await store.createRun(experiment: "0").info.id
        var all: Set<MetricPoint> = []
        var time: Int64 = 0
        for _ in 0..<Int.random(in: 1...12, using: &generator) {
            let count = Int.random(in: 1...1000, using: &generator)
            let isOrdered = Int.random(in: 0..<3, using: &generator) > 0
            var batch: [Metric] = []
            for index in 0..<count {
                time += Int64.random(in: 0...2, using: &generator)
                let isNaN = Int.random(in: 0..<20, using: &generator) == 0
                let value: Double = isNaN ? .nan : Double(Int.random(in: -5...5, using: &generator))
                let moment: Int64 = isOrdered ? time : Int64.random(in: 0...max(time, 1), using: &generator)
                let step: Int64 = isOrdered ? Int64(index) : Int64.random(in: -9...9, using: &generator)
                batch.append(Metric("m", value, measuredAt: at(moment), step: step))
            }
            try await store.logMetrics(batch, run: id)
            all.formUnion(batch.map(MetricPoint.init))
            if Bool.random(using: &generator) { try await store.settle() }
        }
        let expected = all.sorted()
        #expect(try await store.metricHistory(run: id, key: "m").points == expected)
        var paged: [MetricPoint] = []
        var page = try await store.metricHistory(run: id, key: "m", countMax: 701)
        while true {
            paged += page.points
            guard page.hasMore else { break }
            page = try await store.metricHistory(run: id, key: "m", after: page.points.last, countMax: 701)
        }
        #expect(paged == expected)
        let summary = try #require(try await store.metricSummaries(id).first)
        #expect(summary.pointCount == expected.count)
        let values = expected.map(\.value).filter { !$0.isNaN }
        #expect(summary.minimum == values.min())
        #expect(summary.maximum == values.max())
        let chunks = try await fixture.metadata.read { try $0.query("SELECT point_count FROM tracking_metric_chunk") }
        #expect(chunks.count <= 2 + expected.count / 512 + 12)
    }

    @Test func aSampleKeepsEndsAndPeaks() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        for start in stride(from: 0, to: 10_000, by: 1000) {
            let batch = (start..<(start + 1000)).map { (step: Int) -> Metric in
                let value: Double = step == 7777 ? 1e6 : Double(step % 10)
                return Metric("m", value, measuredAt: at(Int64(step)), step: Int64(step))
            }
            try await store.logMetrics(batch, run: id)
        }
        let sample = try await store.sampledHistory(run: id, key: "m", pointCountMax: 200)
        #expect(sample.count <= 200)
        #expect(sample.first?.step == 0)
        #expect(sample.last?.step == 9999)
        #expect(sample.contains { $0.value == 1e6 })
        #expect(sample == sample.sorted())
        #expect(try await store.sampledHistory(run: id, key: "m", pointCountMax: 20_000).count == 10_000)
        let all = MetricSampling.sample(
            (0..<10).map { MetricPoint(milliseconds: $0, step: $0, value: .nan) }, pointCountMax: 6)
        #expect(all.first?.step == 0 && all.last?.step == 9)
    }

    @Test func aListenerHearsOfMetricsAndTheEnd() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        var updates = try await store.updates(ofRun: id).makeAsyncIterator()
        try await store.logMetrics([Metric("a", 1, measuredAt: at(1))], run: id)
        try await store.finishRun(id)
        let first = await updates.next()
        #expect(first?.metrics.map(\.key) == ["a"])
        let second = await updates.next()
        #expect(second?.status == .finished)
        #expect(second?.number == 2)
    }

    @Test func damagedChunksAreNamedAndNeverTrap() throws {
        let points = (0..<50).map { MetricPoint(milliseconds: $0 * 1000, step: $0, value: Double($0)) }
        let bytes = MetricChunk.encode(points[...])
        var back: [MetricPoint] = []
        try MetricChunk.decode(bytes, to: &back)
        #expect(back == points)
        var generator = SeededGenerator(state: 7)
        for _ in 0..<2000 {
            var damaged = bytes
            switch Int.random(in: 0..<3, using: &generator) {
            case 0: damaged.removeLast(.random(in: 1...damaged.count, using: &generator))
            case 1: damaged[.random(in: damaged.indices, using: &generator)] = .random(in: 0...255, using: &generator)
            default:
                damaged = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
                    .random(in: 0...255, using: &generator)
                }
            }
            var sink: [MetricPoint] = []
            do { try MetricChunk.decode(damaged, to: &sink) } catch { #expect(error.code == .corrupted) }
            #expect(throws: Never.self) { _ = try? MetricEntry(damaged) }
        }
    }
}
