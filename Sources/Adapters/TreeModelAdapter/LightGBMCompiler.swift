import RuntimePorts

/// What a split of LightGBM takes for a missing value, and where that goes.
///
/// Each is a way to make the key of a row's value, so that a split needs no test.
enum MissingRule: UInt8, Sendable, CaseIterable {
    /// NaN is 0.
    case none
    /// NaN goes left.
    case nanLeft
    /// NaN goes right.
    case nanRight
    /// NaN and everything as near to 0 as 1e-35 goes left.
    case zeroLeft
    /// NaN and everything as near to 0 as 1e-35 goes right.
    case zeroRight

    /// The rule that a decision type asks for; `nil` for the one that no LightGBM writes.
    init?(decisionType: Int32) {
        let goesLeft = decisionType & 2 != 0
        switch (decisionType >> 2) & 3 {
        case 0: self = .none
        case 1: self = goesLeft ? .zeroLeft : .zeroRight
        case 2: self = goesLeft ? .nanLeft : .nanRight
        default: return nil
        }
    }

    /// What is nearer to 0 than this is 0: LightGBM drops such values from a row before any split sees them.
    static let zeroMax: Float = 1e-35

    /// The key of a value.
    @inline(__always)
    func key(of value: Float) -> Int32 {
        let isMissing = value.isNaN
        let isZero = value.magnitude <= Self.zeroMax
        let key = OrderedKey.of(isZero || isMissing ? 0 : value)
        return switch self {
        case .none: key
        case .nanLeft: isMissing ? OrderedKey.missingLeft : key
        case .nanRight: isMissing ? OrderedKey.missingRight : key
        case .zeroLeft: isMissing || isZero ? OrderedKey.missingLeft : key
        case .zeroRight: isMissing || isZero ? OrderedKey.missingRight : key
        }
    }
}

/// Where each key of a row comes from, for LightGBM: only what some split reads.
struct LightGBMLayout: Sendable {
    /// One key of a row.
    struct Slot: Sendable, Hashable {
        let feature: Int
        let rule: MissingRule
    }
    let featureCount: Int
    /// Keys of numeric splits.
    private(set) var slots: [Slot] = []
    /// Features with categorical splits; their codes follow the slot that leaves compare.
    private(set) var categoricalFeatures: [Int] = []
    private var slotIndex: [Slot: Int] = [:]
    private var codeIndex: [Int: Int] = [:]

    /// The slot that always holds `Int32.min`.
    var leafSlot: Int { slots.count }
    var codesStart: Int { slots.count + 1 }
    var slotCount: Int { codesStart + categoricalFeatures.count }

    /// Collects the slots of checked trees.
    init(featureCount: Int, trees: [LightGBMTree]) throws(ModelError) {
        self.featureCount = featureCount
        var found: Set<Slot> = []
        var categorical: Set<Int> = []
        for (index, tree) in trees.enumerated() {
            for (split, (feature, decision)) in zip(tree.splitFeatures, tree.decisionTypes).enumerated() {
                guard feature >= 0, feature < featureCount else {
                    throw ModelError(
                        .malformedModel,
                        "Tree=\(index): split \(split) is on feature \(feature), the model has \(featureCount)")
                }
                if decision & 1 != 0 {
                    categorical.insert(Int(feature))
                } else if let rule = MissingRule(decisionType: decision) {
                    found.insert(Slot(feature: Int(feature), rule: rule))
                } else {
                    throw ModelError(
                        .malformedModel, "Tree=\(index): decision_type \(decision) of split \(split) is not known")
                }
            }
        }
        slots = found.sorted { ($0.feature, $0.rule.rawValue) < ($1.feature, $1.rule.rawValue) }
        categoricalFeatures = categorical.sorted()
        slotIndex = Dictionary(uniqueKeysWithValues: slots.enumerated().map { ($1, $0) })
        codeIndex = Dictionary(uniqueKeysWithValues: categoricalFeatures.enumerated().map { ($1, $0) })
    }

    /// The feature behind each slot; 0 for the one of the leaves.
    var slotFeatures: [Int32] { slots.map { Int32($0.feature) } + [0] + categoricalFeatures.map(Int32.init) }

    func slot(of feature: Int, _ rule: MissingRule) -> Int? { slotIndex[Slot(feature: feature, rule: rule)] }
    func code(of feature: Int) -> Int? { codeIndex[feature].map { codesStart + $0 } }
}

/// Checks a LightGBM file for sense and makes the model that scores.
struct LightGBMCompiler {
    let limits: ModelLimits

    func compile(_ file: LightGBMFile) throws(ModelError) -> any LoadedModel {
        guard file.version == "v3" || file.version == "v4" else {
            throw ModelError(
                .unsupportedModel,
                "version '\(printable(file.version))' of the format is not supported; v3 (LightGBM 3) and v4 are")
        }
        guard let featureIndexMax = file.featureIndexMax else {
            throw ModelError(.malformedModel, "max_feature_idx is missing")
        }
        let featureCount = featureIndexMax + 1
        guard featureCount <= limits.featureCountMax else {
            throw ModelError(
                .tooLarge, "the model has \(featureCount) features, \(limits.featureCountMax) are accepted")
        }
        guard file.featureNames.isEmpty || file.featureNames.count == featureCount else {
            throw ModelError(
                .malformedModel, "feature_names holds \(file.featureNames.count) names for \(featureCount) features")
        }
        let groups = file.treesPerIteration
        guard groups >= 1, groups <= max(file.trees.count, 4096), file.trees.count.isMultiple(of: groups) else {
            throw ModelError(
                .malformedModel, "num_tree_per_iteration is \(groups), the file holds \(file.trees.count) trees")
        }
        if let linear = file.trees.firstIndex(where: \.isLinear) {
            throw ModelError(
                .unsupportedModel, "Tree=\(linear): trees with linear leaves (linear_tree) are not supported")
        }
        let objective = try LightGBMObjective(file.objective, groups: groups)
        let layout = try LightGBMLayout(featureCount: featureCount, trees: file.trees)
        let description = ModelDescription(
            format: "lightgbm-text", featureNames: file.featureNames, featureCount: featureCount,
            categoricalFeatures: layout.categoricalFeatures,
            categories: (file.categoryNames ?? [:]).compactMapValues(\.texts), outputCount: groups,
            output: objective.prediction(groups: groups), marginScale: objective.marginScale, objective: objective.name,
            treeCount: file.trees.count)

        func compiled<Node: FlatNode>(
            of _: Node.Type
        ) throws(ModelError) -> (walk: ForestWalk<Node, DoubleLeaves>, explanation: ForestExplanation)? {
            var forest = FlatForest<Node>()
            var covers = NodeCovers()
            for (index, tree) in file.trees.enumerated() {
                let fits = try append(
                    tree, index: index, group: index % groups, layout: layout, to: &forest, covers: &covers)
                guard fits else { return nil }
            }
            let explanation = ForestExplanation(
                forest, leaves: DoubleLeaves.self, covers: covers, groups: groups, featureCount: featureCount,
                slotFeatures: layout.slotFeatures)
            return (ForestWalk(forest), explanation)
        }
        func model(_ forest: LightGBMForest, _ explanation: ForestExplanation) -> LightGBMModel {
            LightGBMModel(
                description: description, categoryNames: file.categoryNames, layout: layout, forest: forest,
                objective: objective,
                divisor: file.averagesOutput ? Double(max(1, file.trees.count / groups)) : 1,
                explanation: explanation)
        }
        if let made = try compiled(of: PackedNode.self) { return model(.packed(made.walk), made.explanation) }
        if let made = try compiled(of: WideNode.self) { return model(.wide(made.walk), made.explanation) }
        throw ModelError(.tooLarge, "a tree of the model has more than 2³² nodes")
    }

    /// The largest key that goes left: left is `value <= threshold`, compared as doubles.
    static func lastLeft(ofThreshold threshold: Double) -> Int32 {
        var nearest = Float(threshold)
        if Double(nearest) > threshold { nearest = nearest.nextDown }
        return OrderedKey.of(nearest)
    }

    /// Adds a tree to the forest; `false` if a number does not fit the node layout.
    private func append<Node: FlatNode>(
        _ tree: LightGBMTree, index: Int, group: Int, layout: LightGBMLayout, to forest: inout FlatForest<Node>,
        covers: inout NodeCovers
    ) throws(ModelError) -> Bool {
        func failure(_ what: String) -> ModelError { ModelError(.malformedModel, "Tree=\(index): \(what)") }
        let splitCount = tree.leafCount - 1
        let root = forest.nodes.count
        let firstLeaf = forest.leafValues.count
        guard Int32(exactly: firstLeaf + tree.leafCount) != nil else { return false }
        forest.leafValues.append(contentsOf: tree.leafValues)
        // A tree that never split has no counts, and none is asked for.
        let (splitCovers, leafCovers) = splitCount == 0 ? ([], [0]) : (tree.splitCovers, tree.leafCovers)
        for (name, list, count) in [
            ("internal_count", splitCovers, splitCount), ("leaf_count", leafCovers, tree.leafCount),
        ] where list.count != count {
            covers.refuse(
                list.isEmpty
                    ? "explanations need covers: Tree=\(index) has no '\(name)'"
                    : "explanations need covers: \(name) of Tree=\(index) holds \(list.count) values, not \(count)")
        }
        var order: [Int32] = [splitCount == 0 ? ~0 : 0]
        order.reserveCapacity(2 * tree.leafCount)
        var isPlaced = [Bool](repeating: false, count: splitCount)
        if splitCount > 0 { isPlaced[0] = true }
        var leavesPlaced = 0
        var depth = 0
        var levelEnd = 1
        var position = 0
        var hasCategoricalSplit = false
        while position < order.count {
            if position == levelEnd {
                depth += 1
                levelEnd = order.count
            }
            let place = order[position]
            if place < 0 {
                let leaf = Int(~place)
                leavesPlaced += 1
                guard leaf < tree.leafCount, leavesPlaced <= tree.leafCount else {
                    throw failure("leaf \(leaf) is out of range or reached twice")
                }
                if covers.fault == nil {
                    covers.append(leafCovers[leaf], isSplit: false, place: "leaf_count[\(leaf)] of Tree=\(index)")
                }
                let key = Int32(truncatingIfNeeded: firstLeaf + leaf)
                guard let node = Node(key: key, slot: layout.leafSlot, distance: 0, isCategorical: false) else {
                    return false
                }
                forest.nodes.append(node)
                position += 1
                continue
            }
            let split = Int(place)
            if covers.fault == nil {
                covers.append(
                    splitCovers[split], isSplit: true, place: "internal_count[\(split)] of Tree=\(index)")
            }
            let (left, right) = (tree.leftChildren[split], tree.rightChildren[split])
            for child in [left, right] where child >= 0 {
                guard child < splitCount, !isPlaced[Int(child)] else {
                    throw failure("child \(child) of split \(split) is out of range or reached twice")
                }
                isPlaced[Int(child)] = true
            }
            let feature = Int(tree.splitFeatures[split])
            let decision = tree.decisionTypes[split]
            let distance = order.count - position
            let node: Node?
            if decision & 1 != 0 {
                guard let slot = layout.code(of: feature) else { throw failure("feature \(feature) has no code") }
                hasCategoricalSplit = true
                let start = try appendSet(tree, split: split, index: index, to: &forest)
                node = Node(key: start, slot: slot, distance: distance, isCategorical: true)
                // A set sends its members to the second child, LightGBM sends them left.
                order.append(right)
                order.append(left)
            } else {
                let threshold = tree.thresholds[split]
                guard let rule = MissingRule(decisionType: decision), let slot = layout.slot(of: feature, rule),
                    !threshold.isNaN
                else { throw failure("split \(split) has no threshold or no known decision_type") }
                node = Node(
                    key: Self.lastLeft(ofThreshold: threshold), slot: slot, distance: distance, isCategorical: false)
                order.append(left)
                order.append(right)
            }
            guard let node else { return false }
            forest.nodes.append(node)
            position += 1
        }
        forest.trees.append(.init(root: root, depth: depth, group: group, hasCategoricalSplit: hasCategoricalSplit))
        return true
    }

    /// Adds the bit set of a categorical split: bit `c + 1` for category `c`, and returns where it starts.
    private func appendSet<Node: FlatNode>(
        _ tree: LightGBMTree, split: Int, index: Int, to forest: inout FlatForest<Node>
    ) throws(ModelError) -> Int32 {
        let threshold = tree.thresholds[split]
        guard let place = Int(exactly: threshold), place >= 0, place + 1 < tree.categoryBoundaries.count,
            case let first = Int(tree.categoryBoundaries[place]),
            case let end = Int(tree.categoryBoundaries[place + 1]), first >= 0, first <= end,
            end <= tree.categoryWords.count
        else {
            throw ModelError(
                .malformedModel, "Tree=\(index): the categories of split \(split) lie outside of cat_threshold")
        }
        let start = forest.sets.count
        let words = end - first + 1  // one more, because a code's bit is one further
        guard start + words + 2 <= limits.categorySetByteCountMax / 4, let key = Int32(exactly: start) else {
            throw ModelError(.tooLarge, "sets of categories take more than \(limits.categorySetByteCountMax) bytes")
        }
        forest.sets.append(UInt32(words))
        var carry: UInt32 = 0
        for word in tree.categoryWords[first..<end] {
            forest.sets.append(word << 1 | carry)
            carry = word >> 31
        }
        forest.sets.append(carry)
        forest.sets.append(0)
        return key
    }
}
