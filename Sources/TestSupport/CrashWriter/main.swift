import FileSystemAdapter
import Glibc
import LMDBAdapter
import PlatformCore
import StoragePorts

// Writes to a store until it is killed, and prints what was acknowledged, for tests that kill it.
//
//   crash-writer log FOLDER WRITERS       appends numbered records; prints "<number> <offset>" for each acknowledged one
//   crash-writer limited FOLDER BYTES     the same with one writer and files of at most BYTES; prints "full" and goes on
//   crash-writer online FOLDER            writes rows and a checkpoint; prints "<round>" for each acknowledged write

// Ends by itself where the test that started it is gone.
alarm(120)
let topic = Name(static: "crash")

/// Prints a line at once: what a kill leaves in a buffer would look like something that was never acknowledged.
func report(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    write(1, bytes, bytes.count)
}

func content(_ number: Int) -> LogRecord {
    LogRecord(
        key: "\(number)", time: EventTime(milliseconds: Int64(number)),
        value: (0..<(number % 300)).map { UInt8(truncatingIfNeeded: number &+ $0) })
}

func writeLog(_ folder: String, writers: Int) async throws {
    let log = try SegmentEventLog(
        directory: folder, configuration: SegmentEventLogConfiguration(segmentByteCountMax: 64 << 10))
    try await log.createTopic(topic, partitions: 1)
    try await withThrowingTaskGroup { group in
        for writer in 0..<writers {
            group.addTask {
                var number = writer
                while true {
                    let records = (0..<(number % 3 + 1)).map { content(number + $0 * writers) }
                    let offset = try await log.append(records, to: topic)
                    for position in records.indices {
                        report("\(number + position * writers) \(offset + UInt64(position))")
                    }
                    number += records.count * writers
                }
            }
        }
        try await group.waitForAll()
    }
}

func writeLimitedLog(_ folder: String, byteCountMax: Int) async throws {
    signal(SIGXFSZ, SIG_IGN)
    var limit = rlimit(rlim_cur: rlim_t(byteCountMax), rlim_max: rlim_t.max)
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
    let log = try SegmentEventLog(directory: folder)
    try await log.createTopic(topic, partitions: 1)
    var number = 0
    var isLifted = false
    while number < 2_000 {
        do throws(StoreError) {
            report("\(number) \(try await log.append([content(number)], to: topic))")
            number += 1
        } catch {
            guard error.code == .full, !isLifted else { throw error }
            report("full")
            limit.rlim_cur = rlim_t.max
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            isLifted = true
        }
    }
}

func writeOnline(_ folder: String) async throws {
    let store = try LMDBOnlineStore(directory: folder, configuration: LMDBConfiguration(mapByteCountMax: 64 << 20))
    let last = try await store.checkpoint(topic)?.offsets["crash/0"] ?? 0
    var round = last + 1
    while true {
        let rows = (0..<100).map { number in
            KeyedOnlineRow(
                key: EntityKey(joined: "entity \(number)"),
                row: OnlineRow(
                    eventTime: EventTime(milliseconds: 0), ingestTime: EventTime(milliseconds: 0), sequence: round,
                    payload: Array("\(round)".utf8)))
        }
        try await store.write([topic: rows], checkpoint: OnlineCheckpoint(name: topic, offsets: ["crash/0": round]))
        report("\(round)")
        round += 1
    }
}

let arguments = CommandLine.arguments
switch (arguments.dropFirst().first, arguments.count) {
case ("log", 4): try await writeLog(arguments[2], writers: Int(arguments[3]) ?? 1)
case ("limited", 4): try await writeLimitedLog(arguments[2], byteCountMax: Int(arguments[3]) ?? 0)
case ("online", 3): try await writeOnline(arguments[2])
default:
    report("usage: crash-writer log|limited|online FOLDER [COUNT]")
    exit(64)
}
