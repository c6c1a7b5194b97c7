import Definitions
import Foundation
import PlatformCore
import PlatformTesting
import RuntimePorts
import StoragePorts
import Synchronization
import Testing

@testable import ModelServing

/// The weighted sum of `LinearModel`, which has to be waited for; a first feature above 100 makes it fail or answer no number.
private struct LateModel: DeferredModel {
    let base: LinearModel
    var description: ModelDescription { base.description }
    let parallelism = 1

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        await Task.yield()
        let distances = (0..<rowCount).map { rows[$0 * 5 + 1] }
        if distances.contains(5000) { throw ModelError(.unavailable, "gone") }
        let answers = try base.predict(rows, rowCount: rowCount)
        return zip(answers, distances).map { $1 == 4000 ? .nan : $0 }
    }
}

/// A model that counts who keeps it ready.
private final class KeptModel: DeferredModel {
    let base: LinearModel
    let keepers = Mutex(0)
    var description: ModelDescription { base.description }
    let parallelism = 1

    init(_ base: LinearModel) { self.base = base }

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    { try base.predict(rows, rowCount: rowCount) }

    func keepReady() -> ReadyModel? {
        keepers.withLock { $0 += 1 }
        return ReadyModel { [self] in keepers.withLock { $0 -= 1 } }
    }
}

/// Twice the one feature of a row; refuses calls with a negative one, dies of a 5000, and counts its calls.
private final class FussyModel: DeferredModel {
    let callCount = Mutex(0)
    let parallelism = 1
    let description = ModelDescription(
        format: "test", featureNames: ["x"], featureCount: 1, categoricalFeatures: [], outputCount: 1, output: .value,
        objective: "test", treeCount: 0)

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        callCount.withLock { $0 += 1 }
        if rows.contains(5000) { throw ModelError(.unavailable, "gone") }
        if let bad = rows.first(where: { $0 < 0 }) { throw ModelError(.shapeMismatch, "no \(Int(bad))") }
        return rows.map { 2 * $0 }
    }
}

struct DeferredPredictionTests {
    @Test(arguments: [[Float](), [17], [0, 99], [3, 50, 51]]) func aRefusedRowCostsTheOthersFewCalls(bad: [Float]) async
    {
        let model = FussyModel()
        let rows = (0..<100).map { Float($0) }.map { bad.contains($0) ? -$0 - 1 : $0 }
        for (row, outcome) in zip(rows, await model.predictions(of: rows, rowCount: 100)) {
            switch outcome {
            case .success(let output): #expect(row >= 0 && output == [2 * row])
            case .failure(let error): #expect(row < 0 && error.message == "no \(Int(row))", "each says its own reason")
            }
        }
        #expect(model.callCount.withLock { $0 } <= 1 + 14 * bad.count)
    }

    @Test func callsForRefusedRowsAreBounded() async {
        let few = FussyModel()
        let apart = await few.predictions(of: (1...64).map { -Float($0) }, rowCount: 64)
        #expect(apart.enumerated().allSatisfy { $1 == .failure(ModelError(.shapeMismatch, "no \(-$0 - 1)")) })
        let many = FussyModel()
        let outcomes = await many.predictions(of: [Float](repeating: -1, count: 4000), rowCount: 4000)
        #expect(outcomes.count == 4000)
        for case .failure(let error) in outcomes { #expect(error.message.contains("some row of")) }
        #expect(many.callCount.withLock { $0 } == 1 + RowRefusals.furtherCallCountMax)
    }

    @Test func afterAnErrorThatIsNoRowsNothingIsAskedAgain() async {
        let gone = FussyModel()
        let outcomes = await gone.predictions(of: [1, -2, 5000, 4], rowCount: 4)
        #expect(outcomes == Array(repeating: .failure(ModelError(.unavailable, "gone")), count: 4))
        #expect(gone.callCount.withLock { $0 } == 1)
    }

    private let weights: [Float] = [1, 2, 4, 8, 16]

    private func predictor(
        _ versions: [(any LoadedModel, Double)], shadows: [any LoadedModel] = [], log: PredictionLog? = nil
    ) throws -> Predictor {
        let routes = RouteTable()
        let clock = ManualClock(startingAt: ServingFixture.start)
        let binding = try ServingFixture.binding()
        let served = try versions.enumerated().map { index, version in
            (try ServingFixture.version(index + 1, version.0, binding: binding), version.1)
        }
        let shadows = try shadows.enumerated().map { try ServingFixture.version(10 + $0, $1, binding: binding) }
        routes.publish(try ServingFixture.route(served, shadows: shadows), for: ServingFixture.model)
        return Predictor(
            routes: routes, log: log ?? ServingFixture.log(), metrics: ServingMetrics(),
            clock: clock, identifiers: IdentifierSource(clock: clock))
    }

    @Test func aRouteKeepsItsModelsReadyAsLongAsItIsThere() throws {
        let models = (0..<3).map { _ in KeptModel(LinearModel(weights: weights)) }
        let versions = try models.enumerated().map { try ServingFixture.version($0 + 1, $1) }
        let routes = RouteTable()
        func publish(_ main: Int, shadow: Int, reserve: Int) throws {
            let definition = try ServingFixture.route([(versions[main], 1)]).definition
            routes.publish(
                DeploymentRoute(
                    definition: definition, revision: 1, variants: [.init(version: versions[main], share: 1)],
                    shadows: [versions[shadow]], reserve: [versions[reserve]]), for: ServingFixture.model)
        }
        func keepers() -> [Int] { models.map { $0.keepers.withLock { $0 } } }
        try publish(0, shadow: 1, reserve: 1)
        #expect(keepers() == [1, 1, 0])
        try publish(2, shadow: 2, reserve: 0)
        #expect(keepers() == [1, 0, 1])
        routes.publish(nil, for: ServingFixture.model)
        #expect(keepers() == [0, 0, 0])
    }

    private func request(distances: [Int]) -> [UInt8] {
        let instances = distances.map { distance -> JSONValue in
            [
                "entities": ["tailnum": "N123UA", "origin": "EWR"],
                "features": ["carrier": "UA", "distance": .integer(Int64(distance)), "hour": 9],
            ]
        }
        return JSONValue.object(["instances": .array(instances)]).canonicalBytes
    }

    private func ask(_ predictor: Predictor, _ body: [UInt8]) async throws -> (Predictor.Answer, JSONValue) {
        let answer = await predictor.answerLater(model: "delay", body: body, caller: "", explaining: .asked)
        return (answer, try JSONValue.parse(answer.body))
    }

    @Test func anAnswerThatIsWaitedForIsTheOneThatIsGivenAtOnce() async throws {
        let native = try predictor([(LinearModel(weights: weights), 1)])
        let late = try predictor([(LateModel(base: LinearModel(weights: weights)), 1)])
        let body = request(distances: [1, 733, 2999])
        let (_, first) = try await ask(native, body)
        let (answer, second) = try await ask(late, body)
        func numbers(_ answer: JSONValue) -> [Double?] {
            answer["predictions"]?.arrayValue?.map { $0["prediction"]?.doubleValue } ?? []
        }
        #expect(numbers(first).count == 3)
        #expect(numbers(first) == numbers(second))
        #expect(answer.status == 200)
        #expect(answer.entries.count == 3)
        let left = body.withUnsafeBytes {
            late.answer(model: "delay", body: $0, caller: "", scratch: PredictionScratch())
        }
        #expect(left.isLeft, "an event loop does not wait")
    }

    @Test func theFallbackAnswersForAModelThatFailsAndForOneThatAnswersNoNumber() async throws {
        let late = try predictor([(LateModel(base: LinearModel(weights: weights)), 1)])
        let (_, mixed) = try await ask(late, request(distances: [1, 4000, 2]))
        let answers = mixed["predictions"]?.arrayValue ?? []
        #expect(answers.map { $0["fallback"]?.boolValue } == [false, true, false])
        let reason = answers.count == 3 ? answers[1]["fallback_reason"]?.stringValue : nil
        #expect(reason == "the model gave a value that is no finite number")
        #expect(late.metrics.fallbacks().filter { $0.key.cause == .noNumber }.values.reduce(0, +) == 1)
        let (failed, all) = try await ask(late, request(distances: [1, 5000]))
        #expect(failed.status == 200)
        let numbers = all["predictions"]?.arrayValue?.map { $0["prediction"]?.doubleValue }
        #expect(numbers == [0.25, 0.25])
    }

    @Test func faultsOfARequestAreWordedAsEver() async throws {
        let late = try predictor([(LateModel(base: LinearModel(weights: weights)), 1)])
        let (answer, body) = try await ask(late, request(distances: [1, 7000]))
        #expect(answer.status == 422)
        #expect(body["error"]?["message"]?.stringValue?.contains("instances[1].features.distance") == true)
        #expect(answer.entries.isEmpty)
    }

    @Test func shadowsThatAreWaitedForFollowTheirPrediction() async throws {
        let events = InMemoryEventLog()
        try await events.createTopic(PlatformTopic.predictions, partitions: 1)
        let log = ServingFixture.log(events)
        let predictor = try predictor(
            [(LinearModel(weights: weights), 1)],
            shadows: [LateModel(base: LinearModel(weights: weights)), LinearModel(weights: weights)], log: log)
        let (answer, _) = try await ask(predictor, request(distances: [1, 4000, 3]))
        #expect(log.offer(answer.entries))
        log.close()
        await log.run()
        let records = try await events.read(PlatformTopic.predictions, from: 0).map {
            try PredictionRecord(decoding: $0.record.value)
        }
        #expect(records.map(\.version) == [1, 11, 1, 11, 1, 11, 10, 10])
        #expect(log.shadowFailures == 1)
        let main = Dictionary(records.map { ($0.id, $0.output) }, uniquingKeysWith: { first, _ in first })
        for record in records { #expect(record.output == main[record.id]) }
    }

    /// Neither a durable answer nor the log waits for a shadow that hangs.
    @Test(.timeLimit(.minutes(5))) func aShadowThatHangsHoldsNobodyUp() async throws {
        let events = InMemoryEventLog()
        try await events.createTopic(PlatformTopic.predictions, partitions: 1)
        let log = ServingFixture.log(events)
        let gate = Gate()
        let predictor = try predictor(
            [(LinearModel(weights: weights), 1)],
            shadows: [GatedModel(base: LinearModel(weights: weights), gate: gate)], log: log)
        async let running: Void = log.run()
        for distance in 1...3 {
            let (answer, _) = try await ask(predictor, request(distances: [distance]))
            #expect(await log.take(answer.entries, policy: .durable))
        }
        let before = try await events.read(PlatformTopic.predictions, from: 0)
        #expect(before.count == 3 && log.pending == 0)
        gate.open()
        log.close()
        await running
        let records = try await events.read(PlatformTopic.predictions, from: 0).map {
            try PredictionRecord(decoding: $0.record.value)
        }
        #expect(records.map(\.version) == [1, 1, 1, 10, 10, 10] && log.shadowFailures == 0)
        let archive = PredictionArchive(log: events, content: ContentStore(base: try InMemoryObjectStore())) { _, _ in
            LinearModel(weights: [])
        }
        #expect(try await archive.find(records[1].id).map(\.version) == [1, 10], "also where others stand between")
    }

    /// What a slow shadow has no room for is left out and counted, not kept.
    @Test func theLaneOfShadowsIsBounded() async throws {
        let binding = try ServingFixture.binding()
        let shadow = try ServingFixture.version(10, LateModel(base: LinearModel(weights: weights)), binding: binding)
        let lane = DeferredShadows()
        let questions = (0..<(DeferredShadows.capacity + 5)).map {
            DeferredShadows.Question(record: ServingFixture.record($0), shadow: shadow)
        }
        #expect(lane.take(questions).map(\.record.id) == questions.suffix(5).map(\.record.id))
        #expect(lane.take(Array(questions.prefix(1))).count == 1)
        #expect(await lane.next()?.count == DeferredShadows.capacity)
        #expect(lane.take(Array(questions.prefix(1))).count == 1, "what is in hand counts")
        lane.settle(DeferredShadows.capacity)
        #expect(lane.take(Array(questions.prefix(1))).isEmpty)
        lane.close()
        #expect(await lane.next()?.count == 1)
        #expect(await lane.next() == nil)
    }
}

/// Closed until somebody opens it.
private final class Gate: Sendable {
    private let state = Mutex<(isOpen: Bool, waiters: [CheckedContinuation<Void, Never>])>((false, []))

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
}

/// Answers once its gate is open.
private struct GatedModel: DeferredModel {
    let base: LinearModel
    let gate: Gate
    var description: ModelDescription { base.description }
    let parallelism = 1

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        await gate.pass()
        return try base.predict(rows, rowCount: rowCount)
    }
}
