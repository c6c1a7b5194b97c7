import Definitions
import ModelServing
import PlatformCore
import PlatformTesting
import Testing

/// Records of predictions and labels as bytes.
struct PredictionRecordTests {
    @Test(arguments: UInt64(0)..<100) func predictionsReadBackBitForBit(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let record = Self.randomRecord(&random)
        let bytes = record.encoded()
        let read = try PredictionRecord(decoding: bytes)
        #expect(read.encoded() == bytes)
        #expect(read.inputs.map(\.bitPattern) == record.inputs.map(\.bitPattern))
        #expect(read.output.map(\.bitPattern) == record.output.map(\.bitPattern))
        var comparable = read
        var original = record
        // NaN is not equal to itself, and the bits are compared above.
        (comparable.inputs, original.inputs, comparable.output, original.output) = ([], [], [], [])
        #expect(comparable == original)
        bytes.withUnsafeBytes { bytes in
            guard var view = PredictionView(head: bytes) else { return _ = Issue.record("a record has a head") }
            #expect(String(decoding: view.model, as: UTF8.self) == record.model)
            #expect((view.time, view.version, view.choice) == (record.time, record.version, record.choice))
            let isWhole = view.readRest()
            #expect(isWhole)
            #expect(String(decoding: view.identifier, as: UTF8.self) == record.id)
            #expect((0..<view.outputCount).map { view.output($0).bitPattern } == record.output.map(\.bitPattern))
            let inputs = stride(from: 0, to: view.inputs.count, by: 8).map {
                UInt64(littleEndian: view.inputs.loadUnaligned(fromByteOffset: $0, as: UInt64.self))
            }
            #expect(inputs == record.inputs.map(\.bitPattern))
        }
    }

    @Test(arguments: UInt64(0)..<10) func cutPredictionsAreRefused(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let bytes = Self.randomRecord(&random).encoded()
        for length in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) { try PredictionRecord(decoding: Array(bytes.prefix(length))) }
            #expect(!Self.isSeen(Array(bytes.prefix(length))))
        }
    }

    /// Whether `PredictionView` takes bytes.
    private static func isSeen(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var view = PredictionView(head: bytes)
            return view?.readRest() ?? false
        }
    }

    @Test(arguments: UInt64(0)..<16) func damagedPredictionsNeverTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var refused = 0
        for _ in 0..<200 {
            var bytes = Self.randomRecord(&random).encoded()
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] =
                    [0, 1, 0x7F, 0x80, 0xFF, UInt8(truncatingIfNeeded: random.next())].randomElement(using: &random)
                    ?? 0
            }
            do throws(DecodingFailure) {
                let record = try PredictionRecord(decoding: bytes)
                #expect(Self.isSeen(bytes))
                #expect(throws: Never.self) { try PredictionRecord(decoding: record.encoded()) }
                #expect(!record.time.description.isEmpty)
            } catch {
                refused += 1
                #expect(!Self.isSeen(bytes))
            }
        }
        #expect(refused > 0)
    }

    @Test(arguments: UInt64(0)..<8) func randomBytesNeverTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for length in 0..<300 {
            let bytes = [1] + random.bytes(length)
            #expect(((try? PredictionRecord(decoding: bytes)) != nil) == Self.isSeen(bytes))
            _ = try? LabelRecord(decoding: bytes)
        }
        #expect(throws: DecodingFailure.self) { try PredictionRecord(decoding: [2]) }
        #expect(throws: DecodingFailure.self) { try LabelRecord(decoding: [2]) }
    }

    @Test func labelsReadBackAndCutOnesAreRefused() throws {
        for value in [0.0, 1, -0.0, .infinity, 1e-300] {
            let label = LabelRecord(predictionID: "é-1", time: EventTime(milliseconds: -5), value: value)
            let bytes = label.encoded()
            #expect(try LabelRecord(decoding: bytes) == label)
            for length in 0..<bytes.count {
                #expect(throws: DecodingFailure.self) { try LabelRecord(decoding: Array(bytes.prefix(length))) }
            }
        }
    }

    private static func randomRecord(_ random: inout SplitMix64) -> PredictionRecord {
        func text() -> String { ["", "flight_delay", "é😀", String(random.next())].randomElement(using: &random) ?? "" }
        let count = Int.random(in: 0...20, using: &random)
        var record = PredictionRecord(
            id: text(), time: EventTime(milliseconds: Int64(bitPattern: random.next())), model: text(),
            version: Int(random.next() >> UInt64.random(in: 1..<64, using: &random)), artifact: text(),
            policyRevision: Int.random(in: 0...1000, using: &random),
            choice: PredictionRecord.Choice.allCases.randomElement(using: &random) ?? .primary, serviceVersion: text(),
            entities: (0..<Int.random(in: 0...4, using: &random)).map { _ in
                .init(key: text(), value: Bool.random(using: &random) ? text() : nil)
            },
            inputs: (0..<count).map { _ in Bool.random(using: &random) ? .nan : Double(bitPattern: random.next()) },
            ages: (0..<count).map { _ in Int64(bitPattern: random.next()) },
            statuses: random.bytes(count),
            overridden: (0..<Int.random(in: 0...count, using: &random)).map { $0 },
            output: (0..<Int.random(in: 0...4, using: &random)).map { _ in
                Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
            },
            fallbackReason: text(),
            latency: .init(
                features: UInt32(truncatingIfNeeded: random.next()), score: UInt32(truncatingIfNeeded: random.next()),
                total: UInt32(truncatingIfNeeded: random.next())), caller: text())
        record.origin = PredictionRecord.Origin.allCases.randomElement(using: &random) ?? .model
        record.isVersionNamed = Bool.random(using: &random)
        if Bool.random(using: &random) {
            record.fallback = .init(
                cause: AnswerFault.allCases.randomElement(using: &random) ?? .timeout, step: text(),
                version: Int.random(in: 0...1000, using: &random))
        }
        return record
    }
}
