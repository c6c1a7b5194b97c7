import Definitions
import ModelServing
import PlatformCore
import Testing

/// A request becomes the model's input, or one fault for each field that is wrong.
struct ServiceBindingTests {
    private func assemble(_ request: JSONValue, _ reader: any VectorReader = ConstantReader()) throws -> (
        vector: InputVector, faults: [String: String]
    ) {
        var vector = InputVector()
        let faults = try ServingFixture.binding(reader).assemble(request, asOf: ServingFixture.start, into: &vector)
        #expect(Set(faults.map(\.field)).count == faults.count, "a field has one fault")
        return (vector, Dictionary(faults.map { ($0.field, $0.message) }, uniquingKeysWith: { first, _ in first }))
    }

    private func request(entities: JSONValue? = nil, features: JSONValue? = nil) -> JSONValue {
        .object([
            "entities": entities ?? ServingFixture.request["entities"] ?? nil,
            "features": features ?? ServingFixture.request["features"] ?? nil,
        ])
    }

    @Test func aGoodRequestFillsEveryInput() throws {
        let (vector, faults) = try assemble(ServingFixture.request)
        #expect(faults.isEmpty)
        #expect(vector.keys == ["EWR", "N123UA"])  // join keys are sorted: origin, tailnum
        #expect(vector.inputs.prefix(4) == [1, 733, 9, 12.5])
        #expect(vector.inputs[4].isNaN)
        #expect(vector.ages == [-1, -1, -1, 60_000, -1])
        #expect(vector.statuses == [4, 4, 4, 1, 2])
        #expect(vector.overridden.isEmpty)
    }

    @Test func everyCategoryIsItsPositionInTheList() throws {
        for (code, carrier) in ["AA", "UA", "DL"].enumerated() {
            let sent = request(features: ["carrier": .string(carrier), "distance": 1])
            #expect(try assemble(sent).vector.inputs[0] == Double(code))
        }
        #expect(
            try assemble(request(features: ["carrier": "ua", "distance": 1])).faults == [
                "features.carrier": "'ua' is none of its 3 known values"
            ])
    }

    @Test func everyKeyMustBeNamedButMayBeNull() throws {
        #expect(
            try assemble(request(entities: ["origin": "EWR"])).faults == [
                "entities.tailnum": "is missing; say null if it is not known"
            ])
        let (vector, faults) = try assemble(request(entities: ["origin": "EWR", "tailnum": nil]))
        #expect(faults.isEmpty)
        #expect(vector.keys == ["EWR", nil])
        #expect(try assemble(["features": ["carrier": "AA", "distance": 1]]).faults.count == 2)
    }

    @Test func numbersServeAsKeys() throws {
        #expect(try assemble(request(entities: ["origin": 7, "tailnum": "x"])).vector.keys == ["7", "x"])
        #expect(try assemble(request(entities: ["origin": 7.5, "tailnum": "x"])).faults["entities.origin"] != nil)
    }

    @Test func unknownNamesAreNamedWithTheNearestKnownOne() throws {
        let sent: JSONValue = [
            "entities": ["tailnum": "x", "origin": "EWR", "tailnumm": "y", "runway": "z"],
            "features": ["carrier": "AA", "distance": 1, "distanse": 2, "planes__men": 3, "zzzzzzzzzz": 4],
            "featurs": [:],
        ]
        #expect(
            try assemble(sent).faults == [
                "featurs": "unknown member; did you mean 'features'?",
                "entities.tailnumm": "no such key; did you mean 'tailnum'?",
                "entities.runway": "no such key; known: origin, tailnum",
                "features.distanse": "no such feature; did you mean 'distance'?",
                "features.planes__men": "no such feature; did you mean 'planes__mean'?",
                "features.zzzzzzzzzz": "no such feature",
            ])
    }

    @Test func wrongTypesAreNamed() throws {
        let sent: JSONValue = [
            "entities": ["tailnum": true, "origin": ["EWR"]],
            "features": [
                "carrier": 1, "distance": "far", "hour": [:], "planes__mean": "late", "origins__flights": true,
            ],
        ]
        #expect(
            try assemble(sent).faults == [
                "entities.tailnum": "text is expected, not true or false",
                "entities.origin": "text is expected, not a list",
                "features.carrier": "text is expected, not a number",
                "features.distance": "a number is expected, not text",
                "features.hour": "a number is expected, not an object",
                "features.planes__mean": "a number is expected, not text",
                "features.origins__flights": "a number is expected, not true or false",
            ])
        #expect(
            try assemble([1, 2]).faults == ["": "an object with 'entities' and 'features' is expected, not a list"])
        #expect(
            try assemble(["entities": "x", "features": 1]).faults == [
                "entities": "an object is expected, not text", "features": "an object is expected, not a number",
            ])
    }

    @Test(arguments: ["", "a\u{1F}b", "a\nb", String(repeating: "x", count: 513)])
    func keysThatCouldNotBeStoredAreRefused(value: String) throws {
        let sent = request(entities: ["origin": "EWR", "tailnum": .string(value)])
        #expect(try assemble(sent).faults.keys.sorted() == ["entities.tailnum"])
    }

    @Test func rangesIncludeTheirEnds() throws {
        for (distance, isGood) in [(0.0, true), (6000, true), (-0.001, false), (6000.001, false), (1e300, false)] {
            let sent = request(features: ["carrier": "AA", "distance": .number(distance)])
            #expect(try assemble(sent).faults.isEmpty == isGood, "\(distance)")
        }
        let sent = request(features: ["carrier": "AA", "distance": 7000])
        #expect(try assemble(sent).faults == ["features.distance": "must be within [0.0, 6000.0]"])
    }

    @Test func onlyNullableFeaturesMayBeMissing() throws {
        for features: JSONValue in [["carrier": "AA", "distance": 1], ["carrier": "AA", "distance": 1, "hour": nil]] {
            let (vector, faults) = try assemble(request(features: features))
            #expect(faults.isEmpty)
            #expect(vector.inputs[2].isNaN && vector.statuses[2] == ServiceBinding.requestStatus)
        }
        #expect(
            try assemble(request(features: ["carrier": nil])).faults == [
                "features.carrier": "text is expected, not null", "features.distance": "is missing",
            ])
    }

    @Test func aCallerMayOverrideWhatTheStoreSays() throws {
        let sent = request(features: [
            "carrier": "AA", "distance": 1, "origins__flights": 7, "planes__mean": nil,
        ])
        let (vector, faults) = try assemble(sent)
        #expect(faults.isEmpty)
        #expect(vector.inputs[3].isNaN && vector.inputs[4] == 7)
        #expect(vector.overridden == [3, 4])
        #expect(vector.ages[3] == -1 && vector.ages[4] == -1)
        #expect(
            vector.statuses[3] == ServiceBinding.requestStatus && vector.statuses[4] == ServiceBinding.requestStatus)
    }

    @Test func nothingOfTheLastRequestStays() throws {
        let binding = try ServingFixture.binding()
        var vector = InputVector()
        let first = request(features: ["carrier": "AA", "distance": 1, "hour": 5, "origins__flights": 7])
        #expect(try binding.assemble(first, asOf: ServingFixture.start, into: &vector).isEmpty)
        let second = request(entities: ["origin": nil, "tailnum": nil], features: ["carrier": "UA", "distance": 2])
        #expect(try binding.assemble(second, asOf: ServingFixture.start, into: &vector).isEmpty)
        #expect(vector.keys == [nil, nil])
        #expect(vector.inputs[2].isNaN && vector.inputs[4].isNaN && vector.overridden.isEmpty)
    }

    @Test func aStoreThatCannotBeReadIsAnErrorNotAFault() throws {
        #expect(throws: PlatformError.self) { try assemble(ServingFixture.request, BrokenReader()) }
        // A wrong request is refused before the store is asked.
        #expect(try assemble(request(entities: [:]), BrokenReader()).faults.count == 2)
    }

    @Test func aVersionMustFitItsService() throws {
        #expect(throws: Never.self) { try ServingFixture.version(1) }
        #expect(throws: (any Error).self) { try ServingFixture.version(1, LinearModel(weights: [1, 2])) }
    }

    @Test func onDemandFeaturesReadWhatStandsBeforeThem() throws {
        let definitions = try ServingFixture.definitions(
            onDemand: """
                on_demand:
                  - {name: each, expression: "distance / planes__mean"}
                  - {name: is_ua, expression: "carrier = 'UA' and hour is not null"}
                  - {name: busy, expression: "coalesce(origins__flights, -1)"}
                """)
        let service = try #require(definitions.featureServices[ServingFixture.model])
        let binding = ServiceBinding(definition: service, reader: ConstantReader())
        func inputs(_ features: JSONValue) throws -> (inputs: [Double], statuses: [UInt8]) {
            var vector = InputVector()
            let faults = try binding.assemble(request(features: features), asOf: ServingFixture.start, into: &vector)
            #expect(faults.isEmpty)
            return (Array(vector.inputs[5...]), Array(vector.statuses[5...]))
        }
        let first = try inputs(["carrier": "UA", "distance": 1000, "hour": 3])
        #expect(first.inputs == [80, 1, -1])
        #expect(first.statuses == [0, 0, 0])
        // What the caller says of a view counts, and what it says of the feature itself counts more.
        #expect(try inputs(["carrier": "AA", "distance": 1000, "planes__mean": 10]).inputs == [100, 0, -1])
        #expect(try inputs(["carrier": "AA", "distance": 1000, "each": 7, "origins__flights": 4]).inputs == [7, 0, 4])
        let none = try inputs(["carrier": "AA", "distance": 1000, "planes__mean": 0])
        #expect(none.inputs[0].isNaN && none.statuses[0] == 1)
    }
}
