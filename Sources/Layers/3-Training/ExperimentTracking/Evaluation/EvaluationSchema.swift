import PlatformCore

/// The kinds of the fields of a dataset's records, as MLflow's clients read them.
struct EvaluationSchema {
    private var inputs: [String: JSONValue]
    /// An object of fields, or the kind of outputs that are no object.
    private var outputs: JSONValue
    private var expectations: [String: JSONValue]

    /// Reads a schema; `nil` is the empty one.
    init(_ text: String?) {
        let known = text.flatMap { try? JSONValue.parse($0) } ?? .null
        inputs = known["inputs"]?.objectValue ?? [:]
        outputs = known["outputs"] ?? [:]
        expectations = known["expectations"]?.objectValue ?? [:]
    }

    /// Adds the fields of a record; a field keeps the kind that it had first.
    mutating func add(_ record: EvaluationDraft) {
        Self.add(record.inputs, to: &inputs)
        Self.add(record.expectations ?? [:], to: &expectations)
        guard let given = record.outputs?.unlessNull else { return }
        guard case .object(let fields) = given else {
            if outputs == [:] { outputs = .string(Self.kind(of: given)) }
            return
        }
        guard case .object(var known) = outputs else { return }
        outputs = .null  // so that `known` is changed where it is
        Self.add(fields, to: &known)
        outputs = .object(known)
    }

    var text: String {
        let value: JSONValue = [
            "inputs": .object(inputs), "outputs": outputs, "expectations": .object(expectations), "version": "1.0",
        ]
        return value.text
    }

    private static func add(_ fields: [String: JSONValue], to known: inout [String: JSONValue]) {
        for (name, value) in fields where known[name] == nil {
            // Inputs whose names are data would make it as large as the records.
            guard known.count < EvaluationLimits.schemaFields else { return }
            guard name.utf8.count <= EvaluationLimits.schemaNameByteCount else { continue }
            known[name] = .string(kind(of: value))
        }
    }

    private static func kind(of value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "boolean"
        case .integer: "integer"
        case .number: "float"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }
}
