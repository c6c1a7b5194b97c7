import PlatformCore
import RuntimePorts

/// What a remote model takes and gives, from its metadata.
struct RemoteLayout: Sendable, Equatable {
    /// Element types that rows fill.
    enum Element: String, Sendable {
        case float = "FP32"
        case double = "FP64"
        case int32 = "INT32"
        case int64 = "INT64"
        case bool = "BOOL"
        case text = "BYTES"
    }
    struct Input: Sendable, Equatable {
        let name: String
        let element: Element
        let first: Int
        let width: Int
        /// Whether its shape is `[rows]`.
        let isFlat: Bool

        /// The shape of its tensor for so many rows.
        func shape(_ rowCount: Int) -> [Int64] { isFlat ? [Int64(rowCount)] : [Int64(rowCount), Int64(width)] }
    }

    let inputs: [Input]
    let featureCount: Int
    /// Names of the features, if there is an input for each.
    let featureNames: [String]
    let output: String
    let isProbability: Bool

    private static let featureCountMax = 1 << 16
    private static let probabilityNames = ["probabilities", "output_probability", "probability"]

    /// Reads metadata.
    /// - Throws: `unsupportedModel` for shapes and types that rows of numbers do not fill.
    init(_ metadata: JSONValue) throws(ModelError) {
        var inputs: [Input] = []
        var first = 0
        for tensor in Self.inputs(metadata) {
            let name = tensor["name"]?.stringValue ?? ""
            guard let type = tensor["datatype"]?.stringValue, let element = Element(rawValue: type) else {
                throw ModelError(.unsupportedModel, "the remote model's input '\(printable(name))' is of no known type")
            }
            let shape = tensor["shape"]?.arrayValue?.compactMap(\.integerValue) ?? []
            guard shape.count == 1 || (shape.count == 2 && 1...Int64(Self.featureCountMax) ~= shape[1]) else {
                throw ModelError(
                    .unsupportedModel,
                    "the remote model's input '\(printable(name))' has the shape \(shape); rows fill [rows, features] or [rows]"
                )
            }
            let width = shape.count == 2 ? Int(shape[1]) : 1
            inputs.append(Input(name: name, element: element, first: first, width: width, isFlat: shape.count == 1))
            first += width
        }
        guard !inputs.isEmpty, first <= Self.featureCountMax else {
            throw ModelError(.unsupportedModel, "the remote model takes \(first) features")
        }
        let outputs = (metadata["outputs"]?.arrayValue ?? []).filter {
            ["FP32", "FP64"].contains($0["datatype"]?.stringValue ?? "")
        }
        let names = outputs.compactMap { $0["name"]?.stringValue }
        let known = names.first { Self.probabilityNames.contains($0.lowercased()) }
        guard let output = known ?? names.first else {
            throw ModelError(.unsupportedModel, "none of the remote model's outputs holds numbers")
        }
        self.inputs = inputs
        featureCount = first
        featureNames = inputs.count > 1 && inputs.allSatisfy { $0.width == 1 } ? inputs.map(\.name) : []
        self.output = output
        isProbability = known != nil
    }

    /// The inputs to fill: all, but where another server of this platform takes the features as one tensor too, that one.
    private static func inputs(_ metadata: JSONValue) -> [JSONValue] {
        let all = metadata["inputs"]?.arrayValue ?? []
        let outputs = Set((metadata["outputs"]?.arrayValue ?? []).compactMap { $0["name"]?.stringValue })
        guard outputs.isSuperset(of: ["prediction", "prediction_id", "model_version", "variant", "fallback"]),
            let matrix = all.first(where: { $0["name"]?.stringValue == "features" })
        else { return all }
        return [matrix]
    }

    /// Positions of features that are texts.
    var textFeatures: [Int] { inputs.filter { $0.element == .text }.flatMap { $0.first..<($0.first + $0.width) } }
}

/// Text from outside on one line of at most 300 characters.
func printable(_ text: String) -> String {
    String(text.unicodeScalars.prefix(300).map { $0.properties.generalCategory == .control ? " " : Character($0) })
}
