public import ModelServing

/// A parameter of a request or a tensor: the protocol knows scalars.
public enum InferenceParameter: Sendable, Hashable {
    /// A truth value.
    case flag(Bool)
    /// A whole number.
    case integer(Int64)
    /// Any other number.
    case number(Double)
    /// Text.
    case text(String)
}

/// An inference request, whichever way it came.
public struct InferenceRequest: Sendable, Hashable {
    /// Most elements of one tensor.
    public static let elementCountMax = 4 << 20

    /// A tensor that came.
    public struct Input: Sendable, Hashable {
        /// Its name.
        public let name: String
        /// Type of its elements.
        public let datatype: TensorDatatype
        /// Extents, the rows first.
        public let shape: [Int64]
        /// Its elements, row after row: as many as the shape says.
        public let values: InputColumns.Values

        /// Makes a tensor.
        public init(name: String, datatype: TensorDatatype, shape: [Int64], values: InputColumns.Values) {
            self.name = name
            self.datatype = datatype
            self.shape = shape
            self.values = values
        }
    }

    /// A tensor that is asked for.
    public struct Output: Sendable, Hashable {
        /// Its name.
        public let name: String
        /// Whether it is to come in binary form over HTTP; `nil` for what the request says of all.
        public let isBinary: Bool?
        /// How many classes are asked for in words (`value:index`); 0 for the tensor itself.
        public let classCount: Int

        /// Asks for a tensor.
        public init(name: String, isBinary: Bool? = nil, classCount: Int = 0) {
            self.name = name
            self.isBinary = isBinary
            self.classCount = classCount
        }
    }

    /// What the caller calls it; echoed.
    public let id: String?
    /// Its parameters.
    public let parameters: [String: InferenceParameter]
    /// The tensors that came.
    public let inputs: [Input]
    /// The tensors that are asked for; empty for all.
    public let outputs: [Output]

    /// Makes a request.
    public init(id: String?, parameters: [String: InferenceParameter], inputs: [Input], outputs: [Output]) {
        self.id = id
        self.parameters = parameters
        self.inputs = inputs
        self.outputs = outputs
    }

    /// Whether outputs are to come in binary form where they do not say themselves.
    var wantsBinary: Bool { parameters["binary_data_output"] == .flag(true) }
}
