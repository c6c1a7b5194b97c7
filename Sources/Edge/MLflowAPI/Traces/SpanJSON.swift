import ExperimentTracking
import Foundation
import PlatformCore

/// Spans in OpenTelemetry's JSON form: members in camel case, identifiers in hexadecimal digits.
enum SpanJSON {
    /// The spans of a request.
    /// - Throws: `DecodingFailure` for anything that is no such request.
    static func spans(of bytes: [UInt8], byteCountMax: Int) throws(DecodingFailure) -> [TraceSpan] {
        let limits = JSONLimits(byteCountMax: byteCountMax, depthMax: 4 * SpanDraft.depthMax + 16)
        let request = try JSONValue.parse(bytes, limits: limits)
        guard request.objectValue != nil else { throw DecodingFailure("this is no JSON object") }
        var spans: [TraceSpan] = []
        for group in elements(request, "resourceSpans") {
            let attributes = try attributes(of: group["resource"] ?? [:])
            let resource = Dictionary(
                attributes.map { ($0.key, SpanDraft.plain($0.value)) }, uniquingKeysWith: { $1 })
            for span in elements(group, "scopeSpans").flatMap({ elements($0, "spans") }) {
                guard spans.count < TraceLimits.spansPerCall else {
                    throw DecodingFailure("more than \(TraceLimits.spansPerCall) spans in one call")
                }
                spans.append(try draft(span).span(resource: resource))
            }
        }
        return spans
    }

    private static func draft(_ span: JSONValue) throws(DecodingFailure) -> SpanDraft {
        var draft = SpanDraft()
        draft.traceID = try identifier(span, "traceId")
        draft.spanID = try identifier(span, "spanId")
        draft.parentID = try identifier(span, "parentSpanId")
        draft.name = span["name"]?.stringValue ?? ""
        draft.startedAt = try integer(span["startTimeUnixNano"]) ?? 0
        draft.endedAt = try integer(span["endTimeUnixNano"]) ?? 0
        draft.status = (
            try integer(span["status"]?["code"]) ?? 0, span["status"]?["message"]?.stringValue ?? ""
        )
        draft.attributes = try attributes(of: span)
        if let kind = span["kind"]?.integerValue { draft.others["kind"] = .integer(kind) }
        if let state = span["traceState"]?.stringValue { draft.others["trace_state"] = .string(state) }
        for event in elements(span, "events") {
            draft.events.append([
                "time_unix_nano": .integer(try integer(event["timeUnixNano"]) ?? 0),
                "name": .string(event["name"]?.stringValue ?? ""),
                "attributes": SpanDraft.list(try attributes(of: event)),
            ])
        }
        for link in elements(span, "links") {
            draft.links.append([
                "trace_id": .string(Data(try identifier(link, "traceId")).base64EncodedString()),
                "span_id": .string(Data(try identifier(link, "spanId")).base64EncodedString()),
                "attributes": SpanDraft.list(try attributes(of: link)),
            ])
        }
        return draft
    }

    private static func elements(_ value: JSONValue, _ name: String) -> [JSONValue] { value[name]?.arrayValue ?? [] }

    private static func identifier(_ value: JSONValue, _ name: String) throws(DecodingFailure) -> [UInt8] {
        guard let text = value[name]?.stringValue else { return [] }
        let digits = text.utf8.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        guard digits.count == text.utf8.count, digits.count % 2 == 0, digits.count <= 64 else {
            throw DecodingFailure("'\(name)' holds no hexadecimal digits")
        }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    /// A whole number, which clients write as text where it may be large.
    private static func integer(_ value: JSONValue?) throws(DecodingFailure) -> Int64? {
        guard let value = value?.unlessNull else { return nil }
        guard let integer = value.integerValue ?? value.stringValue.flatMap({ Int64($0) }) else {
            throw DecodingFailure("'\(value.text.prefix(64))' is no whole number")
        }
        return integer
    }

    private static func attributes(
        of value: JSONValue, depth: Int = 0
    ) throws(DecodingFailure) -> [(key: String, value: JSONValue)] {
        try members(elements(value, "attributes"), depth)
    }

    private static func members(
        _ elements: [JSONValue], _ depth: Int
    ) throws(DecodingFailure) -> [(key: String, value: JSONValue)] {
        guard elements.count <= TraceLimits.attributesPerSpan || depth > 0 else {
            throw DecodingFailure("more than \(TraceLimits.attributesPerSpan) attributes")
        }
        var found: [(key: String, value: JSONValue)] = []
        for element in elements {
            found.append((element["key"]?.stringValue ?? "", try anyValue(element["value"] ?? [:], depth)))
        }
        return found
    }

    private static func anyValue(_ value: JSONValue, _ depth: Int) throws(DecodingFailure) -> JSONValue {
        guard depth < SpanDraft.depthMax else {
            throw DecodingFailure("a value is nested more than \(SpanDraft.depthMax) levels deep")
        }
        if let text = value["stringValue"]?.stringValue { return ["string_value": .string(text)] }
        if let flag = value["boolValue"]?.boolValue { return ["bool_value": .bool(flag)] }
        if let number = try integer(value["intValue"]) { return ["int_value": .integer(number)] }
        if let number = value["doubleValue"]?.doubleValue { return ["double_value": SpanDraft.number(number)] }
        if let text = value["doubleValue"]?.stringValue, let number = Double(text) {
            return ["double_value": SpanDraft.number(number)]
        }
        if let list = value["arrayValue"] {
            var values: [JSONValue] = []
            for element in elements(list, "values") { values.append(try anyValue(element, depth + 1)) }
            return ["array_value": ["values": .array(values)]]
        }
        if let list = value["kvlistValue"] {
            return ["kvlist_value": ["values": SpanDraft.list(try members(elements(list, "values"), depth + 1))]]
        }
        if let text = value["bytesValue"]?.stringValue, Data(base64Encoded: text) != nil {
            return ["bytes_value": .string(text)]
        }
        return [:]
    }
}
