import Definitions
import Foundation
import PlatformCore
import Testing

@testable import ModelServing

/// The quick way to read a request is the ordinary one, or it gives up.
struct QuickInstanceTests {
    private static let now = ServingFixture.start
    private static let onDemand = """
        on_demand:
            - {name: per_hour, expression: distance / (hour + 1)}
            - {name: spread, expression: planes__mean - distance}
        """

    private struct Outcome: Equatable {
        var keys: [String?]
        var bits: [UInt64]
        var ages: [Int64]
        var statuses: [UInt8]
        var overridden: [Int]

        init(_ vector: InputVector) {
            keys = vector.keys
            bits = vector.inputs.map { $0.isNaN ? UInt64.max : $0.bitPattern }
            ages = vector.ages
            statuses = vector.statuses
            overridden = vector.overridden
        }
    }

    private static func binding() throws -> ServiceBinding {
        let definitions = try ServingFixture.definitions(onDemand: onDemand)
        return ServiceBinding(
            definition: try #require(definitions.featureServices[ServingFixture.model]), reader: ConstantReader())
    }

    /// What both ways say of a body: the quick way's outcome, if it took the body, is that of the ordinary one.
    @discardableResult
    private static func compare(_ text: String, _ binding: ServiceBinding, scratch: inout InputVector) throws -> Bool {
        let bytes = Array(text.utf8)
        let taken = try bytes.withUnsafeBytes { try binding.assembleQuickly($0, asOf: now, into: &scratch) }
        guard taken else { return false }
        let instance = try JSONValue.parse(bytes)
        var vector = InputVector()
        let faults = try binding.assemble(instance, asOf: now, into: &vector)
        #expect(faults == [], "the quick way took a bad request: \(text)")
        #expect(Outcome(scratch) == Outcome(vector), "\(text)")
        return true
    }

    @Test func theUsualRequestsAreTaken() throws {
        let binding = try Self.binding()
        var scratch = InputVector()
        let keys = #""entities": {"tailnum": "N1", "origin": "EWR"}"#
        for text in [
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 733, \"hour\": 9}}",
            "{\"features\":{\"hour\":9,\"distance\":733.25,\"carrier\":\"AA\"},\(keys)}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 7.33e2}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 1, \"hour\": null, \"planes__mean\": 4}}",
            " {\n\(keys) , \"features\": {\"carrier\": \"UA\", \"distance\": 1, \"origins__flights\": null} }\t",
            #"{"entities": {"tailnum": 17, "origin": null}, "features": {"carrier": "UA", "distance": 733}}"#,
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 0.1234567890123456789, \"per_hour\": 1}}",
        ] {
            #expect(try Self.compare(text, binding, scratch: &scratch), "\(text)")
        }
    }

    /// Each is either refused, or right but unusual; the ordinary way decides.
    @Test func theUnusualIsLeftToTheOrdinaryWay() throws {
        let binding = try Self.binding()
        var scratch = InputVector()
        let keys = #""entities": {"tailnum": "N1", "origin": "EWR"}"#
        let right = #""features": {"carrier": "UA", "distance": 733}"#
        for text in [
            "", "{}", "{\(keys)}", "{\(right)}", "{\(keys), \(right)", "{\(keys), \(right)}}", "[\(keys)]",
            "{\(keys), \(right), \"ages\": true}", "{\(keys), \(right), \(right)}", "{\(keys), \(keys), \(right)}",
            "{\(keys), \"features\": {\"carrier\": \"ZZ\", \"distance\": 733}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 7000}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": null}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 1, \"distance\": 1}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 1, \"nonsense\": 1}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 01}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": 1e999}}",
            "{\(keys), \"features\": {\"carrier\": \"UA\", \"distance\": \"1\"}}",
            "{\(keys), \"features\": {\"carrier\": \"U\\u0041\", \"distance\": 1}}",
            #"{"entities": {"tailnum": "", "origin": "EWR"}, "features": {"carrier": "UA", "distance": 733}}"#,
            #"{"entities": {"tailnum": "ü", "origin": "EWR"}, "features": {"carrier": "UA", "distance": 733}}"#,
            #"{"entities": {"tailnum": 1.5, "origin": "EWR"}, "features": {"carrier": "UA", "distance": 733}}"#,
            #"{"entities": {"tailnum": -0, "origin": "EWR"}, "features": {"carrier": "UA", "distance": 733}}"#,
            #"{"entities": {"tailnum": "N1"}, "features": {"carrier": "UA", "distance": 733}}"#,
        ] {
            #expect(try !Self.compare(text, binding, scratch: &scratch), "\(text)")
        }
    }

    /// Requests made from pieces, and requests with bytes changed, cut out and put in.
    @Test func bothWaysAgreeOnGeneratedRequests() throws {
        let binding = try Self.binding()
        var scratch = InputVector()
        var generator = SystemRandomNumberGenerator()
        var taken = 0
        let numbers = [
            "0", "-0", "12", "733.5", "1e2", "5999.999", "0.1", "1e-7", "null", "-3", "9007199254740993", "6000",
        ]
        for _ in 0..<4_000 {
            var features = ["\"carrier\": \"\(["AA", "UA", "DL", "XX"].randomElement(using: &generator) ?? "")\""]
            for name in ["distance", "hour", "planes__mean", "origins__flights", "per_hour", "spread"]
            where Bool.random(using: &generator) || name == "distance" {
                features.append("\"\(name)\": \(numbers.randomElement(using: &generator) ?? "")")
            }
            features.shuffle(using: &generator)
            let keys = [
                "\"tailnum\": \(["\"N1\"", "7", "null"].randomElement(using: &generator) ?? "")", "\"origin\": \"EWR\"",
            ]
            var text = Array(
                "{\"entities\": {\(keys.joined(separator: ", "))}, \"features\": {\(features.joined(separator: ","))}}"
                    .utf8)
            for _ in 0..<Int.random(in: 0...2, using: &generator) where Bool.random(using: &generator) {
                let place = Int.random(in: 0..<text.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: text[place] = UInt8.random(in: 0...127, using: &generator)
                case 1: text.remove(at: place)
                default: text.insert(UInt8.random(in: 32...126, using: &generator), at: place)
                }
            }
            if try Self.compare(String(decoding: text, as: UTF8.self), binding, scratch: &scratch) { taken += 1 }
        }
        #expect(taken > 400, "the test compares something")
    }
}
