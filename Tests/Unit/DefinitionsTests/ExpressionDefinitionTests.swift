import Definitions
import Expressions
import PlatformCore
import Testing

/// Expressions in definitions: derived columns, conditions, on-demand features.
struct ExpressionDefinitionTests {
    private static let yaml = """
        kind: Entity
        name: plane
        keys: [tail]
        ---
        kind: Source
        name: arrivals
        event_time: at
        key: [tail]
        schema:
          - {name: tail, type: string}
          - {name: at, type: timestamp}
          - {name: delay, type: float64}
          - {name: miles, type: int64, nullable: false}
        ---
        kind: FeatureView
        name: planes
        entities: [plane]
        source: arrivals
        columns:
          - {name: hours, expression: "delay / 60", scale: 3, description: lateness}
          - {name: pace, expression: "hours / miles"}
        features:
          - {name: pace_max, aggregate: max, column: pace, window: 1h}
          - {name: late, aggregate: count, window: 1h, where: "delay > 15"}
          - {name: late_hours, aggregate: sum, column: hours, window: 1h, where: "delay>15"}
        ---
        kind: FeatureService
        name: delays
        request:
          - {name: carrier, type: category, values: [AA, UA]}
          - {name: distance, type: number}
        views: [planes]
        on_demand:
          - {name: share, expression: "distance * planes__late"}
          - {name: american, expression: "carrier = 'AA'"}
        """

    private func compile(_ change: (String, String) = ("", "")) throws -> DefinitionSet {
        let text = change.0.isEmpty ? Self.yaml : Self.yaml.replacing(change.0, with: change.1)
        #expect(change.0.isEmpty || text != Self.yaml)
        return try DefinitionCompiler.compile([DefinitionFile(path: "test.yaml", folder: "/", text: text)])
    }

    private func fault(_ from: String, _ to: String) -> String {
        do {
            _ = try compile((from, to))
            return "accepted"
        } catch { return "\(error)" }
    }

    /// A vector is chosen under a condition, not counted under one, and the refusal says what to write instead.
    @Test func conditionsOfVectors() throws {
        func feature(_ fields: String) -> String {
            let vector = "  - {name: miles, type: int64, nullable: false}\n  - {name: shape, type: vector, length: 3}"
            let text = Self.yaml.replacing("  - {name: miles, type: int64, nullable: false}", with: vector)
                .replacing(
                    "features:\n  - {name: pace_max",
                    with: "features:\n  - {name: shape, \(fields)}\n  - {name: pace_max")
            do {
                _ = try DefinitionCompiler.compile([DefinitionFile(path: "test.yaml", folder: "/", text: text)])
                return "accepted"
            } catch { return "\(error)" }
        }
        #expect(feature("aggregate: count, column: shape, window: 1h") == "accepted")
        #expect(feature("aggregate: last, column: shape, window: 1h, where: delay > 15") == "accepted")
        let counted = feature("aggregate: count, column: shape, window: 1h, where: delay > 15")
        for words in ["'shape' cannot be counted under a condition", "leave out 'column'", "'last' or 'first'"] {
            #expect(counted.contains(words), "\(counted)")
        }
        let read = feature("aggregate: count, window: 1h, where: shape is not null")
        #expect(read.contains("'shape' is a vector, which expressions cannot read"), "\(read)")
    }

    @Test func derivedColumnsStandBehindThoseOfTheSource() throws {
        let set = try compile()
        let view = try #require(set.featureViews[Name(static: "planes")])
        let columns = view.columns(of: set.source(of: view))
        #expect(columns.prefix(6).map(\.name) == ["tail", "at", "delay", "miles", "hours", "pace"])
        #expect(columns[4].scale == 3)
        let row = view.row([.text("N1"), .integer(0), .double(30), .integer(2)])
        #expect(row[4...5] == [.double(0.5), .double(0.25)])
        #expect(view.row([.text("N1"), .integer(0), .double(10)]).suffix(3) == [.null, .null, .null])
        #expect(view.features.map(\.column) == ["pace", nil, "hours"])
        #expect(view.features[1].condition?.text == "delay > 15")
        #expect(
            try #require(set.featureServices[Name(static: "delays")]).inputNames.suffix(2) == ["share", "american"])
    }

    @Test func theVersionFollowsTheMeaningOfAnExpressionAndNotItsSpelling() throws {
        let before = try compile().meanings
        func changed(_ from: String, _ to: String) throws -> [String] {
            let after = try compile((from, to)).meanings
            return before.keys.filter { before[$0] != after[$0] }.sorted()
        }
        #expect(try changed("delay / 60", "(delay)/(30*2)").isEmpty)
        #expect(try changed("description: lateness", "description: x").isEmpty)
        #expect(try changed("distance * planes__late", "( distance*planes__late )").isEmpty)
        #expect(try changed("delay / 60", "delay / 61") == ["FeatureService/delays", "FeatureView/planes"])
        #expect(try changed("\"delay > 15\"", "\"delay > 16\"") == ["FeatureService/delays", "FeatureView/planes"])
        #expect(try changed("carrier = 'AA'", "carrier = 'UA'") == ["FeatureService/delays"])
    }

    @Test func faultsNameFileLineAndThePlaceInTheExpression() {
        let misspelt = fault("delay / 60", "dely / 60")
        #expect(misspelt.contains("test.yaml:20") && misspelt.contains("line 1, column 1"))
        #expect(misspelt.contains("did you mean 'delay'?"))
        #expect(fault("hours / miles", "pace / miles").contains("no column is called 'pace'"))
        #expect(fault("\"delay > 15\"", "\"delay + 15\"").contains("must be true or false"))
        #expect(fault("name: hours", "name: delay").contains("there is a column 'delay' already"))
        #expect(fault("distance * planes__late", "distance * planes__later").contains("'planes__late'"))
        #expect(fault("carrier = 'AA'", "lower(carrier)").contains("must be a number"))
        #expect(fault("on_demand:", "ondemand:").contains("did you mean 'on_demand'?"))
        #expect(
            fault("aggregate: count, window: 1h, where", "aggregate: last, column: delay, where").contains(
                "needs a 'window'"))
        #expect(fault("column: pace,", "column: pase,").contains("did you mean 'pace'?"))
    }
}
