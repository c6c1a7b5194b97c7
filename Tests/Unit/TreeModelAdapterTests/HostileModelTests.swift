import Foundation
import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// Model files that are broken on purpose: each gives one line that says what and where.
struct HostileModelTests {
    private static let tiny = randomModel(ModelShape(featureCount: 4, treeCount: 3, nodeCountMax: 9), seed: 11)

    private func expect(
        _ code: ModelError.Code, _ part: String, _ bytes: [UInt8], limits: ModelLimits = ModelLimits(),
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try XGBoostRuntime(limits: limits).load(bytes, fileName: "model.bin")
            Issue.record("the model was loaded", sourceLocation: sourceLocation)
        } catch {
            #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(part), "\(error)", sourceLocation: sourceLocation)
            #expect(
                error.message.hasPrefix("model.bin: ") && !error.message.contains("\n"), sourceLocation: sourceLocation)
        }
    }

    /// Breaks the document and tries it in both formats.
    private func expectBroken(
        _ code: ModelError.Code, _ part: String, sourceLocation: SourceLocation = #_sourceLocation,
        by change: (inout XGBoostFile) -> Void
    ) {
        var file = Self.tiny
        change(&file)
        expect(code, part, ModelWriter.json(file), sourceLocation: sourceLocation)
        expect(code, part, ModelWriter.ubjson(file), sourceLocation: sourceLocation)
    }

    /// A tree of one split.
    private static func stump() -> RawTree {
        var tree = RawTree()
        tree.leftChildren = [1, -1, -1]
        tree.rightChildren = [2, -1, -1]
        tree.splitFeatures = [0, 0, 0]
        tree.splitConditions = [0, 1, 2]
        tree.defaultLeft = [0, 0, 0]
        tree.splitTypes = [0, 0, 0]
        return tree
    }

    private func expectBrokenTree(
        _ part: String, code: ModelError.Code = .malformedModel, sourceLocation: SourceLocation = #_sourceLocation,
        by change: (inout RawTree) -> Void
    ) {
        expectBroken(code, part, sourceLocation: sourceLocation) { file in
            file.trees[1] = Self.stump()
            change(&file.trees[1])
        }
    }

    @Test func refusesBytesThatAreNoModel() {
        expect(.malformedModel, "the file is empty", [])
        expect(.malformedModel, "starts with byte 80", Array("PK\u{3}\u{4}".utf8))
        expect(.malformedModel, "ends where", Array("{".utf8))
        expect(.malformedModel, "no 'learner'", Array("{}".utf8))
        expect(.malformedModel, "no 'learner'", Array("{\"a\": [1, {\"b\": null}, \"c\"], \"d\": true}".utf8))
        expect(.malformedModel, "more bytes follow", ModelWriter.json(Self.tiny) + Array("{}".utf8))
        expect(.malformedModel, "more bytes follow", ModelWriter.ubjson(Self.tiny) + Array("{}".utf8))
        expect(.malformedModel, "booster", Array("{\"learner\": {}}".utf8))
    }

    @Test func refusesDeepNesting() {
        expect(.malformedModel, "nested deeper", Array("{\"a\":".utf8) + [UInt8](repeating: 0x5B, count: 1_000_000))
        expect(.malformedModel, "nested deeper", Array("{i\u{1}a".utf8) + [UInt8](repeating: 0x5B, count: 1_000_000))
        expect(
            .malformedModel, "nested deeper",
            Array("{".utf8) + Array(repeatElement(Array("i\u{1}a{".utf8), count: 10_000).joined()))
    }

    @Test func refusesHugePromises() {
        func billion(_ text: String) -> [UInt8] { Array(text.utf8) + [0x6C, 0x3B, 0x9A, 0xCA, 0x00] }
        let trees = "{i\u{7}learner{i\u{10}gradient_booster{i\u{5}model{i\u{9}tree_info"
        expect(.malformedModel, "count 1000000000 needs more", billion("{i\u{7}learner{i\u{5}trees[#"))
        expect(.malformedModel, "count 1000000000 needs more", billion("{i\u{4}skip[$d#"))
        expect(.malformedModel, "a container of type 'T'", billion("{i\u{4}skip[$T#"))
        expect(.malformedModel, "a container of type 'Z'", billion(trees + "[$Z#"))
        expect(.malformedModel, "count 1000000000 needs more", billion("{i\u{4}skip[$[#"))
        expect(.malformedModel, "count 1000000000 needs more", billion("{i\u{7}learner{#"))
        expect(.malformedModel, "count 1000000000 needs more", billion("{"))
        expect(.malformedModel, "model.tree_info: the count 1000000000 needs more", billion(trees + "[$l#"))
        expect(.malformedModel, "model.tree_info: the count 1000000000 needs more", billion(trees + "[#"))
        expect(.malformedModel, "is negative", Array("{i\u{4}skip[#".utf8) + [0x69, 0xFF])
        expectBroken(.malformedModel, "promises 2000000000 outputs") { $0.classCount = 2_000_000_000 }
        expectBroken(.tooLarge, "2000000000 features") { $0.featureCount = 2_000_000_000 }
        let json = String(decoding: ModelWriter.json(Self.tiny), as: UTF8.self)
        expect(
            .malformedModel, "num_trees promises 1000000000 trees, the file holds 3",
            Array(json.replacingOccurrences(of: "\"num_trees\":\"3\"", with: "\"num_trees\":\"1000000000\"").utf8))
        expect(
            .malformedModel, "not a count",
            Array(json.replacingOccurrences(of: "\"num_trees\":\"3\"", with: "\"num_trees\":\"-3\"").utf8))
        expect(
            .tooLarge, "100 are accepted", ModelWriter.json(Self.tiny), limits: ModelLimits(byteCountMax: 100))
    }

    @Test func refusesTreesThatAreNoTrees() {
        expectBrokenTree("trees[1]: node 1 is reached twice") { $0.rightChildren[0] = 1 }
        expectBrokenTree("child 0 of node 1 is out of range") { ($0.leftChildren[1], $0.rightChildren[1]) = (0, 2) }
        expectBrokenTree("node 2 is reached twice") { ($0.leftChildren[1], $0.rightChildren[1]) = (2, 1) }
        expectBrokenTree("child 3 of node 0 is out of range") { $0.rightChildren[0] = 3 }
        expectBrokenTree("child -5 of node 0 is out of range") { $0.leftChildren[0] = -5 }
        expectBrokenTree("child 2147483647 of node 0") { $0.leftChildren[0] = .max }
        expectBrokenTree("node 0 has a right child but no left one") { $0.leftChildren[0] = -1 }
        expectBrokenTree("node 0 splits on feature 4, the model has 4") { $0.splitFeatures[0] = 4 }
        expectBrokenTree("node 0 splits on feature -1") { $0.splitFeatures[0] = -1 }
        expectBrokenTree("the tree has no nodes") { $0 = RawTree() }
    }

    @Test func refusesListsOfOtherLengths() {
        expectBrokenTree("right_children holds 2 values, left_children holds 3") { $0.rightChildren.removeLast() }
        expectBrokenTree("split_indices holds 4") { $0.splitFeatures.append(0) }
        expectBrokenTree("split_conditions holds 2") { $0.splitConditions.removeLast() }
        expectBrokenTree("default_left holds 0") { $0.defaultLeft = [] }
        expectBrokenTree("split_type holds 2") { $0.splitTypes.removeLast() }
        expectBroken(.malformedModel, "tree_info holds 2 values for 3 trees") { $0.treeGroups.removeLast() }
        expectBroken(.malformedModel, "tree_info[1] is output 7, the model has 1") { $0.treeGroups[1] = 7 }
        expectBroken(.malformedModel, "tree_info[1] is output -1") { $0.treeGroups[1] = -1 }
        expectBroken(.malformedModel, "weight_drop holds 0 values") { $0.booster = "dart" }
        expectBroken(.malformedModel, "feature_names holds 1 entries") { $0.featureNames = ["a"] }
        expectBroken(.malformedModel, "feature_types holds 5 entries") { $0.featureTypes = ["c", "q", "q", "q", "q"] }
    }

    @Test func refusesBrokenCategories() {
        func categorical(_ tree: inout RawTree) {
            tree.splitTypes[0] = 1
            tree.categories = [1, 5]
            (tree.categoryNodes, tree.categorySegments, tree.categorySizes) = ([0], [0], [2])
        }
        expectBrokenTree("categorical node 0 has no categories") { $0.splitTypes[0] = 1 }
        expectBrokenTree("lie outside") {
            categorical(&$0); $0.categorySizes = [3]
        }
        expectBrokenTree("lie outside") {
            categorical(&$0); $0.categorySegments = [-1]
        }
        expectBrokenTree("lie outside") {
            categorical(&$0); $0.categorySegments = [.max]
        }
        expectBrokenTree("differ in length") {
            categorical(&$0); $0.categorySizes = []
        }
        expectBrokenTree("overlap") {
            categorical(&$0); ($0.categoryNodes, $0.categorySegments, $0.categorySizes) = ([0, 1], [0, 0], [2, 2])
        }
        expectBrokenTree("two lists") {
            categorical(&$0); ($0.categoryNodes, $0.categorySegments, $0.categorySizes) = ([0, 0], [0, 1], [1, 1])
        }
        expectBrokenTree("category -1 is out of range") {
            categorical(&$0); $0.categories = [1, -1]
        }
        expectBrokenTree("category 16777217 is out of range") {
            categorical(&$0); $0.categories = [1, 16_777_217]
        }
        var file = Self.tiny
        file.trees = [Self.stump()]
        file.treeGroups = [0]
        categorical(&file.trees[0])
        file.trees[0].categories = [1, 16_777_215]
        expect(
            .tooLarge, "sets of categories", ModelWriter.json(file),
            limits: ModelLimits(categorySetByteCountMax: 100_000))
    }

    @Test func refusesWhatItDoesNotKnow() {
        expectBroken(.unsupportedModel, "'reg:magic' is not supported") { $0.objective = "reg:magic" }
        expectBroken(.malformedModel, "names no objective") { $0.objective = "" }
        expectBroken(.unsupportedModel, "'gblinear' is not supported") { $0.booster = "gblinear" }
        expectBroken(.unsupportedModel, "'a b' is not supported") { $0.booster = "a\nb" }
        expectBroken(.malformedModel, "not a number") { $0.baseScore = "half" }
        expectBroken(.malformedModel, "not a number") { $0.baseScore = "[]" }
        expectBroken(.malformedModel, "2 values for 1 outputs") { $0.baseScore = "[5E-1,5E-1]" }
        expectBroken(.malformedModel, "outside the range of binary:logistic") {
            ($0.baseScore, $0.objective) = ("1.5", "binary:logistic")
        }
        let json = String(decoding: ModelWriter.json(Self.tiny), as: UTF8.self)
        expect(
            .unsupportedModel, "leaves of 3 values (multi_output_tree)",
            Array(json.replacingOccurrences(of: "\"size_leaf_vector\":\"1\"", with: "\"size_leaf_vector\":\"3\"").utf8))
        expect(
            .malformedModel, "learner.gradient_booster.model.trees[0].left_children: an integer is expected",
            Array(json.replacingOccurrences(of: "\"left_children\":[", with: "\"left_children\":[x,").utf8))
        expect(
            .malformedModel, "does not fit in 32 bits",
            Array(json.replacingOccurrences(of: "\"left_children\":[", with: "\"left_children\":[99999999999,").utf8))
    }

    @Test func wastesNoMemoryOnEmptyTrees() {
        let trees = String(repeating: "{},", count: 1_000_000)
        let head = "{\"learner\":{\"gradient_booster\":{\"model\":{\"trees\":["
        expect(.malformedModel, "trees[0]: the tree has no nodes", Array((head + trees).utf8))
    }

    @Test func nodesOutOfReachDoNotMatter() throws {
        var file = Self.tiny  // pruning leaves such nodes behind
        file.trees[0].leftChildren.append(-1)
        file.trees[0].rightChildren.append(-1)
        file.trees[0].splitFeatures.append(.max)
        file.trees[0].splitConditions.append(.nan)
        file.trees[0].defaultLeft.append(0)
        file.trees[0].splitTypes.append(0)
        let rows = randomRows(5, featureCount: 4, seed: 1)
        let found = try XGBoostRuntime().load(ModelWriter.json(file), fileName: "").predict(rows, rowCount: 5)
        #expect(found == (try obviousPredictions(Self.tiny, rows: rows, rowCount: 5)))
    }
}
