// `evaluation-report FILE.parquet [DRAWS]`: columns `prediction` and `label` of a file, ten metrics, and intervals by the
// bootstrap on every processor. Prints one JSON line.
import ColumnFiles
import Foundation
import PlatformCore
import Statistics

/// A mapped file.
struct MappedFile: ByteSource {
    let data: Data
    var byteCount: Int { data.count }
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ColumnFileError) {
        guard offset >= 0, offset + buffer.count <= data.count else { throw ColumnFileError(.corrupted, "it is cut") }
        data.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<(offset + buffer.count)]))
        }
    }
}

func timed<Result>(_ work: () throws -> Result) rethrows -> (Result, Double) {
    let start = ContinuousClock.now
    let result = try work()
    let spent = (ContinuousClock.now - start).components
    return (result, Double(spent.seconds) + Double(spent.attoseconds) / 1e18)
}

guard let path = CommandLine.arguments.dropFirst().first else {
    FileHandle.standardError.write(Data("usage: evaluation-report FILE.parquet [DRAWS]\n".utf8))
    exit(2)
}
let draws = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 100
let (rows, reading) = try timed { () throws -> EvaluationRows in
    let reader = try ParquetReader(
        MappedFile(data: try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)))
    func numbers(_ name: String) throws -> [Double] {
        guard let position = reader.position(of: name) else {
            throw ColumnFileError(.unsupported, "no column '\(name)'")
        }
        let isReal = reader.columns[position].kind == .real
        return try (0..<reader.rowGroupCount).flatMap { group in
            try reader.column(position, ofRowGroup: group).words.map {
                isReal ? Double(bitPattern: UInt64(bitPattern: $0)) : Double($0)
            }
        }
    }
    return try EvaluationRows(predictions: try numbers("prediction"), outcomes: try numbers("label"))
}
let metrics = EvaluationMetric.usual(for: .classification, classCount: 2)
let (values, measuring) = timed { metrics.map { try? $0.value(on: rows) } }
let chosen: [EvaluationMetric] = [.auc, .logLoss]
let (intervals, drawing) = timed { Bootstrap(replicateCount: draws, seed: 1).intervals(of: chosen, on: rows) }
var members: [String: JSONValue] = [
    "rows": .integer(Int64(rows.rowCount)), "draws": .integer(Int64(draws)), "read_seconds": .number(reading),
    "metrics_seconds": .number(measuring), "bootstrap_seconds": .number(drawing),
    "processors": .integer(Int64(ProcessInfo.processInfo.activeProcessorCount)),
]
for (metric, value) in zip(metrics, values) { members[metric.rawValue] = value.map(JSONValue.number) ?? .null }
for (metric, interval) in zip(chosen, intervals) {
    guard let found = try? interval.get() else { continue }
    members["\(metric.rawValue)_interval"] = [.number(found.lower), .number(found.upper)]
}
print(JSONValue.object(members).text)
