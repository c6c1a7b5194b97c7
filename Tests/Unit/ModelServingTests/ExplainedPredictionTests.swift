import ModelServing
import PlatformCore
import PlatformTesting
import RuntimePorts
import Testing

/// A weighted sum with two margins that explains itself: each input adds what it weighs, the second margin doubled.
private struct ExplainedModel: ExplainingModel {
    let base = LinearModel(weights: [1, 2, 4, 8, 16])
    var explanationFault: String?
    var description: ModelDescription { base.description }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    { try base.predict(rows, rowCount: rowCount, into: output) }

    func explain(_ rows: UnsafeBufferPointer<Float>, rowCount: Int) throws(ModelError) -> [Explanation] {
        (0..<rowCount).map { row in
            let added = base.weights.indices.map { column -> Double in
                let value = rows[row * base.weights.count + column]
                return value.isNaN ? 0 : Double(value * base.weights[column])
            }
            return Explanation(baseValues: [1, 2], contributions: [added, added.map { 2 * $0 }])
        }
    }
}

/// What a caller gets who asks why.
struct ExplainedPredictionTests {
    private func predictor(_ models: [any LoadedModel]) throws -> Predictor {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        let binding = try ServingFixture.binding()
        let versions = try models.enumerated().map { index, model in
            (try ServingFixture.version(index + 1, model, binding: binding), index == 0 ? 1.0 : 0.0)
        }
        predictor.routes.publish(try ServingFixture.route(versions), for: ServingFixture.model)
        return predictor
    }

    private func answer(
        _ predictor: Predictor, _ request: JSONValue, _ explaining: Predictor.Explaining
    ) -> Predictor.Answer {
        request.canonicalBytes.withUnsafeBytes {
            predictor.answer(
                model: "delay", body: $0, caller: "", scratch: PredictionScratch(), explaining: explaining)
        }
    }

    private func asking(_ request: JSONValue, _ value: JSONValue = true) -> JSONValue {
        var members = request.objectValue ?? [:]
        members["explain"] = value
        return .object(members)
    }

    @Test func contributionsComeByName() throws {
        let predictor = try predictor([ExplainedModel()])
        let plain = try JSONValue.parse(answer(predictor, ServingFixture.request, .asked).body)
        #expect(plain["explanation"] == nil && plain["prediction"] != nil)
        for (request, explaining) in [
            (asking(ServingFixture.request), Predictor.Explaining.asked), (ServingFixture.request, .always),
        ] {
            let found = answer(predictor, request, explaining)
            #expect(found.status == 200 && found.entries.count == 1)
            let explanation = try #require(try JSONValue.parse(found.body)["explanation"])
            #expect(explanation["base_value"] == [1.0, 2.0])
            #expect(explanation["contributions"]?["distance"] == [1466.0, 2932.0])
            #expect(explanation["contributions"]?["hour"] == [36.0, 72.0])
            #expect(explanation["contributions"]?.objectValue?.count == 5)
            #expect(explanation["margin"] == [1604.0, 3208.0])
        }
        let refused = answer(predictor, asking(ServingFixture.request, false), .always)
        #expect(try JSONValue.parse(refused.body)["explanation"] == nil, "the body has the last word")
    }

    @Test func anEventLoopLeavesExplanations() throws {
        let predictor = try predictor([ExplainedModel()])
        let left = answer(predictor, asking(ServingFixture.request), .left)
        #expect(left.isLeft && left.entries.isEmpty)
        #expect(answer(predictor, asking(ServingFixture.request, false), .left).status == 200)
        #expect(!answer(predictor, ServingFixture.request, .left).isLeft)
    }

    @Test func eachInstanceIsExplained() throws {
        let predictor = try predictor([ExplainedModel()])
        func batch(_ count: Int) -> JSONValue {
            asking(["instances": .array(Array(repeating: ServingFixture.request, count: count))])
        }
        let json = try JSONValue.parse(answer(predictor, batch(3), .asked).body)
        #expect(json["predictions"]?.arrayValue?.compactMap { $0["explanation"]?["margin"] }.count == 3)
        let tooMany = answer(predictor, batch(101), .asked)
        #expect(tooMany.status == 422 && tooMany.entries.isEmpty)
        #expect(try JSONValue.parse(tooMany.body)["error"]?["subject"] == "explain")
    }

    @Test func aFallbackHasNoExplanation() throws {
        let binding = try ServingFixture.binding(BrokenReader())
        let predictor = try predictor([ExplainedModel()])
        predictor.routes.publish(
            try ServingFixture.route([(ServingFixture.version(1, ExplainedModel(), binding: binding), 1)]),
            for: ServingFixture.model)
        let json = try JSONValue.parse(answer(predictor, asking(ServingFixture.request), .asked).body)
        #expect(json["fallback"] == true && json["explanation"] == JSONValue.null)
    }

    @Test func whatCannotBeExplainedIsRefused() throws {
        let faulty = ExplainedModel(explanationFault: "it has no covers")
        for (models, reason) in [
            (
                [LinearModel(weights: [1, 2, 4, 8, 16])] as [any LoadedModel],
                "delay version 1: models of format 'linear'"
            ),
            ([ExplainedModel(), faulty], "delay version 2: it has no covers"),
        ] {
            let found = answer(try predictor(models), asking(ServingFixture.request), .asked)
            #expect(found.status == 422 && found.entries.isEmpty)
            let message = try JSONValue.parse(found.body)["error"]?["message"]?.stringValue
            #expect(message?.contains(reason) == true)
        }
        let wrong = answer(try predictor([ExplainedModel()]), asking(ServingFixture.request, "yes"), .left)
        #expect(wrong.status == 422)
    }
}
