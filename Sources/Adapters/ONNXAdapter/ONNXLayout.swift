import RuntimePorts

/// How a row becomes a model's inputs.
struct ONNXInputs: Sendable {
    /// One input of the model.
    struct Feed: Sendable {
        let name: String
        let element: ElementType
        /// Position of its first feature in a row.
        let first: Int
        /// Features it takes of each row.
        let width: Int
        /// Whether its shape is `[rows]` and not `[rows, features]`.
        let isFlat: Bool
    }

    let feeds: [Feed]
    /// Features of a row.
    let featureCount: Int
    /// Names of the features, if the model has an input for each.
    let featureNames: [String]
    /// Rows that the model takes at once, if it is fixed.
    let fixedRowCount: Int?
    /// Positions of features that the model takes as text.
    let textFeatures: [Int]

    /// Reads declared inputs.
    /// - Throws: `unsupportedModel` for shapes and types that rows of numbers do not fill.
    init(_ ports: [ONNXSession.Port], _ configuration: ONNXConfiguration) throws(ModelError) {
        guard !ports.isEmpty else { throw ModelError(.unsupportedModel, "the model has no inputs") }
        var feeds: [Feed] = []
        var first = 0
        var rowCounts: Set<Int64> = []
        for port in ports {
            let name = printable(port.name)
            guard !port.name.utf8.contains(0) else { throw ModelError(.malformedModel, "an input's name holds a zero") }
            guard port.kind == 1, let element = ElementType(rawValue: port.element) else {
                throw ModelError(
                    .unsupportedModel,
                    "input '\(name)' is none of float, double, int32, int64, bool and string tensors")
            }
            guard port.shape.count == 1 || port.shape.count == 2 else {
                throw ModelError(
                    .unsupportedModel,
                    "input '\(name)' has \(port.shape.count) dimensions; rows fill [rows, features] or [rows]")
            }
            let width = port.shape.count == 2 ? port.shape[1] : 1
            guard width > 0 else {
                throw ModelError(
                    .unsupportedModel,
                    "input '\(name)' does not say how many features it takes; export the model with a fixed second "
                        + "dimension")
            }
            guard width <= configuration.featureCountMax - first else {
                throw ModelError(
                    .tooLarge, "the model takes more than \(configuration.featureCountMax) features")
            }
            if let rows = port.shape.first, rows > 0 { rowCounts.insert(rows) }
            feeds.append(
                Feed(
                    name: port.name, element: element, first: first, width: Int(width), isFlat: port.shape.count == 1))
            first += Int(width)
        }
        guard rowCounts.count <= 1, (rowCounts.first ?? 1) <= 1 << 16 else {
            throw ModelError(.unsupportedModel, "its inputs take different or very many rows at once")
        }
        self.feeds = feeds
        featureCount = first
        featureNames = feeds.count > 1 && feeds.allSatisfy { $0.width == 1 } ? feeds.map(\.name) : []
        fixedRowCount = rowCounts.first.map(Int.init)
        textFeatures = feeds.filter { $0.element == .text }.flatMap { $0.first..<($0.first + $0.width) }
    }
}

/// Which output is the prediction, and how it is read.
struct ONNXOutput: Sendable {
    /// How the library gives it.
    enum Form: Sendable, Hashable {
        /// A tensor, `[rows]` or `[rows, outputs]`.
        case tensor
        /// A map of each row from class to probability: what scikit-learn's converter writes unless told otherwise.
        case maps
    }
    /// What the numbers are.
    enum Meaning: String, Sendable, Hashable {
        case probabilities
        case values
        /// The number of a class.
        case label
    }

    let name: String
    let form: Form
    let meaning: Meaning

    /// Names that converters give to probabilities, best first.
    private static let knownNames = ["probabilities", "output_probability", "probability"]
    /// Operators whose numbers are probabilities of classes.
    private static let classifiers: Set<String> = [
        "Softmax", "Sigmoid", "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier",
    ]

    /// Chooses: probabilities by name, maps, numbers, at last labels.
    /// - Throws: `unsupportedModel` when no output holds numbers.
    init(_ ports: [ONNXSession.Port], operators: [String: String]) throws(ModelError) {
        func isTensor(_ port: ONNXSession.Port, _ elements: Set<ElementType>) -> Bool {
            guard port.kind == 1, let element = ElementType(rawValue: port.element) else { return false }
            return elements.contains(element)
        }
        let numbers: Set<ElementType> = [.float, .double]
        // A classifier has a label beside its numbers, whole or text.
        let hasLabel = ports.contains { isTensor($0, [.int64, .int32, .text, .bool]) }
        for known in Self.knownNames {
            guard let port = ports.first(where: { $0.name.lowercased() == known }) else { continue }
            if isTensor(port, numbers) {
                (name, form, meaning) = (port.name, .tensor, .probabilities)
                return
            }
            if port.kind == 2 {
                (name, form, meaning) = (port.name, .maps, .probabilities)
                return
            }
        }
        if let port = ports.first(where: { isTensor($0, numbers) }) {
            let isClassifier = hasLabel || Self.classifiers.contains(operators[port.name] ?? "")
            // Beside a label stand scores too, of outlier detectors for one: they are one number for each row.
            let isScore = port.shape.count < 2 || port.shape.last == 1
            let isSigmoid = operators[port.name] == "Sigmoid"
            (name, form) = (port.name, .tensor)
            meaning = isClassifier && (!isScore || isSigmoid) ? .probabilities : .values
            return
        }
        if let port = ports.first(where: { $0.kind == 2 }) {
            (name, form, meaning) = (port.name, .maps, .probabilities)
            return
        }
        if let port = ports.first(where: { isTensor($0, [.int64, .int32, .bool]) }) {
            (name, form, meaning) = (port.name, .tensor, .label)
            return
        }
        throw ModelError(
            .unsupportedModel,
            "none of its outputs holds numbers for each row: "
                + ports.prefix(8).map { "'\(printable($0.name))'" }.joined(separator: ", "))
    }

    /// What `width` numbers of a row are.
    func prediction(width: Int) -> ModelOutput {
        switch meaning {
        case .probabilities: width <= 2 ? .probability : .classProbabilities
        case .values, .label: width == 1 ? .value : .values
        }
    }
}
