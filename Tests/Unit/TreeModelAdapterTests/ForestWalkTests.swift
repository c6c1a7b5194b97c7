import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// The fast walk against the obvious one, on generated models and rows.
struct ForestWalkTests {
    private func check(_ shape: ModelShape, seed: UInt64, rowCount: Int = 21) throws {
        let file = randomModel(shape, seed: seed)
        let rows = randomRows(rowCount, featureCount: shape.featureCount, seed: seed)
        let wanted = try obviousPredictions(file, rows: rows, rowCount: rowCount).map(\.bitPattern)
        for bytes in [ModelWriter.json(file), ModelWriter.ubjson(file)] {
            let model = try XGBoostRuntime().load(bytes, fileName: "generated")
            #expect(try model.predict(rows, rowCount: rowCount).map(\.bitPattern) == wanted)
            let outputs = model.description.outputCount
            for row in 0..<min(rowCount, 3) {
                let one = Array(rows[(row * shape.featureCount)..<((row + 1) * shape.featureCount)])
                let found = try model.predict(one, rowCount: 1).map(\.bitPattern)
                #expect(found == Array(wanted[(row * outputs)..<((row + 1) * outputs)]))
            }
        }
    }

    @Test(arguments: UInt64(0)..<24) func equalsTheObviousWalk(seed: UInt64) throws {
        let objectives = ["reg:squarederror", "binary:logistic", "count:poisson", "binary:hinge"]
        try check(
            ModelShape(
                featureCount: 1 + Int(seed % 9), treeCount: Int(seed), objective: objectives[Int(seed % 4)],
                categoricalShare: seed % 3 == 0 ? 0 : 0.4, booster: seed % 5 == 0 ? "dart" : "gbtree"),
            seed: seed)
    }

    @Test(arguments: ["multi:softprob", "multi:softmax"]) func addsLeavesToTheirClass(objective: String) throws {
        try check(ModelShape(treeCount: 30, groups: 5, objective: objective), seed: 77)
    }

    @Test func walksDeepChains() throws {
        try check(ModelShape(treeCount: 10, nodeCountMax: 2_001, isChain: true), seed: 5)
        try check(ModelShape(treeCount: 17, nodeCountMax: 400, categoricalShare: 0), seed: 6)
    }

    @Test func usesWideNodesForManyFeatures() throws {
        try check(ModelShape(featureCount: 20_000, treeCount: 9), seed: 3, rowCount: 9)
        #expect(PackedNode(key: 1, slot: 40_000, distance: 1, isCategorical: false) == nil)
    }

    @Test func nodesKeepTheirParts() throws {
        for (key, slot, distance, kind) in [
            (Int32.min, 0, 0, false), (Int32.max, 32_767, 65_535, true), (-1, 1, 65_535, false), (7, 32_767, 0, true),
        ] {
            let packed = try #require(PackedNode(key: key, slot: slot, distance: distance, isCategorical: kind))
            let wide = try #require(WideNode(key: key, slot: slot, distance: distance, isCategorical: kind))
            #expect(packed.key == key && packed.slot == slot && packed.distance == distance)
            #expect(packed.isCategorical == kind)
            #expect(wide.key == key && wide.slot == slot && wide.distance == distance && wide.isCategorical == kind)
        }
    }

    @Test func orderedKeysOrderLikeFloats() {
        let values = specialValues + [.infinity, -.infinity, 1.0000001, -1.0000001, 1e-38, -1e-38]
        for left in values {
            for right in values {
                #expect((OrderedKey.of(left) > OrderedKey.lastLeft(ofThreshold: right)) == !(left < right))
            }
            #expect(OrderedKey.of(left) > OrderedKey.lastLeft(ofThreshold: .nan))
            #expect(OrderedKey.missingRight > OrderedKey.lastLeft(ofThreshold: left))
            #expect(!(OrderedKey.missingLeft > OrderedKey.lastLeft(ofThreshold: left)))
        }
    }

    @Test func refusesRowsThatDoNotFit() throws {
        let model = try XGBoostRuntime().load(
            ModelWriter.json(randomModel(ModelShape(featureCount: 4, categoricalShare: 0), seed: 1)), fileName: "m.json"
        )
        #expect(throws: ModelError(.shapeMismatch, "row 9: feature 2 is infinite; a missing value is NaN")) {
            var rows = [Float](repeating: 0.5, count: 44)
            rows[38] = -.infinity
            _ = try model.predict(rows, rowCount: 11)
        }
        #expect(throws: ModelError(.shapeMismatch, "7 values are not 2 rows of the model's 4 features")) {
            _ = try model.predict([Float](repeating: 0, count: 7), rowCount: 2)
        }
        #expect(throws: ModelError(.shapeMismatch, "8 values are not 3 rows of the model's 4 features")) {
            _ = try model.predict([Float](repeating: 0, count: 8), rowCount: 3)
        }
        #expect(try model.predict([], rowCount: 0).isEmpty)
    }
}
