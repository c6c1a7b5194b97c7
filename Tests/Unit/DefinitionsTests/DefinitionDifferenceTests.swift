import Definitions
import PlatformCore
import Testing

/// A plan says what a changed definition says differently, in the words of the definition.
struct DefinitionDifferenceTests {
    private func fields(in file: String, _ old: String, _ new: String, of identifier: String) throws -> [FieldChange] {
        let before = try DefinitionCompiler.compile(try Examples.files())
        let after = try DefinitionCompiler.compile(try Examples.files(in: file, replacing: old, with: new))
        return try #require(after.changes(from: before).first { $0.identifier == identifier }).fields
    }

    @Test(arguments: [
        (
            "features", "column: dep_delay, window: 24h", "column: dep_delay, window: 25h",
            "FeatureView/plane_departures", "window", "1d", "25h"
        ),
        ("features", "ttl: 3h", "ttl: 4h", "FeatureView/latest_weather", "ttl", "3h", "4h"),
        ("model", "seed: 7", "seed: 8", "Model/flight_delay", "training.seed", "7", "8"),
        ("sources", "scale: 0", "scale: 1", "Source/departures", "scale", "0", "1"),
        ("features", "horizon: 2d", "horizon: 3d", "TrainingSet/flight_delay", "label_horizon", "2d", "3d"),
    ]) func itNamesTheFieldAndBothValues(
        file: String, old: String, new: String, identifier: String, path: String, before: String, after: String
    ) throws {
        let fields = try fields(in: file, old, new, of: identifier)
        #expect(!fields.isEmpty)
        #expect(
            fields.allSatisfy { $0.path.hasSuffix(path) && $0.old == before && $0.new == after }, "\(fields)")
    }

    @Test func whatOnlyLeansOnAChangeHasNoFieldsOfItsOwn() throws {
        let fields = try fields(
            in: "features", "column: dep_delay, window: 24h", "column: dep_delay, window: 25h",
            of: "FeatureService/flight_delay")
        #expect(fields.isEmpty)
    }

    @Test func featuresThatComeAndGoAreNamed() throws {
        func view(_ features: String) throws -> DefinitionSet {
            try DefinitionCompiler.compile([
                DefinitionFile(
                    path: "a.yaml", folder: "/",
                    text: """
                        kind: Entity
                        name: e
                        keys: [k]
                        ---
                        kind: Source
                        name: s
                        event_time: t
                        key: [k]
                        schema: [{name: k, type: string}, {name: t, type: timestamp}, {name: x, type: float64}]
                        ---
                        kind: FeatureView
                        name: v
                        owner: \(features.count > 60 ? "risk" : "sales")
                        entities: [e]
                        source: s
                        features: [\(features)]
                        """)
            ])
        }
        let before = try view("{name: a, aggregate: sum, column: x, window: 1h}")
        let after = try view(
            "{name: b, aggregate: mean, column: x, window: 2h}, {name: c, aggregate: count, window: 1d}")
        let fields = after.fieldChanges(of: "FeatureView/v", from: before)
        #expect(fields.map(\.path) == ["features.a", "features.b", "features.c"])
        #expect(fields[0].new == nil && fields[1].old == nil)
        #expect(fields[1].new?.contains("aggregate mean, column x, window 2h") == true, "\(fields)")
        #expect(before.owner(of: "FeatureView/v") == "sales" && after.owner(of: "FeatureView/v") == "risk")
    }
}
