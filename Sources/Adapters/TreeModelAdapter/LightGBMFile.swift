import RuntimePorts

/// One tree as a LightGBM text file holds it: lists with one element for each split, and one for each leaf.
///
/// The lengths have been checked, the contents have not.
struct LightGBMTree {
    var leafCount = 0
    /// The feature of each split.
    var splitFeatures: [Int32] = []
    /// The threshold of a numeric split; for a categorical one its place in `categoryBoundaries`.
    var thresholds: [Double] = []
    /// Bit 0: categorical; bit 1: missing values go left; bits 2 and 3: what counts as missing.
    var decisionTypes: [Int32] = []
    /// The next split, or `~leaf` when negative.
    var leftChildren: [Int32] = []
    var rightChildren: [Int32] = []
    var leafValues: [Double] = []
    /// Rows of the training data that reached each split; empty if the file has no counts.
    var splitCovers: [Float] = []
    /// Rows that reached each leaf.
    var leafCovers: [Float] = []
    /// Where the words of each categorical split start in `categoryWords`.
    var categoryBoundaries: [Int32] = []
    /// Bit sets of categories that go left.
    var categoryWords: [UInt32] = []
    var isLinear = false

    /// Checks that all lists have the lengths that the number of leaves asks for.
    func checkLengths(index: Int) throws(ModelError) {
        func failure(_ what: String) -> ModelError { ModelError(.malformedModel, "Tree=\(index): \(what)") }
        guard leafCount > 0 else { throw failure("num_leaves is missing or 0") }
        guard leafValues.count == leafCount else {
            throw failure("leaf_value holds \(leafValues.count) values for \(leafCount) leaves")
        }
        let lists = [
            ("split_feature", splitFeatures.count), ("threshold", thresholds.count),
            ("decision_type", decisionTypes.count), ("left_child", leftChildren.count),
            ("right_child", rightChildren.count),
        ]
        // A tree that never split may have the lists empty or missing.
        for (name, count) in lists where count != leafCount - 1 {
            throw failure("\(name) holds \(count) values for \(leafCount) leaves, which \(leafCount - 1) splits make")
        }
    }
}

/// What a LightGBM model file says, read but not yet checked for sense.
///
/// The format is lines of `key=value`: a header, a block for each tree after `Tree=n`, then `end of trees`; of what follows
/// (importances, parameters) the categories of the data frame are read, which Python's package adds.
struct LightGBMFile {
    var version = ""
    var classCount = 1
    var treesPerIteration = 1
    var featureIndexMax: Int?
    /// `binary sigmoid:1`; empty when the model was trained with an objective of its user.
    var objective = ""
    var averagesOutput = false
    var featureNames: [String] = []
    /// Of each feature `[least:greatest]`, its categories' codes with colons, or `none`.
    var featureKinds: [Substring] = []
    /// The lists of `pandas_categorical`, one for each column of categories that the data frame had.
    var categoryLists: [CategoryNames] = []
    var trees: [LightGBMTree] = []

    /// Reads a whole file.
    /// - Throws: `malformedModel` with the line.
    init(_ bytes: UnsafeBufferPointer<UInt8>) throws(ModelError) {
        var lines = LineCursor(bytes)
        guard lines.next(), lines.isWord("tree") else {
            throw ModelError(.malformedModel, "the first line is not 'tree': not a LightGBM text model")
        }
        var tree: LightGBMTree?
        while lines.next() {
            if lines.isWord("end of trees") {
                try finish(tree)
                while lines.next() {
                    if let value = lines.value(after: "pandas_categorical:") { try readCategories(value) }
                }
                return
            }
            if lines.isWord("average_output") {
                averagesOutput = true
                continue
            }
            guard lines.hasKey else { continue }
            if lines.isKey("Tree") {
                try finish(tree)
                guard try lines.integer() == trees.count else {
                    throw lines.failure("Tree=\(trees.count) is expected here")
                }
                tree = LightGBMTree()
            } else if tree != nil {
                try tree?.read(&lines)
            } else {
                try readHeader(&lines)
            }
        }
        throw ModelError(.malformedModel, "the line 'end of trees' is missing: the file is cut off")
    }

    private mutating func finish(_ tree: LightGBMTree?) throws(ModelError) {
        guard let tree else { return }
        try tree.checkLengths(index: trees.count)
        trees.append(tree)
    }

    private mutating func readHeader(_ lines: inout LineCursor) throws(ModelError) {
        if lines.isKey("version") {
            version = lines.text()
        } else if lines.isKey("num_class") {
            classCount = try lines.integer()
        } else if lines.isKey("num_tree_per_iteration") {
            treesPerIteration = try lines.integer()
        } else if lines.isKey("max_feature_idx") {
            featureIndexMax = try lines.integer()
        } else if lines.isKey("objective") {
            objective = lines.text()
        } else if lines.isKey("feature_names") {
            featureNames = lines.text().split(separator: " ").map(String.init)
        } else if lines.isKey("feature_infos") {
            featureKinds = lines.text().split(separator: " ")
        }
    }

    /// Reads `[["app", "web"], [3, 7]]`, or `null` where the model was not trained on a data frame.
    private mutating func readCategories(_ value: UnsafeBufferPointer<UInt8>) throws(ModelError) {
        guard value.first == 0x5B else { return }
        var cursor = JSONCursor(value, decodesEscapes: true)
        var lists: [CategoryNames] = []
        try cursor.eachElement { (cursor) throws(ModelError) in
            var (texts, areNumbers): ([String], Bool) = ([], true)
            try cursor.eachElement { (cursor) throws(ModelError) in
                areNumbers = areNumbers && !cursor.isAtText
                guard !cursor.isAtTruth else {
                    throw ModelError(
                        .unsupportedModel,
                        "pandas_categorical has categories that are true or false; make them texts before training")
                }
                texts.append(try cursor.text())
            }
            lists.append(areNumbers ? .numbers(texts.map(CategoryNames.word(ofNumber:))) : .texts(texts))
        }
        try cursor.finish()
        categoryLists = lists
    }

    /// By feature, the categories that the file names; `nil` if it cannot be said which list is of which feature.
    var categoryNames: [Int: CategoryNames]? {
        // A column of one category alone is said to hold none, and one in order to hold numbers.
        let features = featureKinds.indices.filter { featureKinds[$0] != "none" && !featureKinds[$0].hasPrefix("[") }
        guard categoryLists.isEmpty || features.count == categoryLists.count else { return nil }
        return Dictionary(zip(features, categoryLists), uniquingKeysWith: { first, _ in first })
    }
}

extension LightGBMTree {
    fileprivate mutating func read(_ lines: inout LineCursor) throws(ModelError) {
        if lines.isKey("num_leaves") {
            leafCount = try lines.integer()
        } else if lines.isKey("split_feature") {
            splitFeatures = try lines.integers()
        } else if lines.isKey("threshold") {
            thresholds = try lines.doubles()
        } else if lines.isKey("decision_type") {
            decisionTypes = try lines.integers()
        } else if lines.isKey("left_child") {
            leftChildren = try lines.integers()
        } else if lines.isKey("right_child") {
            rightChildren = try lines.integers()
        } else if lines.isKey("leaf_value") {
            leafValues = try lines.doubles()
        } else if lines.isKey("internal_count") {
            splitCovers = try lines.doubles().map { Float($0) }
        } else if lines.isKey("leaf_count") {
            leafCovers = try lines.doubles().map { Float($0) }
        } else if lines.isKey("cat_boundaries") {
            categoryBoundaries = try lines.integers()
        } else if lines.isKey("cat_threshold") {
            categoryWords = try lines.words()
        } else if lines.isKey("is_linear") {
            isLinear = try lines.integer() != 0
        }
    }
}

/// Reads `key=value` lines front to back; nothing is copied but the values that are asked for.
private struct LineCursor {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var number = 0
    private var nextStart = 0
    private var line = 0..<0
    private var equals: Int?

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// Goes to the next line; `false` at the end.
    mutating func next() -> Bool {
        guard nextStart < bytes.count else { return false }
        number += 1
        var end = nextStart
        equals = nil
        while end < bytes.count, bytes[end] != 0x0A {
            if bytes[end] == 0x3D, equals == nil { equals = end }
            end += 1
        }
        let start = nextStart
        nextStart = end + 1
        if end > start, bytes[end - 1] == 0x0D { end -= 1 }
        line = start..<end
        return true
    }

    func failure(_ what: String) -> ModelError { ModelError(.malformedModel, "line \(number): \(what)") }

    func isWord(_ word: StaticString) -> Bool { equal(line, word) }

    var hasKey: Bool { equals != nil }

    func isKey(_ key: StaticString) -> Bool {
        guard let equals else { return false }
        return equal(line.lowerBound..<equals, key)
    }

    /// What follows `prefix` at the start of the line; `nil` if the line does not start so.
    func value(after prefix: StaticString) -> UnsafeBufferPointer<UInt8>? {
        let count = prefix.utf8CodeUnitCount
        guard line.count >= count, equal(line.lowerBound..<(line.lowerBound + count), prefix) else { return nil }
        return UnsafeBufferPointer(rebasing: bytes[(line.lowerBound + count)..<line.upperBound])
    }

    private func equal(_ range: Range<Int>, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        return text.withUTF8Buffer { UnsafeBufferPointer(rebasing: bytes[range]).elementsEqual($0) }
    }

    private var value: Range<Int> {
        let start = min((equals ?? line.lowerBound - 1) + 1, line.upperBound)
        return start..<line.upperBound
    }

    func text() -> String { String(decoding: bytes[value], as: UTF8.self) }

    func integer() throws(ModelError) -> Int {
        let text = text()
        guard let value = Int(text), value >= 0, value <= Int(Int32.max) else {
            throw failure("'\(printable(text))' is not a count")
        }
        return value
    }

    func integers() throws(ModelError) -> [Int32] {
        try list { text in Int32(text) }
    }

    func words() throws(ModelError) -> [UInt32] {
        try list { text in UInt32(text) }
    }

    func doubles() throws(ModelError) -> [Double] {
        try list { text in text.utf8.count <= NumberText.byteCountMax ? Double(text) : nil }
    }

    private func list<Element>(_ parse: (Substring) -> Element?) throws(ModelError) -> [Element] {
        var elements: [Element] = []
        for part in text().split(separator: " ") {
            guard let element = parse(part) else {
                throw failure("element \(elements.count), '\(printable(String(part)))', is no number of this list")
            }
            elements.append(element)
        }
        return elements
    }
}
