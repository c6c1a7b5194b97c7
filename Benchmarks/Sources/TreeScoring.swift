import Benchmark
import Foundation
import RuntimePorts
import TreeModelAdapter

/// A model, rows, and what xgboost made of them.
private struct TreeInput {
    let model: any LoadedModel
    let rows: UnsafeMutableBufferPointer<Float>
    let rowCount: Int
    let output: UnsafeMutableBufferPointer<Float>

    private static func fixture(_ name: String) throws -> Data {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return try Data(contentsOf: root.appendingPathComponent("Tests/Golden/models/\(name)"))
    }
    private static func floats(_ name: String) throws -> [Float] {
        try fixture(name).withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count - 3, by: 4).map {
                Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)))
            }
        }
    }

    /// Loads a golden model, and compares all of its 512 rows with xgboost's results, bit for bit.
    static func prepared(_ name: String, rows rowsName: String) throws -> HotPath.Prepared<TreeInput> {
        let model = try XGBoostRuntime().load([UInt8](try fixture("\(name).ubj")), fileName: "\(name).ubj")
        let rows = try floats("\(rowsName).X.f32")
        let about = model.description
        let rowCount = rows.count / about.featureCount
        let expected = try floats("\(name).pred.f32")
        let got = try model.predict(rows, rowCount: rowCount)
        guard got.map(\.bitPattern) == expected.map(\.bitPattern) else {
            throw BrokenBenchmark("\(name) does not give what xgboost gives")
        }
        var checksum = Checksum()
        for value in got { checksum.add(value) }
        let input = UnsafeMutableBufferPointer<Float>.allocate(capacity: rows.count)
        _ = input.initialize(from: rows)
        return HotPath.Prepared(
            input: TreeInput(
                model: model, rows: input, rowCount: rowCount,
                output: .allocate(capacity: rowCount * about.outputCount)),
            size: "\(name): \(about.treeCount) trees of depth 6, \(about.featureCount) features, "
                + "\(about.categoricalFeatures.count) of them categorical; equal to xgboost on \(rowCount) rows",
            checksum: checksum)
    }

    /// Scores `count` rows from row `first` on.
    func score(_ first: Int, count: Int) throws {
        let width = model.description.featureCount
        try model.predict(
            UnsafeBufferPointer(rebasing: rows[(first * width)..<((first + count) * width)]), rowCount: count,
            into: UnsafeMutableBufferPointer(rebasing: output[0..<(count * model.description.outputCount)]))
        blackHole(output[0])
    }
}

/// The scorer of gradient boosted trees.
func registerTreeScoring() {
    for (name, rows, label) in [
        ("xgb_binary_base03", "numeric", "numeric"), ("xgb_binary_cat", "xgb_binary_cat", "categorical"),
    ] {
        HotPath(name: "tree scoring: \(label), 1 row", operations: .kilo).measure(
            { (benchmark, input: TreeInput) in
                for index in benchmark.scaledIterations { try input.score(index % input.rowCount, count: 1) }
            }, prepare: { try TreeInput.prepared(name, rows: rows) })
        HotPath(name: "tree scoring: \(label), 100 rows").measure(
            { (benchmark, input: TreeInput) in
                try input.score(benchmark.currentIteration * 37 % (input.rowCount - 100), count: 100)
            }, prepare: { try TreeInput.prepared(name, rows: rows) })
    }
}
