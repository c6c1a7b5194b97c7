import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// Shapley values by their definition: every subset of features, no cleverness.
private struct ObviousExplanation {
    let file: XGBoostFile
    let featureCount: Int

    /// The mean value of a tree for a row of which only the features in `known` are known.
    func value(_ tree: RawTree, _ row: ArraySlice<Float>, known: Int, node: Int = 0) -> Double {
        guard tree.leftChildren[node] != -1 else { return Double(tree.splitConditions[node]) }
        let (left, right) = (Int(tree.leftChildren[node]), Int(tree.rightChildren[node]))
        let feature = Int(tree.splitFeatures[node])
        guard known & (1 << feature) != 0 else {
            let (leftCover, rightCover) = (Double(tree.covers[left]), Double(tree.covers[right]))
            return
                (leftCover * value(tree, row, known: known, node: left)
                + rightCover * value(tree, row, known: known, node: right)) / Double(tree.covers[node])
        }
        let cell = row[row.startIndex + feature]
        let goesLeft: Bool
        if cell.isNaN {
            goesLeft = tree.defaultLeft[node] == 1
        } else if tree.splitTypes[node] == 1 {
            let entry = tree.categoryNodes.firstIndex(of: Int32(node)) ?? 0
            let start = Int(tree.categorySegments[entry])
            let list = tree.categories[start..<(start + Int(tree.categorySizes[entry]))]
            goesLeft = cell < 0 || cell >= 16_777_216 || !list.contains(Int32(cell))
        } else {
            goesLeft = cell < tree.splitConditions[node]
        }
        return value(tree, row, known: known, node: goesLeft ? left : right)
    }

    /// Contributions and base value of the trees for one margin.
    func contributions(_ row: ArraySlice<Float>, group: Int) -> (values: [Double], base: Double) {
        let subsets = 1 << featureCount
        var game = [Double](repeating: 0, count: subsets)
        for (index, tree) in file.trees.enumerated() where Int(file.treeGroups[index]) == group {
            let weight = file.booster == "dart" ? Double(file.treeWeights[index]) : 1
            for known in 0..<subsets { game[known] += weight * value(tree, row, known: known) }
        }
        var factorial = [1.0]
        for number in 1...featureCount { factorial.append(factorial[number - 1] * Double(number)) }
        let values = (0..<featureCount).map { feature in
            (0..<subsets).filter { $0 & (1 << feature) == 0 }.reduce(0.0) { sum, known in
                let size = known.nonzeroBitCount
                let weight = factorial[size] * factorial[featureCount - size - 1] / factorial[featureCount]
                return sum + weight * (game[known | 1 << feature] - game[known])
            }
        }
        return (values, game[0])
    }
}

struct ExplanationTests {
    private static func load(_ file: XGBoostFile, ubjson: Bool = true) throws -> any LoadedModel {
        try XGBoostRuntime().load(ubjson ? ModelWriter.ubjson(file) : ModelWriter.json(file), fileName: "generated")
    }

    @Test(arguments: UInt64(0)..<24) func equalsTheDefinitionOfShapleyValues(seed: UInt64) throws {
        let groups = seed % 6 == 5 ? 3 : 1
        let shape = ModelShape(
            featureCount: 1 + Int(seed % 7), treeCount: Int(seed % 5) * groups, nodeCountMax: 40, groups: groups,
            objective: groups > 1 ? (seed % 12 == 5 ? "multi:softprob" : "multi:softmax") : "reg:squarederror",
            categoricalShare: seed % 3 == 0 ? 0 : 0.4, booster: seed % 4 == 3 ? "dart" : "gbtree",
            isChain: seed % 8 == 7)
        let file = randomModel(shape, seed: seed)
        let oracle = ObviousExplanation(file: file, featureCount: shape.featureCount)
        let rows = randomRows(5, featureCount: shape.featureCount, seed: seed)
        let model = try Self.load(file, ubjson: seed.isMultiple(of: 2)).explaining()
        let found = try model.explain(rows, rowCount: 5)
        #expect(found.count == 5)
        for (index, explanation) in found.enumerated() {
            let row = rows[(index * shape.featureCount)..<((index + 1) * shape.featureCount)]
            #expect(explanation.baseValues.count == groups && explanation.contributions.count == groups)
            for group in 0..<groups {
                let (values, base) = oracle.contributions(row, group: group)
                // Weights of dropped trees are multiplied into the leaves in float32.
                let tolerance = file.booster == "dart" ? 1e-6 : 1e-12
                #expect(abs(explanation.baseValues[group] - base - 0.25) < tolerance)
                for (value, wanted) in zip(explanation.contributions[group], values) {
                    #expect(abs(value - wanted) < tolerance)
                }
            }
        }
    }

    @Test(arguments: [(7, 1_001), (40, 1_001), (600, 1_025), (600, 301)])
    func deepChainsAddUpToTheMargin(featureCount: Int, nodeCountMax: Int) async throws {
        let shape = ModelShape(
            featureCount: featureCount, treeCount: 2, nodeCountMax: nodeCountMax, categoricalShare: 0.2, isChain: true)
        for seed: UInt64 in 0..<2 {
            let model = try Self.load(randomModel(shape, seed: seed)).explaining()
            let rows = randomRows(2, featureCount: featureCount, seed: seed)
            let margins = try model.predict(rows, rowCount: 2)
            for (explanation, margin) in zip(try model.explain(rows, rowCount: 2), margins) {
                #expect(abs(explanation.margins[0] - Double(margin)) < 1e-5)
            }
        }
    }

    @Test func onlyTreesOfBoundedDepthAreExplained() throws {
        let shape = ModelShape(treeCount: 9, nodeCountMax: 4_001, isChain: true)
        let model = try Self.load(randomModel(shape, seed: 1))
        _ = try model.predict(randomRows(1, featureCount: 7, seed: 1), rowCount: 1)
        let failure = #expect(throws: ModelError.self) { try model.explaining() }
        #expect(failure?.message.contains("splits deep") == true)
    }

    @Test(arguments: [Float.nan, 0, -3, .infinity, -.infinity]) func badCoversAreNamed(cover: Float) throws {
        var file = randomModel(ModelShape(treeCount: 4, nodeCountMax: 30), seed: 8)
        let tree = try #require(file.trees.lastIndex { $0.leftChildren.count > 4 })
        let split = try #require(file.trees[tree].leftChildren.lastIndex { $0 != -1 })
        file.trees[tree].covers[split] = cover
        let model = try Self.load(file, ubjson: false)
        let rows = randomRows(1, featureCount: 7, seed: 1)
        let prediction = try model.predict(rows, rowCount: 1)
        #expect(prediction.count == 1)
        let failure = #expect(throws: ModelError.self) { try model.explaining() }
        #expect(failure?.message.contains("trees[\(tree)].sum_hessian[\(split)]") == true)
        let direct = try #require(model as? any ExplainingModel)
        #expect(direct.explanationFault == failure?.message)
        #expect(throws: ModelError.self) { try direct.explain(rows, rowCount: 1) }
    }

    @Test func missingAndShortCoversAreNamed() throws {
        var file = randomModel(ModelShape(treeCount: 2, nodeCountMax: 30), seed: 8)
        file.trees[1].covers.removeLast()
        let short = try #require(try Self.load(file) as? any ExplainingModel)
        #expect(short.explanationFault?.contains("trees[1].sum_hessian holds") == true)
        file.trees[1].covers = []
        let bare = try #require(try Self.load(file) as? any ExplainingModel)
        #expect(bare.explanationFault?.contains("trees[1] has no 'sum_hessian'") == true)
    }

    @Test func coversThatDoNotFitTogetherAreNoTrap() throws {
        var random = SeededGenerator(4)
        let extremes: [Float] = [.leastNonzeroMagnitude, 1e-30, 1, 1e30, .greatestFiniteMagnitude]
        for seed: UInt64 in 0..<40 {
            var file = randomModel(ModelShape(treeCount: 3, nodeCountMax: 90, isChain: seed % 2 == 0), seed: seed)
            for tree in file.trees.indices {
                file.trees[tree].covers = file.trees[tree].covers.map { _ in extremes.randomElement(using: &random) ?? 1
                }
            }
            let rows = randomRows(4, featureCount: 7, seed: seed)
            do {
                for explanation in try Self.load(file).explaining().explain(rows, rowCount: 4) {
                    let isFinite = explanation.contributions[0].allSatisfy(\.isFinite)
                    #expect(isFinite)
                }
            } catch {
                #expect((error as? ModelError)?.code == .unsupportedModel)
            }
        }
    }

    @Test func refusesWhatPredictRefuses() throws {
        let model = try Self.load(randomModel(ModelShape(treeCount: 2), seed: 8)).explaining()
        #expect(throws: ModelError.self) { try model.explain([1, 2], rowCount: 1) }
        #expect(throws: ModelError.self) { try model.explain([1, 2, 3, .infinity, 5, 6, 7], rowCount: 1) }
        let none = try model.explain([], rowCount: 0)
        #expect(none.isEmpty)
    }

    @Test(arguments: [1, 2, 3, 5, 8, 16, 31, 64, 256]) func quadratureIsExactForPolynomials(count: Int) {
        let rule = QuadratureRule(count: count)
        for degree in 0..<(2 * count) {
            var sum = 0.0
            for (point, weight) in zip(rule.points, rule.weights) {
                var power = 1.0
                for _ in 0..<degree { power *= point }
                sum += weight * power
            }
            #expect(abs(sum * Double(degree + 1) - 1) < 1e-12, "degree \(degree)")
        }
    }
}
