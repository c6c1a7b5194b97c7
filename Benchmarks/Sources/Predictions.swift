import Benchmark
import ModelServing
import PlatformCore

/// Prediction records as a model of 30 inputs leaves them.
func predictionRecords(_ count: Int) -> [PredictionRecord] {
    let start: Int64 = 1_372_636_800_000  // Monday 2013-07-01
    let clock = ManualClock(startingAt: EventTime(milliseconds: start))
    let identifiers = IdentifierSource(clock: clock, generator: Seeded(5))
    var random = Seeded(6)
    let hash = String(repeating: "0123456789abcdef", count: 4)
    return (0..<count).map { index in
        let time = EventTime(milliseconds: start + Int64(index) * 2_000)
        clock.advance(to: time)
        return PredictionRecord(
            id: identifiers.next(), time: time, model: "flight_delay", version: 3, artifact: hash, policyRevision: 7,
            choice: .primary, serviceVersion: hash,
            entities: [
                .init(key: "carrier", value: "UA"), .init(key: "dest", value: "SFO"),
                .init(key: "origin", value: "EWR"),
                .init(key: "tailnum", value: "N\(10_000 + index % 4_000)"),
            ],
            inputs: (0..<30).map { _ in random.unit() < 0.05 ? .nan : random.unit() * 100 },
            ages: (0..<30).map { _ in Int64(random.unit() * 86_400_000) }, statuses: [UInt8](repeating: 0, count: 30),
            overridden: [], output: [Float(random.unit())], fallbackReason: "",
            latency: .init(features: 21, score: 4, total: 48), caller: "")
    }
}

/// What a predict request is made of apart from features and trees.
func registerPredictions() {
    HotPath(name: "prediction record: encode", operations: .kilo).measure(
        { (benchmark, input: [PredictionRecord]) in
            for index in benchmark.scaledIterations { blackHole(input[index].encoded()) }
        },
        prepare: {
            let records = predictionRecords(1_000)
            var checksum = Checksum()
            for record in records { checksum.add(record.encoded()) }
            return HotPath.Prepared(
                input: records, size: "30 inputs, 4 entity keys; \(records[0].encoded().count) bytes",
                checksum: checksum)
        })

    HotPath(name: "prediction record: decode", operations: .kilo).measure(
        { (benchmark, input: [[UInt8]]) in
            for index in benchmark.scaledIterations { blackHole(try PredictionRecord(decoding: input[index])) }
        },
        prepare: {
            let bytes = predictionRecords(1_000).map { $0.encoded() }
            var checksum = Checksum()
            for encoded in bytes {
                let again = try PredictionRecord(decoding: encoded).encoded()
                guard again == encoded else { throw BrokenBenchmark("a record does not survive its codec") }
                checksum.add(again)
            }
            return HotPath.Prepared(
                input: bytes, size: "30 inputs, 4 entity keys; \(bytes[0].count) bytes", checksum: checksum)
        })

    HotPath(name: "JSON: parse a predict body", operations: .kilo).measure(
        { (benchmark, input: [UInt8]) in for _ in benchmark.scaledIterations { blackHole(try JSONValue.parse(input)) }
        },
        prepare: {
            let body = Array(
                """
                {"entities": {"tailnum": "N14228", "carrier": "UA", "origin": "EWR", "dest": "IAH"}, \
                "features": {"carrier": "UA", "origin": "EWR", "dest": "IAH", "month": 7, "weekday": 1, \
                "minute_of_day": 315, "distance": 1400.0, "air_time_planned": 227.5, "holiday": false, "note": null}}
                """.utf8)
            var checksum = Checksum()
            checksum.add(try JSONValue.parse(body).canonicalBytes)
            return HotPath.Prepared(input: body, size: "\(body.count) bytes, 15 members", checksum: checksum)
        })
}
