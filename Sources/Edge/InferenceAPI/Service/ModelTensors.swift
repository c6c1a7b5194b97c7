import Definitions
import ModelServing
import PlatformCore
import RuntimePorts

/// The tensors of a model: what its feature service asks for, by name, and what a prediction has to say.
struct ModelTensors: Sendable {
    /// One tensor.
    struct Tensor: Sendable, Hashable {
        let name: String
        let datatype: TensorDatatype
        /// The first extent is the rows, -1 for any number.
        let shape: [Int64]
        /// Whether it may be left out.
        let isOptional: Bool

        init(_ name: String, _ datatype: TensorDatatype, width: Int = 1, isOptional: Bool = false) {
            self.name = name
            self.datatype = datatype
            shape = [-1, Int64(width)]
            self.isOptional = isOptional
        }
    }

    /// What the tensor with all features is called.
    static let matrixName = "features"
    /// What clients of Triton's forest runtime call it.
    static let matrixSynonym = "input__0"

    let inputs: [Tensor]
    let outputs: [Tensor]
    let inputCount: Int
    /// Outputs of the model for a row.
    let outputCount: Int
    /// Places among `inputs` by name, other names of the same tensors included.
    private let places: [String: Int]
    /// The names that keys have, as tensors and parameters.
    let keyNames: [String]

    init(_ version: ServedVersion) {
        let service = version.binding.definition
        inputCount = version.binding.inputCount
        outputCount = version.loaded.description.outputCount
        keyNames = service.joinKeys
        var inputs = service.joinKeys.map { Tensor($0, .bytes) }
        var places: [String: Int] = [:]
        for (place, key) in service.joinKeys.enumerated() {
            places[key] = place
            places["entities.\(key)"] = place
        }
        func add(_ name: String, _ datatype: TensorDatatype, isOptional: Bool) {
            if let place = places[name], inputs[place].datatype == datatype {
                places["features.\(name)"] = place  // a key and a feature: one tensor for both
                return
            }
            let own = places[name] == nil ? name : "features.\(name)"
            places[own] = inputs.count
            places["features.\(name)"] = inputs.count
            inputs.append(Tensor(own, datatype, isOptional: isOptional))
        }
        for feature in service.request {
            switch feature.kind {
            case .number: add(feature.name, .fp64, isOptional: feature.nullable)
            case .category: add(feature.name, .bytes, isOptional: feature.nullable)
            }
        }
        for feature in service.features { add(feature.servedName, .fp64, isOptional: true) }
        for feature in service.onDemand { add(feature.name, .fp64, isOptional: true) }
        if places[Self.matrixName] == nil {
            places[Self.matrixName] = inputs.count
            if places[Self.matrixSynonym] == nil { places[Self.matrixSynonym] = inputs.count }
            inputs.append(Tensor(Self.matrixName, .fp32, width: inputCount, isOptional: true))
            matrixPlace = inputs.count - 1
        } else {
            matrixPlace = nil
        }
        self.inputs = inputs
        self.places = places
        var outputs = [Tensor("prediction", .fp32)]
        if outputCount > 1 { outputs.append(Tensor("probabilities", .fp32, width: outputCount)) }
        outputs += [
            Tensor("prediction_id", .bytes), Tensor("model_version", .int64), Tensor("variant", .bytes),
            Tensor("fallback", .bool),
        ]
        self.outputs = outputs
    }

    private let matrixPlace: Int?

    func place(of name: String) -> Int? { places[name] }

    // MARK: Requests

    /// A request's tensors as the columns that predictions take.
    /// - Throws: `PlatformError` (`invalidInput`) in Triton's words.
    func columns(of request: InferenceRequest, model: String) throws(PlatformError) -> InputColumns {
        var rowCount: Int?
        var columns: [(name: String, values: InputColumns.Values)] = []
        var matrix: [Double] = []
        var given: Set<Int> = []
        var names: Set<String> = []
        for input in request.inputs {
            guard let place = places[input.name] else {
                let near = nearestName(to: input.name, among: places.keys)
                throw InferenceFault.invalid(
                    "unexpected inference input '\(input.name.prefix(128))' for model '\(model)'"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            let tensor = inputs[place]
            guard names.insert(input.name).inserted, place != matrixPlace || matrix.isEmpty else {
                throw InferenceFault.invalid("input '\(input.name)' already exists in request")
            }
            given.insert(place)
            try check(input, as: tensor, isMatrix: place == matrixPlace, model: model)
            let rows = Int(input.shape[0])
            guard 1...Predictor.instanceCountMax ~= rows else {
                throw InferenceFault.invalid(
                    rows == 0
                        ? "inference request batch-size must be at least 1 for '\(model)'"
                        : "inference request batch-size must be <= \(Predictor.instanceCountMax) for '\(model)'")
            }
            guard rowCount == nil || rowCount == rows else {
                throw InferenceFault.invalid(
                    "input '\(input.name)' batch size does not match other inputs for '\(model)'")
            }
            rowCount = rows
            guard place == matrixPlace else {
                columns.append((input.name, input.values))
                continue
            }
            switch input.values {
            case .numbers(let numbers): matrix = numbers
            case .integers(let integers): matrix = integers.map(Double.init)
            case .texts: break
            }
        }
        let rows = rowCount ?? 1
        for key in keyNames {
            guard let parameter = request.parameters[key], let place = places[key], !given.contains(place) else {
                continue
            }
            given.insert(place)
            switch parameter {
            case .text(let text):
                columns.append((key, .texts(Array(repeating: text.isEmpty ? nil : text, count: rows))))
            case .integer(let number): columns.append((key, .integers(Array(repeating: number, count: rows))))
            case .flag, .number: throw InferenceFault.invalid("parameter '\(key)' must be text or a whole number")
            }
        }
        if matrix.isEmpty { try checkComplete(given, model: model) }
        return InputColumns(rowCount: rows, columns: columns, matrix: matrix)
    }

    private func check(_ input: InferenceRequest.Input, as tensor: Tensor, isMatrix: Bool, model: String)
        throws(PlatformError)
    {
        // A number may come as any type of number; a key may be one.
        let isText = input.datatype == .bytes
        let mayBeNumber = keyNames.contains(tensor.name) && input.datatype.isWhole
        guard isText == (tensor.datatype == .bytes) || mayBeNumber else {
            throw InferenceFault.invalid(
                "inference input '\(input.name)' data-type is '\(input.datatype.rawValue)', but model '\(model)' "
                    + "expects '\(tensor.datatype.rawValue)'")
        }
        let isFlat = !isMatrix && input.shape.count == 1
        guard isFlat || (input.shape.count == 2 && input.shape[1] == tensor.shape[1]) else {
            throw InferenceFault.invalid(
                "unexpected shape for input '\(input.name)' for model '\(model)'. Expected "
                    + "\(TensorShape.text(tensor.shape)), got \(TensorShape.text(input.shape))")
        }
    }

    private func checkComplete(_ given: Set<Int>, model: String) throws(PlatformError) {
        let missing = inputs.enumerated().filter { !$1.isOptional && !given.contains($0) }.map { "'\($1.name)'" }
        guard missing.isEmpty else {
            let got = given.map { "'\(inputs[$0].name)'" }.sorted().joined(separator: ",")
            throw InferenceFault.invalid(
                "expected number of inputs between \(inputs.count { !$0.isOptional }) and \(inputs.count) but got "
                    + "\(given.count) inputs for model '\(model)'. Got input(s) [\(got)], but missing required input(s) "
                    + "[\(missing.joined(separator: ","))]. Please provide all required input(s)"
                    + (matrixPlace == nil ? "." : ", or all features as '\(Self.matrixName)'."))
        }
    }

    // MARK: Answers

    /// The tensors that a request asks for.
    func outputs(of request: InferenceRequest, model: String) throws(PlatformError) -> [(
        tensor: Tensor, asked: InferenceRequest.Output
    )] {
        guard !request.outputs.isEmpty else { return outputs.map { ($0, .init(name: $0.name)) } }
        var asked: [(tensor: Tensor, asked: InferenceRequest.Output)] = []
        for output in request.outputs {
            guard let tensor = outputs.first(where: { $0.name == output.name }) else {
                let near = nearestName(to: output.name, among: outputs.map(\.name))
                throw InferenceFault.invalid(
                    "unexpected inference output '\(output.name.prefix(128))' for model '\(model)'"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            guard output.classCount == 0 || tensor.datatype == .fp32 else {
                throw InferenceFault.invalid(
                    "'classification' of output '\(tensor.name)' needs numbers, it has \(tensor.datatype.rawValue)")
            }
            // As with Triton a tensor comes once, as it was last asked for.
            if let place = asked.firstIndex(where: { $0.tensor.name == tensor.name }) {
                asked[place].asked = output
            } else {
                asked.append((tensor, output))
            }
        }
        return asked
    }

    /// One of the tensors, filled from predictions.
    func fill(_ tensor: Tensor, _ asked: InferenceRequest.Output, isBinary: Bool, from predictions: [ColumnPrediction])
        -> InferenceResult.Output
    {
        let width = Int(tensor.shape[1])
        let values: InferenceResult.Values =
            switch tensor.name {
            case "probabilities":
                .floats(
                    predictions.flatMap { prediction in
                        prediction.output.count == width ? prediction.output : Array(repeating: .nan, count: width)
                    })
            case "prediction_id": .texts(predictions.map(\.id))
            case "model_version": .integers(predictions.map { Int64($0.version) })
            case "variant": .texts(predictions.map(\.choice.word))
            case "fallback": .flags(predictions.map { $0.choice == .fallback })
            default: .floats(predictions.map { $0.prediction ?? .nan })
            }
        guard asked.classCount > 0, case .floats(let floats) = values else {
            return .init(
                name: tensor.name, shape: [predictions.count, width], values: values, isBinary: isBinary)
        }
        let count = min(asked.classCount, width)
        let words = predictions.indices.flatMap { Self.classes(floats[($0 * width)..<($0 * width + width)], count) }
        return .init(
            name: tensor.name, shape: [predictions.count, count], values: .texts(words), isBinary: isBinary)
    }

    /// The largest values in Triton's words for them: `0.870000:2`.
    private static func classes(_ values: ArraySlice<Float>, _ count: Int) -> [String] {
        let ranked = values.enumerated().sorted { ($1.element, $0.offset) < ($0.element, $1.offset) }
        return ranked.prefix(count).map { offset, value in
            let scaled = (Double(value) * 1e6).rounded()
            guard scaled.magnitude < 1e15 else { return "\(value):\(offset)" }
            let digits = String(Int64(scaled.magnitude))
            let padded = String(repeating: "0", count: max(0, 7 - digits.count)) + digits
            return "\(scaled < 0 ? "-" : "")\(padded.dropLast(6)).\(padded.suffix(6)):\(offset)"
        }
    }
}
