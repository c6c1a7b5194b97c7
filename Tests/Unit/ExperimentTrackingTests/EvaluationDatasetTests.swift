import ContentHashing
import ExperimentTracking
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

/// Datasets of evaluations and scorers, as they are kept.
struct EvaluationDatasetTests {
    private func draft(_ question: String, _ more: [String: JSONValue] = [:]) -> EvaluationDraft {
        EvaluationDraft(
            inputs: ["question": .string(question)], outputs: more["outputs"],
            expectations: more["expectations"]?.objectValue, tags: more["tags"]?.objectValue)
    }

    @Test func aMergeIsWholeOrNotAtAll() async throws {
        let fixture = try await TrackingFixture()
        let id = try await fixture.store.createEvaluationDataset(name: "qa").id
        let large = JSONValue.string(String(repeating: "x", count: EvaluationLimits.recordByteCount))
        await #expect(throws: PlatformError.self) {
            _ = try await fixture.store.mergeRecords(
                [draft("a"), draft("b", ["outputs": large])], ofEvaluationDataset: id)
        }
        let kept = try await fixture.store.evaluationDataset(id)
        #expect(try await fixture.store.records(ofEvaluationDataset: id).records.isEmpty)
        #expect(kept.schema == nil && kept.profile == nil)
    }

    @Test func recordsKeepTheirBeginningAndTakeWhatIsNew() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let id = try await store.createEvaluationDataset(name: "qa").id
        let first = try await store.mergeRecords(
            [draft("a", ["outputs": "old", "expectations": ["x": 1], "tags": ["mlflow.user": "ada"]]), draft("b")],
            ofEvaluationDataset: id)
        #expect(first == (2, 0))
        let before = try await store.evaluationDataset(id)
        fixture.clock.advance(to: EventTime(milliseconds: before.updatedAt.milliseconds + 5000))
        let second = try await store.mergeRecords(
            [draft("a", ["expectations": ["y": 2]]), draft("a", ["outputs": nil]), draft("c")], ofEvaluationDataset: id)
        #expect(second == (1, 2))
        let (records, token) = try await fixture.reopened().records(ofEvaluationDataset: id)
        #expect(token == nil && records.map(\.inputs) == ["a", "b", "c"].map { "{\"question\":\"\($0)\"}" })
        #expect(records[0].outputs == nil && records[1].outputs == "{}")
        #expect(records[0].expectations == "{\"x\":1,\"y\":2}")
        #expect(records[0].updatedAt.milliseconds - records[0].createdAt.milliseconds == 5000)
        #expect(records[0].updatedBy == "ada")
        let after = try await store.evaluationDataset(id)
        #expect(after.digest != before.digest && after.profile == "{\"num_records\": 3}")
    }

    @Test func pagesHoldEveryRecordOnce() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let id = try await store.createEvaluationDataset(name: "qa").id
        let other = try await store.createEvaluationDataset(name: "other").id
        for portion in 0..<3 {
            fixture.clock.advance(to: EventTime(milliseconds: 1_700_000_000_000 + Int64(portion)))
            _ = try await store.mergeRecords((0..<7).map { draft("\(portion) \($0)") }, ofEvaluationDataset: id)
        }
        var (seen, token): ([String], String?) = ([], nil)
        repeat {
            let page = try await store.records(ofEvaluationDataset: id, pageToken: token, countMax: 4)
            seen += page.records.map(\.id)
            token = page.nextPageToken
        } while token != nil
        #expect(seen.count == 21 && Set(seen).count == 21)
        let page = try await store.records(ofEvaluationDataset: id, countMax: 4)
        await #expect(throws: PlatformError.self) {
            _ = try await store.records(ofEvaluationDataset: other, pageToken: page.nextPageToken)
        }
    }

    @Test func aSchemaNamesOnlySoManyFields() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let id = try await store.createEvaluationDataset(name: "qa").id
        let fields = (0...EvaluationLimits.schemaFields).map { ("f\($0)", JSONValue.integer(1)) }
        let draft = EvaluationDraft(inputs: Dictionary(fields, uniquingKeysWith: { $1 }), outputs: ["x": 1])
        _ = try await store.mergeRecords([draft], ofEvaluationDataset: id)
        let schema = try JSONValue.parse(await store.evaluationDataset(id).schema ?? "")
        #expect(schema["inputs"]?.objectValue?.count == EvaluationLimits.schemaFields)
        #expect(schema["outputs"] == ["x": "integer"])
    }

    @Test func aPageOfDatasetsEndsWhereItWouldBeTooLong() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let long = String(repeating: "x", count: EvaluationLimits.tagValue)
        var made: [String] = []
        for number in 0..<6 {
            let tags = (0..<(number == 3 ? 0 : EvaluationLimits.tagsPerDataset)).map { TrackedTag("t\($0)", long) }
            made.append(try await store.createEvaluationDataset(name: "d\(number)", tags: tags).id)
            _ = fixture.clock.advance(to: EventTime(milliseconds: fixture.clock.now().milliseconds + 1))
        }
        var (found, sizes, token): ([String], [Int], String?) = ([], [], nil)
        repeat {
            let page = try await store.searchEvaluationDatasets(pageToken: token, countMax: 50)
            found += page.datasets.map(\.id)
            sizes.append(page.datasets.count)
            token = page.nextPageToken
        } while token != nil
        #expect(found == made.reversed())
        #expect(sizes == [4, 2], "three of five megabytes and a bare one")
    }

    /// Their inputs were told apart where they come from, by a number that is no JSON.
    @Test func importedRecordsOfTheSameInputsAreSeveral() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let id = try await store.createEvaluationDataset(name: "qa").id
        let imported = (1...3).map { number in
            let time = EventTime(milliseconds: Int64(number))
            return EvaluationRecord(
                id: "dr-\(number)", inputs: "{\"question\":null}", outputs: "\(number)", expectations: nil, tags: "{}",
                source: nil, sourceID: nil, sourceType: nil, createdAt: time, updatedAt: time, createdBy: nil,
                updatedBy: nil)
        }
        for _ in 0..<2 {
            try await store.importRecords(imported, ofEvaluationDataset: id)
            #expect(try await store.records(ofEvaluationDataset: id).records == imported)
        }
        try await store.importRecords([imported[1]], ofEvaluationDataset: id)
        #expect(try await store.records(ofEvaluationDataset: id).records == imported)
        let draft = EvaluationDraft(inputs: ["question": .null], outputs: "merged")
        #expect(try await store.mergeRecords([draft], ofEvaluationDataset: id) == (0, 1))
        #expect(try await store.records(ofEvaluationDataset: id).records.map(\.outputs) == ["\"merged\"", "2", "3"])
    }

    @Test func anImportedRecordTakesNoIdentityOfAnotherDataset() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let (id, other) = (
            try await store.createEvaluationDataset(name: "qa").id,
            try await store.createEvaluationDataset(name: "other").id
        )
        _ = try await store.mergeRecords([draft("a")], ofEvaluationDataset: other)
        let before = try await store.records(ofEvaluationDataset: other).records
        let time = EventTime(milliseconds: 7)
        let clash = EvaluationRecord(
            id: before[0].id, inputs: "{\"question\":\"b\"}", outputs: "1", expectations: nil, tags: "{}", source: nil,
            sourceID: nil, sourceType: nil, createdAt: time, updatedAt: time, createdBy: nil, updatedBy: nil)
        await #expect {
            try await store.importRecords([clash], ofEvaluationDataset: id)
        } throws: {
            ($0 as? PlatformError)?.code == .conflict
        }
        #expect(try await store.records(ofEvaluationDataset: other).records == before)
        #expect(try await store.records(ofEvaluationDataset: id).records.isEmpty)
    }

    @Test func aDeletedDatasetLeavesNothing() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let id = try await store.createEvaluationDataset(
            name: "qa", tags: [TrackedTag("a", "b")], experiments: ["0"]
        ).id
        _ = try await store.mergeRecords([draft("a")], ofEvaluationDataset: id)
        try await store.deleteEvaluationDataset(id)
        for table in ["", "_tag", "_experiment"] {
            let rows = try await fixture.metadata.read { transaction in
                try transaction.query("SELECT * FROM tracking_evaluation_dataset\(table)")
            }
            #expect(rows.isEmpty)
        }
        #expect(try await store.records(ofEvaluationDataset: id).records.isEmpty)
    }

    @Test func aScorerThatIsThereIsImportedOnce() async throws {
        let fixture = try await TrackingFixture()
        let store = fixture.store
        let made = try await store.registerScorer("kind", inExperiment: "0", document: "{}")
        let there = ScorerVersion(
            scorerID: "elsewhere", experimentID: "0", name: "kind", version: 3, document: "{\"a\":1}",
            createdAt: EventTime(milliseconds: 7))
        #expect(try await store.importScorer(there))
        #expect(try await !store.importScorer(there))
        let versions = try await store.versions(ofScorer: "kind", inExperiment: "0")
        #expect(versions.map(\.version) == [1, 3] && versions.allSatisfy { $0.scorerID == made.scorerID })
        #expect(try await store.registerScorer("kind", inExperiment: "0", document: "{}").version == 4)
        let changed = ScorerVersion(
            scorerID: "elsewhere", experimentID: "0", name: "kind", version: 3, document: "{}",
            createdAt: EventTime(milliseconds: 7))
        await #expect(throws: PlatformError.self) { _ = try await store.importScorer(changed) }
    }
}
