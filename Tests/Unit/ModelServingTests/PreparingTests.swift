import ModelServing
import PlatformCore
import PlatformTesting
import Synchronization
import Testing

/// A feature store of which some keys have to be prepared before they can be read at once.
private final class SlowReader: VectorReader {
    let ready: Mutex<Set<String>>
    let prepared = Mutex<[String]>([])
    let mayTakeLong = true

    init(ready: Set<String>) { self.ready = Mutex(ready) }

    func read(
        keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
        ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws(PlatformError) {
        try ConstantReader().read(keys: keys, asOf: asOf, values: values, ages: ages, statuses: statuses)
    }
    func isReady(keys: [String?]) -> Bool {
        ready.withLock { ready in keys.allSatisfy { $0.map(ready.contains) ?? true } }
    }
    func prepare(keys: [String?]) async {
        let missing = ready.withLock { ready in keys.compactMap { $0 }.filter { ready.insert($0).inserted } }
        prepared.withLock { $0 += missing }
    }
}

/// Features that take long to read hold no event loop up.
struct PreparingTests {
    @Test func anEventLoopLeavesWhatIsNotReady() async throws {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        let reader = SlowReader(ready: ["N2"])
        let version = try ServingFixture.version(
            1, LinearModel(weights: [1, 2, 4, 8, 16]), binding: try ServingFixture.binding(reader))
        predictor.routes.publish(try ServingFixture.route([(version, 1)]), for: ServingFixture.model)
        func request(_ tail: String) -> JSONValue {
            var members = ServingFixture.request.objectValue ?? [:]
            var entities = members["entities"]?.objectValue ?? [:]
            for key in entities.keys { entities[key] = .string(tail) }
            members["entities"] = .object(entities)
            return .object(members)
        }
        func answer(_ request: JSONValue, _ explaining: Predictor.Explaining = .left) -> Predictor.Answer {
            request.canonicalBytes.withUnsafeBytes {
                predictor.answer(
                    model: "delay", body: $0, caller: "", scratch: PredictionScratch(), explaining: explaining)
            }
        }
        let batch: JSONValue = ["instances": [request("N2"), request("N1"), request("N3")]]
        #expect(answer(request("N2")).status == 200)
        for slow in [request("N1"), batch] {
            let left = answer(slow)
            #expect(left.isLeft && left.entries.isEmpty)
        }
        #expect(predictor.metrics.latencies().values.reduce(0) { $0 + $1.count } == 1, "nothing was counted twice")
        await predictor.prepare(model: "delay", body: batch.canonicalBytes)
        #expect(reader.prepared.withLock { $0 }.sorted() == ["N1", "N3"])
        #expect(answer(batch).status == 200 && answer(request("N1")).status == 200)
        // Who is on no event loop is answered either way.
        #expect(answer(request("N9"), .asked).status == 200)
        await predictor.prepare(model: "delay", body: Array("no json".utf8))
        await predictor.prepare(model: "nobody", body: batch.canonicalBytes)
        #expect(reader.prepared.withLock { $0 }.count == 2)
    }

    @Test func columnsArePreparedToo() async throws {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        let reader = SlowReader(ready: ["EWR", "N2"])
        let version = try ServingFixture.version(
            1, LinearModel(weights: [1, 2, 4, 8, 16]), binding: try ServingFixture.binding(reader))
        predictor.routes.publish(try ServingFixture.route([(version, 1)]), for: ServingFixture.model)
        func columns(_ tails: [String]) -> InputColumns {
            InputColumns(
                rowCount: tails.count,
                columns: [
                    ("tailnum", .texts(tails)), ("origin", .texts(tails.map { _ in "EWR" })),
                    ("carrier", .texts(tails.map { _ in "UA" })), ("distance", .numbers(tails.map { _ in 10 })),
                    ("hour", .numbers(tails.map { _ in 9 })),
                ])
        }
        func answer(_ tails: [String]) throws -> Predictor.ColumnAnswer? {
            try predictor.predict(
                model: "delay", version: nil, columns: columns(tails), terms: RequestTerms(),
                scratch: PredictionScratch())
        }
        #expect(try answer(["N2"]) != nil)
        #expect(
            try answer(["N2", "N1"]) == nil && predictor.metrics.latencies().values.reduce(0) { $0 + $1.count } == 1)
        let later = try await predictor.predictLater(
            model: "delay", version: nil, columns: columns(["N2", "N1", "N3"]), terms: RequestTerms())
        #expect(later.predictions.count == 3)
        #expect(reader.prepared.withLock { $0 } == ["N1", "N3"])
        #expect(try answer(["N2", "N1"])?.predictions.count == 2)
    }
}
