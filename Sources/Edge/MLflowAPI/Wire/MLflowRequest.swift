import APIContract
import Foundation
import PlatformCore

/// The fields of one call, wherever they travel.
///
/// They come in the path, the query or the JSON body; unknown ones are ignored.
struct MLflowRequest {
    let request: APIRequest
    private let body: JSONValue

    init(_ request: APIRequest, byteCountMax: Int = 16 << 20) throws {
        self.request = request
        body = request.method == "GET" ? .object([:]) : try request.json(byteCountMax: byteCountMax)
        guard body.objectValue != nil else { throw MLflowError.invalid("the request body is no JSON object") }
    }

    /// A field's value; `nil` if it is missing or null.
    subscript(name: String) -> JSONValue? {
        if let value = request.parameters[name] { return .string(value) }
        // Not `? nil : value`: a literal nil may also be JSON's null here.
        if let value = body[name] { return value.isNull ? Optional.none : value }
        return request.queryValue(name).map(JSONValue.string)
    }

    private func wrongType(_ name: String, _ value: JSONValue, expected: String) -> MLflowError {
        .invalid(
            "Invalid value \(value.text.prefix(100)) for parameter '\(name)' supplied: \(expected) is expected, this is "
                + "\(value.kindName). See the API docs for more information about request parameters.")
    }

    func missing(_ name: String) -> MLflowError {
        .invalid(
            "Missing value for required parameter '\(name)'. See the API docs for more information about request "
                + "parameters.")
    }

    func text(_ name: String) throws(MLflowError) -> String? {
        guard let value = self[name] else { return nil }
        guard let text = value.stringValue else { throw wrongType(name, value, expected: "text") }
        return text
    }

    /// Text that must be there and not be empty.
    func required(_ name: String) throws(MLflowError) -> String {
        guard let text = try text(name), !text.isEmpty else { throw missing(name) }
        return text
    }

    /// Text that must be in the body, whatever the path holds under the same name.
    func requiredInBody(_ name: String) throws(MLflowError) -> String {
        guard let text = body[name]?.stringValue, !text.isEmpty else { throw missing(name) }
        return text
    }

    /// The run a call is about; clients send `run_id`, older ones `run_uuid`.
    func runID() throws(MLflowError) -> String {
        if let id = try text("run_id"), !id.isEmpty { return id }
        if let id = try text("run_uuid"), !id.isEmpty { return id }
        throw missing("run_id")
    }

    /// The run of a call that MLflow's server refuses for a run that no identifier could name.
    ///
    /// An identifier there is a letter or digit of ASCII and up to 255 letters and digits of any script, `_` and `-`.
    func wellFormedRunID() throws(MLflowError) -> String {
        let id = try runID()
        let scalars = id.unicodeScalars
        guard let first = scalars.first, first.isASCII, first != "_", scalars.count <= 256, PathKey.isWord(first),
            scalars.allSatisfy({ $0 == "-" || PathKey.isWord($0) })
        else {
            throw .invalid("Invalid value '\(id.prefix(64))' for parameter 'run_id' supplied: it is no identifier.")
        }
        return id
    }

    func integer(_ name: String) throws(MLflowError) -> Int64? {
        guard let value = self[name] else { return nil }
        guard let integer = value.integerValue ?? value.stringValue.flatMap({ Int64($0) }) else {
            throw wrongType(name, value, expected: "a whole number")
        }
        return integer
    }

    func flag(_ name: String) throws(MLflowError) -> Bool? {
        guard let value = self[name] else { return nil }
        if let flag = value.boolValue { return flag }
        switch value.stringValue?.lowercased() {
        case "true": return true
        case "false": return false
        default: throw wrongType(name, value, expected: "true or false")
        }
    }

    /// Texts of a list in the body, or of a repeated query field.
    func texts(_ name: String) throws(MLflowError) -> [String] {
        guard let value = body[name], !value.isNull else { return request.queryValues(name) }
        var texts: [String] = []
        for element in try elements(name) {
            guard let text = element.stringValue else { throw wrongType(name, value, expected: "a list of texts") }
            texts.append(text)
        }
        return texts
    }

    /// Elements of a list in the body; none if it is missing.
    func elements(_ name: String) throws(MLflowError) -> [JSONValue] {
        guard let value = body[name], !value.isNull else { return [] }
        guard let elements = value.arrayValue else { throw wrongType(name, value, expected: "a list") }
        return elements
    }

    /// How many results a page may hold.
    func countMax(default standard: Int, limit: Int) throws(MLflowError) -> Int {
        guard let count = try integer("max_results") else { return standard }
        guard 1...Int64(limit) ~= count else {
            throw .invalid(
                "Invalid value \(count) for parameter 'max_results' supplied: it must be at least 1 and at most \(limit)."
            )
        }
        return Int(count)
    }
}

/// Members of one object inside a request.
struct MLflowMember {
    let value: JSONValue
    /// Where it is, for messages: `metrics[3]`.
    let place: String

    func text(_ name: String) throws(MLflowError) -> String? {
        guard let member = value[name], !member.isNull else { return nil }
        guard let text = member.stringValue else {
            throw .invalid("Invalid value for parameter '\(place).\(name)' supplied: text is expected")
        }
        return text
    }

    func required(_ name: String) throws(MLflowError) -> String {
        guard let text = try text(name), !text.isEmpty else {
            throw .invalid("Missing value for required parameter '\(place).\(name)'")
        }
        return text
    }

    func integer(_ name: String) throws(MLflowError) -> Int64? {
        guard let member = value[name], !member.isNull else { return nil }
        guard let integer = member.integerValue ?? member.stringValue.flatMap({ Int64($0) }) else {
            throw .invalid("Invalid value for parameter '\(place).\(name)' supplied: a whole number is expected")
        }
        return integer
    }

    /// A double; `NaN`, `Infinity` and `-Infinity` come as text.
    func double(_ name: String) throws(MLflowError) -> Double {
        guard let member = value[name], !member.isNull else {
            throw .invalid("Missing value for required parameter '\(place).\(name)'")
        }
        if let number = member.doubleValue { return number }
        switch member.stringValue {
        case "NaN": return .nan
        case "Infinity": return .infinity
        case "-Infinity": return -.infinity
        case let text?:
            if text.utf8.count <= 64, let number = Double(text) { return number }
        case nil: break
        }
        throw .invalid("Invalid value for parameter '\(place).\(name)' supplied: a number is expected")
    }
}
