// `model-timing MODEL ROWS.f32 [LIBRARY]`: how long a loaded model takes for 1, 100 and 10,000 rows on one core, in process.
// Rows are float32 in the machine's order, one after the other; LIBRARY is ONNX Runtime's. Prints one JSON line: the median
// of 41 groups of calls, in microseconds a call, and the sum of the first 1,000 predictions.
import Foundation
import ONNXAdapter
import PlatformCore
import RuntimePorts
import TreeModelAdapter

func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("\(message)\n".utf8))
    exit(2)
}

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count >= 2 else { fail("usage: model-timing MODEL ROWS.f32 [LIBRARY]") }
let name = URL(fileURLWithPath: arguments[0]).lastPathComponent
let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: arguments[0])))
let runtimes: [any ModelRuntime] =
    TreeModelTool.all
    + [ONNXRuntime(configuration: ONNXConfiguration(libraryPath: arguments.count > 2 ? arguments[2] : nil))]
guard let runtime = runtimes.first(where: { $0.recognizes(bytes, fileName: name) }) else {
    fail("\(arguments[0]): no known format")
}
let model = try runtime.load(bytes, fileName: name)
let width = model.description.featureCount
let rows = try Data(contentsOf: URL(fileURLWithPath: arguments[1])).withUnsafeBytes { content in
    stride(from: 0, to: content.count - 3, by: 4).map { content.loadUnaligned(fromByteOffset: $0, as: Float.self) }
}
let rowCount = rows.count / width
guard rowCount >= 10_000, rows.count == rowCount * width else {
    fail("\(arguments[1]): \(rows.count) numbers are not 10,000 or more rows of \(width) features")
}

/// The median of the time of a call that scores `count` rows.
func microseconds(_ count: Int) throws -> Double {
    var output = [Float](repeating: 0, count: count * model.description.outputCount)
    let calls = max(1, 20_000 / count)
    return try rows.withUnsafeBufferPointer { rows in
        try output.withUnsafeMutableBufferPointer { output in
            var times: [Double] = []
            var first = 0
            for _ in 0..<41 {
                let start = ContinuousClock.now
                for _ in 0..<calls {
                    let part = UnsafeBufferPointer(rebasing: rows[(first * width)..<((first + count) * width)])
                    try model.predict(part, rowCount: count, into: output)
                    first = first + 2 * count <= rowCount ? first + count : 0
                }
                let spent = (ContinuousClock.now - start).components
                times.append((Double(spent.seconds) * 1e6 + Double(spent.attoseconds) / 1e12) / Double(calls))
            }
            return times.sorted()[20]
        }
    }
}

let sum = try model.predict(Array(rows[0..<(1000 * width)]), rowCount: 1000).reduce(0) { $0 + Double($1) }
let times = try [1, 100, 10_000].map { "\"\($0)\": \(try microseconds($0))" }.joined(separator: ", ")
print("{\"format\": \"\(model.description.format)\", \"microseconds\": {\(times)}, \"sum\": \(sum)}")
