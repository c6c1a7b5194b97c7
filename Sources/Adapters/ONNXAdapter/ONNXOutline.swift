import RuntimePorts

/// What is read of a model file before the library sees it.
///
/// A file that is no protobuf message, or that names other files, goes no further.
struct ONNXOutline {
    /// The operator that makes each value of the main graph, by the value's name.
    private(set) var operators: [String: String] = [:]
    /// Trees of its tree ensembles.
    private(set) var treeCount = 0

    /// How deep graphs may lie within graphs.
    private static let depthMax = 32

    /// Whether the bytes start like a model: a version, then fields of a model with a graph among them.
    static func isModel(_ bytes: [UInt8]) -> Bool {
        guard bytes.first == 0x08 else { return false }
        return bytes.withUnsafeBytes { base in
            var cursor = ProtobufCursor(base, 0..<base.count)
            var hasGraph = false
            do {
                while let (number, value) = try cursor.next() {
                    if number == 7, case .bytes = value { hasGraph = true }
                }
            } catch { return false }
            return hasGraph
        }
    }

    /// Reads the outline.
    /// - Throws: `malformedModel`; `unsupportedModel` when tensors lie in other files.
    init(_ bytes: [UInt8]) throws(ModelError) {
        var outline = Walk()
        try bytes.withUnsafeBufferPointer { (bytes) throws(ModelError) in
            let base = UnsafeRawBufferPointer(bytes)
            var cursor = ProtobufCursor(base, 0..<base.count)
            var hasGraph = false
            while let (number, value) = try cursor.next() {
                guard case .bytes(let range) = value else { continue }
                if number == 7 {
                    hasGraph = true
                    try outline.graph(base, range, depth: 0)
                } else if number == 25 {  // a function of the model's own
                    try outline.graph(base, range, depth: 1, nodes: 7)
                }
            }
            guard hasGraph else { throw ModelError(.malformedModel, "this is no ONNX model: it has no graph") }
        }
        operators = outline.operators
        treeCount = outline.treeCount
    }

    private struct Walk {
        var operators: [String: String] = [:]
        var treeCount = 0

        mutating func graph(_ base: UnsafeRawBufferPointer, _ range: Range<Int>, depth: Int, nodes: Int = 1)
            throws(ModelError)
        {
            guard depth <= ONNXOutline.depthMax else {
                throw ModelError(.malformedModel, "graphs lie deeper than \(ONNXOutline.depthMax) within each other")
            }
            var cursor = ProtobufCursor(base, range)
            while let (number, value) = try cursor.next() {
                guard case .bytes(let part) = value else { continue }
                if number == nodes {
                    try node(base, part, depth: depth)
                } else if nodes == 1, number == 5 {
                    try tensor(base, part)
                } else if nodes == 1, number == 15 {
                    try sparse(base, part)
                }
            }
        }

        private mutating func node(_ base: UnsafeRawBufferPointer, _ range: Range<Int>, depth: Int) throws(ModelError) {
            var outputs: [String] = []
            var name = ""
            var cursor = ProtobufCursor(base, range)
            while let (number, value) = try cursor.next() {
                guard case .bytes(let part) = value else { continue }
                switch number {
                case 2: if depth == 0 { outputs.append(Self.text(base, part)) }
                case 4: name = Self.text(base, part)
                case 5: try attribute(base, part, depth: depth)
                default: break
                }
            }
            guard depth == 0 else { return }
            for output in outputs where !output.isEmpty { operators[output] = name }
        }

        private mutating func attribute(_ base: UnsafeRawBufferPointer, _ range: Range<Int>, depth: Int)
            throws(ModelError)
        {
            var name = ""
            var changes = 0
            var last: UInt64?
            var cursor = ProtobufCursor(base, range)
            while let (number, value) = try cursor.next() {
                switch (number, value) {
                case (1, .bytes(let part)): name = Self.text(base, part)
                case (5, .bytes(let part)), (10, .bytes(let part)): try tensor(base, part)
                case (6, .bytes(let part)), (11, .bytes(let part)): try graph(base, part, depth: depth + 1)
                case (22, .bytes(let part)), (23, .bytes(let part)): try sparse(base, part)
                case (8, .number(let value)):
                    if last != value { changes += 1 }
                    last = value
                default: break
                }
            }
            // The nodes of a tree ensemble stand tree by tree.
            if depth == 0, name == "nodes_treeids" { treeCount += changes }
        }

        private func sparse(_ base: UnsafeRawBufferPointer, _ range: Range<Int>) throws(ModelError) {
            var cursor = ProtobufCursor(base, range)
            while let (number, value) = try cursor.next() {
                if number == 1 || number == 2, case .bytes(let part) = value { try tensor(base, part) }
            }
        }

        private func tensor(_ base: UnsafeRawBufferPointer, _ range: Range<Int>) throws(ModelError) {
            var cursor = ProtobufCursor(base, range)
            while let (number, value) = try cursor.next() {
                var isElsewhere = number == 13
                if number == 14, case .number(let place) = value { isElsewhere = place != 0 }
                if isElsewhere {
                    throw ModelError(
                        .unsupportedModel,
                        "its weights lie in another file; save the model as one file "
                            + "(onnx.save(model, path, save_as_external_data=False), "
                            + "mlflow.onnx.log_model(..., save_as_external_data=False))")
                }
            }
        }

        private static func text(_ base: UnsafeRawBufferPointer, _ range: Range<Int>) -> String {
            String(decoding: base[range.prefix(256)], as: UTF8.self)
        }
    }
}
