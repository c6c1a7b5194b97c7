import APIContract
import Definitions
import PlatformCore
import Testing

@testable import FeastAPI
@testable import FeatureStore

struct RequestTests {
    private static let question = #"""
        {"entities":{"driver_id":[1001,"1002",1003.0,null],"city":["a","b","c","d"],"other":[1,2,3,4]},
         "features":["stats:rate","stats:trips"],"full_feature_names":false}
        """#
    private static let keys = [
        FeatureSelection.Key(name: "driver_id", type: .int64), FeatureSelection.Key(name: "city", type: .string),
    ]

    private func body(_ text: String) throws -> FeastRequest {
        try FeastRequest(
            APIRequest(method: "POST", path: "/", body: Array(text.utf8)), byteCountMax: 1 << 20,
            known: ["entities", "features", "full_feature_names", "df"])
    }

    @Test func keysComeInTheOrderOfTheViewAndInItsTypes() throws {
        let entities = try EntityColumns(body(Self.question)["entities"], joinKeys: Self.keys)
        #expect(entities.count == 4)
        #expect(entities.keys == ["1001", "a", "1002", "b", "1003", "c", nil, "d"])
        #expect(entities.echoes[0] == [1001, 1002, 1003, nil])
    }

    @Test(arguments: [
        #"{"entities":3}"#, #"{}"#, #"{"entities":{}}"#, #"{"entities":{"driver_id":[],"city":[]}}"#,
        #"{"entities":{"driver_id":[1]}}"#, #"{"entities":{"driver_id":[1],"city":["a","b"]}}"#,
        #"{"entities":{"driver_id":[[1]],"city":["a"]}}"#, #"{"entities":{"driver_id":1,"city":["a"]}}"#,
    ])
    func whatIsNoTableOfEntitiesIsRefused(text: String) throws {
        #expect(throws: FeastError.self) { try EntityColumns(body(text)["entities"], joinKeys: Self.keys) }
    }

    @Test func anUnknownFieldNamesTheNearestOne() {
        do {
            _ = try body(#"{"feature":["a:b"]}"#)
            Issue.record("nothing was refused")
        } catch { #expect(FeastError(of: error).message.contains("did you mean 'features'?")) }
    }

    @Test func aReferenceHasAViewAndAFeature() throws {
        #expect(try FeastRoutes.reference("stats:rate").servedName == "stats__rate")
        #expect(try FeastRoutes.reference("stats@latest:rate").servedName == "stats__rate")
        for text in ["", ":", "stats", "stats:", ":rate", "stats@v2:rate", "st ats:rate", "stats:a\nb"] {
            #expect(throws: FeastError.self) { try FeastRoutes.reference(text) }
        }
    }

    /// Any damage to a request is an error of the caller, or no damage at all: it never traps and is never a 500.
    @Test(arguments: UInt64(0)..<16) func damagedRequestsAreRefused(seed: UInt64) {
        var generator = SplitMix(state: seed)
        for _ in 0..<400 {
            var bytes = Array(Self.question.utf8)
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: place)
                default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 9)], at: place)
                }
            }
            do {
                let request = try FeastRequest(
                    APIRequest(method: "POST", path: "/", body: bytes), byteCountMax: 1 << 20,
                    known: ["entities", "features", "full_feature_names"])
                for text in try request.texts("features", countMax: 10) ?? [] { _ = try FeastRoutes.reference(text) }
                _ = try request.flag("full_feature_names")
                let entities = try EntityColumns(request["entities"], joinKeys: Self.keys)
                #expect(entities.keys.count == entities.count * 2)
                _ = try? DataFrame(request["entities"])
            } catch {
                let status = FeastError(of: error).status
                #expect(status == 422 || status == 404)
            }
        }
    }

    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }
}
