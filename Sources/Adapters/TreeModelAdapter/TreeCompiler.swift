import RuntimePorts

/// Where each feature's keys stand among the keys of a row.
struct RowLayout: Sendable {
    /// Features in a row; keys `0..<featureCount` send missing values left, the next `featureCount` send them right.
    let featureCount: Int
    /// Features with categorical splits; their codes follow at `codesStart`.
    let categoricalFeatures: [Int]
    /// The slot that always holds `Int32.min`, which leaves compare.
    var leafSlot: Int { 2 * featureCount }
    /// The slot of the first categorical feature's code.
    var codesStart: Int { 2 * featureCount + 1 }
    /// Keys in a row.
    var slotCount: Int { codesStart + categoricalFeatures.count }
    /// The feature behind each slot; 0 for the one of the leaves.
    var slotFeatures: [Int32] {
        let all = (0..<Int32(featureCount)).map { $0 }
        return all + all + [0] + categoricalFeatures.map(Int32.init)
    }
}

/// Trees in the form that is walked.
struct FlatForest<Node: FlatNode>: Sendable {
    /// One tree.
    struct Tree: Sendable {
        /// Its root among the nodes.
        let root: Int
        /// Steps from the root to the deepest leaf.
        let depth: Int
        /// Which output its leaves add to.
        let group: Int
        /// Whether it has a categorical split.
        let hasCategoricalSplit: Bool
    }
    /// The nodes of all trees.
    var nodes: [Node] = []
    /// The trees, in the order in which their leaves are added.
    var trees: [Tree] = []
    /// For each categorical split: the number of words, then that many words of 32 bits, then a word that is 0.
    ///
    /// Bit 0 stands for a missing value and bit `c + 1` for category `c`; a bit that is set goes right. The first set is
    /// empty.
    var sets: [UInt32] = [0, 0]
    /// Values of leaves whose keys are places in this list; the first is nobody's.
    var leafValues: [Double] = [0]

    /// The sets and the values of leaves, for a walk.
    @inline(__always)
    func tables(_ body: (UnsafePointer<UInt32>, UnsafePointer<Double>) -> Void) {
        sets.withUnsafeBufferPointer { sets in
            leafValues.withUnsafeBufferPointer { values in
                if let sets = sets.baseAddress, let values = values.baseAddress { body(sets, values) }
            }
        }
    }
}

/// Checks the shape of raw trees, whose lists have equal lengths, and lays them out for walking.
struct TreeCompiler {
    let layout: RowLayout
    let limits: ModelLimits
    /// Position of a feature among the categorical ones.
    private let codeIndex: [Int: Int]

    init(layout: RowLayout, limits: ModelLimits) {
        self.layout = layout
        self.limits = limits
        codeIndex = Dictionary(uniqueKeysWithValues: layout.categoricalFeatures.enumerated().map { ($1, $0) })
    }

    /// Highest category that XGBoost tells from its neighbours in a `float32`, and past.
    static let categoryEnd: Int32 = 1 << 24

    /// Adds a checked tree to the forest; `false` if a number does not fit the node layout.
    func append<Node: FlatNode>(
        _ tree: RawTree, index: Int, group: Int, weight: Float, to forest: inout FlatForest<Node>,
        covers: inout NodeCovers
    ) throws(ModelError) -> Bool {
        func failure(_ what: String) -> ModelError { ModelError(.malformedModel, "trees[\(index)]: \(what)") }
        let count = tree.leftChildren.count
        guard tree.leafVectorSize <= 1 else {
            throw ModelError(
                .unsupportedModel,
                "trees[\(index)]: leaves of \(tree.leafVectorSize) values (multi_output_tree) are not supported")
        }
        let segments = try categorySegments(tree, index: index)

        if tree.covers.count != count {
            covers.refuse(
                tree.covers.isEmpty
                    ? "explanations need covers: trees[\(index)] has no 'sum_hessian'"
                    : "explanations need covers: trees[\(index)].sum_hessian holds \(tree.covers.count) values for \(count) nodes"
            )
        }
        let root = forest.nodes.count
        var order: [Int32] = [0]
        order.reserveCapacity(count)
        var isPlaced = [Bool](repeating: false, count: count)
        isPlaced[0] = true
        var depth = 0
        var levelEnd = 1
        var position = 0
        var hasCategoricalSplit = false
        while position < order.count {
            if position == levelEnd {
                depth += 1
                levelEnd = order.count
            }
            let node = Int(order[position])
            let left = tree.leftChildren[node]
            let right = tree.rightChildren[node]
            if covers.fault == nil {
                covers.append(
                    tree.covers[node], isSplit: left != -1, place: "trees[\(index)].sum_hessian[\(node)]")
            }
            if left == -1 {
                guard right == -1 else { throw failure("node \(node) has a right child but no left one") }
                let value = weight == 1 ? tree.splitConditions[node] : weight * tree.splitConditions[node]
                let key = Int32(bitPattern: value.bitPattern)
                guard let leaf = Node(key: key, slot: layout.leafSlot, distance: 0, isCategorical: false) else {
                    return false
                }
                forest.nodes.append(leaf)
                position += 1
                continue
            }
            for child in [left, right] {
                guard child > 0, child < count else {
                    throw failure("child \(child) of node \(node) is out of range, the tree has \(count) nodes")
                }
                guard !isPlaced[Int(child)] else { throw failure("node \(child) is reached twice") }
                isPlaced[Int(child)] = true
            }
            let feature = Int(tree.splitFeatures[node])
            guard feature >= 0, feature < layout.featureCount else {
                throw failure("node \(node) splits on feature \(feature), the model has \(layout.featureCount)")
            }
            let distance = order.count - position
            let flat: Node?
            if !tree.splitTypes.isEmpty, tree.splitTypes[node] != 0 {
                hasCategoricalSplit = true
                guard let segment = segments[Int32(node)], let code = codeIndex[feature] else {
                    throw failure("categorical node \(node) has no categories")
                }
                let start = try appendSet(
                    tree.categories[segment], missingGoesRight: tree.defaultLeft[node] == 0, to: &forest)
                flat = Node(key: start, slot: layout.codesStart + code, distance: distance, isCategorical: true)
            } else {
                let slot = tree.defaultLeft[node] != 0 ? feature : layout.featureCount + feature
                flat = Node(
                    key: OrderedKey.lastLeft(ofThreshold: tree.splitConditions[node]), slot: slot, distance: distance,
                    isCategorical: false)
            }
            guard let flat else { return false }
            forest.nodes.append(flat)
            order.append(left)
            order.append(right)
            position += 1
        }
        forest.trees.append(
            .init(root: root, depth: depth, group: group, hasCategoricalSplit: hasCategoricalSplit))
        return true
    }

    /// The categories of each categorical node, as a range of `tree.categories`.
    private func categorySegments(_ tree: RawTree, index: Int) throws(ModelError) -> [Int32: Range<Int>] {
        func failure(_ what: String) -> ModelError { ModelError(.malformedModel, "trees[\(index)]: \(what)") }
        let nodeCount = tree.categoryNodes.count
        guard tree.categorySegments.count == nodeCount, tree.categorySizes.count == nodeCount else {
            throw failure("categories_nodes, categories_segments and categories_sizes differ in length")
        }
        var segments: [Int32: Range<Int>] = [:]
        segments.reserveCapacity(nodeCount)
        var total = 0
        for entry in 0..<nodeCount {
            let start = Int(tree.categorySegments[entry])
            let size = Int(tree.categorySizes[entry])
            guard start >= 0, size >= 0, start + size <= tree.categories.count else {
                throw failure("categories of node \(tree.categoryNodes[entry]) lie outside the list of categories")
            }
            total += size
            // Segments are disjoint; overlapping ones could ask for far more work than the file is long.
            guard total <= tree.categories.count else { throw failure("segments of categories overlap") }
            guard segments.updateValue(start..<(start + size), forKey: tree.categoryNodes[entry]) == nil else {
                throw failure("node \(tree.categoryNodes[entry]) has two lists of categories")
            }
        }
        for category in tree.categories where category < 0 || category > Self.categoryEnd {
            throw failure("category \(category) is out of range")
        }
        return segments
    }

    /// Adds the bit set of a split and returns where it starts.
    private func appendSet<Node: FlatNode>(
        _ categories: ArraySlice<Int32>, missingGoesRight: Bool, to forest: inout FlatForest<Node>
    ) throws(ModelError) -> Int32 {
        let start = forest.sets.count
        let words = Int((categories.max() ?? -1) + 1) / 32 + 1
        guard start + words + 2 <= limits.categorySetByteCountMax / 4, let key = Int32(exactly: start) else {
            throw ModelError(
                .tooLarge, "sets of categories take more than \(limits.categorySetByteCountMax) bytes")
        }
        forest.sets.append(UInt32(words))
        forest.sets.append(contentsOf: repeatElement(0, count: words + 1))
        if missingGoesRight { forest.sets[start + 1] |= 1 }
        for category in categories {
            let bit = Int(category) + 1
            // Codes from 2²⁴ up are no categories to XGBoost: they go left even where a file lists them.
            if category < Self.categoryEnd { forest.sets[start + 1 + bit / 32] |= 1 << UInt32(bit % 32) }
        }
        return key
    }
}
