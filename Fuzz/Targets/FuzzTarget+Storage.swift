import ColumnFiles
import ModelMonitoring
import PlatformCore
import StoragePorts

@testable import Datasets
@testable import ExperimentTracking
@testable import FileSystemAdapter
@testable import LMDBAdapter
@testable import ModelServing

/// What lies on a disk: files of others, and our own after an accident.
extension FuzzTarget {
    static let storage: [FuzzTarget] = [predictionRecord, onlineRow, logSegment, metricChunk, deltaActions, parquet]

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
        if let record = try? PredictionRecord(decoding: bytes) {
            _ = try? PredictionRecord(decoding: record.encoded())
            _ = engine.consume(record)
        }
        _ = try? PredictionHead(decoding: bytes)
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
        _ = DeltaAction.encode(actions)
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
