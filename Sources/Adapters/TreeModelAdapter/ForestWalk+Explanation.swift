import RuntimePorts

/// Exact Shapley values of one tree for one row, for some points of the integral.
///
/// The game is that of path-dependent TreeSHAP (Lundberg, Erion, Lee 2018, algorithm 1): a feature that is known goes the
/// row's way, one that is not goes both ways in proportion to the children's covers. So a leaf with value `v` counts
/// `v · Π f∈S oᶠ · Π f∉S zᶠ` for the known features `S`, where `oᶠ` is 1 if the row passes all splits on `f` towards the
/// leaf, else 0, and `zᶠ` is the product of the covers' shares at these splits.
///
/// Their algorithm 2 takes `O(leaves · depth²)` and divides small numbers by each other. Here the weights
/// `|S|! (n−|S|−1)! / n! = ∫ t^|S| (1−t)^(n−|S|−1) dt` turn the sum over subsets into a product (Owen 1972, multilinear
/// extensions of games):
///
///     φᵢ = Σ leaves v · (oᵢ − zᵢ) · ∫₀¹ Π j≠i (oⱼ t + zⱼ (1 − t)) dt
///
/// The integrand is a polynomial, so Gauss–Legendre quadrature gives the integral exactly, and all its terms are positive,
/// so nothing cancels. For one point `t` the product is carried down the tree, the sums of `v · product` are carried up
/// (as in Yu et al. 2022, Linear TreeShap), and each node is visited once: `O(nodes · points)`.
private struct ContributionWalk<Node: FlatNode, Leaves: LeafValues, Points: SIMD> where Points.Scalar == Double {
    let nodes: UnsafePointer<Node>
    let covers: UnsafePointer<Float>
    let keys: UnsafePointer<Int32>
    let sets: UnsafePointer<UInt32>
    let table: UnsafePointer<Double>
    let slotFeatures: UnsafePointer<Int32>
    /// `oᶠ` and `zᶠ` of the path so far; 1 and 1 for features that it has not met.
    let ones: UnsafeMutablePointer<Double>
    let zeros: UnsafeMutablePointer<Double>
    let contributions: UnsafeMutablePointer<Double>
    let points: Points
    /// `1 − t`.
    let rests: Points
    let restInverses: Points
    let weights: Points

    /// A cover's share below which a way that the row does not go counts nothing: far from where divisions lose digits.
    private static var shareMin: Double { 1e-250 }

    /// Takes the points of a rule from `start` on; places that are left over count nothing.
    init(
        _ rule: QuadratureRule, from start: Int, nodes: UnsafePointer<Node>, covers: UnsafePointer<Float>,
        keys: UnsafePointer<Int32>, sets: UnsafePointer<UInt32>, table: UnsafePointer<Double>,
        slotFeatures: UnsafePointer<Int32>, ones: UnsafeMutablePointer<Double>, zeros: UnsafeMutablePointer<Double>,
        contributions: UnsafeMutablePointer<Double>
    ) {
        var points = Points(repeating: 0.5)
        var weights = Points.zero
        for lane in 0..<min(Points.scalarCount, rule.points.count - start) {
            points[lane] = rule.points[start + lane]
            weights[lane] = rule.weights[start + lane]
        }
        self.points = points
        self.weights = weights
        rests = 1 - points
        restInverses = 1 / (1 - points)
        self.nodes = nodes
        self.covers = covers
        self.keys = keys
        self.sets = sets
        self.table = table
        self.slotFeatures = slotFeatures
        self.ones = ones
        self.zeros = zeros
        self.contributions = contributions
    }

    /// Explains the leaves below a node.
    /// - Parameter product: `Π (o t + z (1 − t))` over the features of the path.
    /// - Returns: the sum of `v · product` over the leaves.
    func descend(_ index: Int, _ product: Points) -> Points {
        let node = nodes[index]
        guard node.distance > 0 else { return product * Double(Leaves.value(ofKey: node.key, table)) }
        let next = ForestWalk<Node, Leaves>.child(of: nodes + index, keys, sets) - nodes
        let other = 2 * (index + node.distance) + 1 - next
        let feature = Int(slotFeatures[node.slot])
        let (one, zero) = (ones[feature], zeros[feature])
        let share = zero / Double(covers[index])
        let nextZero = share * Double(covers[next])
        let otherZero = share * Double(covers[other])
        // With `f = o t + z (1 − t)` for the path's splits on this feature so far, the leaves below are counted with
        // `(o − z) / f` for them, which is taken back, and with the same of one split more. Where `o = 0` this is
        // `−1 / (1 − t)`, whatever `z` is.
        var without = product
        var change = Points.zero
        var sum = Points.zero
        if one == 0 {  // off the row's way already: one split more changes the product alone
            without *= restInverses * (1 / zero)
            if nextZero >= Self.shareMin {
                zeros[feature] = nextZero
                sum += descend(next, without * rests * nextZero)
            }
            if otherZero >= Self.shareMin {
                zeros[feature] = otherZero
                sum += descend(other, without * rests * otherZero)
            }
            zeros[feature] = zero
            return sum
        }
        var counted = Points.zero
        if zero != 1 {
            let inverse = 1 / (points + rests * zero)
            without *= inverse
            counted = inverse * (1 - zero)
        }
        let factor = points + rests * nextZero
        zeros[feature] = nextZero
        sum = descend(next, without * factor)
        change = sum * ((1 - nextZero) / factor - counted)
        if otherZero >= Self.shareMin {
            ones[feature] = 0
            zeros[feature] = otherZero
            let below = descend(other, without * rests * otherZero)
            change -= below * (restInverses + counted)
            sum += below
        }
        ones[feature] = one
        zeros[feature] = zero
        contributions[feature] += (weights * change).sum()
        return sum
    }
}

extension ForestWalk {
    /// Adds what each feature does to the margins of one row.
    /// - Parameters:
    ///   - keys: the row's keys, one for each slot.
    ///   - shares: room for two numbers for each feature, all 1; they are 1 again afterwards.
    ///   - contributions: shape `[groups, featureCount]`.
    func addContributions(
        forRow keys: UnsafePointer<Int32>, _ explanation: ForestExplanation, shares: UnsafeMutablePointer<Double>,
        to contributions: UnsafeMutablePointer<Double>
    ) {
        let featureCount = explanation.featureCount
        forest.nodes.withUnsafeBufferPointer { nodes in
            explanation.covers.withUnsafeBufferPointer { covers in
                explanation.slotFeatures.withUnsafeBufferPointer { features in
                    forest.tables { sets, table in
                        guard let nodes = nodes.baseAddress, let covers = covers.baseAddress,
                            let features = features.baseAddress
                        else { return }
                        for tree in forest.trees where tree.depth > 0 {
                            let count = ForestExplanation.pointCount(depth: tree.depth, featureCount)
                            guard let rule = explanation.rules[count] else { continue }
                            func walk<Points: SIMD>(_: Points.Type) where Points.Scalar == Double {
                                for start in stride(from: 0, to: count, by: Points.scalarCount) {
                                    let walk = ContributionWalk<Node, Leaves, Points>(
                                        rule, from: start, nodes: nodes, covers: covers, keys: keys, sets: sets,
                                        table: table, slotFeatures: features, ones: shares,
                                        zeros: shares + featureCount,
                                        contributions: contributions + tree.group * featureCount)
                                    _ = walk.descend(tree.root, Points(repeating: 1))
                                }
                            }
                            switch count {
                            case ...2: walk(SIMD2<Double>.self)
                            case ...4: walk(SIMD4<Double>.self)
                            default: walk(SIMD8<Double>.self)
                            }
                        }
                    }
                }
            }
        }
    }

    /// Explains rows whose keys `encode` writes.
    /// - Parameters:
    ///   - intercepts: added to the mean values of the trees.
    ///   - divisor: divides everything.
    ///   - encode: writes the keys of a row, or says that it cannot be taken.
    func explain(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, slotCount: Int, _ explanation: ForestExplanation,
        intercepts: [Double], divisor: Double,
        encode: (_ row: Int, UnsafeBufferPointer<Float>, UnsafeMutablePointer<Int32>) throws(ModelError) -> Void
    ) throws(ModelError) -> [Explanation] {
        let width = explanation.featureCount
        let groups = intercepts.count
        let baseValues = zip(intercepts, explanation.expectations).map { ($0 + $1) / divisor }
        var keys = [Int32](repeating: 0, count: slotCount)
        var shares = [Double](repeating: 1, count: 2 * width)
        var sums = [Double](repeating: 0, count: groups * width)
        var answers: [Explanation] = []
        answers.reserveCapacity(rowCount)
        for row in 0..<rowCount {
            let source = UnsafeBufferPointer(rebasing: rows[(row * width)..<((row + 1) * width)])
            try keys.withUnsafeMutableBufferPointer { (keys) throws(ModelError) in
                if let keys = keys.baseAddress { try encode(row, source, keys) }
            }
            for index in sums.indices { sums[index] = 0 }
            keys.withUnsafeBufferPointer { keys in
                shares.withUnsafeMutableBufferPointer { shares in
                    sums.withUnsafeMutableBufferPointer { sums in
                        guard let keys = keys.baseAddress, let shares = shares.baseAddress,
                            let sums = sums.baseAddress
                        else { return }
                        addContributions(forRow: keys, explanation, shares: shares, to: sums)
                    }
                }
            }
            guard sums.allSatisfy(\.isFinite) else {
                throw ModelError(
                    .unsupportedModel,
                    "row \(row): the covers of this model's trees do not fit together: contributions are not finite")
            }
            answers.append(
                Explanation(
                    baseValues: baseValues,
                    contributions: (0..<groups).map { group in
                        sums[(group * width)..<((group + 1) * width)].map { $0 / divisor }
                    }))
        }
        return answers
    }
}
