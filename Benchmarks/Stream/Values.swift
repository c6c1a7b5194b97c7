import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore

/// How many of the last day's payments of an account are different: one feature of whole numbers and one of texts.
private let countingYaml = """
    kind: Entity
    name: account
    keys: [account]
    ---
    kind: Source
    name: payments
    event_time: at
    key: [payment]
    schema:
      - {name: at, type: timestamp}
      - {name: payment, type: int64}
      - {name: account, type: string}
      - {name: shop, type: string}
    ---
    kind: FeatureView
    name: spending
    entities: [account]
    source: payments
    features:
      - {name: payments_1h, aggregate: distinct_count, column: payment, window: 1h}
      - {name: payments_24h, aggregate: distinct_count, column: payment, window: 24h}
    ---
    kind: FeatureService
    name: scoring
    views: [spending]
    """

/// Reads of distinct counts of keys with many different values in a window of a day.
///
/// With `--approx 1` they are estimates.
func values() async throws {
    let isExact = option("approx", 0) == 0
    let function = isExact ? "distinct_count" : "approx_count_distinct"
    let yaml = countingYaml.replacing("aggregate: distinct_count", with: "aggregate: \(function)")
    for count in [1_000, 10_000, 100_000, option("values", 1_000_000)] {
        let world = try await World(yaml: yaml)
        defer { world.remove() }
        let before = residentMegabytes().own
        var (offset, now) = (0, World.start)
        /// So many rows of a key, each with a value of its own, spread over 23 hours.
        func add(_ rowCount: Int, stepMicroseconds: Int) async {
            for first in stride(from: 0, to: rowCount, by: 10_000) {
                let rows = (first..<min(rowCount, first + 10_000)).map { index in
                    let event = EventTime(milliseconds: now + Int64(index) * Int64(stepMicroseconds) / 1_000)
                    return SourceRow(
                        eventTime: event, ingestTime: event,
                        cells: [
                            .integer(event.milliseconds), .integer(Int64(offset + index)), .text("K"),
                            .text("shop \(index)"),
                        ])
                }
                await world.engine.received(
                    SourceBatch(
                        source: world.source.name, firstOffset: UInt64(offset + first), rows: rows,
                        arrivals: rows.map(\.ingestTime)))
            }
            now += Int64(rowCount) * Int64(stepMicroseconds) / 1_000
            offset += rowCount
        }
        await add(count, stepMicroseconds: 23 * 3_600 * 1_000_000 / count)
        if let failure = world.engine.failure { fatalError(failure) }
        try await world.engine.checkpoint()
        let plan = ServingPlan(service: world.service, definitions: world.definitions)
        let buffers = Buffers(plan.featureCount)
        func read(at moment: Int64, times: Int) throws -> Times {
            var all = Times()
            for _ in 0..<times {
                let start = nanoseconds()
                try world.engine.read(
                    plan, keys: ["K"], at: EventTime(milliseconds: moment), into: buffers.values, ages: buffers.ages,
                    statuses: buffers.statuses)
                all.add(nanoseconds() - start)
            }
            return all
        }
        let repeats = max(5, 2_000_000 / count)
        print("\(count) different values in a day")
        let state = world.engine.statistics.stateByteCount
        print("  the first read \(try read(at: now + 1, times: 1).text())")
        let indexed = world.engine.statistics.stateByteCount
        print(
            String(
                format: "  counted %.0f; memory %.0f bytes a value before the first read, %.0f after; %d MB own",
                buffers.values[1], Double(state) / Double(count), Double(indexed) / Double(count),
                residentMegabytes().own - before))
        let error = buffers.values[1] / Double(count) - 1
        precondition(isExact ? error == 0 : abs(error) < 0.1, "each value counts once")
        print("  a read now: \(try read(at: now + 1, times: min(repeats * 10, 20_000)).text())")
        print("  a read of a moment before the newest event: \(try read(at: now - 100_000, times: repeats).text())")
        let start = nanoseconds()
        await add(20_000, stepMicroseconds: 10)
        print("  an event to it: \((nanoseconds() - start) / 20_000) ns")
        let checkpoint = nanoseconds()
        try await world.engine.checkpoint()
        print(String(format: "  a checkpoint: %.1f ms", Double(nanoseconds() - checkpoint) / 1e6))
    }
}
