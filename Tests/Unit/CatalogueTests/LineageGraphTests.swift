import PlatformCore
import Testing

@testable import Catalogue

struct LineageGraphTests {
    @Test func aFeatureComesFromItsColumnsAndGoesToItsService() throws {
        let graph = LineageGraph(try Shop.set())
        let up = try #require(graph.slice(around: "feature/shop_sales.total_1h", .up, depth: 9))
        #expect(
            up.nodes.map(\.identifier) == [
                "feature/shop_sales.total_1h", "column/sales.amount", "column/sales.shop", "source/sales",
            ])
        #expect(up.edges.first { $0.from == "column/sales.amount" }?.detail == "sum over 1h")
        #expect(up.edges.first { $0.from == "column/sales.shop" }?.kind == .condition)
        let down = try #require(graph.slice(around: "column/sales.amount", .down, depth: 9))
        #expect(Set(down.nodes.map(\.identifier)).isSuperset(of: ["service/sale_size", "training_set/sale_size_rows"]))
        #expect(!down.nodes.contains { $0.identifier == "feature/shop_sales.visits" })
    }

    @Test func whatIsComputedOnDemandComesFromWhatItReads() throws {
        let graph = LineageGraph(try Shop.set())
        let up = try #require(graph.slice(around: "on_demand/sale_size.per_call", .up, depth: 9))
        #expect(
            Set(up.nodes.map(\.identifier)) == [
                "on_demand/sale_size.per_call", "request/sale_size.amount", "feature/shop_sales.total_1h",
                "feature/shop_sales.visits", "column/sales.amount", "column/sales.shop", "source/sales",
            ])
        let down = try #require(graph.slice(around: "column/sales.amount", .down, depth: 9))
        #expect(down.edges.contains { $0.from == "on_demand/sale_size.per_call" && $0.to == "service/sale_size" })
        #expect(
            CatalogueIndex(try Shop.set()).items(named: "per_call").map(\.identifier) == [
                "on_demand/sale_size.per_call"
            ])
    }

    @Test func depthAndCountCut() throws {
        let graph = LineageGraph(try Shop.set())
        let one = try #require(graph.slice(around: "source/sales", .down, depth: 1))
        #expect(one.isCut && one.distances.values.allSatisfy { $0 <= 1 })
        #expect(try #require(graph.slice(around: "source/sales", .down, depth: 9, countMax: 3)).nodes.count == 3)
        #expect(graph.slice(around: "source/none", .both, depth: 1) == nil)
    }

    @Test func aCycleEnds() throws {
        var graph = LineageGraph()
        graph.add(LineageEdge(from: "a/1", to: "a/2"))
        graph.add(LineageEdge(from: "a/2", to: "a/1"))
        graph.add(LineageEdge(from: "a/2", to: "a/2"))
        let slice = try #require(graph.slice(around: "a/1", .both, depth: 50))
        #expect(slice.nodes.count == 2 && slice.edges.count == 2)
    }

    @Test func picturesEscapeNames() throws {
        var graph = LineageGraph()
        graph.add(LineageNode(identifier: "external/<b>\"x", label: "<b>\"x"))
        let slice = try #require(graph.slice(around: "external/<b>\"x", .both, depth: 2))
        let svg = slice.svg(
            escape: { $0.replacing("<", with: "&lt;").replacing("\"", with: "&quot;") }, link: { _ in nil })
        #expect(!svg.contains("<b>"))
        #expect(slice.dot.contains("\\\"x"))
    }
}

struct OpenLineageEventTests {
    private static let event: JSONValue = [
        "eventTime": "2024-01-01T00:00:00.000Z", "producer": "https://example.com", "eventType": "COMPLETE",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": ["runId": "0190163d-8694-7123-8abc-0123456789ab"], "job": ["namespace": "etl", "name": "orders"],
        "inputs": [["namespace": "postgres://db", "name": "public.orders"]],
        "outputs": [
            [
                "namespace": "bottega", "name": "source/sales",
                "facets": [
                    "columnLineage": [
                        "fields": [
                            "amount": [
                                "inputFields": [
                                    ["namespace": "postgres://db", "name": "public.orders", "field": "total"]
                                ]
                            ]
                        ]
                    ]
                ],
            ]
        ],
    ]

    @Test func whatOthersTellJoinsOurGraph() throws {
        let external = ExternalLineage()
        external.take(try OpenLineageEvent(Self.event))
        var graph = LineageGraph(try Shop.set())
        external.extend(&graph)
        let up = try #require(graph.slice(around: "feature/shop_sales.total_1h", .up, depth: 9))
        let names = Set(up.nodes.map(\.identifier))
        #expect(names.contains("external/postgres://db/public.orders#total"))
        #expect(names.contains("external/postgres://db/public.orders") && names.contains("job/etl/orders"))
    }

    @Test(arguments: ["eventTime", "producer", "schemaURL", "job", "run"]) func aMissingMemberIsNamed(key: String) {
        guard case .object(var members) = Self.event else { return }
        members[key] = nil
        do {
            _ = try OpenLineageEvent(.object(members))
            Issue.record("accepted")
        } catch { #expect(error.code == .invalidInput && error.subject.contains(key)) }
    }

    /// Whatever stands in any place of an event, it is read or refused.
    @Test func noValueAnywhereTraps() {
        let strange: [JSONValue] = [.null, 5, "x", [], [:], [[]], .bool(true), .number(1e300), ["a": ["b": []]]]
        func variants(_ value: JSONValue, _ make: (JSONValue) -> Void) {
            for replacement in strange { make(replacement) }
            switch value {
            case .object(let members):
                for (key, member) in members {
                    variants(member) { changed in
                        var next = members
                        next[key] = changed
                        make(.object(next))
                    }
                }
            case .array(let elements):
                for (index, element) in elements.enumerated() {
                    variants(element) { changed in
                        var next = elements
                        next[index] = changed
                        make(.array(next))
                    }
                }
            default: break
            }
        }
        let external = ExternalLineage()
        var count = 0
        variants(Self.event) { event in
            count += 1
            if let event = try? OpenLineageEvent(event) { external.take(event) }
        }
        #expect(count > 200)
    }
}
