import RuntimePorts

/// One regression tree as the file holds it: parallel arrays with one element for each node.
///
/// The lengths have been checked, the contents have not.
struct RawTree {
    var leftChildren: [Int32] = []
    var rightChildren: [Int32] = []
    var splitFeatures: [Int32] = []
    /// The threshold of a split; the value of a leaf.
    var splitConditions: [Float] = []
    /// Sums of the training rows' second derivatives; empty if the file has none.
    var covers: [Float] = []
    var defaultLeft: [Int32] = []
    /// 0 for a numeric split, 1 for a categorical one; empty in files older than XGBoost 1.3.
    var splitTypes: [Int32] = []
    var categories: [Int32] = []
    var categoryNodes: [Int32] = []
    var categorySegments: [Int32] = []
    var categorySizes: [Int32] = []
    var statedNodeCount: Int?
    var leafVectorSize = 1

    /// Checks that there are nodes and that all lists have an element for each.
    ///
    /// Done as soon as a tree is read, so that a file cannot make many times its own size of empty trees. Trees whose
    /// leaves are vectors have other lists; they are refused later, by name.
    func checkLengths(index: Int) throws(ModelError) {
        let count = leftChildren.count
        guard leafVectorSize <= 1 else { return }
        guard count > 0 else { throw ModelError(.malformedModel, "trees[\(index)]: the tree has no nodes") }
        if let stated = statedNodeCount, stated != count {
            throw ModelError(
                .malformedModel, "trees[\(index)]: num_nodes promises \(stated) nodes, left_children holds \(count)")
        }
        let others = [
            ("right_children", rightChildren.count), ("split_indices", splitFeatures.count),
            ("split_conditions", splitConditions.count), ("default_left", defaultLeft.count),
            ("split_type", splitTypes.isEmpty ? count : splitTypes.count),
        ]
        for (name, length) in others where length != count {
            throw ModelError(
                .malformedModel, "trees[\(index)]: \(name) holds \(length) values, left_children holds \(count)")
        }
    }
}

/// What an XGBoost model file says, read but not yet checked for sense.
struct XGBoostFile {
    var booster = ""
    var objective = ""
    var baseScore = "5E-1"
    var featureCount: Int?
    var classCount = 0
    var targetCount = 1
    var featureNames: [String] = []
    var featureTypes: [String] = []
    var bestIteration: Int?
    /// Whether scikit-learn's wrapper wrote it, which predicts up to the best iteration; a `Booster` predicts with all trees.
    var isOfWrapper = false
    /// By feature, its categories; `nil` for a number.
    ///
    /// Files of XGBoost before 3.1 have none.
    var categoryNames: [CategoryNames?] = []
    var trees: [RawTree] = []
    var treeGroups: [Int32] = []
    var iterationStarts: [Int32] = []
    var parallelTreeCount = 1
    var statedTreeCount: Int?
    var treeWeights: [Float] = []
    private var hasLearner = false

    /// Reads a whole file.
    /// - Throws: `malformedModel` with the byte and the place in the document.
    init<Cursor: ModelCursor>(_ cursor: inout Cursor) throws(ModelError) {
        var file = XGBoostFile()
        try cursor.eachMember { (cursor, name) throws(ModelError) in
            if name == "learner" {
                file.hasLearner = true
                try file.readLearner(&cursor)
            } else {
                try cursor.skip()
            }
        }
        try cursor.finish()
        guard file.hasLearner else {
            throw ModelError(.malformedModel, "no 'learner' at the top: not an XGBoost model")
        }
        self = file
    }

    private init() {}

    /// A file that says nothing yet.
    static var empty: XGBoostFile { XGBoostFile() }

    private mutating func readLearner<Cursor: ModelCursor>(_ cursor: inout Cursor) throws(ModelError) {
        var file = self
        try cursor.eachMember { (cursor, name) throws(ModelError) in
            switch name {
            case "attributes":
                try cursor.eachMember { (cursor, name) throws(ModelError) in
                    let value = try cursor.text()
                    if name == "best_iteration" { file.bestIteration = Int(value) }
                    if name == "scikit_learn" { file.isOfWrapper = true }
                }
            case "feature_names": file.featureNames = try Self.texts(&cursor)
            case "feature_types": file.featureTypes = try Self.texts(&cursor)
            case "gradient_booster": try file.readBooster(&cursor, depth: 0)
            case "learner_model_param":
                try cursor.eachMember { (cursor, name) throws(ModelError) in
                    switch name {
                    case "base_score": file.baseScore = try cursor.text()
                    case "num_class": file.classCount = try Self.count(&cursor, name)
                    case "num_feature": file.featureCount = try Self.count(&cursor, name)
                    case "num_target": file.targetCount = try Self.count(&cursor, name)
                    default: try cursor.skip()
                    }
                }
            case "objective":
                try cursor.eachMember { (cursor, name) throws(ModelError) in
                    if name == "name" { file.objective = try cursor.text() } else { try cursor.skip() }
                }
            default: try cursor.skip()
            }
        }
        self = file
    }

    private mutating func readBooster<Cursor: ModelCursor>(_ cursor: inout Cursor, depth: Int) throws(ModelError) {
        var file = self
        try cursor.eachMember { (cursor, name) throws(ModelError) in
            switch name {
            case "name":
                let booster = try cursor.text()
                if depth == 0 { file.booster = booster }
            case "gbtree" where depth == 0: try file.readBooster(&cursor, depth: 1)
            case "weight_drop": file.treeWeights = try cursor.floats()
            case "model": try file.readModel(&cursor)
            default: try cursor.skip()
            }
        }
        self = file
    }

    private mutating func readModel<Cursor: ModelCursor>(_ cursor: inout Cursor) throws(ModelError) {
        var file = self
        try cursor.eachMember { (cursor, name) throws(ModelError) in
            switch name {
            case "gbtree_model_param":
                try cursor.eachMember { (cursor, name) throws(ModelError) in
                    switch name {
                    case "num_trees": file.statedTreeCount = try Self.count(&cursor, name)
                    case "num_parallel_tree": file.parallelTreeCount = try Self.count(&cursor, name)
                    default: try cursor.skip()
                    }
                }
            case "cats":
                try cursor.eachMember { (cursor, name) throws(ModelError) in
                    guard name == "enc" else { return try cursor.skip() }
                    file.categoryNames = []
                    try cursor.eachElement { (cursor) throws(ModelError) in
                        file.categoryNames.append(try Self.categories(&cursor))
                    }
                }
            case "tree_info": file.treeGroups = try cursor.integers()
            case "iteration_indptr": file.iterationStarts = try cursor.integers()
            case "trees":
                file.trees = []
                try cursor.eachElement { (cursor) throws(ModelError) in
                    let tree = try Self.tree(&cursor)
                    try tree.checkLengths(index: file.trees.count)
                    file.trees.append(tree)
                }
            default: try cursor.skip()
            }
        }
        self = file
    }

    private static func tree<Cursor: ModelCursor>(_ cursor: inout Cursor) throws(ModelError) -> RawTree {
        var tree = RawTree()
        try cursor.eachMember { (cursor, name) throws(ModelError) in
            switch name {
            case "left_children": tree.leftChildren = try cursor.integers()
            case "right_children": tree.rightChildren = try cursor.integers()
            case "split_indices": tree.splitFeatures = try cursor.integers()
            case "split_conditions": tree.splitConditions = try cursor.floats()
            case "sum_hessian": tree.covers = try cursor.floats()
            case "default_left": tree.defaultLeft = try cursor.integers()
            case "split_type": tree.splitTypes = try cursor.integers()
            case "categories": tree.categories = try cursor.integers()
            case "categories_nodes": tree.categoryNodes = try cursor.integers()
            case "categories_segments": tree.categorySegments = try cursor.integers()
            case "categories_sizes": tree.categorySizes = try cursor.integers()
            case "tree_param":
                try cursor.eachMember { (cursor, name) throws(ModelError) in
                    switch name {
                    case "num_nodes": tree.statedNodeCount = try Self.count(&cursor, name)
                    case "size_leaf_vector": tree.leafVectorSize = try Self.count(&cursor, name)
                    default: try cursor.skip()
                    }
                }
            default: try cursor.skip()
            }
        }
        return tree
    }

    /// Texts as bytes with the offsets of their ends, or numbers; empty for a feature that is no category.
    private static func categories<Cursor: ModelCursor>(_ cursor: inout Cursor) throws(ModelError) -> CategoryNames? {
        var (offsets, values): ([Int32]?, [String]) = (nil, [])
        try cursor.eachMember { (cursor, name) throws(ModelError) in
            switch name {
            case "offsets": offsets = try cursor.integers()
            case "values": values = try texts(&cursor)  // bytes, or numbers, which are as large as they are
            default: try cursor.skip()
            }
        }
        guard let offsets else { return values.isEmpty ? nil : .numbers(values.map(CategoryNames.word(ofNumber:))) }
        guard let first = offsets.first else { return nil }
        guard first == 0, Int(offsets.last ?? 0) == values.count,
            zip(offsets, offsets.dropFirst()).allSatisfy({ $0 <= $1 })
        else { throw ModelError(.malformedModel, "cats: the offsets are not those of \(values.count) bytes") }
        let bytes = values.map { UInt8(truncatingIfNeeded: Int($0) ?? 0) }
        guard bytes.allSatisfy({ $0 < 0x80 }) else {
            return .joined(JoinedNames(offsets: offsets.map(Int.init), bytes: bytes))
        }
        return .texts(
            zip(offsets, offsets.dropFirst()).map { String(decoding: bytes[Int($0)..<Int($1)], as: UTF8.self) })
    }

    private static func texts<Cursor: ModelCursor>(_ cursor: inout Cursor) throws(ModelError) -> [String] {
        var texts: [String] = []
        try cursor.eachElement { (cursor) throws(ModelError) in texts.append(try cursor.text()) }
        return texts
    }

    private static func count<Cursor: ModelCursor>(_ cursor: inout Cursor, _ name: String) throws(ModelError) -> Int {
        let text = try cursor.text()
        guard let value = Int(text), value >= 0, value <= Int(Int32.max) else {
            throw ModelError(.malformedModel, "'\(name)' is '\(printable(text))', not a count")
        }
        return value
    }
}
