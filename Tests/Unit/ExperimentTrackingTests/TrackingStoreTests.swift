import ContentHashing
import ExperimentTracking
import Foundation
import PlatformCore
import Testing

struct TrackingStoreTests {
    let fixture: TrackingFixture
    var store: TrackingStore { fixture.store }

    init() async throws { fixture = try await TrackingFixture() }

    private func at(_ milliseconds: Int64) -> EventTime { EventTime(milliseconds: milliseconds) }

    private func code(_ body: () async throws -> Void) async -> PlatformError.Code? {
        do { try await body() } catch { return (error as? PlatformError)?.code }
        return nil
    }

    @Test func aJobPreparesARunAndReadsItBack() async throws {
        let experiment = try await store.findOrCreateExperiment(named: "delays")
        #expect(try await store.findOrCreateExperiment(named: "delays") == experiment)
        let run = try await store.createRun(
            experiment: experiment, name: "job 7",
            tags: [TrackedTag("bottega.job", "7"), TrackedTag("bottega.seed", "1")])
        #expect(run.info.status == .running)
        #expect(run.tag("mlflow.runName") == "job 7")
        try await store.logMetrics([Metric("auc", 0.75, measuredAt: at(5))], run: run.info.id)
        try await store.finishRun(run.info.id)
        let kept = try await store.run(run.info.id)
        #expect(kept.info.status == .finished)
        #expect(kept.info.endedAt == fixture.clock.now())
        #expect(kept.metric("auc") == 0.75)
        #expect(kept.tag("bottega.job") == "7")
    }

    @Test func aBatchIsAllOrNothing() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        try await store.logBatch(run: id, params: [TrackedTag("p", "1")])
        try await store.logBatch(run: id, params: [TrackedTag("p", "1")])
        let refused = await code {
            try await store.logBatch(
                run: id, metrics: [Metric("m", 1, measuredAt: at(1))], params: [TrackedTag("p", "2")])
        }
        #expect(refused == .invalidInput)
        let kept = try await store.run(id)
        #expect(kept.metrics.isEmpty)
        #expect(kept.params == [TrackedTag("p", "1")])
    }

    @Test(arguments: UInt64(0)..<8)
    func theLatestMetricIsTheGreatestOfItsHistory(seed: UInt64) async throws {
        var generator = SeededGenerator(state: seed)
        let id = try await store.createRun(experiment: "0").info.id
        var all: [Metric] = []
        for _ in 0..<6 {
            let batch = (0..<Int.random(in: 1...120, using: &generator)).map { _ in
                Metric(
                    "m", Double(Int.random(in: -3...3, using: &generator)),
                    measuredAt: at(.random(in: 0...4, using: &generator)),
                    step: .random(in: -2...4, using: &generator))
            }
            try await store.logMetrics(batch, run: id)
            try await store.logMetrics(batch, run: id)  // sent again after a lost answer
            all += batch
        }
        let latest = try #require(try await store.latestMetrics(id).first)
        let expected = try #require(
            all.max { ($0.step, $0.measuredAt, $0.value) < ($1.step, $1.measuredAt, $1.value) })
        #expect(latest == expected)
        let history = try await store.metricHistory(run: id, key: "m")
        #expect(history.points.count == Set(all).count)
        #expect(Set(history.points.map { Metric("m", $0.value, measuredAt: $0.measuredAt, step: $0.step) }) == Set(all))
    }

    @Test func historyComesInPages() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        try await store.logMetrics((0..<95).map { Metric("m", Double($0), measuredAt: at(Int64($0))) }, run: id)
        var seen: [Double] = []
        var after: MetricPoint?
        repeat {
            let page = try await store.metricHistory(run: id, key: "m", after: after, countMax: 20)
            seen += page.points.map(\.value)
            after = page.hasMore ? page.points.last : nil
        } while after != nil
        #expect(seen == (0..<95).map(Double.init))
    }

    @Test func numbersThatAreNoneAreKeptAsTheClientExpects() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        try await store.logMetrics(
            [Metric("nan", .nan, measuredAt: at(1)), Metric("big", .infinity, measuredAt: at(1))], run: id)
        let kept = try await store.run(id)
        #expect(kept.metric("nan")?.isNaN == true)
        #expect(kept.metric("big") == Double.greatestFiniteMagnitude)
        let found = try await store.searchRuns(experiments: ["0"], filter: SearchFilter("metrics.nan > -1"))
        #expect(found.runs.isEmpty)
    }

    @Test func aDeletedRunTakesNothing() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        try await store.setRun(id, deleted: true)
        #expect(await code { try await store.setTag(TrackedTag("a", "b"), ofRun: id) } == .invalidInput)
        #expect(await code { _ = try await store.run("nothing") } == .notFound)
        #expect(try await store.searchRuns(experiments: ["0"]).runs.isEmpty)
        #expect(try await store.searchRuns(experiments: ["0"], view: .deleted).runs.count == 1)
    }

    @Test func deletingAnExperimentTakesItsRunsAlong() async throws {
        let id = try await store.createExperiment(name: "e")
        let run = try await store.createRun(experiment: id).info.id
        try await store.setExperiment(id, deleted: true)
        #expect(try await store.runInfo(run).isDeleted)
        #expect(await code { _ = try await store.createExperiment(name: "e") } == .conflict)
        #expect(await code { _ = try await store.createRun(experiment: id) } == .invalidInput)
        try await store.setExperiment(id, deleted: false)
        #expect(try await !store.runInfo(run).isDeleted)
    }

    @Test func limitsAreKept() async throws {
        let id = try await store.createRun(experiment: "0").info.id
        let long = String(repeating: "x", count: 9000)
        try await store.setTag(TrackedTag("k", long), ofRun: id)
        #expect(try await store.run(id).tags.contains(TrackedTag("k", String(repeating: "x", count: 8000))))
        #expect(await code { try await store.setTag(TrackedTag("", "v"), ofRun: id) } == .invalidInput)
        #expect(await code { try await store.setTag(TrackedTag("../k", "v"), ofRun: id) } == .invalidInput)
        let many = (0...1000).map { Metric("m", Double($0), measuredAt: at(Int64($0))) }
        #expect(await code { try await store.logMetrics(many, run: id) } == .invalidInput)
    }

    // MARK: Artifacts

    @Test func equalBytesAreStoredOnceAndReplacedByNewOnes() async throws {
        try await store.putArtifact([1, 2, 3], at: "0/r/artifacts/a.bin")
        let file = fixture.folder + "/upload"
        _ = FileManager.default.createFile(atPath: file, contents: Data([1, 2, 3]))
        try await store.putArtifact(fileAt: file, at: "0/r/artifacts/deep/b.bin")
        #expect(fixture.objects.count == 1)
        try await store.putArtifact([9], at: "0/r/artifacts/a.bin")
        #expect(try await store.artifactBytes(at: "0/r/artifacts/a.bin") == [9])
        #expect(try await store.artifactBytes(at: "0/r/artifacts/deep/b.bin") == [1, 2, 3])
    }

    /// Parts in any order, several at once, some a second time with other bytes.
    @Test(arguments: UInt64(0)..<12) func partsMakeTheFileWhoseHashIsKept(seed: UInt64) async throws {
        var random = SeededGenerator(state: seed)
        let count = Int.random(in: 1...9, using: &random)
        let size = Int.random(in: 1...3000, using: &random)
        func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) } }
        var parts = (1..<max(1, count)).map { _ in bytes(size) }
        parts.append(bytes(Int.random(in: 1...size, using: &random)))
        let id = try await store.beginUpload(at: "0/r/artifacts/whole.bin", partCount: count)
        let (store, folder) = (store, fixture.folder)
        @Sendable func put(_ number: Int, _ bytes: [UInt8], _ mark: String) async throws {
            // Some in their place at once, after one that ended early or beside one that is late.
            if (Int(seed) + number) % 4 != 0,
                let room = store.room(forPart: number, ofUpload: id, byteCount: bytes.count)
            {
                if (Int(seed) + number) % 4 == 1 {
                    try bytes.prefix(1).withUnsafeBytes { try room.write($0) }
                    store.giveBack(room)
                } else if (Int(seed) + number) % 4 == 2 {
                    for portion in [bytes.prefix(bytes.count / 3), bytes.dropFirst(bytes.count / 3)] {
                        try portion.withUnsafeBytes { try room.write($0) }
                    }
                    _ = try await store.takePart(in: room)
                    return
                }
            }
            let file = "\(folder)/part-\(mark)-\(number)"
            _ = FileManager.default.createFile(atPath: file, contents: Data(bytes))
            _ = try await store.putPart(number, ofUpload: id, fileAt: file)
        }
        for number in (1...count).shuffled(using: &random) where seed % 3 == 0 || Bool.random(using: &random) {
            try await put(number, bytes(parts[number - 1].count), "first")
        }
        let order = (1...count).shuffled(using: &random)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in order {
                let part = parts[number - 1]
                group.addTask { try await put(number, part, "second") }
            }
            try await group.waitForAll()
        }
        try await store.completeUpload(id, at: "0/r/artifacts/whole.bin")
        let whole = parts.flatMap { $0 }
        #expect(try await store.artifactBytes(at: "0/r/artifacts/whole.bin") == whole)
        #expect(try await store.artifact(at: "0/r/artifacts/whole.bin").hash == ContentHasher.hash(whole))
    }

    @Test func aLateWriterOfAPartSpoilsNothing() async throws {
        let path = "0/r/artifacts/late.bin"
        let id = try await store.beginUpload(at: path, partCount: 2)
        let room = try #require(store.room(forPart: 1, ofUpload: id, byteCount: 3))
        try [UInt8]([9, 9]).withUnsafeBytes { try room.write($0) }
        #expect(store.room(forPart: 1, ofUpload: id, byteCount: 3) == nil)
        let file = fixture.folder + "/part"
        for (number, bytes) in [(1, [1, 2, 3]), (2, [4])] as [(Int, [UInt8])] {
            _ = FileManager.default.createFile(atPath: file, contents: Data(bytes))
            _ = try await store.putPart(number, ofUpload: id, fileAt: file)
        }
        #expect(throws: PlatformError.self) { try [UInt8]([9]).withUnsafeBytes { try room.write($0) } }
        #expect(await code { _ = try await store.takePart(in: room) } == .conflict)
        try await store.completeUpload(id, at: path)
        #expect(try await store.artifactBytes(at: path) == [1, 2, 3, 4])
        #expect(store.room(forPart: 1, ofUpload: id, byteCount: 3) == nil)
    }

    @Test func aPartThatEndsEarlyIsNoPart() async throws {
        let path = "0/r/artifacts/early.bin"
        let id = try await store.beginUpload(at: path, partCount: 1)
        let long = try #require(store.room(forPart: 1, ofUpload: id, byteCount: 5))
        try [UInt8]([9, 9, 9, 9]).withUnsafeBytes { try long.write($0) }
        #expect(throws: PlatformError.self) { try [UInt8]([9, 9]).withUnsafeBytes { try long.write($0) } }
        #expect(await code { _ = try await store.takePart(in: long) } == .conflict)
        store.giveBack(long)
        #expect(await code { try await store.completeUpload(id, at: path) } == .invalidInput)
        let short = try #require(store.room(forPart: 1, ofUpload: id, byteCount: 2))
        try [UInt8]([1, 2]).withUnsafeBytes { try short.write($0) }
        _ = try await store.takePart(in: short)
        try await store.completeUpload(id, at: path)
        #expect(try await store.artifactBytes(at: path) == [1, 2])
    }

    @Test func foldersAreListedByTheirDirectMembers() async throws {
        let run = try await store.createRun(experiment: "0")
        let root = try #require(TrackingStore.artifactPath(ofURI: run.info.artifactURI))
        for name in ["model/MLmodel", "model/data/m.ubj", "model/data/n.ubj", "model2/x", "a.txt"] {
            try await store.putArtifact(Array(name.utf8), at: "\(root)/\(name)")
        }
        let top = try await store.artifacts(run: run.info.id)
        #expect(top.map(\.path) == ["a.txt", "model", "model2"])
        #expect(top.map(\.isFolder) == [false, true, true])
        #expect(
            try await store.artifacts(run: run.info.id, path: "model").map(\.path) == ["model/MLmodel", "model/data"])
        #expect(try await store.artifacts(run: run.info.id, path: "nothing").isEmpty)
        #expect(try await store.artifactBytes(run: run.info.id, path: "a.txt") == Array("a.txt".utf8))
        try await store.deleteArtifacts(at: "\(root)/model")
        #expect(try await store.artifacts(run: run.info.id).map(\.path) == ["a.txt", "model2"])
    }

    @Test(arguments: [
        "", "/a", "a//b", "a/", "../a", "a/../b", "a/./b", "%2e%2e/a", "a/%252e%252e/b", "a\\b", "a\u{0}b", "file:/a",
        "a%2f..%2fb",
    ])
    func pathsThatLeaveTheirFolderAreRefused(path: String) async {
        #expect(await code { try await store.putArtifact([1], at: path) } == .invalidInput)
    }

    // MARK: Logged models

    @Test func aLoggedModelGoesFromPendingToReady() async throws {
        let run = try await store.createRun(experiment: "0")
        let model = try await store.createLoggedModel(
            experiment: "0", name: "model", sourceRunID: run.info.id, params: [TrackedTag("depth", "3")])
        #expect(model.status == .pending)
        try await store.logMetrics([Metric("auc", 0.5, measuredAt: at(1), modelID: model.id)], run: run.info.id)
        try await store.logOutputs(run: run.info.id, models: [ModelOutput(modelID: model.id, step: 0)])
        _ = try await store.finalizeLoggedModel(model.id, status: .ready)
        let kept = try #require(try await store.loggedModels(ofRun: run.info.id).first)
        #expect(kept.status == .ready)
        #expect(kept.metrics.map(\.metric.value) == [0.5])
        #expect(try await store.run(run.info.id).modelOutputs.map(\.modelID) == [model.id])
        let root = try #require(TrackingStore.artifactPath(ofURI: kept.artifactURI))
        try await store.putArtifact([7], at: "\(root)/model.ubj")
        #expect(try await store.artifactBytes(loggedModel: model.id, path: "model.ubj") == [7])
    }
}
