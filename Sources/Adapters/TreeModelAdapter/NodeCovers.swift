import RuntimePorts

/// How much of the training data reached each node, collected while trees are compiled.
///
/// Apart from the nodes, which are all that scoring reads: 4 bytes for each node.
struct NodeCovers {
    /// One for each node, in the order of `FlatForest.nodes`.
    private(set) var values: [Float] = []
    /// The first thing that makes explanations impossible.
    private(set) var fault: String?

    /// Notes why there can be no explanations; the first reason stays.
    mutating func refuse(_ reason: @autoclosure () -> String) {
        guard fault == nil else { return }
        fault = reason()
        values = []
    }

    /// Adds the next node's cover.
    /// - Parameters:
    ///   - isSplit: whether the cover is divided among children, and so has to be more than 0.
    ///   - place: says where in the file it stands.
    mutating func append(_ cover: Float, isSplit: Bool, place: @autoclosure () -> String) {
        guard fault == nil else { return }
        guard cover.isFinite, isSplit ? cover > 0 : cover >= 0 else {
            return refuse(
                "explanations need covers: \(place()) is \(cover), not a number \(isSplit ? "above" : "from") 0")
        }
        values.append(cover)
    }
}

/// What explaining a forest takes beside the forest.
struct ForestExplanation: Sendable {
    /// Trees deeper than this are not explained: the walk keeps a frame for each split of a path.
    static let depthMax = 512

    /// Why there are no explanations.
    let fault: String?
    /// One for each node.
    let covers: [Float]
    /// The sum of the trees' mean values for each margin, without intercepts.
    let expectations: [Double]
    /// The feature behind each key of a row.
    let slotFeatures: [Int32]
    /// Features in a row.
    let featureCount: Int
    /// Quadrature rules by their number of points, as the trees need them.
    let rules: [Int: QuadratureRule]

    /// Prepares the explanations of a forest.
    init<Node: FlatNode, Leaves: LeafValues>(
        _ forest: FlatForest<Node>, leaves _: Leaves.Type, covers: consuming NodeCovers, groups: Int,
        featureCount: Int, slotFeatures: [Int32]
    ) {
        var covers = covers
        if let deep = forest.trees.firstIndex(where: { $0.depth > Self.depthMax }) {
            covers.refuse(
                "tree \(deep) is \(forest.trees[deep].depth) splits deep; trees of up to \(Self.depthMax) are explained"
            )
        }
        var expectations = [Double](repeating: 0, count: groups)
        if covers.fault == nil {
            let means = Self.means(forest, leaves: Leaves.self, covers.values)
            for tree in forest.trees { expectations[tree.group] += means[tree.root] }
            if !expectations.allSatisfy(\.isFinite) {
                covers.refuse("explanations need a mean value: this model's leaves or covers are too large for one")
            }
        }
        fault = covers.fault
        self.covers = covers.values
        self.expectations = expectations
        self.featureCount = featureCount
        self.slotFeatures = fault == nil ? slotFeatures : []
        let counts = fault == nil ? Set(forest.trees.map { Self.pointCount(depth: $0.depth, featureCount) }) : []
        rules = Dictionary(uniqueKeysWithValues: counts.map { ($0, QuadratureRule(count: $0)) })
    }

    /// Points that make the integral exact for a tree: paths meet at most `n = min(depth, featureCount)` features, and the
    /// polynomial has degree `n − 1`.
    static func pointCount(depth: Int, _ featureCount: Int) -> Int { max(1, (min(depth, featureCount) + 1) / 2) }

    /// The mean of the leaves below each node, weighted by cover.
    private static func means<Node: FlatNode, Leaves: LeafValues>(
        _ forest: FlatForest<Node>, leaves _: Leaves.Type, _ covers: [Float]
    ) -> [Double] {
        var means = [Double](repeating: 0, count: forest.nodes.count)
        forest.tables { _, table in
            for index in forest.nodes.indices.reversed() {  // children stand after their parents
                let node = forest.nodes[index]
                guard node.distance > 0 else {
                    means[index] = Double(Leaves.value(ofKey: node.key, table))
                    continue
                }
                let (left, right) = (index + node.distance, index + node.distance + 1)
                means[index] =
                    (Double(covers[left]) * means[left] + Double(covers[right]) * means[right]) / Double(covers[index])
            }
        }
        return means
    }
}
