import RuntimePorts

/// Trees in one of the two node layouts.
///
/// A model holds this and not a generic parameter: calls from here are compiled
/// for the concrete layout, whereas a generic type behind `any LoadedModel` runs unspecialized, ten times slower.
enum CompiledForest: Sendable {
    /// Nodes of 8 bytes.
    case packed(ForestWalk<PackedNode, SingleLeaves>)
    /// Nodes of 12 bytes.
    case wide(ForestWalk<WideNode, SingleLeaves>)
}

/// An XGBoost ensemble in memory, compiled for scoring.
struct XGBoostModel: ExplainingModel {
    let description: ModelDescription
    private let layout: RowLayout
    private let forest: CompiledForest
    /// The margin of each output before any tree.
    private let intercepts: [Float]
    private let transform: OutputTransform
    private let explanation: ForestExplanation
    private let categoryNames: [Int: CategoryNames]

    init(
        description: ModelDescription, categoryNames: [Int: CategoryNames], layout: RowLayout, forest: CompiledForest,
        intercepts: [Float], transform: OutputTransform, explanation: ForestExplanation
    ) {
        self.description = description
        self.categoryNames = categoryNames
        self.layout = layout
        self.intercepts = intercepts
        self.transform = transform
        self.forest = forest
        self.explanation = explanation
    }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        try description.checkShape(rows: rows.count, rowCount: rowCount, output: output.count)
        guard rowCount > 0, let target = output.baseAddress else { return }
        let infinite =
            switch forest {
            case .packed(let walk): score(rows, rowCount: rowCount, into: target, walk)
            case .wide(let walk): score(rows, rowCount: rowCount, into: target, walk)
            }
        if let infinite { throw infiniteValue(row: infinite, rows) }
    }

    var explanationFault: String? { explanation.fault }

    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
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
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, _ walk: ForestWalk<Node, SingleLeaves>
    ) throws(ModelError) -> [Explanation] {
        try walk.explain(
            rows, rowCount: rowCount, slotCount: layout.slotCount, explanation, intercepts: intercepts.map(Double.init),
            divisor: 1
        ) { (row, source, keys) throws(ModelError) in
            guard encode(source, into: keys, stride: 1) else { throw infiniteValue(row: row, rows) }
        }
    }

    /// Scores all rows; returns the first row that has an infinite value.
    @inline(__always)
    private func score<Node: FlatNode>(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, into target: UnsafeMutablePointer<Float>,
        _ walk: ForestWalk<Node, SingleLeaves>
    ) -> Int? {
        let outputs = description.outputCount
        let width = layout.featureCount
        let eight = ForestWalk<Node, SingleLeaves>.width
        let lanes = rowCount >= eight ? eight : 1
        let groups = intercepts.count
        return withUnsafeTemporaryAllocation(of: Int32.self, capacity: layout.slotCount * lanes) { keys in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: groups * lanes) { margins -> Int? in
                guard let keys = keys.baseAddress, let margins = margins.baseAddress else { return nil }
                var row = 0
                while row < rowCount {
                    let lanes = rowCount - row >= eight ? eight : 1
                    for lane in 0..<lanes {
                        let start = (row + lane) * width
                        let source = UnsafeBufferPointer(rebasing: rows[start..<(start + width)])
                        let isFinite =
                            lanes == 1
                            ? encode(source, into: keys, stride: 1) : encode(source, into: keys + lane, stride: 8)
                        if !isFinite { return row + lane }
                        for group in 0..<groups { margins[lane * groups + group] = intercepts[group] }
                    }
                    if lanes == 1 {
                        walk.addLeaves(forRow: keys, to: margins)
                    } else {
                        walk.addLeaves(forEightRows: keys, to: margins, groupCount: groups)
                    }
                    for lane in 0..<lanes {
                        transform.apply(margins + lane * groups, count: groups)
                        let place = target + (row + lane) * outputs
                        for column in 0..<outputs { place[column] = margins[lane * groups + column] }
                    }
                    row += lanes
                }
                return nil
            }
        }
    }

    /// Writes the keys of one row; `false` if a value is infinite.
    @inline(__always)
    private func encode(_ row: UnsafeBufferPointer<Float>, into keys: UnsafeMutablePointer<Int32>, stride: Int) -> Bool
    {
        let width = row.count
        var infinite: UInt32 = 0
        let right = keys + width &* stride
        for feature in 0..<width {
            let value = row[feature]
            let key = OrderedKey.of(value)
            let magnitude = value.bitPattern & 0x7FFF_FFFF
            let isMissing = magnitude > 0x7F80_0000
            infinite |= magnitude == 0x7F80_0000 ? 1 : 0
            keys[feature &* stride] = isMissing ? OrderedKey.missingLeft : key
            right[feature &* stride] = isMissing ? OrderedKey.missingRight : key
        }
        keys[layout.leafSlot &* stride] = OrderedKey.missingLeft
        for (index, feature) in layout.categoricalFeatures.enumerated() {
            keys[(layout.codesStart &+ index) &* stride] = Self.code(of: row[feature])
        }
        return infinite == 0
    }

    /// The bit of a category in the sets of `FlatForest`: fractions are cut off; negative and huge codes are in no set.
    @inline(__always)
    private static func code(of value: Float) -> Int32 {
        if value.isNaN { return 0 }
        return value >= 0 && value < Float(TreeCompiler.categoryEnd) ? Int32(value) + 1 : Int32.max
    }

    private func infiniteValue(row: Int, _ rows: UnsafeBufferPointer<Float>) -> ModelError {
        let start = row * layout.featureCount
        let feature = rows[start..<(start + layout.featureCount)].firstIndex { $0.isInfinite } ?? start
        let position = feature - start
        let name = description.featureNames.indices.contains(position) ? description.featureNames[position] : ""
        let label = name.isEmpty ? "\(position)" : "\(position) ('\(printable(name))')"
        return ModelError(.shapeMismatch, "row \(row): feature \(label) is infinite; a missing value is NaN")
    }
}
