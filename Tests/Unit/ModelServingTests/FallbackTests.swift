import Definitions
import PlatformCore
import PlatformTesting
import RuntimePorts
import Testing

@testable import ModelServing

/// A model that fails with an error.
private struct FailingModel: LoadedModel {
    let description = LinearModel(weights: [0, 0, 0, 0, 0]).description
    let error: ModelError

    func predict(_: UnsafeBufferPointer<Float>, rowCount _: Int, into _: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    { throw error }
}

/// What callers get when the model does not answer: the steps of the chain, in order, and always why.
struct FallbackTests {
    private func predictor(_ route: DeploymentRoute) -> Predictor {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        predictor.routes.publish(route, for: ServingFixture.model)
        return predictor
    }

    private func ask(
        _ predictor: Predictor, _ request: JSONValue = ServingFixture.request, terms: RequestTerms = RequestTerms()
    ) throws -> (answer: Predictor.Answer, json: JSONValue) {
        let answer = request.canonicalBytes.withUnsafeBytes {
            predictor.answer(model: "delay", body: $0, terms: terms, scratch: PredictionScratch())
        }
        return (answer, try JSONValue.parse(answer.body))
    }

    private static let chain = """
        fallback:
          - {version: 7}
          - {expression: "if(carrier = 'UA', distance / 1000 + planes__mean, null)"}
          - {constant: 0.5}
        """

    @Test func anotherVersionAnswersFirst() throws {
        let binding = try ServingFixture.binding()
        let route = try ServingFixture.route(
            [(ServingFixture.version(4, BrokenModel(), binding: binding), 1)], deployment: Self.chain,
            fallbackVersions: [0: ServingFixture.version(7, binding: binding)])
        let predictor = predictor(route)
        let (answer, json) = try ask(predictor)
        #expect(answer.status == 200)
        #expect(json["prediction"] == 1603.0 && json["model_version"] == 7 && json["variant"] == "fallback")
        #expect(json["fallback"] == true && json["fallback_cause"] == "model_error")
        #expect(json["fallback_step"] == "version 7")
        let record = try #require(answer.entries.first).record()
        #expect(record.version == 4, "monitors and rollouts count the version that failed")
        #expect(record.fallback == .init(cause: .modelError, step: "version 7", version: 7))
        #expect(record.artifact == ContentHash(bytes: Array(repeating: 7, count: 32)).hex, "it can be computed again")
        #expect(answer.entries.first?.shadows.isEmpty == true)
        #expect(
            predictor.metrics.fallbacks() == [
                .init(model: "delay", cause: .modelError, step: "version 7"): 1
            ])
    }

    @Test func stepsThatDoNotAnswerArePassedOver() throws {
        let binding = try ServingFixture.binding()
        let broken = try ServingFixture.version(7, BrokenModel(), binding: binding)
        let route = try ServingFixture.route(
            [(ServingFixture.version(4, BrokenModel(), binding: binding), 1)], deployment: Self.chain,
            fallbackVersions: [0: broken])
        let predictor = predictor(route)
        let (_, json) = try ask(predictor)
        #expect(json["prediction"]?.doubleValue == 13.233 && json["fallback_step"] == "expression")
        #expect(json["model_version"] == 0)
        let other: JSONValue = [
            "entities": ["tailnum": "N1", "origin": "EWR"], "features": ["carrier": "AA", "distance": 10],
        ]
        let (answer, constant) = try ask(predictor, other)
        #expect(constant["prediction"] == 0.5 && constant["fallback_step"] == "constant")
        #expect(try answer.entries[0].record().artifact.isEmpty)
    }

    @Test func whatTheRequestBroughtIsThereWhenTheStoreIsNot() throws {
        let deployment = """
            fallback:
              - {expression: "coalesce(planes__mean, distance) * if(carrier = 'UA', 2, 1)"}
              - {constant: 1}
            """
        let binding = try ServingFixture.binding(BrokenReader())
        let route = try ServingFixture.route(
            [(ServingFixture.version(4, binding: binding), 1)], deployment: deployment)
        let predictor = predictor(route)
        for request in [ServingFixture.request, ["instances": [ServingFixture.request]]] {
            let (answer, json) = try ask(predictor, request)
            let prediction = json["predictions"]?.arrayValue?.first ?? json
            #expect(prediction["prediction"] == 1466.0 && prediction["fallback_cause"] == "features_unreadable")
            #expect(try answer.entries[0].record().inputs[1] == 733)
        }
    }

    @Test func aVersionWithAnotherServiceReadsItsOwnFeatures() throws {
        let narrow = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "n.yaml", folder: "/",
                text: """
                    kind: FeatureService
                    name: narrow
                    request:
                      - {name: distance, type: number}
                      - {name: hour, type: number, nullable: true}
                      - {name: carrier, type: category, values: [DL, UA, AA]}
                    """)
        ])
        let service = try #require(narrow.featureServices[Name(static: "narrow")])
        let other = try ServingFixture.version(
            7, LinearModel(weights: [1, 0, 0]), binding: ServiceBinding(definition: service, reader: ConstantReader()))
        let route = try ServingFixture.route(
            [(ServingFixture.version(4, BrokenModel()), 1)],
            deployment: "fallback: [{version: previous}, {expression: 'planes__mean'}, {constant: 0.5}]",
            fallbackVersions: [0: other])
        // The narrow service knows no entities, so the request does not fit it: the next step answers.
        let (answer, json) = try ask(predictor(route))
        #expect(json["fallback_step"] == "expression" && json["prediction"] == 12.5)
        let record = try answer.entries[0].record()
        #expect(record.inputs.count == 5 && record.inputs[1] == 733, "the inputs are those of the logged service")
        let expected = try ServingFixture.service().version.hex
        #expect(record.serviceVersion == expected)
    }

    @Test(arguments: [
        (ModelError(.unavailable, "x"), "model_error", 503), (ModelError(.breakerOpen, "x"), "breaker_open", 503),
        (ModelError(.deadlineExceeded, "x"), "timeout", 504),
    ]) func whatTheDeploymentDoesNotNameIsAnError(error: ModelError, cause: String, status: Int) throws {
        for isNamed in [true, false] {
            let named = isNamed ? cause : "features_unreadable"
            let route = try ServingFixture.route(
                [(ServingFixture.version(4, FailingModel(error: error)), 1)],
                deployment: "fallback: {constant: 0.5}\nfallback_on: [\(named)]")
            let predictor = predictor(route)
            let (answer, json) = try ask(predictor)
            #expect(answer.status == (isNamed ? 200 : status) && answer.entries.count == 1)
            if isNamed {
                #expect(json["prediction"] == 0.5 && json["fallback_cause"]?.stringValue == cause)
            } else if status == 504 {
                #expect(json["error"]?["code"] == "deadline_exceeded")
            } else {
                #expect(json["fallback_step"] == JSONValue.null && json["prediction"] == JSONValue.null)
            }
            #expect(predictor.metrics.fallbacks().map(\.key.step) == [isNamed ? "constant" : ""])
        }
    }

    @Test func withoutARequiredFeatureTheModelIsNotAsked() throws {
        for (feature, cause) in [("origins__flights", "missing_features"), ("planes__mean", nil), ("hour", nil)] {
            let route = try ServingFixture.route(
                [(ServingFixture.version(4), 1)],
                deployment: "fallback: {constant: 0.5}\nrequired_features: [\(feature)]")
            let (_, json) = try ask(predictor(route))
            #expect(json["fallback_cause"]?.stringValue == cause, "\(feature)")
            #expect(json["fallback"] == .bool(cause != nil))
        }
    }

    // MARK: Time

    @Test func aRequestWhoseTimeIsOverFallsBack() throws {
        for (deployment, status) in [("fallback: {constant: 0.5}", 200), ("", 504)] {
            let route = try ServingFixture.route([(ServingFixture.version(4), 1)], deployment: deployment)
            let over = RequestTerms(deadline: ContinuousClock.now - .milliseconds(1))
            for request in [ServingFixture.request, ["instances": [ServingFixture.request]]] {
                let (answer, json) = try ask(predictor(route), request, terms: over)
                #expect(answer.status == status && answer.entries.count == 1, "what was asked is logged all the same")
                if status == 504 { #expect(json["error"]?["code"] == "deadline_exceeded") }
                #expect(try answer.entries[0].record().fallback?.cause == .timeout)
            }
            let later = RequestTerms(deadline: ContinuousClock.now + .seconds(100))
            #expect(try ask(predictor(route), terms: later).json["fallback"] == false)
        }
    }

    @Test func aSlowModelIsLate() throws {
        struct SlowModel: LoadedModel {
            let base = LinearModel(weights: [1, 2, 4, 8, 16])
            var description: ModelDescription { base.description }
            func predict(
                _ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>
            ) throws(ModelError) {
                let end = ContinuousClock.now + .milliseconds(3)
                while ContinuousClock.now < end {}
                try base.predict(rows, rowCount: rowCount, into: output)
            }
        }
        let binding = try ServingFixture.binding()
        let route = try ServingFixture.route(
            [(ServingFixture.version(4, SlowModel(), binding: binding), 1)],
            deployment: "deadline: 1ms\nfallback: [{version: 7}, {constant: 0.5}]",
            fallbackVersions: [0: ServingFixture.version(7, binding: binding)])
        let (_, json) = try ask(predictor(route))
        #expect(json["fallback_cause"] == "timeout")
        #expect(json["fallback_step"] == "constant", "there is no time left to ask another version")
    }

    @Test func timesOfRequestsAreWholeMilliseconds() {
        for (text, milliseconds) in [
            ("1", 1), ("250", 250), ("86400000", 86_400_000), ("0", nil), ("", nil), ("-1", nil), ("1.5", nil),
            ("86400001", nil), ("99999999999999999999", nil), (" 1", nil), ("1s", nil),
        ] as [(String, Int?)] {
            #expect(RequestTerms.timeout(Array(text.utf8)) == milliseconds.map { .milliseconds($0) }, "\(text)")
        }
    }

    // MARK: Remembered and computed before

    @Test func theSameInputIsComputedOnce() throws {
        let route = try ServingFixture.route(
            [(ServingFixture.version(4), 1)], deployment: "cache: {for: 60s, entries_max: 3}")
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock))
        predictor.routes.publish(route, for: ServingFixture.model)
        let (first, fresh) = try ask(predictor)
        let (second, again) = try ask(predictor)
        #expect(fresh["cached"] == nil && again["cached"] == true)
        #expect(fresh["prediction"] == again["prediction"] && fresh["prediction_id"] != again["prediction_id"])
        let record = try second.entries[0].record()
        let artifact = try first.entries[0].record().artifact
        #expect(record.origin == .cache && record.artifact == artifact)
        #expect(predictor.metrics.origins() == [.init(model: "delay", origin: .cache): 1])
        clock.advance(to: ServingFixture.start.advanced(by: .seconds(60)))
        #expect(try ask(predictor).json["cached"] == nil, "too old")
        #expect(try ask(predictor).json["cached"] == true)
        for distance in 0..<3 {  // others push it out
            _ = try ask(
                predictor,
                [
                    "entities": ["tailnum": "N1", "origin": "EWR"],
                    "features": ["carrier": "AA", "distance": .integer(Int64(distance))],
                ])
        }
        #expect(try ask(predictor).json["cached"] == nil)
        predictor.routes.publish(
            try ServingFixture.route(
                [(ServingFixture.version(5), 1)], deployment: "cache: {for: 60s, entries_max: 3}"),
            for: ServingFixture.model)
        #expect(try ask(predictor).json["cached"] == nil, "another version")
    }

    @Test func aScoreComputedBeforeComesFirst() throws {
        struct Scores: VectorReader {
            let status: UInt8
            let value: Double
            func read(
                keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
                ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
            ) throws(PlatformError) {
                #expect(keys == ["N123UA"])
                (values[0], statuses[0]) = (value, status)
            }
        }
        for (scores, isUsed) in [
            (Scores(status: 0, value: 0.75), true), (Scores(status: 3, value: 0.75), false),
            (Scores(status: 0, value: .nan), false),
        ] {
            let route = try ServingFixture.route(
                [(ServingFixture.version(4), 1)],
                precomputed: PrecomputedScores(reader: scores, joinKeys: ["tailnum"]))
            let (answer, json) = try ask(predictor(route))
            #expect(json["precomputed"] == (isUsed ? true : nil))
            #expect(json["prediction"] == (isUsed ? 0.75 : 1603.0) && json["fallback"] == false)
            let record = try answer.entries[0].record()
            #expect(record.artifact.isEmpty == isUsed, "no model computed it")
        }
    }

    @Test func anAnswerTellsWhereTheTimeWent() throws {
        let route = try ServingFixture.route([(ServingFixture.version(4), 1)])
        let (_, json) = try ask(predictor(route), terms: RequestTerms(withAges: true, withLatency: true))
        #expect(json["latency_microseconds"]?.objectValue?.keys.sorted() == ["features", "score", "total"])
        #expect(json["feature_ages"] == ["planes__mean": 60_000, "origins__flights": nil])
        let inBody: JSONValue = ["instances": [ServingFixture.request], "latency": true]
        let batch = try ask(predictor(route), inBody).json["predictions"]?.arrayValue
        #expect(batch?.first?["latency_microseconds"] != nil && batch?.first?["feature_ages"] == nil)
    }
}
