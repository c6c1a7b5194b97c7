import PlatformCore
import RuntimePorts

/// What a `model.linear.json` says, checked.
///
/// docs/serving.md describes the format. Unknown members are refused, so that a later format is never half understood.
struct LinearModelFile {
    /// The first member's value.
    static let format = "bottega-linear/1"

    /// How the weighted sums become predictions.
    enum Link: String, CaseIterable {
        /// The sum itself.
        case identity
        /// `exp(sum)`: Poisson, gamma and Tweedie regression.
        case exponential = "exp"
        /// `1 / (1 + exp(−sum))`: the probability of the positive class.
        case logistic
        /// `exp(sumₖ) / Σ exp(sumⱼ)`: multinomial classification.
        case softmax
        /// `logistic(sumₖ) / Σ logistic(sumⱼ)`: one classifier for each class against the others.
        case oneVersusRest = "one-vs-rest"

        /// Whether there is one sum for each class.
        var hasClasses: Bool { self == .softmax || self == .oneVersusRest }

        /// The objective in the words of the other formats.
        var objective: String {
            switch self {
            case .identity: "reg:linear"
            case .exponential: "reg:exponential"
            case .logistic: "binary:logistic"
            case .softmax: "multi:softprob"
            case .oneVersusRest: "multi:onevsrest"
            }
        }
    }

    let link: Link
    let featureNames: [String]
    /// Shape `[outputs, features]`.
    let coefficients: [[Double]]
    /// One for each output.
    let intercepts: [Double]
    /// What is taken from each feature first; zeros where the file has none.
    let centers: [Double]
    /// What each feature is divided by then; ones where the file has none.
    let scales: [Double]
    /// What stands for a missing value of each feature; `nil` where a missing value is refused.
    let fills: [Double]?

    /// Reads and checks a file.
    init(_ bytes: [UInt8], byteCountMax: Int, featureCountMax: Int) throws(ModelError) {
        let document: JSONValue
        do {
            document = try JSONValue.parse(bytes, limits: JSONLimits(byteCountMax: byteCountMax, depthMax: 8))
        } catch { throw ModelError(.malformedModel, "\(error)") }
        guard case .object(let members) = document else {
            throw ModelError(.malformedModel, "the file holds \(document.kindName), not an object")
        }
        let known = ["format", "link", "features", "coefficients", "intercepts", "center", "scale", "fill", "classes"]
        for name in members.keys.sorted() where !known.contains(name) {
            let near = nearestName(to: name, among: known).map { "; did you mean '\($0)'?" } ?? ""
            throw ModelError(.unsupportedModel, "'\(Self.line(name))' is no member of this format\(near)")
        }
        guard let format = members["format"]?.stringValue, format == Self.format else {
            throw ModelError(.unsupportedModel, "format: '\(Self.format)' is read here")
        }
        guard let text = members["link"]?.stringValue, let link = Link(rawValue: text) else {
            throw ModelError(
                .unsupportedModel,
                "link: one of \(Link.allCases.map(\.rawValue).joined(separator: ", ")) is expected")
        }
        self.link = link
        featureNames = try Self.texts(members["features"], "features")
        let width = featureNames.count
        guard width > 0 else { throw ModelError(.malformedModel, "features: the model has none") }
        guard width <= featureCountMax else {
            throw ModelError(.tooLarge, "the model has \(width) features, \(featureCountMax) are accepted")
        }
        guard Set(featureNames).count == width else {
            throw ModelError(.malformedModel, "features: a name appears twice")
        }
        guard let rows = members["coefficients"]?.arrayValue else {
            throw ModelError(
                .malformedModel, "coefficients: a list with one list of numbers for each output is expected")
        }
        var coefficients: [[Double]] = []
        for (place, row) in rows.enumerated() {
            coefficients.append(try Self.numbers(row, "coefficients[\(place)]", count: width))
        }
        guard link.hasClasses ? coefficients.count >= 2 : coefficients.count == 1 else {
            throw ModelError(
                .malformedModel,
                "coefficients: link '\(link.rawValue)' takes \(link.hasClasses ? "one list for each class" : "one list"), "
                    + "there are \(coefficients.count)")
        }
        self.coefficients = coefficients
        intercepts = try Self.numbers(members["intercepts"], "intercepts", count: coefficients.count)
        centers = try Self.optional(members["center"], "center", count: width) ?? [Double](repeating: 0, count: width)
        scales = try Self.optional(members["scale"], "scale", count: width) ?? [Double](repeating: 1, count: width)
        guard scales.allSatisfy({ $0 != 0 }) else { throw ModelError(.malformedModel, "scale: 0 divides nothing") }
        fills = try Self.optional(members["fill"], "fill", count: width)
        if let classes = members["classes"]?.unlessNull {
            let expected = link.hasClasses ? coefficients.count : 2
            guard link.hasClasses || link == .logistic, classes.arrayValue?.count == expected else {
                throw ModelError(
                    .malformedModel,
                    "classes: link '\(link.rawValue)' takes "
                        + (link.hasClasses || link == .logistic ? "a list of \(expected)" : "none"))
            }
        }
    }

    private static func optional(_ value: JSONValue?, _ name: String, count: Int) throws(ModelError) -> [Double]? {
        guard let value = value?.unlessNull else { return nil }
        return try numbers(value, name, count: count)
    }

    private static func numbers(_ value: JSONValue?, _ name: String, count: Int) throws(ModelError) -> [Double] {
        guard let elements = value?.arrayValue else {
            throw ModelError(.malformedModel, "\(name): a list of numbers is expected")
        }
        guard elements.count == count else {
            throw ModelError(.malformedModel, "\(name): \(count) numbers are expected, there are \(elements.count)")
        }
        var numbers: [Double] = []
        numbers.reserveCapacity(count)
        for (place, element) in elements.enumerated() {
            guard let number = element.doubleValue else {
                throw ModelError(.malformedModel, "\(name)[\(place)]: \(element.kindName) is no number")
            }
            numbers.append(number)
        }
        return numbers
    }

    private static func texts(_ value: JSONValue?, _ name: String) throws(ModelError) -> [String] {
        guard let elements = value?.arrayValue else {
            throw ModelError(.malformedModel, "\(name): a list of names is expected")
        }
        var texts: [String] = []
        for (place, element) in elements.enumerated() {
            guard let text = element.stringValue, !text.isEmpty else {
                throw ModelError(.malformedModel, "\(name)[\(place)]: a name is expected")
            }
            texts.append(text)
        }
        return texts
    }

    /// Text from a file made safe for one line of a message.
    static func line(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.prefix(64).map { $0.properties.isWhitespace || $0.value < 32 ? " " : $0 }))
    }
}
