import ContentHashing
import Definitions
import ModelRegistry
import PlatformCore
import StoragePorts
import Testing

@Suite struct VersionTests {
    @Test func givesBackExactlyWhatWasRegistered() async throws {
        let fixture = try await RegistryFixture()
        let candidate = try await fixture.candidate("one")
        let registered = try await fixture.registry.register(fixture.model, candidate, actor: "ada")
        let read = try await fixture.registry.version(fixture.model, 1)
        #expect(read == registered)
        #expect(read.candidate == candidate)
        #expect(read.createdBy == "ada")
        #expect(try await fixture.registry.stage(of: fixture.model, 1) == .development)
        #expect(try await fixture.registry.models() == [fixture.model])
        #expect(try await fixture.registry.versions(withArtifact: candidate.artifact.hash) == [read])
    }

    @Test func keepsWhatIsUnknownUnknown() async throws {
        let fixture = try await RegistryFixture()
        let artifact = try await fixture.content.put([1, 2, 3])
        let candidate = VersionCandidate(
            artifact: ModelArtifact(hash: artifact, byteCount: 3, format: "x", fileName: "m"), signature: nil,
            origin: VersionOrigin(dataset: artifact, serviceVersion: artifact, runID: "", jobID: "", seed: -1))
        try await fixture.registry.register(fixture.model, candidate, actor: "ada")
        #expect(try await fixture.registry.version(fixture.model, 1).candidate == candidate)
        // Without a run or a job nothing says that a second call is a repetition.
        try await fixture.registry.register(fixture.model, candidate, actor: "ada")
        #expect(try await fixture.registry.versions(of: fixture.model).map(\.number) == [1, 2])
    }

    @Test func aRepeatedRegistrationMakesNoSecondVersion() async throws {
        let fixture = try await RegistryFixture()
        #expect(try await fixture.register("one") == 1)
        #expect(try await fixture.register("one") == 1)
        #expect(try await fixture.register("two") == 2)
        #expect(fixture.events.map(\.kind) == ["model.version.registered", "model.version.registered"])
        #expect(fixture.events.map(\.subject) == ["model/flight_delay/versions/1", "model/flight_delay/versions/2"])
    }

    @Test func numbersHaveNoGapsUnderConcurrentRegistrations() async throws {
        let fixture = try await RegistryFixture()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<16 { group.addTask { _ = try await fixture.register("v\(index)") } }
            try await group.waitForAll()
        }
        #expect(try await fixture.registry.versions(of: fixture.model).map(\.number) == Array(1...16))
    }

    @Test func refusesAnArtifactThatIsNotStored() async throws {
        let fixture = try await RegistryFixture()
        let known = try await fixture.candidate("one")
        let unknown = ContentHash(bytes: [UInt8](repeating: 7, count: 32))
        let candidate = VersionCandidate(
            artifact: ModelArtifact(hash: unknown, byteCount: 1, format: "x", fileName: "m"), signature: nil,
            origin: known.origin)
        await #expect(throws: PlatformError.self) {
            try await fixture.registry.register(fixture.model, candidate, actor: "ada")
        }
        #expect(try await fixture.registry.versions(of: fixture.model).isEmpty)
    }

    @Test func saysThatAVersionIsUnknown() async throws {
        let fixture = try await RegistryFixture()
        do {
            _ = try await fixture.registry.version(fixture.model, 9)
            Issue.record("an unknown version was found")
        } catch let error as PlatformError {
            #expect(error.code == .notFound)
            #expect(error.subject == "model/flight_delay/versions/9")
        }
    }

    @Test func aliasesMoveAndTheirPastStays() async throws {
        let fixture = try await RegistryFixture()
        let best = "best"
        try await fixture.register("one")
        try await fixture.register("two")
        try await fixture.registry.setAlias(best, of: fixture.model, to: 1, actor: "ada")
        let first = fixture.clock.now()
        fixture.tick()
        try await fixture.registry.setAlias(best, of: fixture.model, to: 2, actor: "ada")
        let second = fixture.clock.now()
        fixture.tick()
        try await fixture.registry.setAlias(best, of: fixture.model, to: nil, actor: "ada")
        #expect(try await fixture.registry.aliases(of: fixture.model, at: first) == [best: 1])
        #expect(try await fixture.registry.aliases(of: fixture.model, at: second) == [best: 2])
        #expect(try await fixture.registry.aliases(of: fixture.model).isEmpty)
        await #expect(throws: PlatformError.self) {
            try await fixture.registry.setAlias(best, of: fixture.model, to: 3, actor: "ada")
        }
    }

    @Test func theCardNamesTheFactsAndEscapesWhatPeopleWrote() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        try await fixture.move(1, .staging)
        var facts = ModelCardFacts()
        facts.transitions = try await fixture.registry.transitions(of: fixture.model)
        facts.purpose = "Will it be late? <script>"
        facts.owner = "planning"
        let version = try await fixture.registry.version(fixture.model, 1)
        facts.evaluations = [
            .init(
                hash: ContentHasher.hash([1]), time: fixture.clock.now(), actor: "a|da", data: "file 1",
                rowCount: 7, metrics: ["auc": 0.5, "ece": 0.25])
        ]
        let page = ModelCard.htmlBody(version, facts, charts: "<svg></svg>")
        #expect(page.contains("Will it be late? &lt;script&gt;") && page.contains("<svg></svg>"))
        #expect(page.contains("<td>odd | name</td><td>a\nb</td>"))
        let card = ModelCard.markdown(version, facts)
        #expect(card.contains("| a\\|da | file 1 | 7 | auc 0.5, ece 0.25 |"))
        #expect(card.hasPrefix("# flight_delay version 1\n\nWill it be late? &lt;script>"))
        #expect(card.contains("| Stage | staging |"))
        #expect(card.contains("| odd \\| name | a b |"))
        for line in ["|  | test |", "| rows | 1000 |", "| auc | 0.7 |"] { #expect(card.contains(line), "\(line)") }
        #expect(card.contains("with uncommitted changes"))
        #expect(card.contains("development → staging | ada | checked |"))
    }
}
