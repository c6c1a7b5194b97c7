#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import Aggregation
import Definitions
import PlatformCore

@testable import ModelServing

/// What a prediction goes through: the head of its request, its body, the stored states of its features.
extension FuzzTarget {
    static let serving: [FuzzTarget] = [httpRequest, predictBody, eventSeries]

    private static let httpRequest = FuzzTarget(
        "http-request",
        words: [
            "POST ", "GET ", " HTTP/1.1\r\n", "\r\n\r\n", "Host: ", "Content-Length: ", "Transfer-Encoding: chunked",
            "Connection: close", "keep-alive", "Expect: 100-continue", "Authorization: Bearer ", "X-Caller: ",
            "Upgrade: ",
            "Content-Encoding: gzip", "9223372036854775808", "/predict/", "%2e", "\r\n ", "\n",
        ],
        seeds: [
            .text("POST /predict/loss HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 2\r\n\r\n{}"),
            .text("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nAuthorization: Bearer x\r\n\r\n"),
        ]
    ) { bytes in
        bytes.withUnsafeBytes { buffer in
            switch WireRequest.read(buffer) {
            case .incomplete: precondition(buffer.count < WireRequest.headByteCountMax)
            case .foreign: break
            case .plain(let request):
                precondition(request.headByteCount <= buffer.count && request.bodyByteCount >= 0)
                let head = UnsafeRawBufferPointer(rebasing: buffer[..<(request.headByteCount - 2)])
                precondition(
                    [request.method, request.path, request.host, request.authorization ?? 0..<0].allSatisfy {
                        $0.upperBound <= head.count
                    })
                precondition(WireRequest.field("host", in: head) != nil, "a field that was read is not found again")
                // What is cut off is not yet a request, and never another one.
                for count in [request.headByteCount - 1, request.headByteCount / 2] {
                    let part = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                    if case .plain = WireRequest.read(part) { preconditionFailure("a part of a head is a head") }
                }
            }
        }
    }

    // Tests and benchmarks have worlds like this one; a fourth of its own keeps their changes away from the seeds, and a target
    // of the package for thirty lines would cost more than they do.
    private static let definitionText = """
        kind: Entity
        name: plane
        keys: [tail]
        ---
        kind: Source
        name: departures
        event_time: at
        key: [tail]
        schema:
          - {name: at, type: timestamp}
          - {name: tail, type: string}
          - {name: delay, type: float64}
          - {name: seats, type: int64}
        ---
        kind: FeatureView
        name: delays
        entities: [plane]
        source: departures
        features:
          - {name: n, aggregate: count, window: 10s}
          - {name: mean, aggregate: mean, column: delay, window: 10s}
          - {name: most, aggregate: max, column: seats, window: 10s}
          - {name: last, aggregate: last, column: tail}
          - {name: spread, aggregate: stddev, column: delay, window: 60s}
          - {name: tails, aggregate: distinct_count, column: tail, window: 60s}
          - {name: sizes, aggregate: approx_count_distinct, column: seats, window: 60s}
          - {name: usual, aggregate: mode, column: seats, window: 60s}
          - {name: few, aggregate: last_n, n: 3, column: seats, window: 60s}
        ---
        kind: FeatureService
        name: late
        request:
          - {name: carrier, type: category, values: [AA, UA]}
          - {name: distance, type: number, range: [0, 6000]}
          - {name: hour, type: number, range: [0, 23], nullable: true}
        views: [delays]

        """
    private static let set = try? DefinitionCompiler.compile([
        DefinitionFile(path: "a.yaml", folder: "/", text: definitionText)
    ])

    private struct NoReader: VectorReader {
        func read(
            keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
            ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
        ) throws(PlatformError) {
            values.update(repeating: 1)
            ages.update(repeating: 2)
            statuses.update(repeating: 0)
        }
    }

    private static let binding = set?.featureServices[Name(static: "late")].map {
        ServiceBinding(definition: $0, reader: NoReader())
    }

    private static let predictBody = FuzzTarget(
        "predict-body",
        words: [
            "\"entities\"", "\"features\"", "\"tail\"", "\"carrier\"", "\"distance\"", "\"hour\"", "\"delays__mean\"",
            "null",
            "1e999", "-0", "0.1234567890123456789", "\\u0041", "9223372036854775808", "{}", "[]", ":", ",",
        ],
        seeds: [
            .text(#"{"entities":{"tail":"N1"},"features":{"carrier":"UA","distance":733.5,"hour":9}}"#),
            .text(
                #"{"entities": {"tail": 17}, "features": {"carrier": "AA", "distance": 7e2, "hour": null, "delays__mean": 1}}"#
            ),
        ]
    ) { bytes in
        guard let binding else { preconditionFailure("the definitions above do not compile") }
        let now = EventTime(milliseconds: 1_700_000_000_000)
        var quick = InputVector()
        let taken = bytes.withUnsafeBytes { try? binding.assembleQuickly($0, asOf: now, into: &quick) } ?? false
        guard let value = try? JSONValue.parse(bytes) else {
            precondition(!taken, "the quick way takes what is no JSON")
            return
        }
        var vector = InputVector()
        let faults = try? binding.assemble(value, asOf: now, into: &vector)
        guard taken else { return }
        precondition(faults?.isEmpty == true, "the quick way takes what is refused")
        precondition(
            quick.keys == vector.keys && quick.overridden == vector.overridden
                && quick.inputs.map { $0.isNaN ? .max : $0.bitPattern }
                    == vector.inputs.map { $0.isNaN ? .max : $0.bitPattern },
            "the quick way reads something else")
    }

    private static let plan = set.flatMap { set in
        set.featureViews[Name(static: "delays")].map { AggregationPlan(view: $0, source: set.source(of: $0)) }
    }

    private static let eventSeries = FuzzTarget("event-series", byteCountMax: 8192, seeds: [series(3), series(200)]) {
        bytes in
        guard let plan, let read = try? EventSeries(decoding: bytes, plan: plan) else { return }
        for time in [0, 60_000, 1 << 50] as [Int64] { _ = read.cells(plan, at: EventTime(milliseconds: time)) }
        _ = try? EventSeries(decoding: read.encoded(plan: plan), plan: plan)
    }

    /// A stored state of so many events.
    private static func series(_ count: Int) -> [UInt8] {
        guard let plan else { return [] }
        var series = EventSeries(plan: plan)
        for event in 0..<count {
            series.insert(
                eventTime: EventTime(milliseconds: Int64(event * 700)),
                ingestTime: EventTime(milliseconds: Int64(event * 701)),
                sequence: UInt64(event),
                cells: [
                    .integer(Int64(event * 700)), .text("N\(event % 3)"),
                    event % 5 == 0 ? .null : .double(Double(event) / 8),
                    .integer(Int64(event % 7)),
                ], plan: plan)
        }
        return series.encoded(plan: plan)
    }
}

#endif
