import Foundation
import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// SplitMix64: a seeded source of random numbers, the same on every run.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// What a generated model may look like.
struct ModelShape {
    var featureCount = 7
    var treeCount = 19
    var nodeCountMax = 60
    var groups = 1
    var objective = "reg:squarederror"
    var categoricalShare = 0.3
    var booster = "gbtree"
    var isChain = false
}

/// Thresholds and values that meet each other, so that ties happen.
let specialValues: [Float] = [
    0, -0.0, 1, -1, 0.5, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .greatestFiniteMagnitude,
    -.greatestFiniteMagnitude, 3, 4, 31, 32, 33,
]

/// A random tree: any shape, any order of nodes, categorical and numeric splits.
func randomTree(_ shape: ModelShape, using random: inout SeededGenerator) -> RawTree {
    var tree = RawTree()
    func addNode() -> Int32 {
        tree.leftChildren.append(-1)
        tree.rightChildren.append(-1)
        tree.splitFeatures.append(0)
        tree.splitConditions.append(Float.random(in: -2...2, using: &random))
        tree.defaultLeft.append(0)
        tree.splitTypes.append(0)
        return Int32(tree.leftChildren.count - 1)
    }
    var leaves = [addNode()]
    let target = Int.random(in: 1...max(1, shape.nodeCountMax), using: &random)
    while tree.leftChildren.count + 2 <= target {
        let pick = shape.isChain ? leaves.count - 1 : Int.random(in: 0..<leaves.count, using: &random)
        let node = leaves.remove(at: pick)
        let index = Int(node)
        tree.leftChildren[index] = addNode()
        tree.rightChildren[index] = addNode()
        leaves += [tree.leftChildren[index], tree.rightChildren[index]]
        tree.splitFeatures[index] = Int32.random(in: 0..<Int32(shape.featureCount), using: &random)
        tree.defaultLeft[index] = Bool.random(using: &random) ? 1 : 0
        if Double.random(in: 0..<1, using: &random) < shape.categoricalShare {
            tree.splitTypes[index] = 1
            tree.splitConditions[index] = .nan
            let all = Int32(Bool.random(using: &random) ? 8 : 100)
            let chosen = (0..<all).filter { _ in Int.random(in: 0..<3, using: &random) == 0 }
            tree.categoryNodes.append(node)
            tree.categorySegments.append(Int32(tree.categories.count))
            tree.categorySizes.append(Int32(chosen.count))
            tree.categories += chosen
        } else {
            let thresholds = specialValues + [.infinity, -.infinity, .nan]
            tree.splitConditions[index] =
                Bool.random(using: &random)
                ? thresholds[Int.random(in: 0..<thresholds.count, using: &random)]
                : Float.random(in: -2...2, using: &random)
        }
    }
    // Children stand after their parents.
    tree.covers = tree.leftChildren.map { _ in Float(Int.random(in: 1...1000, using: &random)) / 8 }
    for index in tree.leftChildren.indices.reversed() where tree.leftChildren[index] != -1 {
        tree.covers[index] = tree.covers[Int(tree.leftChildren[index])] + tree.covers[Int(tree.rightChildren[index])]
    }
    return tree
}

/// A random model file.
func randomModel(_ shape: ModelShape, seed: UInt64) -> XGBoostFile {
    var random = SeededGenerator(seed)
    var file = XGBoostFile.empty
    file.booster = shape.booster
    file.objective = shape.objective
    file.baseScore = "[2.5E-1]"
    file.featureCount = shape.featureCount
    file.classCount = shape.groups > 1 ? shape.groups : 0
    for index in 0..<shape.treeCount {
        file.trees.append(randomTree(shape, using: &random))
        file.treeGroups.append(Int32(index % shape.groups))
        if shape.booster == "dart" { file.treeWeights.append(Float.random(in: 0...1, using: &random)) }
    }
    return file
}

/// Random rows: plain numbers, missing values, values that equal thresholds, category codes, odd codes.
func randomRows(_ count: Int, featureCount: Int, seed: UInt64) -> [Float] {
    var random = SeededGenerator(seed ^ 0xABCD)
    return (0..<(count * featureCount)).map { _ in
        switch Int.random(in: 0..<6, using: &random) {
        case 0: .nan
        case 1: specialValues[Int.random(in: 0..<specialValues.count, using: &random)]
        case 2: Float(Int.random(in: -2..<110, using: &random))
        case 3: Float(Int.random(in: 0..<8, using: &random)) + 0.75
        default: Float.random(in: -2...2, using: &random)
        }
    }
}

/// XGBoost's arithmetic written down without any cleverness: the meaning that the fast code is compared with.
func obviousPredictions(_ file: XGBoostFile, rows: [Float], rowCount: Int) throws -> [Float] {
    let featureCount = try #require(file.featureCount)
    let groups = max(1, file.classCount)
    let objective = try Objective(named: file.objective)
    let base = try #require(Float(file.baseScore.filter { !"[]".contains($0) }))
    var output: [Float] = []
    for index in 0..<rowCount {
        let row = rows[(index * featureCount)..<((index + 1) * featureCount)]
        var margins = [Float](repeating: objective.margin(ofBaseScore: base), count: groups)
        for (position, tree) in file.trees.enumerated() {
            var node = 0
            while tree.leftChildren[node] != -1 {
                let value = row[row.startIndex + Int(tree.splitFeatures[node])]
                let goesLeft: Bool
                if value.isNaN {
                    goesLeft = tree.defaultLeft[node] == 1
                } else if tree.splitTypes[node] == 1 {
                    let entry = try #require(tree.categoryNodes.firstIndex(of: Int32(node)))
                    let start = Int(tree.categorySegments[entry])
                    let list = tree.categories[start..<(start + Int(tree.categorySizes[entry]))]
                    goesLeft = value < 0 || value >= 16_777_216 || !list.contains(Int32(value))
                } else {
                    goesLeft = value < tree.splitConditions[node]
                }
                node = Int(goesLeft ? tree.leftChildren[node] : tree.rightChildren[node])
            }
            let weight = file.booster == "dart" ? file.treeWeights[position] : 1
            let leaf = weight * tree.splitConditions[node]
            margins[Int(file.treeGroups[position])] += leaf
        }
        switch objective.output {
        case .identity: output += margins
        case .sigmoid: output += margins.map { 1 / (1 + expf(min(-$0, 88.7))) }
        case .exponential: output += margins.map { expf($0) }
        case .step: output += margins.map { $0 > 0 ? 1 : 0 }
        case .argumentOfMaximum: output.append(Float(margins.firstIndex(of: margins.max() ?? 0) ?? 0))
        case .softmax:
            let powers = margins.map { expf($0 - (margins.max() ?? 0)) }
            let sum = powers.reduce(0.0) { $0 + Double($1) }
            output += powers.map { $0 / Float(sum) }
        }
    }
    return output
}
