import Definitions
import PlatformCore
import Testing

@testable import Aggregation

/// A program computes every place once: one that nothing writes would be served as whatever stood in that memory.
struct ReadProgramTests {
    /// SplitMix64.
    private struct Choices {
        var state: UInt64
        mutating func below(_ bound: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((z ^ (z >> 31)) % UInt64(bound))
        }
        mutating func pick(_ words: [String]) -> String { words[below(words.count)] }
    }

    /// A view of up to twelve features of every function that a column's type allows, with ratios of them.
    private static func feature(_ index: Int, _ choices: inout Choices) -> String {
        let numbers = ["x", "i", "double_x"]
        let window = choices.pick(["10s", "1m", "1h"])
        let condition = choices.below(3) == 0 ? ", where: \"i > 2\"" : ""
        switch choices.below(8) {
        case 0: return "{name: f\(index), aggregate: count, window: \(window)\(condition)}"
        case 1:
            let function = choices.pick(["sum", "mean", "min", "max", "stddev"])
            return
                "{name: f\(index), aggregate: \(function), column: \(choices.pick(numbers)), window: \(window)\(condition)}"
        case 2:
            // A condition cannot stand before a vector.
            let column = choices.pick(condition.isEmpty ? ["x", "i", "s", "b", "v", "t"] : ["x", "i", "s", "b", "t"])
            return "{name: f\(index), aggregate: count, column: \(column), window: \(window)\(condition)}"
        case 3:
            let column = choices.pick(["x", "i", "s", "b", "t", "double_x"] + (condition.isEmpty ? ["v"] : []))
            let function = choices.pick(["last", "first"])
            return "{name: f\(index), aggregate: \(function), column: \(column), window: \(window)\(condition)}"
        case 4: return "{name: f\(index), aggregate: last, column: \(choices.pick(["x", "s", "b", "v"]))}"
        case 5:
            let function = choices.pick(["distinct_count", "mode"])
            return
                "{name: f\(index), aggregate: \(function), column: \(choices.pick(["x", "i", "s"])), window: \(window)\(condition)}"
        case 6:
            let function = choices.pick(["last_n", "last_n_distinct"])
            return
                "{name: f\(index), aggregate: \(function), n: 3, column: \(choices.pick(["x", "i", "s"])), window: \(window)\(condition)}"
        default:
            return """
                {name: f\(index)_a, aggregate: sum, column: x, window: \(window)\(condition)}
                  - {name: f\(index)_b, aggregate: count, window: \(window)}
                  - {name: f\(index), ratio: [f\(index)_a, f\(index)_b]}
                """
        }
    }

    private static func plan(seed: UInt64) throws -> AggregationPlan {
        var choices = Choices(state: seed &* 977)
        let features = (0...choices.below(12)).map { "  - \(feature($0, &choices))" }.joined(separator: "\n")
        let set = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "test.yaml", folder: "/",
                text: """
                    kind: Entity
                    name: thing
                    keys: [k]
                    ---
                    kind: Source
                    name: events
                    event_time: at
                    key: [k]
                    schema:
                      - {name: k, type: string}
                      - {name: at, type: timestamp}
                      - {name: x, type: float64}
                      - {name: i, type: int64}
                      - {name: s, type: string}
                      - {name: b, type: bool}
                      - {name: t, type: timestamp}
                      - {name: v, type: vector, length: 2}
                    ---
                    kind: FeatureView
                    name: view
                    entities: [thing]
                    source: events
                    columns: [{name: double_x, expression: "x * 2"}]
                    features:
                    \(features)
                    """)
        ])
        let view = try #require(set.featureViews[Name(static: "view")])
        return AggregationPlan(view: view, source: set.source(of: view))
    }

    @Test(arguments: UInt64(0)..<60)
    func everyPlaceHasExactlyOneWriter(seed: UInt64) throws {
        let plan = try Self.plan(seed: seed)
        #expect(ReadProgram(plan).writerCounts == plan.computed.map { _ in 1 })
        var choices = Choices(state: seed)
        let picked = plan.features.indices.filter { _ in choices.below(2) == 0 }
        let part = plan.selecting(picked.isEmpty ? [0] : picked)
        #expect(ReadProgram(part).writerCounts == part.computed.map { _ in 1 })
    }
}
