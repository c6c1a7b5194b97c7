import Definitions
import PlatformCore
import Testing

@testable import Catalogue

enum Shop {
    static let text = """
        kind: Entity
        name: shop
        keys: [shop]
        ---
        kind: Source
        name: sales
        event_time: at
        key: [shop, at]
        owner: retail
        tags: [money]
        schema:
          - {name: shop, type: string, nullable: false}
          - {name: at, type: timestamp, nullable: false}
          - {name: amount, type: float64, tags: [revenue]}
          - {name: customer, type: string, sensitive: true}
        ---
        kind: FeatureView
        name: shop_sales
        entities: [shop]
        source: sales
        owner: ml
        tags: [gold]
        features:
          - {name: total_1h, aggregate: sum, column: amount, window: 1h, description: What a shop took in an hour, tags: [hot]}
          - {name: last_amount, aggregate: last, column: amount}
          - {name: visits, aggregate: count, window: 24h}
        ---
        kind: FeatureService
        name: sale_size
        request: [{name: amount, type: number, nullable: true}]
        views: [shop_sales]
        on_demand: [{name: per_call, expression: "shop_sales__total_1h * (1 - amount) / shop_sales__visits"}]
        ---
        kind: TrainingSet
        name: sale_size_rows
        service: sale_size
        spine: sales
        label: {name: size, source: sales, join: [shop, at], column: amount, horizon: 1h}
        """

    static func set(_ text: String = text) throws -> DefinitionSet {
        try DefinitionCompiler.compile([DefinitionFile(path: "shop.yaml", folder: "/", text: text)])
    }
}

struct CatalogueIndexTests {
    private func find(_ query: String) throws -> [String] {
        try CatalogueIndex(Shop.set()).search(CatalogueQuery(query), countMax: 100).hits.map(\.item.identifier)
    }

    @Test(arguments: [
        ("amount", ["column/sales.amount", "feature/shop_sales.last_amount"]),
        ("sales", ["source/sales", "view/shop_sales"]), ("total", ["feature/shop_sales.total_1h"]),
        ("shop_sales.visits", ["feature/shop_sales.visits"]), ("took hour", ["feature/shop_sales.total_1h"]),
        ("TOTAL_1H", ["feature/shop_sales.total_1h"]),
    ])
    func theBestHitsComeFirst(query: String, expected: [String]) throws {
        #expect(try Array(find(query).prefix(expected.count)) == expected)
    }

    @Test(arguments: [
        ("owner:retail kind:source", ["source/sales"]), ("tag:hot", ["feature/shop_sales.total_1h"]),
        ("tag:gold kind:view", ["view/shop_sales"]),
        ("column:amount kind:feature", ["feature/shop_sales.last_amount", "feature/shop_sales.total_1h"]),
        ("tag:revenue", ["column/sales.amount"]), ("owner:nobody", []),
        ("tag:gold tag:hot", ["feature/shop_sales.total_1h"]),
        ("kind:feature visits owner:\"ml\"", ["feature/shop_sales.visits"]),
    ])
    func conditionsNarrow(query: String, expected: [String]) throws {
        #expect(try find(query) == expected)
    }

    @Test func aMisspeltWordFindsTheNearest() throws {
        #expect(try find("ammount").first == "column/sales.amount")
        #expect(try find("visist") == ["feature/shop_sales.visits"])
        #expect(try find("zzzzzz").isEmpty)
    }

    @Test func unknownConditionsAreNamed() {
        #expect(throws: PlatformError.self) { try CatalogueQuery("kind:featur") }
        #expect(throws: PlatformError.self) { try CatalogueQuery("ownr:ml") }
        #expect(throws: PlatformError.self) { try CatalogueQuery(String(repeating: "x", count: 1001)) }
        #expect(throws: PlatformError.self) { try CatalogueQuery((0..<40).map(String.init).joined(separator: " ")) }
        #expect(throws: Never.self) { try CatalogueQuery("kind: owner: \"") }
    }

    @Test func tagsAreNoPartOfTheMeaning() throws {
        let (before, after) = (try Shop.set(), try Shop.set(Shop.text.replacing("[gold]", with: "[silver]")))
        #expect(before.meanings == after.meanings)
        #expect(before != after, "an apply keeps them nevertheless")
    }

    /// Every search gives what the obvious loop over names gives: an item whose name holds the word is never missed.
    @Test(arguments: UInt64(1)..<20) func noNameThatHoldsTheWordIsMissed(seed: UInt64) throws {
        let index = try CatalogueIndex(Shop.set())
        var state = seed
        let all = index.items
        let name = all[Int(seed) % all.count].name.lowercased()
        state = state &* 6_364_136_223_846_793_005 &+ 1
        let start = Int(state >> 33) % name.count
        let word = String(name.dropFirst(start).prefix(3))
        let hits = Set(index.search(try CatalogueQuery("\"\(word)\""), countMax: 1000).hits.map(\.item.identifier))
        for item in all where item.name.lowercased().contains(word) { #expect(hits.contains(item.identifier)) }
    }
}
