#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import ColumnFiles
import Foundation
import ModelMonitoring
import PlatformCore
import StoragePorts

@testable import Datasets
@testable import ExperimentTracking
@testable import FileSystemAdapter
@testable import LMDBAdapter
@testable import ModelServing
@testable import ProcessAdapter

/// What lies on a disk: files of others, and our own after an accident.
extension FuzzTarget {
    static let storage: [FuzzTarget] = [
        predictionRecord, onlineRow, logSegment, logIndex, metricChunk, deltaActions, parquet, packedFile,
        processStatus,
    ]

    private static let predictionRecord = FuzzTarget(
        "prediction-record",
        seeds: [
            PredictionRecord(
                id: "01J", time: EventTime(milliseconds: 1_700_000_000_000), model: "delay", version: 3, artifact: "a",
                policyRevision: 1, choice: .primary, serviceVersion: "s", entities: [.init(key: "id", value: "7")],
                inputs: [1, .nan], ages: [5, -1], statuses: [0, 1], overridden: [1], output: [0.5], fallbackReason: "",
                latency: .init(features: 1, score: 2, total: 3), caller: "c"
            ).encoded(),
            LabelRecord(predictionID: "01J", time: EventTime(milliseconds: 5), value: 1).encoded(),
        ]
    ) { bytes in
        var engine = MonitorEngine(definitions: [monitor])
        let isSeen = bytes.withUnsafeBytes { bytes in
            var view = PredictionView(head: bytes)
            return view?.readRest() ?? false
        }
        if let record = try? PredictionRecord(decoding: bytes) {
            _ = try? PredictionRecord(decoding: record.encoded())
            _ = engine.consume(record)
            precondition(isSeen)
        } else {
            precondition(!isSeen)
        }
        if let label = try? LabelRecord(decoding: bytes) {
            _ = label.encoded()
            _ = engine.consume(label)
        }
        _ = ScoredEvent.shown(bytes)
        _ = try? ScoredEvent.record(bytes, of: "01J")
    }

    private static let onlineRow = FuzzTarget(
        "online-row", byteCountMax: 512,
        seeds: [
            [1] + [UInt8](repeating: 7, count: 32), [2, 3, 0, 0, 0] + .text("abc") + [UInt8](repeating: 7, count: 30),
            [1, 1, 1, 97, 5],
        ]
    ) { bytes in
        bytes.withUnsafeBytes { buffer in
            guard let parts = try? RowCodec.Parts(buffer) else { return }
            _ = (parts.entity, parts.sequence)
            precondition(parts.row.payload.count <= bytes.count)
        }
        if let name = Name("a") { _ = try? RowCodec.checkpoint(name, from: bytes) }
    }

    private static let logSegment = FuzzTarget("log-segment", byteCountMax: 8192, seeds: [logFrames, journalBytes]) {
        bytes in
        var at = 0
        bytes.withUnsafeBytes { buffer in
            while let frame = LogFrame(header: UnsafeRawBufferPointer(rebasing: buffer[at...]), position: at) {
                let rest = UnsafeRawBufferPointer(rebasing: buffer[at...])
                guard frame.isSound(in: rest) else { break }
                _ = frame.record(in: rest)
                at = frame.end
            }
        }
        _ = JournalSegment.firstNumber(in: bytes)
        for position in [0, 1, JournalSegment.blockByteCount] where position < bytes.count {
            _ = JournalSegment.entry(in: bytes, at: position, number: 1)
        }
    }

    private static var logFrames: [UInt8] {
        var bytes: [UInt8] = []
        for offset in 0..<2 as Range<UInt64> {
            let record = LogRecord(key: "k", time: EventTime(milliseconds: 1), value: [1, 2, 3])
            LogFrame.write(record, offset: offset, commitPosition: 0, isContinued: offset == 0, to: &bytes)
        }
        return bytes
    }

    private static var journalBytes: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: JournalSegment.blockByteCount)
        bytes.withUnsafeMutableBytes { JournalSegment.writeHeader(firstNumber: 1, to: $0) }
        return bytes
    }

    private static let logIndex = FuzzTarget(
        "log-index", byteCountMax: 1024,
        seeds: [
            Array(indexOfTwo.encoded().dropLast(4)),
            Array(SegmentHeader.encoded(baseOffset: 7, maximumTimeBefore: 5).dropLast(4)),
            MetricEntry(
                run: 1, runID: "r",
                metrics: [
                    Metric("loss", 0.5, measuredAt: EventTime(milliseconds: 1), step: 2),
                    Metric("loss", .nan, measuredAt: EventTime(milliseconds: 1), step: -2, modelID: "m"),
                ]
            ).bytes,
        ]
    ) { bytes in
        _ = try? MetricEntry(bytes)
        // What its checksum vouches for is read, too: it may come from another version, or from somebody else.
        var sealed = ByteWriter(capacity: bytes.count + 4)
        sealed.write(bytes: bytes)
        sealed.write(fixed: CRC32C.of(bytes))
        for part in [bytes, sealed.bytes] {
            _ = SegmentHeader.maximumTimeBefore(in: part, baseOffset: 7)
            guard let index = SegmentIndex(bytes: part, baseOffset: 7, segmentByteCount: 1 << 20) else { continue }
            for offset in [0, 7, 8, .max] as [UInt64] { _ = index.entry(atOrBefore: offset) }
            for time in [.min, 0, .max] as [Int64] { _ = index.entry(before: time) }
            precondition(
                SegmentIndex(bytes: index.encoded(), baseOffset: 7, segmentByteCount: 1 << 20) == index,
                "an index does not read as it was written")
        }
    }

    private static var indexOfTwo: SegmentIndex {
        var index = SegmentIndex(baseOffset: 7, maximumTimeBefore: 5)
        for offset in 0..<2 as Range<UInt64> {
            index.add(offset: 7 + offset, position: 32 + Int(offset) * 70_000, byteCount: 70_000, timeMilliseconds: 9)
        }
        return index
    }

    private static let packedFile = FuzzTarget(
        "packed-file", byteCountMax: 1024,
        seeds: [
            hexadecimal("1f8b0800000000000003 cb48cdc9c9070086a6103605000000"),
            hexadecimal("28b52ffd045829000068656c6c6fa36d9f88"),
            hexadecimal("28b52ffd20646500002868656c6c6f01008ca96801"),
        ]
    ) { bytes in
        let folder = FileManager.default.temporaryDirectory.path
        let name = "\(folder)/bottega-fuzz-\(ProcessInfo.processInfo.processIdentifier)"
        let (packed, plain) = (name + ".packed", name + ".plain")
        guard FileManager.default.createFile(atPath: packed, contents: Data(bytes)) else { return }
        defer { for path in [packed, plain] { try? FileManager.default.removeItem(atPath: path) } }
        guard (try? PackedFile.unpack(packed, to: plain, 1 << 16)) != nil else { return }
        let size = (try? FileManager.default.attributesOfItem(atPath: plain))?[.size] as? Int
        precondition(size.map { $0 <= 1 << 16 } == true, "more was unpacked than may be")
    }

    private static let processStatus = FuzzTarget(
        "process-status", byteCountMax: 512,
        seeds: [
            .text(
                "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551615 99 5 18446744073709551615 1\n"
            )
        ]
    ) { bytes in _ = ProcessTable.parse(bytes, pid: 7)?.isAlive }

    private static let metricChunk = FuzzTarget(
        "metric-chunk",
        seeds: [
            MetricChunk.encode([
                MetricPoint(milliseconds: 1, step: 0, value: 0.5), MetricPoint(milliseconds: 9, step: 1, value: .nan),
            ])
        ]
    ) { bytes in
        var points: [MetricPoint] = []
        guard (try? MetricChunk.decode(bytes, to: &points)) != nil else { return }
        var again: [MetricPoint] = []
        try? MetricChunk.decode(MetricChunk.encode(points[...]), to: &again)
        precondition(again.count == points.count, "points do not read as they were written")
    }

    private static let deltaActions = FuzzTarget(
        "delta-actions",
        words: [
            "protocol", "metaData", "add", "remove", "txn", "commitInfo", "path", "size", "partitionValues", "stats",
            "dataChange", "schemaString", "minReaderVersion", "readerFeatures", "%2e%2e/", "9223372036854775807",
        ],
        seeds: [
            .text(
                """
                {"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
                {"metaData":{"id":"a","format":{"provider":"parquet","options":{}},"schemaString":"{\\"type\\":\\"struct\\",\\"fields\\":[{\\"name\\":\\"a\\",\\"type\\":\\"long\\",\\"nullable\\":true,\\"metadata\\":{}}]}","partitionColumns":[],"configuration":{},"createdTime":1}}
                {"add":{"path":"a.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\\"numRecords\\":1}"}}
                {"remove":{"path":"b.parquet","deletionTimestamp":1,"dataChange":true}}

                """)
        ]
    ) { bytes in
        guard let actions = try? DeltaAction.parse(bytes) else { return }
        var table = DeltaSnapshot()
        for version in 0..<3 as Range<Int64> { table.apply(actions, version: version) }
        _ = (table.rowCount, table.byteCount, table.retainedFrom)
        let written = DeltaCheckpoint.lines(table)
        precondition((try? DeltaAction.parse(written)) != nil, "a checkpoint does not read as it was written")
        precondition(
            (try? DeltaAction.parse(DeltaAction.encode(actions)))?.count == actions.count,
            "a commit does not read as it was written")
    }

    private static let parquet = FuzzTarget("parquet", byteCountMax: 8192, words: ["PAR1"], seeds: parquetFiles) {
        bytes in
        var limits = ColumnFileLimits()
        limits.metadataByteCountMax = 1 << 16
        limits.rowGroupRowCountMax = 1 << 16
        limits.pageByteCountMax = 1 << 20
        limits.chunkByteCountMax = 1 << 20
        guard let reader = try? ParquetReader(MemoryBytes(bytes), limits: limits) else { return }
        for group in 0..<min(4, reader.rowGroupCount) {
            for position in reader.columns.indices.prefix(16) {
                guard let vector = try? reader.column(position, ofRowGroup: group) else { continue }
                precondition(
                    vector.count == reader.rowCount(ofRowGroup: group), "a column has other rows than its group")
                if vector.isText { for row in 0..<vector.count { _ = vector.text(row) } }
            }
        }
    }

    private static var parquetFiles: [[UInt8]] {
        let columns = [
            FileColumn(name: "a", kind: .integer), FileColumn(name: "x", kind: .real),
            FileColumn(name: "s", kind: .text),
            FileColumn(name: "b", kind: .bool), FileColumn(name: "t", kind: .timestamp(perSecond: 1000)),
        ]
        let vectors = [
            ColumnVector(words: (0..<20).map { $0 % 3 }), ColumnVector(words: (0..<20).map { $0 << 52 }),
            ColumnVector(texts: (0..<20).map { $0 % 4 == 0 ? nil : "text \($0 % 5)" }),
            ColumnVector(words: (0..<20).map { $0 & 1 }, present: (0..<20).map { $0 % 3 == 0 ? 0 : 1 }),
            ColumnVector(words: (0..<20).map { 1_700_000_000_000 + $0 }),
        ]
        return [ColumnCodec.none, .snappy, .zstd].compactMap { codec in
            guard
                var writer = try? ParquetWriter(columns: columns),
                let group = try? ParquetWriter.encode(vectors, columns: columns, settings: .init(codec: codec))
            else { return nil }
            return ParquetWriter.head + writer.append(group) + writer.finish()
        }
    }
}

#endif
