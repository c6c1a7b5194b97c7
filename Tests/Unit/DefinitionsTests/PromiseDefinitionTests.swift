import Definitions
import PlatformCore
import Testing

/// What a deployment may promise, and what is said about promises that make no sense.
struct PromiseDefinitionTests {
    private static func compile(_ deployment: String) throws -> AnswerPromise {
        let text = """
            kind: Entity
            name: plane
            keys: [tailnum]
            ---
            kind: Entity
            name: port
            keys: [port]
            ---
            kind: Source
            name: flights
            event_time: at
            key: [id]
            schema:
              - {name: id, type: string}
              - {name: at, type: timestamp}
              - {name: tailnum, type: string}
              - {name: port, type: string}
              - {name: delay, type: float64}
              - {name: word, type: string}
              - {name: carrier, type: string}
              - {name: distance, type: float64}
            ---
            kind: FeatureView
            name: planes
            entities: [plane]
            source: flights
            features:
              - {name: mean, aggregate: mean, column: delay, window: 1h}
              - {name: word, aggregate: last, column: word, window: 1h}
            ---
            kind: FeatureView
            name: ports
            entities: [port]
            source: flights
            features: [{name: mean, aggregate: mean, column: delay, window: 1h}]
            ---
            kind: FeatureService
            name: delay
            request:
              - {name: carrier, type: category, values: [AA, UA]}
              - {name: distance, type: number}
            views: [{view: planes, features: [mean]}]
            ---
            kind: TrainingSet
            name: delay
            service: delay
            spine: flights
            label: {name: late, source: flights, join: [id], column: delay, horizon: 1d}
            ---
            kind: Model
            name: delay
            service: delay
            training_set: delay
            training: {command: [train]}
            ---
            kind: Deployment
            name: delay
            model: delay
            sticky_by: [tailnum]

            """
        let set = try DefinitionCompiler.compile([
            DefinitionFile(path: "d.yaml", folder: "/", text: text + deployment)
        ])
        return try #require(set.deployments[Name(static: "delay")]).promise
    }

    @Test func aPromiseIsRead() throws {
        let promise = try Self.compile(
            """
            fallback:
              - {version: previous}
              - {version: 3}
              - {expression: "planes__mean / 100"}
              - {constant: 0.2}
            fallback_on: [timeout, model_error, missing_features]
            required_features: [planes__mean]
            deadline: 250ms
            priority: high
            concurrency_max: 100
            cache: {for: 60s, entries_max: 500}
            precomputed: planes.mean
            """)
        #expect(promise.fallback.map(\.word) == ["previous version", "version 3", "expression", "constant"])
        #expect(promise.fallbackOn == [.missingFeatures, .modelError, .timeout])
        #expect(promise.requiredFeatures == ["planes__mean"] && promise.deadline?.milliseconds == 250)
        #expect(promise.priority == .high && promise.concurrencyMax == 100)
        #expect(promise.cache?.keptFor.milliseconds == 60_000 && promise.cache?.entryCountMax == 500)
        #expect(promise.precomputed == ServedFeature(view: Name(static: "planes"), feature: "mean"))
    }

    @Test func oneConstantIsEnough() throws {
        let promise = try Self.compile("fallback: {constant: 0.2}")
        #expect(promise.fallback == [.constant(0.2)] && promise.fallbackOn.count == AnswerFault.allCases.count)
        let none = try Self.compile("")
        #expect(none == AnswerPromise())
        #expect(try Self.compile("fallback: [{expression: 'coalesce(planes__mean, 0)'}]").fallback.count == 1)
    }

    @Test(arguments: [
        ("fallback: {version: 3}", "must always have an answer"),
        ("fallback: [{expression: 'planes__mean'}]", "must always have an answer"),
        ("fallback: [{constant: 1}, {version: 3}]", "a constant always answers"),
        ("fallback: [{version: 3}, {version: 3}, {constant: 1}]", "appears twice"),
        ("fallback: []", "1 to 10 steps"),
        ("fallback: {konstant: 1}", "did you mean 'constant'"),
        ("fallback: {constant: 1, version: 2}", "one of {version"),
        ("fallback: {constant: 1e60}", "too large"),
        ("fallback: [{version: last}, {constant: 1}]", "a version number or 'previous'"),
        ("fallback: [{expression: 'planes__men'}, {constant: 1}]", "planes__mean"),
        ("fallback: [{expression: carrier}, {constant: 1}]", "must be a number"),
        ("fallback: {constant: 1}\nfallback_on: [timeot]", "did you mean 'timeout'"),
        ("fallback_on: [timeout]", "needs a 'fallback'"),
        ("required_features: [planes__mean]", "needs a 'fallback'"),
        ("fallback: {constant: 1}\nrequired_features: [planes__men]", "did you mean 'planes__mean'"),
        ("fallback: {constant: 1}\nfallback_on: [timeout]\nrequired_features: [planes__mean]", "missing_features"),
        ("deadline: 2d", "at most 1d"),
        ("deadline: soon", "a span of time"),
        ("priority: hight", "did you mean 'high'"),
        ("concurrency_max: 0", "whole number from 1"),
        ("cache: {for: 60s, entries: 4}", "entries_max"),
        ("cache: {entries_max: 4}", "'for' is missing"),
        ("precomputed: planes", "must be view.feature"),
        ("precomputed: plains.mean", "did you mean 'planes'"),
        ("precomputed: planes.men", "did you mean 'mean'"),
        ("precomputed: planes.word", "is string"),
        ("precomputed: ports.mean", "requests do not name 'port'"),
    ]) func whatMakesNoSenseIsSaid(deployment: String, words: String) throws {
        let error = #expect(throws: DefinitionErrors.self) { try Self.compile(deployment) }
        let message = error?.errors.map(\.message).joined(separator: "\n") ?? "nothing"
        #expect(message.contains(words), "\(message)")
    }
}
