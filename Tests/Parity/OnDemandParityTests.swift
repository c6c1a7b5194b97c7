import Definitions
import Expressions
import FeatureStore
import PlatformCore
import Testing

/// A certificate computes on-demand features again in the offline engine, from the inputs that they had.
@Suite("On-demand features in parity")
struct OnDemandParityTests {
    private static let text = """
        kind: Entity
        name: shop
        keys: [shop]
        ---
        kind: Source
        name: sales
        event_time: at
        key: [shop, at]
        schema:
          - {name: shop, type: string, nullable: false}
          - {name: at, type: timestamp, nullable: false}
          - {name: amount, type: float64}
          - {name: pieces, type: int64}
          - {name: open, type: bool}
        ---
        kind: FeatureView
        name: shops
        entities: [shop]
        source: sales
        features:
          - {name: total, aggregate: sum, column: amount, window: 1h}
          - {name: pieces, aggregate: last, column: pieces}
          - {name: open, aggregate: last, column: open}
          - {name: seen, aggregate: last, column: at}
        ---
        kind: FeatureService
        name: size
        request:
          - {name: channel, type: category, values: [app, web, "it's"]}
          - {name: price, type: number, nullable: true}
        views: [shops]
        on_demand:
          - {name: share, expression: "price / shops__total"}
          - {name: left, expression: "shops__pieces % 7 + length(channel)"}
          - {name: shut, expression: "not shops__open"}
          - {name: later, expression: "shops__seen + 7d"}
          - {name: size, expression: "ln(abs(price) + 1) * if(shops__open, 2, 0.1)"}
          - {name: quoted, expression: "if(channel = 'it''s', 1, 0)"}
        """

    private static func service() throws -> FeatureServiceDefinition {
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "shop.yaml", folder: "/", text: text)])
        return try #require(Name("size").flatMap { set.featureServices[$0] })
    }

    /// What a server answers to random inputs, as the doubles that it reads and logs.
    private static func observations(_ service: FeatureServiceDefinition, count: Int) -> [OnDemandObservation] {
        var generator = GeneratedExpressions(seed: 7)
        return (0..<count).map { index in
            let row = generator.row()  // i, j, x, y, s, u, b, t, v
            func double(_ cell: CellValue) -> CellValue { cell.number.map(CellValue.double) ?? .null }
            let channel = [CellValue.text("app"), .text("web"), .text("it's"), .null][generator.below(4)]
            let inputs: [String: CellValue] = [
                "channel": channel, "price": double(row[2]), "shops__total": double(row[3]),
                "shops__pieces": double(row[0]), "shops__open": double(row[6]), "shops__seen": double(row[7]),
            ]
            let values = service.onDemand.map { feature in
                ParityObservation.Value(
                    feature: feature.name,
                    value: double(feature.expression.evaluate { inputs[feature.inputs[$0].name] ?? .null }))
            }
            return OnDemandObservation(
                origin: "answer \(index)", keys: ["shop": "s1"], time: EventTime(milliseconds: 0), inputs: inputs,
                values: values)
        }
    }

    @Test func findsNothingWhereValuesAreThoseOfTraining() async throws {
        let service = try Self.service()
        let finding = try await ParityChecker(engine: try CommandLineEngine()).check(
            service, observations: Self.observations(service, count: 200))
        #expect(finding.differences.isEmpty, "\(finding.differences.first.debugDescription)")
        #expect(finding.features.map(\.feature) == service.onDemand.map(\.name))
        #expect(finding.features.allSatisfy { $0.view == "service/size" && $0.compared == 200 && $0.null < 200 })
    }

    @Test func findsOneValueThatIsOff() async throws {
        let service = try Self.service()
        var observations = Self.observations(service, count: 20)
        let honest = observations[11]
        let values = honest.values.map {
            $0.feature == "quoted" ? ParityObservation.Value(feature: "quoted", value: .double(0.5)) : $0
        }
        observations[11] = OnDemandObservation(
            origin: honest.origin, keys: honest.keys, time: honest.time, inputs: honest.inputs, values: values)
        let finding = try await ParityChecker(engine: try CommandLineEngine()).check(
            service, observations: observations)
        #expect(finding.differences.map(\.feature) == ["quoted"])
        #expect(finding.differences.first?.origin == "answer 11")
        #expect(finding.differences.first?.explanation?.contains("channel = ") == true)
    }
}
