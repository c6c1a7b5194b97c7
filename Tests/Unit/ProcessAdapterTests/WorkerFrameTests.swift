import Testing

@testable import ProcessAdapter

struct WorkerFrameTests {
    private func answer(_ rows: UInt32, _ width: UInt32, _ values: [Float]) -> [UInt8] {
        var payload: [UInt8] = []
        for number in [rows, width] + values.map(\.bitPattern) {
            withUnsafeBytes(of: number.littleEndian) { payload.append(contentsOf: $0) }
        }
        return payload
    }

    @Test func rowsGoOutAsTheyAreDescribed() throws {
        let bytes = WorkerFrame.predict([1, 2, 3, 4, .nan, 6], rowCount: 2, call: 7).bytes
        #expect(bytes[..<8] == [0x42, 0x54, 0x57, 0x31, 2, 0, 0, 0])
        #expect(bytes[8..<20] == [7, 0, 0, 0, 32, 0, 0, 0, 2, 0, 0, 0])
        #expect(bytes.count == 16 + 8 + 24)
    }

    @Test func answersComeBackBitForBit() throws {
        let values: [Float] = [0.1, -0, .infinity, .leastNonzeroMagnitude]
        let read = try WorkerFrame.outputs(answer(2, 2, values), rowCount: 2, outputCount: 2)
        #expect(read.map(\.bitPattern) == values.map(\.bitPattern))
    }

    @Test(
        arguments: [(3, 1, 2), (2, 2, 2), (2, 1, 3), (0, 0, 0), (UInt32.max, UInt32.max, 2)] as [(UInt32, UInt32, Int)])
    func anAnswerOfAnotherShapeIsGarbage(rows: UInt32, width: UInt32, count: Int) {
        let payload = answer(rows, width, [Float](repeating: 1, count: count))
        #expect(throws: WorkerFrame.Garbage.self) { try WorkerFrame.outputs(payload, rowCount: 2, outputCount: 1) }
    }

    @Test func noBytesMakeTheReaderTrapOrAskForMuchMemory() {
        var random = SystemRandomNumberGenerator()
        let good = WorkerFrame(kind: .answer, call: 1, payload: answer(1, 1, [0.5])).bytes
        for _ in 0..<3000 {
            var bytes = good
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if let head = try? WorkerFrame.head(bytes[..<16]) {
                #expect(head.byteCount <= WorkerFrame.payloadByteCountMax)
            }
            let payload = Array(bytes[16...].prefix(Int.random(in: 0...12, using: &random)))
            if let outputs = try? WorkerFrame.outputs(payload, rowCount: 1, outputCount: 1) {
                #expect(outputs.count == 1)
            }
            _ = try? WorkerHello(Array(bytes[16...]))
        }
        #expect(throws: WorkerFrame.Garbage.self) { try WorkerFrame.head(good[..<15]) }
    }

    @Test func aGreetingIsBelievedOnlyWithinLimits() throws {
        let good = #"{"features":["a","b"],"feature_count":2,"texts":[1],"outputs":1,"objective":"regression","x":1}"#
        #expect(try WorkerHello(Array(good.utf8)).features == ["a", "b"])
        let differing = good.replacing("\"x\":1", with: "\"differences\":[\"numpy==1 is\\nwanted\"]")
        #expect(try WorkerHello(Array(differing.utf8)).differences == ["numpy==1 is wanted"])
        let endless = [String](repeating: "\"x\"", count: 1000).joined(separator: ",")
        for list in ["[1]", "1", "[\(endless)]"] {
            let bytes = Array(good.replacing("\"x\":1", with: "\"differences\":\(list)").utf8)
            #expect(throws: WorkerEnd.self) { try WorkerHello(bytes) }
        }
        for (old, new) in [
            ("\"feature_count\":2", "\"feature_count\":3"), ("\"feature_count\":2", "\"feature_count\":-1"),
            ("[1]", "[2]"), ("\"outputs\":1", "\"outputs\":99999999"), ("\"a\"", "1"), ("{", "["),
            ("\"outputs\":1", "\"outputs\":0"),
        ] {
            #expect(throws: WorkerEnd.self) { try WorkerHello(Array(good.replacing(old, with: new).utf8)) }
        }
        #expect(throws: WorkerEnd.refused("no module named 'torch'")) {
            try WorkerHello(Array(#"{"error":"no module named 'torch'"}"#.utf8))
        }
    }

    @Test func aListOfFilesLeadsNowhereElse() throws {
        func list(_ path: String) -> [UInt8] {
            let hash = String(repeating: "ab", count: 32)
            return Array(
                "{\"files\":[{\"path\":\"\(path)\",\"hash\":\"\(hash)\",\"byte_count\":3}]}".utf8)
        }
        #expect(try ModelFileList(list("data/model.pkl"))?.files.map(\.path) == ["data/model.pkl"])
        #expect(try ModelFileList(Array("{\"learner\":1}".utf8)) == nil)
        for path in ["../model.pkl", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\\u0000b"] {
            #expect(throws: (any Error).self, "\(path)") { try ModelFileList(list(path)) }
        }
    }
}
