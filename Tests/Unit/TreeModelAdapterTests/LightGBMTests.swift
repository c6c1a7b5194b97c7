import Foundation
import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// A generated tree of LightGBM with the walk that its documentation describes: the meaning.
private final class Branch {
    indirect enum Node {
        case leaf(Int)
        case numeric(feature: Int, threshold: Double, missing: Int, defaultLeft: Bool, left: Node, right: Node)
        case categorical(feature: Int, categories: Set<Int>, left: Node, right: Node)
    }

    static func leaf(_ node: Node, _ row: [Float]) -> Int {
        switch node {
        case .leaf(let leaf): return leaf
        case .numeric(let feature, let threshold, let missing, let defaultLeft, let left, let right):
            var value = Double(row[feature])
            if value.isNaN, missing != 2 { value = 0 }
            if abs(value) <= Double(Float(1e-35)) { value = 0 }
            let isMissing = missing == 2 ? value.isNaN : missing == 1 && value == 0
            let goesLeft = isMissing ? defaultLeft : value <= threshold
            return Self.leaf(goesLeft ? left : right, row)
        case .categorical(let feature, let categories, let left, let right):
            let value = row[feature]
            guard !value.isNaN, value > -1, value < 1e9 else { return Self.leaf(right, row) }
            return Self.leaf(categories.contains(Int(value)) ? left : right, row)
        }
    }
}

/// A generated model: its file and its trees.
private struct GeneratedModel {
    var text: String
    var trees: [(root: Branch.Node, leaves: [Double])] = []
    let featureCount: Int
    let groups: Int

    init(seed: UInt64, featureCount: Int, treeCount: Int, splitsMax: Int, groups: Int, objective: String) {
        self.featureCount = featureCount
        self.groups = groups
        var random = SeededGenerator(seed)
        text = """
            tree
            version=v4
            num_class=\(groups)
            num_tree_per_iteration=\(groups)
            label_index=0
            max_feature_idx=\(featureCount - 1)
            objective=\(objective)
            feature_names=\((0..<featureCount).map { "f\($0)" }.joined(separator: " "))


            """
        for index in 0..<treeCount {
            var splits: [(feature: Int, threshold: String, decision: Int, left: Int, right: Int)] = []
            var boundaries = [0]
            var words: [UInt32] = []
            var leaves: [Double] = []
            func grow(_ depth: Int) -> (Branch.Node, Int) {
                guard splits.count < splitsMax, depth == 0 || Int.random(in: 0..<4, using: &random) > 0 else {
                    leaves.append(Double.random(in: -1...1, using: &random))
                    return (.leaf(leaves.count - 1), ~(leaves.count - 1))
                }
                let place = splits.count
                let feature = Int.random(in: 0..<featureCount, using: &random)
                splits.append((feature, "", 0, 0, 0))
                if feature.isMultiple(of: 3) {
                    let categories = Set(
                        (0..<Int.random(in: 0...20, using: &random)).map { _ in Int.random(in: 0..<70, using: &random) }
                    )
                    var set = [UInt32](repeating: 0, count: (categories.max() ?? 0) / 32 + 1)
                    for category in categories { set[category / 32] |= 1 << UInt32(category % 32) }
                    words += set
                    boundaries.append(words.count)
                    let threshold = boundaries.count - 2
                    let (left, leftPlace) = grow(depth + 1)
                    let (right, rightPlace) = grow(depth + 1)
                    splits[place] = (feature, String(threshold), 1, leftPlace, rightPlace)
                    return (.categorical(feature: feature, categories: categories, left: left, right: right), place)
                }
                let threshold =
                    [
                        Double.random(in: -1...1, using: &random), 0, 1.0000000180025095e-35, -1.0000000180025095e-35,
                        0.5,
                        Double(Float(0.1)), Double(Float(0.1)).nextDown, .greatestFiniteMagnitude,
                    ].randomElement(using: &random) ?? 0
                let missing = Int.random(in: 0...2, using: &random)
                let defaultLeft = Bool.random(using: &random)
                let (left, leftPlace) = grow(depth + 1)
                let (right, rightPlace) = grow(depth + 1)
                splits[place] = (feature, "\(threshold)", missing << 2 | (defaultLeft ? 2 : 0), leftPlace, rightPlace)
                return (
                    .numeric(
                        feature: feature, threshold: threshold, missing: missing, defaultLeft: defaultLeft, left: left,
                        right: right), place
                )
            }
            let (root, _) = grow(0)
            trees.append((root, leaves))
            func line(_ key: String, _ values: [String]) { text += "\(key)=\(values.joined(separator: " "))\n" }
            text += "Tree=\(index)\nnum_leaves=\(leaves.count)\nnum_cat=\(boundaries.count - 1)\n"
            line("split_feature", splits.map { String($0.feature) })
            line("threshold", splits.map(\.threshold))
            line("decision_type", splits.map { String($0.decision) })
            line("left_child", splits.map { String($0.left) })
            line("right_child", splits.map { String($0.right) })
            line("leaf_value", leaves.map { "\($0)" })
            let leafCounts = leaves.map { _ in Int.random(in: 1...400, using: &random) }
            func count(_ place: Int) -> Int {
                place < 0 ? leafCounts[~place] : count(splits[place].left) + count(splits[place].right)
            }
            line("leaf_count", leafCounts.map { String($0) })
            line("internal_count", splits.indices.map { String(count($0)) })
            if boundaries.count > 1 {
                line("cat_boundaries", boundaries.map(String.init))
                line("cat_threshold", words.map { String($0) })
            }
            text += "is_linear=0\nshrinkage=0.1\n\n\n"
        }
        text += "end of trees\n\nfeature_importances:\nf1=3\n"
    }

    func scores(_ row: [Float]) -> [Double] {
        var scores = [Double](repeating: 0, count: groups)
        for (index, tree) in trees.enumerated() { scores[index % groups] += tree.leaves[Branch.leaf(tree.root, row)] }
        return scores
    }
}

struct LightGBMTests {
    private static func load(_ text: String) throws(ModelError) -> any LoadedModel {
        try LightGBMRuntime().load(Array(text.utf8), fileName: "model.txt")
    }

    private static func rows(_ count: Int, featureCount: Int, seed: UInt64) -> [[Float]] {
        var random = SeededGenerator(seed)
        let special: [Float] = [
            .nan, 0, -0.0, 1e-35, -1e-35, 1.0000001e-35, 2e-35, 0.1, 0.5, .infinity, -.infinity, -0.5, 3.7, 69, 2e9,
            4e9,
        ]
        return (0..<count).map { _ in
            (0..<featureCount).map { feature in
                if Int.random(in: 0..<4, using: &random) == 0 { return special.randomElement(using: &random) ?? 0 }
                return feature.isMultiple(of: 3)
                    ? Float(Int.random(in: -2...80, using: &random)) : Float.random(in: -1.2...1.2, using: &random)
            }
        }
    }

    @Test(arguments: UInt64(0)..<40) func generatedModelsGiveWhatTheTreesSay(seed: UInt64) throws {
        let groups = seed.isMultiple(of: 4) ? 3 : 1
        let generated = GeneratedModel(
            seed: seed, featureCount: 2 + Int(seed % 7), treeCount: groups * Int(1 + seed % 11),
            splitsMax: [0, 1, 5, 40, 300][Int(seed % 5)], groups: groups, objective: "regression")
        let model = try Self.load(generated.text)
        let rows = Self.rows(19, featureCount: generated.featureCount, seed: seed)
        let expected = rows.flatMap { generated.scores($0).map(Float.init) }
        #expect(try model.predict(rows.flatMap { $0 }, rowCount: rows.count) == expected)
        let explanations = try model.explaining().explain(rows.flatMap { $0 }, rowCount: rows.count)
        for (row, explanation) in zip(rows, explanations) {
            for (margin, score) in zip(explanation.margins, generated.scores(row)) {
                #expect(abs(margin - score) < 1e-12 * Double(generated.trees.count + 1))
            }
        }
        for (index, row) in rows.enumerated() {
            #expect(
                try model.predict(row, rowCount: 1) == Array(expected[(index * groups)..<((index + 1) * groups)]))
        }
    }

    @Test(arguments: [
        ("binary sigmoid:1", 1, ModelOutput.probability, MarginScale?.some(.logOdds)),
        ("binary sigmoid:2", 1, .probability, nil), ("regression", 1, .value, .value),
        ("regression sqrt", 1, .value, nil), ("poisson", 1, .value, .logarithm), ("lambdarank", 1, .value, nil),
        ("multiclass num_class:2", 2, .classProbabilities, nil), ("regression", 2, .values, .value),
    ]) func saysWhatItGives(objective: String, groups: Int, output: ModelOutput, scale: MarginScale?) throws {
        let model = GeneratedModel(
            seed: 3, featureCount: 4, treeCount: 2, splitsMax: 4, groups: groups, objective: objective)
        let description = try LightGBMRuntime().load(Array(model.text.utf8), fileName: "model.txt").description
        #expect(description.output == output && description.marginScale == scale)
    }

    @Test func everyTruncationIsRefused() {
        let text = Array(
            GeneratedModel(seed: 3, featureCount: 4, treeCount: 3, splitsMax: 8, groups: 1, objective: "binary").text
                .utf8)
        let end = text.count - "end of trees\n\nfeature_importances:\nf1=3\n".utf8.count + "end of trees".utf8.count
        for length in stride(from: 0, to: end, by: 5) {
            #expect(throws: ModelError.self) {
                try LightGBMRuntime().load(Array(text.prefix(length)), fileName: "cut.txt")
            }
        }
    }

    @Test(arguments: UInt64(0)..<8) func changedBytesNeverTrap(seed: UInt64) {
        var random = SeededGenerator(seed)
        let original = Array(
            GeneratedModel(seed: seed, featureCount: 4, treeCount: 4, splitsMax: 9, groups: 2, objective: "multiclass")
                .text.utf8)
        let interesting = Array("0123456789-~=. \n\re+inaf".utf8)
        let limits = ModelLimits(byteCountMax: 1 << 20, featureCountMax: 10_000, categorySetByteCountMax: 1 << 20)
        for _ in 0..<200 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(interesting.randomElement(using: &random) ?? 0, at: at)
                default: bytes[at] = interesting.randomElement(using: &random) ?? 0
                }
            }
            do {
                let model = try LightGBMRuntime(limits: limits).load(bytes, fileName: "fuzz")
                let width = model.description.featureCount
                let rows = Self.rows(9, featureCount: width, seed: 1).flatMap { $0 }
                _ = try model.predict(rows, rowCount: 9)
                let explanations = try model.explaining().explain(rows, rowCount: 9)
                #expect(explanations.allSatisfy { $0.margins.allSatisfy(\.isFinite) })
            } catch { #expect(!error.message.contains("\n")) }
        }
    }

    @Test(arguments: [
        ("version=v4", "version=v9", "v9"), ("is_linear=0", "is_linear=1", "linear_tree"),
        ("objective=binary", "objective=mystery", "mystery"), ("max_feature_idx=3", "max_feature_idx=0", "feature"),
        ("num_leaves=", "num_leaves=9", "leaf"), ("split_feature=", "split_feature=x ", "split_feature"),
        ("left_child=", "left_child=0 ", "left_child"), ("num_tree_per_iteration=1", "num_tree_per_iteration=7", "7"),
    ])
    func whatItCannotScoreItRefusesByName(from: String, to: String, word: String) {
        let text = GeneratedModel(
            seed: 5, featureCount: 4, treeCount: 3, splitsMax: 8, groups: 1, objective: "binary sigmoid:1"
        ).text.replacing(from, with: to)
        do {
            _ = try Self.load(text)
            Issue.record("\(to) was accepted")
        } catch {
            #expect(error.message.contains(word) || to.contains("split_feature"), "\(error.message)")
        }
    }
}
