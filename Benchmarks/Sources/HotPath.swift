import Benchmark
import Foundation
import Synchronization

/// How one hot path is measured.
struct HotPath {
    /// Whether everything runs on small inputs and for a moment only, to see that it still works.
    static let isTiny = ["1", "true", "yes"].contains(ProcessInfo.processInfo.environment["BOTTEGA_BENCH_TINY"] ?? "")

    /// What is done, with its size.
    let name: String
    /// Operations in one measured iteration; results are printed for one of them.
    var operations = BenchmarkScalingFactor.one
    /// For how long it is measured.
    var seconds = 3
    /// Iterations after which measuring ends, if time has not ended it.
    var iterationsMax = 100_000
    /// Iterations that are not measured.
    var warmups = 3

    private var configuration: Benchmark.Configuration {
        Benchmark.Configuration(
            metrics: [.wallClock], warmupIterations: Self.isTiny ? 1 : warmups, scalingFactor: operations,
            maxDuration: Self.isTiny ? .milliseconds(200) : .seconds(seconds),
            maxIterations: Self.isTiny ? 3 : iterationsMax)
    }

    /// What a benchmark prepared: its input, and what it says of it.
    struct Prepared<Input> {
        let input: Input
        /// Size of the input, in words.
        let size: String
        /// Of the result of one operation, or of all: the same on every machine and in every run of one size.
        let checksum: Checksum
    }

    private func announce<Input>(_ prepared: Prepared<Input>) -> Input {
        print("\(name)\n    input: \(prepared.size)\n    checksum of the result: \(prepared.checksum)")
        return prepared.input
    }

    /// Registers work that computes.
    func measure<Input>(
        _ work: @escaping (Benchmark, Input) throws -> Void, prepare: @escaping () async throws -> Prepared<Input>
    ) {
        Benchmark(
            name, configuration: configuration, closure: work, setup: { announce(try await prepare()) },
            teardown: ScratchFolder.removeAll)
    }

    /// Registers work that waits.
    func measureWaiting<Input>(
        _ work: @escaping (Benchmark, Input) async throws -> Void, prepare: @escaping () async throws -> Prepared<Input>
    ) {
        Benchmark(
            name, configuration: configuration, closure: work, setup: { announce(try await prepare()) },
            teardown: ScratchFolder.removeAll)
    }
}

/// FNV-1a over what a benchmark computed.
struct Checksum: CustomStringConvertible {
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ byte: UInt8) { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
    mutating func add(_ bytes: some Sequence<UInt8>) { for byte in bytes { add(byte) } }
    mutating func add(_ word: some FixedWidthInteger) {
        withUnsafeBytes(of: word.littleEndian) { for byte in $0 { add(byte) } }
    }
    mutating func add(_ value: Double) { add(value.bitPattern) }
    mutating func add(_ value: Float) { add(value.bitPattern) }

    var description: String {
        let hex = String(state, radix: 16)
        return String(repeating: "0", count: 16 - hex.count) + hex
    }
}

/// A seeded generator (SplitMix64): inputs are the same in every run.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
    /// From 0 up to, not including, 1.
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}

/// Holds what one benchmark changes while it runs.
///
/// A benchmark's iterations run one after the other.
final class Box<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
}

/// A new folder for a store, gone after the benchmark.
///
/// It lies in `BOTTEGA_BENCH_DIR`, else where temporary files go: make sure that this is a disk.
enum ScratchFolder {
    private static let made = Mutex<[String]>([])

    static func make() throws -> String {
        let root =
            ProcessInfo.processInfo.environment["BOTTEGA_BENCH_DIR"] ?? FileManager.default.temporaryDirectory.path
        let path = "\(root)/bottega-bench-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        made.withLock { $0.append(path) }
        return path
    }

    static func removeAll() {
        for path in made.withLock({ $0 }) { try? FileManager.default.removeItem(atPath: path) }
        made.withLock { $0 = [] }
    }
}

/// An input that cannot be what it should be: the benchmark is broken, not the product.
struct BrokenBenchmark: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
