import Definitions
import ModelServing
import PlatformCore
import PlatformTesting
import RuntimePorts
import Testing

/// Instances that come as columns are predictions like any other.
struct PredictorColumnsTests {
    private func predictor(_ route: DeploymentRoute) -> Predictor {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        predictor.routes.publish(route, for: ServingFixture.model)
        return predictor
    }

    private func columns(_ planes: [String]) -> InputColumns {
        InputColumns(
            rowCount: planes.count,
            columns: [
                ("tailnum", .texts(planes)), ("origin", .texts(planes.map { _ in "EWR" })),
                ("carrier", .texts(planes.map { _ in "UA" })),
                ("distance", .integers(planes.indices.map { Int64(10 * $0) })),
                ("hour", .numbers(planes.map { _ in 9 })),
            ])
    }

    private func instances(_ planes: [String]) -> JSONValue {
        [
            "instances": .array(
                planes.enumerated().map {
                    [
                        "entities": ["tailnum": .string($1), "origin": "EWR"],
                        "features": ["carrier": "UA", "distance": .integer(Int64(10 * $0)), "hour": 9],
                    ]
                })
        ]
    }

    @Test func variantsNumbersAndRecordsAreThoseOfJSON() throws {
        let route = try ServingFixture.route([
            (ServingFixture.version(1), 0.5), (ServingFixture.version(2, LinearModel(weights: [0, 1, 0, 0, 0])), 0.5),
        ])
        let predictor = predictor(route)
        let planes = (0..<100).map { "N\($0)" }
        let told = try JSONValue.parse(
            predictor.answer(
                model: "delay", body: instances(planes).canonicalBytes, caller: "tester"
            ).body)["predictions"]?.arrayValue
        let answer = try #require(
            try predictor.predict(
                model: "delay", version: nil, columns: columns(planes), terms: RequestTerms(caller: "tester"),
                scratch: PredictionScratch()))
        let expected = try #require(told)
        #expect(answer.predictions.map { Int64($0.version) } == expected.map { $0["model_version"]?.integerValue })
        #expect(
            answer.predictions.map { $0.prediction.map(Double.init) } == expected.map { $0["prediction"]?.doubleValue })
        #expect(Set(answer.predictions.map(\.choice)) == [.primary, .canary])
        let records = try answer.entries.map { try $0.record() }
        #expect(records.map(\.id) == answer.predictions.map(\.id))
        #expect(records.map { $0.entities.last?.value } == planes)
        #expect(records.allSatisfy { $0.caller == "tester" && $0.inputs[3] == 12.5 && $0.overridden.isEmpty })
    }

    @Test func aVersionThatIsAskedForAnswersWhateverItsShare() throws {
        let route = try ServingFixture.route(
            [(ServingFixture.version(1), 1), (ServingFixture.version(2), 0)], shadows: [ServingFixture.version(3)])
        let predictor = predictor(route)
        for (version, choice) in [(1, PredictionRecord.Choice.primary), (2, .canary)] {
            let answer = try #require(
                try predictor.predict(
                    model: "delay", version: version, columns: columns(["a", "b"]), terms: RequestTerms(),
                    scratch: PredictionScratch()))
            #expect(answer.predictions.allSatisfy { $0.version == version && $0.choice == choice })
        }
        for (model, version) in [("delay", 3), ("delay", 9), ("dela", nil)] {
            #expect(throws: PlatformError.self) {
                try predictor.predict(
                    model: model, version: version, columns: columns(["a"]), terms: RequestTerms(),
                    scratch: PredictionScratch())
            }
        }
    }

    @Test func aModelThatFailsFallsBack() throws {
        let broken = predictor(try ServingFixture.route([(ServingFixture.version(1, BrokenModel()), 1)]))
        let answer = try #require(
            try broken.predict(
                model: "delay", version: nil, columns: columns(["a"]), terms: RequestTerms(),
                scratch: PredictionScratch()))
        #expect(answer.predictions.map(\.prediction) == [0.25] && answer.predictions[0].choice == .fallback)
        #expect(answer.predictions[0].fallbackReason == "the model failed")
        let bare = predictor(try ServingFixture.route([(ServingFixture.version(1, BrokenModel()), 1)], deployment: ""))
        let unanswered = try bare.predict(
            model: "delay", version: nil, columns: columns(["a"]), terms: RequestTerms(), scratch: PredictionScratch())
        #expect(unanswered?.failure?.message == "the model failed")
        let classes = predictor(try ServingFixture.route([(ServingFixture.version(1, ThreeClasses()), 1)]))
        let ranked = try #require(
            try classes.predict(
                model: "delay", version: nil, columns: columns(["a"]), terms: RequestTerms(),
                scratch: PredictionScratch()))
        #expect(ranked.predictions[0].output == [0.25, 0.5, 0.25] && ranked.predictions[0].prediction == 1)
    }

    @Test func everyRowIsCheckedBeforeAnyIsAnswered() throws {
        let predictor = predictor(try ServingFixture.route([(ServingFixture.version(1), 1)]))
        let input = InputColumns(
            rowCount: 2,
            columns: [
                ("tailnum", .texts(["a", "b"])), ("origin", .texts(["x", "y"])), ("carrier", .texts(["UA", "XX"])),
                ("distance", .numbers([1, 9000])),
            ])
        do throws(PlatformError) {
            _ = try predictor.predict(
                model: "delay", version: nil, columns: input, terms: RequestTerms(), scratch: PredictionScratch())
            Issue.record("it is answered")
        } catch {
            #expect(error.code == .invalidInput)
            #expect(error.message.contains("instances[1].features.carrier: 'XX'"), "\(error.message)")
            #expect(error.message.contains("instances[1].features.distance: must be within"), "\(error.message)")
            #expect(!error.message.contains("instances[0]"))
        }
        #expect(predictor.log.pending == 0)
    }

    @Test func aCodeThatIsNoPlaceOfACategoryIsSaidAsTheNumberThatItIs() throws {
        let predictor = predictor(try ServingFixture.route([(ServingFixture.version(1), 1)]))
        let binding = try ServingFixture.binding()
        let position = try #require(binding.definition.inputNames.firstIndex(of: "carrier"))
        for (value, text) in [(700.0, "700"), (-1, "-1"), (0.5, "0.5")] {
            var row = [Double](repeating: 1, count: binding.inputCount)
            row[position] = value
            let error = #expect(throws: PlatformError.self) {
                try predictor.predict(
                    model: "delay", version: nil, columns: InputColumns(rowCount: 1, columns: [], matrix: row),
                    terms: RequestTerms(), scratch: PredictionScratch())
            }
            let message = error?.message ?? ""
            #expect(message.contains("features.carrier: \(text) is none of its ") && message.contains("places (0 to "))
        }
    }

    @Test func theTermsOfARequestHoldForColumnsToo() async throws {
        let route = try ServingFixture.route([(ServingFixture.version(4), 1)], deployment: "concurrency_max: 10")
        let predictor = predictor(route)
        func ask(_ terms: RequestTerms, pressure: Int = 0) throws(PlatformError) -> Predictor.ColumnAnswer? {
            try predictor.predict(
                model: "delay", version: nil, columns: columns(["a"]), terms: terms, pressure: pressure,
                scratch: PredictionScratch())
        }
        var held: [Predictor.ColumnAnswer] = []
        for _ in 0..<5 { held.append(try #require(try ask(RequestTerms(priority: .low)))) }
        func code(_ terms: RequestTerms, pressure: Int = 0) -> PlatformError.Code? {
            do { _ = try ask(terms, pressure: pressure) } catch { return error.code }
            return nil
        }
        #expect(code(RequestTerms(priority: .low)) == .overloaded)
        #expect(code(RequestTerms(priority: .normal), pressure: 2000) == .overloaded)
        #expect(code(RequestTerms(priority: .high), pressure: 2000) == nil)
        held.removeAll()
        #expect(code(RequestTerms(priority: .low)) == nil)
        #expect(predictor.metrics.refused()["delay"]?[429] == 2)
        #expect(predictor.metrics.shed().values.reduce(0, +) == 2)
        var wrong = RequestTerms()
        wrong.read(timeout: "soon".utf8, priority: String.UTF8View?.none)
        #expect(code(wrong) == .invalidInput)
        let late = RequestTerms(deadline: ContinuousClock.now - .milliseconds(1))
        let answer = try #require(try ask(late))
        #expect(answer.failure?.code == .deadlineExceeded && answer.entries.count == 1)
        let later = try await predictor.predictLater(
            model: "delay", version: nil, columns: columns(["a"]), terms: late)
        #expect(later.failure?.code == .deadlineExceeded)
    }
}
