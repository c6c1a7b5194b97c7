/// What a loop of eight walks is compiled for, as a type, so that it is a constant inside the loop.
private protocol WalkShape {
    /// Whether the walks are eight rows in one tree; else one row in eight trees.
    static var isBatch: Bool { get }
    /// Whether nodes may be categorical.
    static var isCategorical: Bool { get }
}
private enum NumericRow: WalkShape {
    static var isBatch: Bool { false }
    static var isCategorical: Bool { false }
}
private enum MixedRow: WalkShape {
    static var isBatch: Bool { false }
    static var isCategorical: Bool { true }
}
private enum NumericBatch: WalkShape {
    static var isBatch: Bool { true }
    static var isCategorical: Bool { false }
}
private enum MixedBatch: WalkShape {
    static var isBatch: Bool { true }
    static var isCategorical: Bool { true }
}

/// What the leaves of a forest hold, as a type, so that the choice is made by the compiler.
protocol LeafValues {
    /// What margins are summed in.
    associatedtype Sum: BinaryFloatingPoint & BitwiseCopyable & Sendable
    /// The value of a leaf.
    static func value(ofKey key: Int32, _ table: UnsafePointer<Double>) -> Sum
}
/// The key of a leaf is its value: `float32`, as XGBoost sums.
enum SingleLeaves: LeafValues {
    @inline(__always)
    static func value(ofKey key: Int32, _ table: UnsafePointer<Double>) -> Float {
        Float(bitPattern: UInt32(bitPattern: key))
    }
}
/// The key of a leaf is a place in the forest's table of values: `float64`, as LightGBM sums.
enum DoubleLeaves: LeafValues {
    @inline(__always)
    static func value(ofKey key: Int32, _ table: UnsafePointer<Double>) -> Double { table[Int(key)] }
}

/// The hot loops: from a row's keys to margins.
///
/// A step is a dependent chain of two loads, a compare and an add, about 12 cycles, of which a core can keep many in
/// flight. So eight walks go side by side: eight trees for a single row, eight rows through one tree for a batch. Trees
/// that are shallow take as many steps as the deepest of the eight, without a test for leaves.
struct ForestWalk<Node: FlatNode, Leaves: LeafValues>: Sendable {
    /// Trees that are walked side by side for a single row, or one tree.
    private struct Run: Sendable {
        let firstTree: Int
        /// `width` or 1.
        let treeCount: Int
        let depth: Int
        let hasCategoricalSplit: Bool
    }
    /// Walks side by side.
    static var width: Int { 8 }
    /// Trees deeper than this are walked one at a time until a leaf: long thin branches would make all others wait.
    private static var sideBySideDepthMax: Int { 16 }

    let forest: FlatForest<Node>
    private let runs: [Run]

    init(_ forest: FlatForest<Node>) {
        self.forest = forest
        var runs: [Run] = []
        var first = 0
        let trees = forest.trees
        while first < trees.count {
            let next = trees[first..<min(first + Self.width, trees.count)]
            let depth = next.map(\.depth).max() ?? 0
            let together = next.count == Self.width && depth <= Self.sideBySideDepthMax
            runs.append(
                Run(
                    firstTree: first, treeCount: together ? Self.width : 1,
                    depth: together ? depth : trees[first].depth,
                    hasCategoricalSplit: (together ? next : next.prefix(1)).contains { $0.hasCategoricalSplit }))
            first += together ? Self.width : 1
        }
        self.runs = runs
    }

    /// One step down; stays at a leaf.
    @inline(__always)
    private static func step(
        _ node: inout UnsafePointer<Node>, _ keys: UnsafePointer<Int32>, _ lanes: Int, _ lane: Int,
        _ sets: UnsafePointer<UInt32>, categorical: Bool
    ) {
        let current = node.pointee
        let key = keys[current.slot &* lanes &+ lane]
        if categorical {
            // Both answers are made and one is taken: a branch here would be mispredicted all the time. A numeric node
            // asks the empty set. The word past a set is 0, so a code beyond it goes left.
            let isCategorical = current.isCategorical
            let set = sets + (isCategorical ? Int(current.key) : 0)
            let code = UInt32(bitPattern: key)
            let word = set[1 &+ Int(min(code >> 5, set[0]))]
            let isMember = (word >> (code & 31)) & 1
            let isAbove: UInt32 = key > current.key ? 1 : 0
            node += current.distance &+ Int(isCategorical ? isMember : isAbove)
        } else {
            node += current.distance &+ (key > current.key ? 1 : 0)
        }
    }

    /// Where a row goes from a split.
    @inline(__always)
    static func child(
        of node: UnsafePointer<Node>, _ keys: UnsafePointer<Int32>, _ sets: UnsafePointer<UInt32>
    ) -> UnsafePointer<Node> {
        var next = node
        step(&next, keys, 1, 0, sets, categorical: true)
        return next
    }

    @inline(__always)
    private static func leaf(_ node: UnsafePointer<Node>, _ table: UnsafePointer<Double>) -> Leaves.Sum {
        Leaves.value(ofKey: node.pointee.key, table)
    }

    @inline(__always)
    private static func eightSteps<Shape: WalkShape>(
        _: Shape.Type, _ walks: Walks, _ keys: UnsafePointer<Int32>, _ sets: UnsafePointer<UInt32>, depth: Int
    ) -> Walks {
        let lanes = Shape.isBatch ? 8 : 1
        let lane = Shape.isBatch ? 1 : 0
        let categorical = Shape.isCategorical
        var (a, b, c, d) = (walks.a, walks.b, walks.c, walks.d)
        var (e, f, g, h) = (walks.e, walks.f, walks.g, walks.h)
        var rest = depth
        while rest > 0 {
            step(&a, keys, lanes, 0, sets, categorical: categorical)
            step(&b, keys, lanes, lane, sets, categorical: categorical)
            step(&c, keys, lanes, 2 &* lane, sets, categorical: categorical)
            step(&d, keys, lanes, 3 &* lane, sets, categorical: categorical)
            step(&e, keys, lanes, 4 &* lane, sets, categorical: categorical)
            step(&f, keys, lanes, 5 &* lane, sets, categorical: categorical)
            step(&g, keys, lanes, 6 &* lane, sets, categorical: categorical)
            step(&h, keys, lanes, 7 &* lane, sets, categorical: categorical)
            rest &-= 1
        }
        return Walks(a: a, b: b, c: c, d: d, e: e, f: f, g: g, h: h)
    }

    /// Eight places in trees, in registers.
    private struct Walks {
        var a, b, c, d, e, f, g, h: UnsafePointer<Node>
    }

    /// Adds the leaves of every tree for one row.
    /// - Parameters:
    ///   - keys: the row's keys, one for each slot.
    ///   - margins: one for each output; holds the intercepts.
    func addLeaves(forRow keys: UnsafePointer<Int32>, to margins: UnsafeMutablePointer<Leaves.Sum>) {
        forest.nodes.withUnsafeBufferPointer { nodes in
            forest.trees.withUnsafeBufferPointer { trees in
                forest.tables { sets, table in
                    guard let base = nodes.baseAddress else { return }
                    for run in runs {
                        let tree = run.firstTree
                        if run.treeCount == 1 {
                            let group = trees[tree].group
                            margins[group] += Self.leaf(
                                Self.leafOfOne(base + trees[tree].root, keys, 1, 0, sets), table)
                            continue
                        }
                        var n = Walks(
                            a: base + trees[tree].root, b: base + trees[tree + 1].root, c: base + trees[tree + 2].root,
                            d: base + trees[tree + 3].root, e: base + trees[tree + 4].root,
                            f: base + trees[tree + 5].root, g: base + trees[tree + 6].root,
                            h: base + trees[tree + 7].root)
                        if run.hasCategoricalSplit {
                            n = Self.eightSteps(MixedRow.self, n, keys, sets, depth: run.depth)
                        } else {
                            n = Self.eightSteps(NumericRow.self, n, keys, sets, depth: run.depth)
                        }
                        margins[trees[tree].group] += Self.leaf(n.a, table)
                        margins[trees[tree + 1].group] += Self.leaf(n.b, table)
                        margins[trees[tree + 2].group] += Self.leaf(n.c, table)
                        margins[trees[tree + 3].group] += Self.leaf(n.d, table)
                        margins[trees[tree + 4].group] += Self.leaf(n.e, table)
                        margins[trees[tree + 5].group] += Self.leaf(n.f, table)
                        margins[trees[tree + 6].group] += Self.leaf(n.g, table)
                        margins[trees[tree + 7].group] += Self.leaf(n.h, table)
                    }
                }
            }
        }
    }

    /// Adds the leaves of every tree for eight rows.
    /// - Parameters:
    ///   - keys: keys of eight rows, those of one slot side by side.
    ///   - margins: shape `[8, groupCount]`; holds the intercepts.
    func addLeaves(
        forEightRows keys: UnsafePointer<Int32>, to margins: UnsafeMutablePointer<Leaves.Sum>, groupCount: Int
    ) {
        forest.nodes.withUnsafeBufferPointer { nodes in
            forest.tables { sets, table in
                guard let base = nodes.baseAddress else { return }
                for tree in forest.trees {
                    let root = base + tree.root
                    let target = margins + tree.group
                    if tree.depth > Self.sideBySideDepthMax {
                        for lane in 0..<8 {
                            target[lane &* groupCount] += Self.leaf(
                                Self.leafOfOne(root, keys, 8, lane, sets), table)
                        }
                        continue
                    }
                    var n = Walks(a: root, b: root, c: root, d: root, e: root, f: root, g: root, h: root)
                    if tree.hasCategoricalSplit {
                        n = Self.eightSteps(MixedBatch.self, n, keys, sets, depth: tree.depth)
                    } else {
                        n = Self.eightSteps(NumericBatch.self, n, keys, sets, depth: tree.depth)
                    }
                    target[0] += Self.leaf(n.a, table)
                    target[groupCount] += Self.leaf(n.b, table)
                    target[2 &* groupCount] += Self.leaf(n.c, table)
                    target[3 &* groupCount] += Self.leaf(n.d, table)
                    target[4 &* groupCount] += Self.leaf(n.e, table)
                    target[5 &* groupCount] += Self.leaf(n.f, table)
                    target[6 &* groupCount] += Self.leaf(n.g, table)
                    target[7 &* groupCount] += Self.leaf(n.h, table)
                }
            }
        }
    }

    /// Walks one tree until a leaf.
    @inline(__always)
    private static func leafOfOne(
        _ root: UnsafePointer<Node>, _ keys: UnsafePointer<Int32>, _ lanes: Int, _ lane: Int,
        _ sets: UnsafePointer<UInt32>
    ) -> UnsafePointer<Node> {
        var node = root
        while node.pointee.distance != 0 { step(&node, keys, lanes, lane, sets, categorical: true) }
        return node
    }
}
