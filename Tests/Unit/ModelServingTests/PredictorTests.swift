import Definitions
import ModelServing
import PlatformCore
import PlatformTesting
import Testing

/// What a caller of `POST /predict/{model}` gets.
struct PredictorTests {
    private func predictor(_ route: DeploymentRoute? = nil) throws -> Predictor {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        predictor.routes.publish(
            try route ?? ServingFixture.route([(ServingFixture.version(4), 1)]), for: ServingFixture.model)
        return predictor
    }

    private func answer(_ predictor: Predictor, _ request: JSONValue, model: String = "delay") throws -> (
        answer: Predictor.Answer, json: JSONValue
    ) {
        let answer = predictor.answer(model: model, body: request.canonicalBytes, caller: "tester")
        return (answer, try JSONValue.parse(answer.body))
    }

    @Test func anAnswerSaysWhoAnswered() throws {
        let predictor = try predictor()
        let (answer, json) = try answer(predictor, ServingFixture.request)
        #expect(answer.status == 200 && answer.logPolicy == .block)
        let id = try #require(json["prediction_id"]?.stringValue)
        #expect(IdentifierSource.time(of: id) == ServingFixture.start)
        // 1·1 + 733·2 + 9·4 + 12.5·8, the missing input left out.
        #expect(
            json == [
                "prediction": 1603.0, "model": "delay", "model_version": 4, "variant": "primary",
                "prediction_id": .string(id), "fallback": false,
            ])
        let record = try #require(answer.entries.first).record()
        #expect(record.id == id && record.output == [1603] && record.choice == .primary && record.version == 4)
        #expect(record.entities == [.init(key: "origin", value: "EWR"), .init(key: "tailnum", value: "N123UA")])
        #expect(record.policyRevision == 3 && record.caller == "tester" && record.time == ServingFixture.start)
        #expect(record.artifact == ContentHash(bytes: Array(repeating: 4, count: 32)).hex)
        #expect(record.ages == [-1, -1, -1, 60_000, -1] && record.statuses == [4, 4, 4, 1, 2])
        #expect(try PredictionRecord(decoding: record.encoded()).id == id)
        #expect(predictor.metrics.latencies().map { $0.key.version } == [4])
    }

    @Test func classesComeWithTheirProbabilities() throws {
        let route = try ServingFixture.route([(ServingFixture.version(1, ThreeClasses()), 1)])
        let (_, json) = try answer(try predictor(route), ServingFixture.request)
        #expect(json["prediction"] == 1)
        #expect(json["probabilities"] == [0.25, 0.5, 0.25])
    }

    @Test(arguments: [Float.infinity, -.infinity, .nan]) func whatIsNoNumberIsAFault(value: Float) throws {
        let broken = LinearModel(weights: [0, 0, 0, 0, 0], bias: value)
        for (deployment, status) in [("", 503), ("fallback: {constant: 0.25}", 200)] {
            let route = try ServingFixture.route([(ServingFixture.version(1, broken), 1)], deployment: deployment)
            let (answer, json) = try answer(try predictor(route), ServingFixture.request)
            #expect(answer.status == status && json["fallback_cause"] == "no_number")
            #expect(json["prediction"] == (status == 200 ? 0.25 : JSONValue.null))
        }
    }

    @Test func anUnknownModelIsNotFound() throws {
        let predictor = try predictor()
        let (answer, json) = try answer(predictor, ServingFixture.request, model: "delays")
        #expect(answer.status == 404 && answer.entries.isEmpty)
        #expect(json["error"]?["code"] == "not_found")
        #expect(json["error"]?["subject"] == "model/delays")
        #expect(predictor.metrics.refused() == ["": [404: 1]])
    }

    @Test(arguments: ["", "{", "nope", "{\"a\":1,\"a\":2}", "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "\u{0}"])
    func brokenJSONIsABadRequest(text: String) throws {
        let predictor = try predictor()
        let answer = predictor.answer(model: "delay", body: Array(text.utf8), caller: "")
        #expect(answer.status == 400 && answer.entries.isEmpty)
        #expect(try JSONValue.parse(answer.body)["error"]?["code"] == "invalid_input")
        #expect(predictor.metrics.refused() == ["delay": [400: 1]])
    }

    @Test func faultsComeOneLineForEachField() throws {
        let predictor = try predictor()
        let (answer, json) = try answer(
            predictor,
            ["entities": ["tailnum": 1.5], "features": ["carrier": "XX", "distance": -1, "hours": 2]])
        #expect(answer.status == 422 && answer.entries.isEmpty)
        let error = try #require(json["error"])
        #expect(error["code"] == "invalid_input" && error["subject"] == "predict/delay")
        let fields = try #require(error["fields"]?.arrayValue)
        #expect(
            Set(fields.compactMap { $0["field"]?.stringValue }) == [
                "entities.origin", "entities.tailnum", "features.carrier", "features.distance", "features.hours",
            ])
        let lines = try #require(error["message"]?.stringValue).split(separator: "\n")
        #expect(lines.count == 5 && lines.allSatisfy { $0.contains(": ") })
        #expect(predictor.metrics.refused() == ["delay": [422: 1]])
        #expect(predictor.metrics.latencies().isEmpty)
    }

    @Test func aBatchIsAnsweredInOrder() throws {
        let instances = (0..<5).map { index -> JSONValue in
            [
                "entities": ["tailnum": "N1", "origin": nil],
                "features": ["carrier": "AA", "distance": .integer(Int64(index))],
            ]
        }
        let (answer, json) = try answer(try predictor(), ["instances": .array(instances)])
        #expect(answer.status == 200 && answer.entries.count == 5)
        let predictions = try #require(json["predictions"]?.arrayValue)
        #expect(predictions.compactMap { $0["prediction"]?.doubleValue } == [100, 102, 104, 106, 108])
        #expect(Set(predictions.compactMap { $0["prediction_id"]?.stringValue }).count == 5)
        #expect(
            try answer.entries.map { try $0.record().id } == predictions.compactMap { $0["prediction_id"]?.stringValue }
        )
    }

    @Test func oneBadInstanceRefusesTheBatchAndIsNamed() throws {
        let (answer, json) = try answer(
            try predictor(),
            ["instances": [ServingFixture.request, 7, ServingFixture.request, ["entities": [:], "features": [:]]]])
        #expect(answer.status == 422 && answer.entries.isEmpty)
        let fields = try #require(json["error"]?["fields"]?.arrayValue).compactMap { $0["field"]?.stringValue }
        #expect(fields.filter { $0.hasPrefix("instances[1]") }.count == 1)
        #expect(fields.filter { $0.hasPrefix("instances[3]") }.count == 4)
        #expect(fields.count == 5)
    }

    @Test func aBatchHasBounds() throws {
        for instances: JSONValue in [[], nil, "x", [:], .array(Array(repeating: ServingFixture.request, count: 1001))] {
            let (answer, json) = try answer(try predictor(), ["instances": instances])
            #expect(answer.status == 422)
            #expect(json["error"]?["subject"] == "instances")
        }
    }

    @Test func aFailingModelFallsBack() throws {
        let predictor = try predictor(try ServingFixture.route([(ServingFixture.version(4, BrokenModel()), 1)]))
        let (answer, json) = try answer(predictor, ServingFixture.request)
        #expect(answer.status == 200)
        #expect(json["prediction"] == 0.25 && json["fallback"] == true && json["model_version"] == 0)
        #expect(json["variant"] == "fallback")
        #expect(json["fallback_reason"] == "the model failed", "what the model said is in the record alone")
        let record = try #require(answer.entries.first).record()
        #expect(record.fallbackReason == "the model failed: out of order")
        #expect(record.choice == .fallback && record.artifact.isEmpty && record.output == [0.25])
        #expect(record.inputs[1] == 733, "what the model could not use is remembered")
    }

    @Test func aStoreThatCannotBeReadFallsBack() throws {
        let version = try ServingFixture.version(4, binding: try ServingFixture.binding(BrokenReader()))
        let (answer, json) = try answer(try predictor(try ServingFixture.route([(version, 1)])), ServingFixture.request)
        #expect(answer.status == 200)
        #expect(json["prediction"] == 0.25 && json["fallback"] == true)
        #expect(json["fallback_reason"] == "features cannot be read")
    }

    @Test func aVersionThatIsNotLoadedFallsBackOrSaysSo() throws {
        let gone = UnloadedModel(
            reason: "blob/1: the stored bytes do not have this hash", featureCount: 5, outputCount: 1)
        let version = try ServingFixture.version(4, gone)
        #expect(!version.isLoaded)
        let (answer, json) = try answer(
            try predictor(try ServingFixture.route([(version, 1)])), ServingFixture.request)
        #expect(answer.status == 200 && json["prediction"] == 0.25 && json["fallback_cause"] == "model_error")
        let record = try #require(answer.entries.first).record()
        #expect(record.fallbackReason.contains("blob/1"))
        let (refused, said) = try self.answer(
            try predictor(try ServingFixture.route([(version, 1)], deployment: "")), ServingFixture.request)
        #expect(refused.status == 503 && said["fallback_reason"] == "the model is not loaded")
    }

    @Test func withoutAFallbackAFailureIsSaidToBeOne() throws {
        let route = try ServingFixture.route([(ServingFixture.version(4, BrokenModel()), 1)], deployment: "")
        let (answer, json) = try answer(try predictor(route), ServingFixture.request)
        #expect(answer.status == 503)
        #expect(json["prediction"] == JSONValue.null && json["fallback"] == true)
        #expect(try answer.entries.first?.record().output == [])
        #expect(try answer.entries.first?.record().fallbackReason == "the model failed: out of order")
    }

    @Test func thePolicyOfAFullLogTravelsWithTheAnswer() throws {
        let route = try ServingFixture.route([(ServingFixture.version(4), 1)], deployment: "prediction_log: shed")
        #expect(try answer(try predictor(route), ServingFixture.request).answer.logPolicy == .shed)
    }

    @Test func shadowsAndCanariesAreToldApart() throws {
        let binding = try ServingFixture.binding()
        let shadow = try ServingFixture.version(9, binding: binding)
        let versions = [
            (try ServingFixture.version(1, binding: binding), 0.0),
            (try ServingFixture.version(2, binding: binding), 1.0),
        ]
        let (answer, json) = try answer(
            try predictor(try ServingFixture.route(versions, shadows: [shadow])), ServingFixture.request)
        #expect(json["variant"] == "canary" && json["model_version"] == 2)
        #expect(answer.entries.first?.shadows.map(\.number) == [9])
    }

    @Test(arguments: UInt64(0)..<8) func damagedRequestsNeverTrap(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let predictor = try predictor()
        for _ in 0..<200 {
            var bytes = ServingFixture.request.canonicalBytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.remove(at: at)
                default: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &random)], at: at)
                }
            }
            let answer = predictor.answer(model: "delay", body: bytes, caller: "")
            #expect([200, 400, 422].contains(answer.status))
            #expect((answer.status == 200) == !answer.entries.isEmpty)
            #expect(throws: Never.self) { try JSONValue.parse(answer.body) }
        }
    }
}
