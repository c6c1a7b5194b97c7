import Glibc
import RuntimePorts

/// What LightGBM's objectives do to scores, all in `float64` with the C library's `exp`.
struct LightGBMObjective: Sendable, Equatable {
    /// What turns scores into predictions.
    enum Transform: Sendable, Equatable {
        /// The score as it is.
        case identity
        /// `1 / (1 + e^(−s·score))`, with the sharpness `s`.
        case sigmoid(Double)
        /// `e^score`.
        case exponential
        /// `log(1 + e^score)`.
        case softplus
        /// `sign(score) · score²`, for labels trained as square roots.
        case signedSquare
        /// Probabilities of the classes.
        case softmax
    }
    /// The objective's name without its parameters; `custom` when the file names none.
    let name: String
    let transform: Transform

    /// Looks the objective line of a file up, `binary sigmoid:1`.
    /// - Throws: `unsupportedModel` with its name, when this code does not know its arithmetic.
    init(_ line: String, groups: Int) throws(ModelError) {
        let words = line.split(separator: " ")
        func parameter(_ key: String) -> Double? {
            words.first { $0.hasPrefix(key + ":") }.flatMap { Double($0.dropFirst(key.count + 1)) }
        }
        guard let word = words.first else {
            (name, transform) = ("custom", .identity)
            return
        }
        name = String(word)
        switch name {
        // All that LightGBM derives from its square loss.
        case "regression", "regression_l1", "fair", "quantile", "mape":
            transform = words.contains("sqrt") ? .signedSquare : .identity
        case "huber", "lambdarank", "rank_xendcg", "custom": transform = .identity
        case "poisson", "gamma", "tweedie": transform = .exponential
        case "binary", "multiclassova":
            let sharpness = parameter("sigmoid") ?? 1
            guard sharpness.isFinite, sharpness > 0 else {
                throw ModelError(.malformedModel, "objective '\(printable(line))': sigmoid must be above 0")
            }
            transform = .sigmoid(sharpness)
        case "cross_entropy": transform = .sigmoid(1)
        case "cross_entropy_lambda": transform = .softplus
        case "multiclass": transform = .softmax
        default: throw ModelError(.unsupportedModel, "objective '\(printable(name))' is not supported")
        }
    }

    /// What predictions of `groups` scores are.
    func prediction(groups: Int) -> ModelOutput {
        switch transform {
        case .sigmoid: groups > 1 ? .classProbabilities : .probability
        case .softmax: .classProbabilities
        case .softplus, .identity, .exponential, .signedSquare: groups > 1 ? .values : .value
        }
    }

    /// What scores are measured in.
    var marginScale: MarginScale? {
        switch transform {
        case .identity: ["lambdarank", "rank_xendcg", "custom"].contains(name) ? nil : .value
        case .sigmoid(let sharpness): sharpness == 1 && name != "multiclassova" ? .logOdds : nil
        case .exponential: .logarithm
        case .softplus, .signedSquare, .softmax: nil
        }
    }

    /// Turns the scores of one row, in place.
    @inline(__always)
    func apply(_ scores: UnsafeMutablePointer<Double>, count: Int) {
        switch transform {
        case .identity: break
        case .sigmoid(let sharpness):
            for index in 0..<count { scores[index] = 1 / (1 + exp(-sharpness * scores[index])) }
        case .exponential: for index in 0..<count { scores[index] = exp(scores[index]) }
        case .softplus: for index in 0..<count { scores[index] = log1p(exp(scores[index])) }
        case .signedSquare:
            for index in 0..<count {
                let score = scores[index]
                scores[index] = (score > 0 ? 1 : score < 0 ? -1 : 0) * score * score
            }
        case .softmax:
            var highest = scores[0]
            for index in 1..<max(1, count) { highest = max(highest, scores[index]) }
            var sum = 0.0
            for index in 0..<count {
                scores[index] = exp(scores[index] - highest)
                sum += scores[index]
            }
            for index in 0..<count { scores[index] /= sum }
        }
    }
}

/// Trees in one of the two node layouts; an enumeration for the reason that `CompiledForest` gives.
enum LightGBMForest: Sendable {
    /// Nodes of 8 bytes.
    case packed(ForestWalk<PackedNode, DoubleLeaves>)
    /// Nodes of 12 bytes.
    case wide(ForestWalk<WideNode, DoubleLeaves>)
}

/// A LightGBM ensemble in memory, compiled for scoring.
struct LightGBMModel: ExplainingModel {
    let description: ModelDescription
    private let layout: LightGBMLayout
    private let forest: LightGBMForest
    private let objective: LightGBMObjective
    /// The number of iterations for a random forest, else 1.
    private let divisor: Double
    private let explanation: ForestExplanation
    /// `nil` where the file names categories and does not say of which features.
    private let categoryNames: [Int: CategoryNames]?

    init(
        description: ModelDescription, categoryNames: [Int: CategoryNames]?, layout: LightGBMLayout,
        forest: LightGBMForest, objective: LightGBMObjective, divisor: Double, explanation: ForestExplanation
    ) {
        self.description = description
        self.categoryNames = categoryNames
        self.layout = layout
        self.forest = forest
        self.objective = objective
        self.divisor = divisor
        self.explanation = explanation
    }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        try description.checkShape(rows: rows.count, rowCount: rowCount, output: output.count)
        guard rowCount > 0, let target = output.baseAddress else { return }
        switch forest {
        case .packed(let walk): score(rows, rowCount: rowCount, into: target, walk)
        case .wide(let walk): score(rows, rowCount: rowCount, into: target, walk)
        }
    }

    var explanationFault: String? { explanation.fault }

    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
        guard let categoryNames else {
            guard categories.isEmpty else {
                throw ModelError(
                    .unsupportedModel,
                    "pandas_categorical names categories of more or fewer columns than are categories to the model (a column of "
                        + "one value, or of ordered categories), so it cannot be said which are which; train without these"
                )
            }
            return self
        }
        guard let recoding = try CategoryRecoding(categoryNames, read: categories) else { return self }
        return RecodedModel(base: self, recoding: recoding)
    }

    func explain(_ rows: UnsafeBufferPointer<Float>, rowCount: Int) throws(ModelError) -> [Explanation] {
        try description.checkShape(rows: rows.count, rowCount: rowCount)
        if let fault = explanation.fault { throw ModelError(.unsupportedModel, fault) }
        switch forest {
        case .packed(let walk): return try explain(rows, rowCount: rowCount, walk)
        case .wide(let walk): return try explain(rows, rowCount: rowCount, walk)
        }
    }

    private func explain<Node: FlatNode>(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, _ walk: ForestWalk<Node, DoubleLeaves>
    ) throws(ModelError) -> [Explanation] {
        try walk.explain(
            rows, rowCount: rowCount, slotCount: layout.slotCount, explanation,
            intercepts: Array(repeating: 0, count: description.outputCount), divisor: divisor
        ) { (_, source, keys) throws(ModelError) in encode(source, into: keys, stride: 1) }
    }

    @inline(__always)
    private func score<Node: FlatNode>(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, into target: UnsafeMutablePointer<Float>,
        _ walk: ForestWalk<Node, DoubleLeaves>
    ) {
        let groups = description.outputCount
        let width = layout.featureCount
        let eight = ForestWalk<Node, DoubleLeaves>.width
        let lanes = rowCount >= eight ? eight : 1
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: layout.slotCount * lanes) { keys in
            withUnsafeTemporaryAllocation(of: Double.self, capacity: groups * lanes) { scores in
                guard let keys = keys.baseAddress, let scores = scores.baseAddress else { return }
                var row = 0
                while row < rowCount {
                    let lanes = rowCount - row >= eight ? eight : 1
                    for lane in 0..<lanes {
                        let start = (row + lane) * width
                        let source = UnsafeBufferPointer(rebasing: rows[start..<(start + width)])
                        encode(source, into: keys + lane, stride: lanes)
                    }
                    scores.update(repeating: 0, count: groups * lanes)
                    if lanes == 1 {
                        walk.addLeaves(forRow: keys, to: scores)
                    } else {
                        walk.addLeaves(forEightRows: keys, to: scores, groupCount: groups)
                    }
                    for lane in 0..<lanes {
                        let mine = scores + lane * groups
                        if divisor != 1 { for group in 0..<groups { mine[group] /= divisor } }
                        objective.apply(mine, count: groups)
                        let place = target + (row + lane) * groups
                        for group in 0..<groups { place[group] = Float(mine[group]) }
                    }
                    row += lanes
                }
            }
        }
    }

    /// Writes the keys of one row.
    @inline(__always)
    private func encode(_ row: UnsafeBufferPointer<Float>, into keys: UnsafeMutablePointer<Int32>, stride: Int) {
        layout.slots.withUnsafeBufferPointer { slots in
            for index in 0..<slots.count {
                let slot = slots[index]
                keys[index &* stride] = slot.rule.key(of: row[slot.feature])
            }
        }
        keys[layout.leafSlot &* stride] = OrderedKey.missingLeft
        for (index, feature) in layout.categoricalFeatures.enumerated() {
            keys[(layout.codesStart &+ index) &* stride] = Self.code(of: row[feature])
        }
    }

    /// The bit of a category in the sets of `FlatForest`: fractions are cut off towards 0; NaN, negative and huge codes
    /// are in no set.
    @inline(__always)
    private static func code(of value: Float) -> Int32 {
        value > -1 && value < 2_147_483_520 ? Int32(value) + 1 : Int32.max
    }
}

extension ModelDescription {
    /// Checks that a buffer holds `rowCount` rows of features.
    /// - Throws: `shapeMismatch`.
    func checkShape(rows: Int, rowCount: Int) throws(ModelError) {
        let (values, overflow) = rowCount.multipliedReportingOverflow(by: featureCount)
        guard rowCount >= 0, !overflow, rows == values else {
            throw ModelError(
                .shapeMismatch, "\(rows) values are not \(rowCount) rows of the model's \(featureCount) features")
        }
    }

    /// Checks that buffers hold `rowCount` rows of features and of outputs.
    /// - Throws: `shapeMismatch`.
    func checkShape(rows: Int, rowCount: Int, output: Int) throws(ModelError) {
        try checkShape(rows: rows, rowCount: rowCount)
        let (results, overflowToo) = rowCount.multipliedReportingOverflow(by: outputCount)
        guard !overflowToo, output == results else {
            throw ModelError(
                .shapeMismatch, "room for \(output) values is not \(rowCount) rows of \(outputCount) outputs")
        }
    }
}
