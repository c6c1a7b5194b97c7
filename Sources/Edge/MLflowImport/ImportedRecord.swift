import PlatformCore

/// Records of datasets of evaluations, whichever way they come.
enum ImportedRecord {
    /// JSON that a Python program wrote, with numbers that JSON has not read as null.
    static func json(_ text: String) throws -> JSONValue {
        do {
            return try JSONValue.parse(text, limits: JSONLimits(byteCountMax: 1 << 30, hasPythonNumbers: true))
        } catch { throw PlatformError(.invalidInput, "records", "they are no JSON: \(error.description)") }
    }

    /// The records of an answer.
    static func list(_ text: String) throws -> [JSONValue] {
        try (json(text).arrayValue ?? []).map { stated($0.objectValue ?? [:]) }
    }

    /// A record without the members that say nothing.
    static func stated(_ members: [String: JSONValue]) -> JSONValue { .object(members.filter { !$0.value.isNull }) }
}
