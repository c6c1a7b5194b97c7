import Definitions
import PlatformCore
import Testing

/// A definition's version is the hash of what it means: what changes it, what does not, and what a change touches.
struct DefinitionChangeTests {
    private func changes(in file: String, _ old: String, _ new: String) throws -> [DefinitionChange] {
        let before = try DefinitionCompiler.compile(try Examples.files())
        return try DefinitionCompiler.compile(try Examples.files(in: file, replacing: old, with: new)).changes(
            from: before)
    }

    @Test(arguments: [
        ("features", "description: How punctually", "description: Whether punctually"),
        ("features", "owner: network-planning", "owner: somebody-else"),
        ("sources", "description: The operating plan", "description: A plan"),
        ("sources", "unit: miles", "unit: furlongs"),
        ("entities", "description: One aircraft", "description: A plane"),
        ("model", "description: Probability", "description: Chance"),
        ("operations", "description: Answers", "description: Replies"), ("model", "timeout: 10m", "timeout: 11m"),
        ("features", "description: hour of the New York clock", "description: hour"),
    ]) func wordsForPeopleAreNoChange(file: String, old: String, new: String) throws {
        #expect(try changes(in: file, old, new).isEmpty)
    }

    @Test func aChangedWindowNamesWhatItTouches() throws {
        let changes = try changes(in: "features", "column: dep_delay, window: 24h", "column: dep_delay, window: 25h")
        #expect(changes.allSatisfy { $0.kind == .change })
        let view = try #require(changes.first { $0.identifier == "FeatureView/plane_departures" })
        #expect(
            view.touches == [
                "Deployment/flight_delay", "FeatureService/flight_delay", "Model/flight_delay", "Monitor/flight_delay",
                "TrainingSet/flight_delay",
            ])
        // The versions of what reads the view change with it; its neighbours keep theirs.
        #expect(
            changes.map(\.identifier) == [
                "FeatureService/flight_delay", "FeatureView/plane_departures", "Model/flight_delay",
                "TrainingSet/flight_delay",
            ])
    }

    @Test(arguments: [
        ("features", "ttl: 3h", "ttl: 4h", "FeatureView/latest_weather"),
        ("features", "entities: [plane]", "inclusive: true\nentities: [plane]", "FeatureView/plane_departures"),
        ("features", "range: [0, 6000]", "range: [0, 7000]", "FeatureService/flight_delay"),
        ("features", "greater_than: 30", "greater_than: 31", "TrainingSet/flight_delay"),
        ("features", "horizon: 2d", "horizon: 3d", "TrainingSet/flight_delay"),
        ("sources", "range: [50, 5500]", "range: [51, 5500]", "Source/scheduled_flights"),
        ("sources", "scale: 0", "scale: 1", "Source/departures"),
        ("model", "seed: 7", "seed: 8", "Model/flight_delay"),
        ("model", "min: 0.78", "min: 0.79", "Model/flight_delay"),
        ("operations", "share: 10%", "share: 11%", "Deployment/flight_delay"),
        ("operations", "above: 1.0", "above: 1.1", "Monitor/flight_delay"),
    ]) func whatItMeansIsAChange(file: String, old: String, new: String, identifier: String) throws {
        let changed = try changes(in: file, old, new)
        #expect(changed.contains { $0.identifier == identifier && $0.kind == .change }, "\(changed)")
    }

    @Test func aSourcesTimesChangeTheVersionOfItsViews() throws {
        let changed = try changes(in: "sources", "ingest_time: known_at", "ingest_time: observed_at").map(\.identifier)
        #expect(changed.contains("FeatureView/latest_weather"))
        #expect(!changed.contains("FeatureView/plane_departures"))
    }

    @Test func newAndRemovedDefinitionsAreNamed() throws {
        let all = try DefinitionCompiler.compile(try Examples.files())
        let created = all.changes(from: DefinitionSet())
        #expect(created.count == all.meanings.count && created.allSatisfy { $0.kind == .create && $0.touches.isEmpty })
        #expect(created.map(\.identifier) == created.map(\.identifier).sorted())
        let removed = DefinitionSet().changes(from: all)
        #expect(removed.count == all.meanings.count && removed.allSatisfy { $0.kind == .remove })
        #expect(removed.first { $0.identifier == "Entity/route" }?.touches.contains("Monitor/flight_delay") == true)
        #expect(all.changes(from: all).isEmpty)
    }

    @Test func orderOfFilesAndDocumentsDoesNotMatter() throws {
        let files = try Examples.files()
        #expect(try DefinitionCompiler.compile(files.reversed()) == DefinitionCompiler.compile(files))
    }

    @Test func versionNamesAreNames() throws {
        let set = try DefinitionCompiler.compile(try Examples.files())
        for view in set.featureViews.values {
            #expect(view.versionName.text == "\(view.name).v\(view.version.hex.prefix(8))")
        }
        #expect(set.featureViews[Name(static: "latest_weather")]?.reach == .hours(3))
        #expect(set.featureViews[Name(static: "plane_departures")]?.reach == .days(7))
        #expect(try #require(set.featureViews[Name(static: "aircraft")]).reach == nil)
    }
}
