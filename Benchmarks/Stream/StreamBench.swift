import Aggregation
import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import StoragePorts
import Synchronization

let arguments = CommandLine.arguments
func option(_ name: String, _ standard: Int) -> Int {
    arguments.firstIndex(of: "--\(name)").flatMap { Int(arguments[$0 + 1]) } ?? standard
}

/// Writes a checkpoint every second until told to stop, as the program does.
final class Checkpoints: Sendable {
    let times = Mutex(Times())
    let isDone = Atomic(false)
    func run(_ engine: StreamEngine) async throws {
        while !isDone.load(ordering: .relaxed) {
            try await Task.sleep(for: .seconds(1))
            let start = nanoseconds()
            try await engine.checkpoint()
            let taken = nanoseconds() - start
            times.withLock { $0.add(taken) }
        }
    }
}

final class Counter: Sendable {
    let value = Atomic(0)
}

/// Sends pushes of JSON lines from several senders and returns how long each waited.
func send(_ pushes: [(bytes: [UInt8], now: EventTime)], senders: Int, _ world: World) async throws -> Times {
    let next = Counter()
    return try await withThrowingTaskGroup(of: Times.self) { group in
        for _ in 0..<senders {
            group.addTask {
                var times = Times()
                while true {
                    let index = next.value.add(1, ordering: .relaxed).oldValue
                    guard index < pushes.count else { return times }
                    let start = nanoseconds()
                    let report = try await world.ingest.push(
                        world.source, lines: pushes[index].bytes, idempotencyKey: nil, now: pushes[index].now)
                    precondition(report.quarantined == 0 && report.duplicates == 0, "every event is new and sound")
                    times.add(nanoseconds() - start)
                }
            }
        }
        var all = Times()
        for try await times in group { all.add(times) }
        return all
    }
}

/// Push bytes to applied, durable state: as fast as it goes.
func ingestion() async throws {
    let (count, size, keys, senders) = (
        option("events", 2_000_000), option("batch", 1_000), option("keys", 100_000), option("senders", 6)
    )
    let world = try await World()
    defer { world.remove() }
    var random = Seeded(1)
    let portion = min(count, 1_000_000)
    let checkpoints = Checkpoints()
    async let writing: Void = checkpoints.run(world.engine)
    var (seconds, cpu, times) = (0.0, 0.0, Times())
    for first in stride(from: 0, to: count, by: portion) {
        let pushes = stride(from: first, to: min(count, first + portion), by: size).map {
            World.lines(from: $0, count: size, stepMicroseconds: 100, &random) { random, _ in
                "A\(random.zipf(keys))"
            }
        }
        let (start, used) = (nanoseconds(), processorSeconds())
        times.add(try await send(pushes, senders: senders, world))
        let elapsed = Double(nanoseconds() - start) / 1e9
        seconds += elapsed
        cpu += processorSeconds() - used
        print(String(format: "  portion of %d: %.0f events/s", portion, Double(portion) / elapsed))
    }
    checkpoints.isDone.store(true, ordering: .relaxed)
    try await writing
    let statistics = world.engine.statistics
    precondition(statistics.rowsApplied == count, "every event is applied once")
    print(
        String(
            format:
                "ingestion: %d events of %d zipf keys, %d a push, %d senders: %.0f events/s, %.2f µs of processor each",
            count, keys, size, senders, Double(count) / seconds, cpu * 1e6 / Double(count)))
    print("  push \(times.text()); checkpoints \(checkpoints.times.withLock { $0.text() }); peak \(peakMegabytes()) MB")
}

/// The cost of an event for keys of different lengths.
func hotKey() async throws {
    let world = try await World()
    defer { world.remove() }
    let count = option("events", 1_000_000)
    let step = 30 * 86_400_000 / Int64(count)
    var random = Seeded(2)
    var offset: UInt64 = 0
    var now = World.start
    func batch(_ key: (Int) -> String, _ size: Int, lateBy: Int64 = 0, step: Int64) -> SourceBatch {
        var rows: [SourceRow] = []
        for index in 0..<size {
            now += step
            let event = now - (lateBy > 0 ? Int64(random.unit() * Double(lateBy)) : 0)
            rows.append(
                SourceRow(
                    eventTime: EventTime(milliseconds: event), ingestTime: EventTime(milliseconds: now),
                    cells: [
                        .integer(event), .integer(Int64(offset) + Int64(index)), .text(key(index)),
                        .double(Double(Int(random.unit() * 100_000)) / 100), .integer(3),
                    ]))
        }
        defer { offset += UInt64(size) }
        return SourceBatch(
            source: world.source.name, firstOffset: offset, rows: rows,
            arrivals: rows.map(\.ingestTime))
    }
    func measure(_ what: String, _ make: () -> SourceBatch, batches: Int) async throws {
        let all = (0..<batches).map { _ in make() }
        let start = nanoseconds()
        for batch in all { await world.engine.received(batch) }
        let each = Double(nanoseconds() - start) / Double(all.reduce(0) { $0 + $1.rows.count })
        let checkpoint = nanoseconds()
        try await world.engine.checkpoint()
        print(
            String(
                format: "  %@: %.0f ns an event, then a checkpoint of %.1f ms", what, each,
                Double(nanoseconds() - checkpoint) / 1e6))
        if let failure = world.engine.failure { fatalError(failure) }
    }
    print("hot key: \(count) events in 30 days")
    for _ in 0..<(count / 10_000) {
        await world.engine.received(batch({ _ in "hot" }, 10_000, step: step))
    }
    try await world.engine.checkpoint()
    try await measure("cold keys (1,000)", { batch({ "C\($0)" }, 1_000, step: 1) }, batches: 20)
    try await measure("one new key", { batch({ _ in "new" }, 1_000, step: 1) }, batches: 20)
    try await measure("the hot key", { batch({ _ in "hot" }, 1_000, step: 1) }, batches: 20)
    try await measure(
        "the hot key, up to an hour late", { batch({ _ in "hot" }, 1_000, lateBy: 3_600_000, step: 1) }, batches: 20)
    try await measure(
        "the hot key, up to a day late", { batch({ _ in "hot" }, 1_000, lateBy: 86_400_000, step: 1) }, batches: 20)
    let plan = ServingPlan(service: world.service, definitions: world.definitions)
    let buffers = Buffers(plan.featureCount)
    for key in ["hot", "C1"] {
        var times = Times()
        for index in 0..<2_000 {
            let start = nanoseconds()
            try world.engine.read(
                plan, keys: [key], at: EventTime(milliseconds: now + Int64(index)), into: buffers.values,
                ages: buffers.ages, statuses: buffers.statuses)
            times.add(nanoseconds() - start)
        }
        print("  read of \(key): \(times.text())")
    }
    print("  state in memory \(world.engine.statistics.stateByteCount >> 10) KiB, peak \(peakMegabytes()) MB")
}

final class Buffers: @unchecked Sendable {
    let values: UnsafeMutableBufferPointer<Double>
    let ages: UnsafeMutableBufferPointer<Int64>
    let statuses: UnsafeMutableBufferPointer<UInt8>
    init(_ count: Int) {
        values = .allocate(capacity: count)
        ages = .allocate(capacity: count)
        statuses = .allocate(capacity: count)
    }
}

/// Reads of 100 entities × 20 features, alone and while events arrive; single reads; reads of what is not in memory.
func reads() async throws {
    let (keys, count) = (option("keys", 50_000), option("events", 1_000_000))
    let world = try await World()
    defer { world.remove() }
    var random = Seeded(3)
    let pushes = stride(from: 0, to: count, by: 1_000).map {
        World.lines(from: $0, count: 1_000, stepMicroseconds: 100, &random) { random, _ in "A\(random.zipf(keys))" }
    }
    _ = try await send(pushes, senders: 4, world)
    try await world.engine.checkpoint()
    let now = EventTime(milliseconds: World.start + Int64(count) / 10 + 60_000)
    let plan = ServingPlan(service: world.service, definitions: world.definitions)
    print("reads: \(plan.featureCount) features, \(keys) zipf keys, \(count) events")
    func run(_ seconds: Double, threads: Int, entities: Int, uniform: Bool) async throws -> (Double, Times) {
        let start = nanoseconds()
        let results = try await withThrowingTaskGroup(of: (Int, Times).self) { group in
            for thread in 0..<threads {
                group.addTask {
                    var random = Seeded(UInt64(100 + thread))
                    let names = (0..<keys).map { "A\($0)" }
                    let batches: [[String?]] = (0..<512).map { _ in
                        (0..<entities).map { _ in
                            names[uniform ? Int(random.unit() * Double(keys)) : random.zipf(keys)]
                        }
                    }
                    let buffers = Buffers(entities * plan.featureCount)
                    var (rows, times) = (0, Times())
                    let begin = nanoseconds()
                    var round = 0
                    while nanoseconds() - begin < UInt64(seconds * 1e9) {
                        let from = nanoseconds()
                        try world.engine.read(
                            plan, entityCount: entities, keys: batches[round % 512], at: now, into: buffers.values,
                            ages: buffers.ages, statuses: buffers.statuses)
                        times.add(nanoseconds() - from)
                        rows += entities
                        round += 1
                        if round % 256 == 0 { await Task.yield() }
                    }
                    return (rows, times)
                }
            }
            var (rows, times) = (0, Times())
            for try await result in group {
                rows += result.0
                times.add(result.1)
            }
            return (rows, times)
        }
        return (Double(results.0) / (Double(nanoseconds() - start) / 1e9), results.1)
    }
    for (threads, entities, uniform) in [(1, 100, false), (2, 100, false), (2, 100, true), (1, 1, false)] {
        let (rate, times) = try await run(3, threads: threads, entities: entities, uniform: uniform)
        print(
            String(
                format: "  %d threads, %d entities a read, %@ keys: %.0f entity rows/s, a read %@", threads, entities,
                uniform ? "uniform" : "zipf", rate, times.text()))
    }
    // While 20,000 events a second arrive.
    let more = stride(from: count, to: count + 100_000, by: 200).map {
        World.lines(from: $0, count: 200, stepMicroseconds: 100, &random) { random, _ in "A\(random.zipf(keys))" }
    }
    let checkpoints = Checkpoints()
    async let writing: Void = checkpoints.run(world.engine)
    async let reading = run(5, threads: 1, entities: 1, uniform: false)
    let begin = nanoseconds()
    for (index, push) in more.enumerated() {
        let due = begin + UInt64(index) * 10_000_000
        let now = nanoseconds()
        if due > now { try await Task.sleep(nanoseconds: due - now) }
        _ = try await world.ingest.push(world.source, lines: push.bytes, idempotencyKey: nil, now: push.now)
    }
    let (rate, times) = try await reading
    checkpoints.isDone.store(true, ordering: .relaxed)
    try await writing
    print(
        String(
            format: "  1 thread, 1 entity a read, 20,000 events/s arriving: %.0f reads/s, a read %@", rate, times.text()
        ))
    // From the store: a second engine over the same store that may keep nothing.
    try await world.engine.checkpoint()
}

/// More entities than memory may hold.
func distinct() async throws {
    let (count, countMax) = (option("events", 10_000_000), option("entities", 200_000))
    let world = try await World(entityCountMax: countMax)
    defer { world.remove() }
    var random = Seeded(4)
    let checkpoints = Checkpoints()
    async let writing: Void = checkpoints.run(world.engine)
    var (seconds, ownMost) = (0.0, 0)
    let portion = 500_000
    for first in stride(from: 0, to: count, by: portion) {
        let pushes = stride(from: first, to: first + portion, by: 1_000).map {
            World.lines(from: $0, count: 1_000, stepMicroseconds: 100, &random) { _, index in
                "D\((index &* 7_368_787) % count)"
            }
        }
        let start = nanoseconds()
        _ = try await send(pushes, senders: 4, world)
        let elapsed = Double(nanoseconds() - start) / 1e9
        seconds += elapsed
        let resident = residentMegabytes()
        ownMost = max(ownMost, resident.own)
        print(
            String(
                format: "  after %d keys: %.0f events/s, %d entities in memory, %d MB own, %d MB of files",
                first + portion, Double(portion) / elapsed, world.engine.statistics.entities, resident.own,
                resident.files))
    }
    checkpoints.isDone.store(true, ordering: .relaxed)
    try await writing
    print(
        String(
            format:
                "distinct keys: %d, at most %d in memory after a checkpoint: %.0f events/s; checkpoints %@; at most %d MB own",
            count, countMax, Double(count) / seconds, checkpoints.times.withLock { $0.text() }, ownMost))
}

@main
struct StreamBench {
    static func main() async throws {
        switch arguments.dropFirst().first {
        case "ingest": try await ingestion()
        case "hot": try await hotKey()
        case "read": try await reads()
        case "distinct": try await distinct()
        case "values": try await values()
        default:
            print(
                "stream-bench ingest|hot|read|distinct|values [--events N] [--keys N] [--batch N] [--senders N] [--entities N]"
            )
        }
    }
}
