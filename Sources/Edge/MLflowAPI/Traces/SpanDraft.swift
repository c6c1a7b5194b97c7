import ExperimentTracking
import Foundation
import PlatformCore

/// A span on its way from OpenTelemetry's forms to ours.
///
/// Its parts are in protobuf's JSON form, as MLflow's clients read them: identifiers in Base64, values that name their
/// type.
struct SpanDraft {
    var traceID: [UInt8] = []
    var spanID: [UInt8] = []
    var parentID: [UInt8] = []
    var name = ""
    var startedAt: Int64 = 0
    var endedAt: Int64 = 0
    var status = (code: Int64(0), message: "")
    var attributes: [(key: String, value: JSONValue)] = []
    var events: [JSONValue] = []
    var links: [JSONValue] = []
    /// Other members of the span as they are.
    var others: [String: JSONValue] = [:]

    /// Most levels of lists and objects inside a value; MLflow's clients read messages up to a hundred deep.
    static let depthMax = 30

    private static let statuses = ["UNSET", "OK", "ERROR"]

    /// The span; what it says must make sense.
    func span(resource: [String: JSONValue]) throws(DecodingFailure) -> TraceSpan {
        guard traceID.count == 16, spanID.count == 8, [0, 8].contains(parentID.count) else {
            throw DecodingFailure("a span needs a trace_id of 16 bytes and a span_id of 8 bytes")
        }
        let code = Self.statuses.indices.contains(Int(clamping: status.code)) ? Int(status.code) : 0
        var document = others
        document["trace_id"] = .string(Data(traceID).base64EncodedString())
        document["span_id"] = .string(Data(spanID).base64EncodedString())
        if !isRoot { document["parent_span_id"] = .string(Data(parentID).base64EncodedString()) }
        document["name"] = .string(name)
        document["start_time_unix_nano"] = .integer(startedAt)
        if endedAt > 0 { document["end_time_unix_nano"] = .integer(endedAt) }
        document["status"] = [
            "code": .string("STATUS_CODE_\(Self.statuses[code])"), "message": .string(status.message),
        ]
        document["attributes"] = Self.list(attributes)
        if !events.isEmpty { document["events"] = .array(events) }
        if !links.isEmpty { document["links"] = .array(links) }
        let plain = Dictionary(attributes.map { ($0.key, Self.plain($0.value)) }, uniquingKeysWith: { $1 })
        return TraceSpan(
            traceID: "tr-" + Self.hex(traceID), id: Self.hex(spanID), parentID: isRoot ? nil : Self.hex(parentID),
            name: name, kind: plain["mlflow.spanType"]?.stringValue, status: Self.statuses[code],
            startedAtNanoseconds: startedAt, endedAtNanoseconds: endedAt > 0 ? endedAt : nil, attributes: plain,
            document: JSONValue.object(document).text, resource: resource)
    }

    private var isRoot: Bool { parentID.allSatisfy { $0 == 0 } }

    static func list(_ attributes: [(key: String, value: JSONValue)]) -> JSONValue {
        .array(attributes.map { ["key": .string($0.key), "value": $0.value] })
    }

    static func number(_ value: Double) -> JSONValue {
        if value.isFinite { return .number(value) }
        return .string(value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity")
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef")
        return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }

    /// A value without the names of its types.
    static func plain(_ value: JSONValue) -> JSONValue {
        guard let (type, content) = value.objectValue?.first else { return .null }
        switch type {
        case "array_value": return .array((content["values"]?.arrayValue ?? []).map(plain))
        case "kvlist_value":
            let members = (content["values"]?.arrayValue ?? []).map {
                ($0["key"]?.stringValue ?? "", plain($0["value"] ?? .null))
            }
            return .object(Dictionary(members, uniquingKeysWith: { $1 }))
        default: return content
        }
    }
}
