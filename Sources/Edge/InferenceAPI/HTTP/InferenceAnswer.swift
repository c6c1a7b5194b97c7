import APIContract
import ModelServing
import PlatformCore

/// Writes an answer for HTTP: JSON, and behind it the tensors that were asked for in binary form.
enum InferenceAnswer {
    /// The body, and how many bytes of it are JSON where others follow.
    static func bytes(_ result: InferenceResult) -> (body: [UInt8], headerByteCount: Int?) {
        var out: [UInt8] = []
        out.reserveCapacity(512)
        var binary: [UInt8] = []
        var hasBinary = false
        if let id = result.id {
            out.append(contentsOf: "{\"id\":".utf8)
            JSONValue.write(id, to: &out)
            out.append(0x2C)
        } else {
            out.append(0x7B)
        }
        out.append(contentsOf: "\"model_name\":".utf8)
        JSONValue.write(result.model, to: &out)
        out.append(contentsOf: ",\"model_version\":".utf8)
        JSONValue.write(result.version, to: &out)
        out.append(contentsOf: ",\"outputs\":[".utf8)
        for (index, output) in result.outputs.enumerated() {
            if index > 0 { out.append(0x2C) }
            out.append(contentsOf: "{\"name\":".utf8)
            JSONValue.write(output.name, to: &out)
            out.append(contentsOf: ",\"datatype\":\"".utf8)
            out.append(contentsOf: output.values.datatype.rawValue.utf8)
            out.append(contentsOf: "\",\"shape\":[".utf8)
            out.append(contentsOf: output.shape.map(String.init).joined(separator: ",").utf8)
            if output.isBinary {
                hasBinary = true
                let bytes = output.values.bytes
                out.append(contentsOf: "],\"parameters\":{\"binary_data_size\":".utf8)
                JSONValue.write(Int64(bytes.count), to: &out)
                out.append(contentsOf: "}}".utf8)
                binary.append(contentsOf: bytes)
            } else {
                out.append(contentsOf: "],\"data\":[".utf8)
                write(output.values, to: &out)
                out.append(contentsOf: "]}".utf8)
            }
        }
        out.append(contentsOf: "]}".utf8)
        guard hasBinary else { return (out, nil) }
        let length = out.count
        out.append(contentsOf: binary)
        return (out, length)
    }

    private static func write(_ values: InferenceResult.Values, to out: inout [UInt8]) {
        func each<Element>(_ elements: [Element], _ write: (Element, inout [UInt8]) -> Void) {
            for (index, element) in elements.enumerated() {
                if index > 0 { out.append(0x2C) }
                write(element, &out)
            }
        }
        switch values {
        case .floats(let floats):
            each(floats) { value, out in
                out.append(contentsOf: (value.isFinite ? value.description : "null").utf8)
            }
        case .integers(let integers): each(integers) { JSONValue.write($0, to: &$1) }
        case .flags(let flags): each(flags) { $1.append(contentsOf: ($0 ? "true" : "false").utf8) }
        case .texts(let texts): each(texts) { JSONValue.write($0, to: &$1) }
        }
    }

    /// An answer with its header fields.
    static func response(_ result: InferenceResult) -> APIResponse {
        let (body, headerByteCount) = bytes(result)
        guard let headerByteCount else {
            return APIResponse(headers: [("Content-Type", "application/json")], body: .bytes(body))
        }
        return APIResponse(
            headers: [
                ("Content-Type", "application/octet-stream"),
                ("Inference-Header-Content-Length", String(headerByteCount)),
            ], body: .bytes(body))
    }

    /// A failure as Triton words it.
    ///
    /// - Parameter status: one that the error's code does not say.
    static func failure(_ error: PlatformError, status: Int? = nil) -> APIResponse {
        let known =
            switch error.code {
            case .notFound: 404
            case .invalidInput, .refused, .conflict, .forbidden: 400
            case .tooLarge: 413
            case .overloaded: 429
            case .unavailable: 503
            case .deadlineExceeded: 504
            case .corrupted, .internal: 500
            }
        var headers = [(name: "Content-Type", value: "application/json")]
        if error.code == .overloaded {
            headers.append(("Retry-After", String(Predictor.retryAfterSeconds)))
        }
        return APIResponse(status: status ?? known, headers: headers, body: .bytes(failureBody(error)))
    }

    static func failureBody(_ error: PlatformError) -> [UInt8] {
        let body: JSONValue = ["error": .string(error.message)]
        return body.canonicalBytes
    }
}
