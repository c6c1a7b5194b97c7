import ExperimentTracking
import Foundation
import GRPCWire
import PlatformCore

/// Spans in OpenTelemetry's protobuf form (`ExportTraceServiceRequest`).
///
/// Field numbers are those of opentelemetry-proto 1.x; unknown fields are passed over.
enum SpanProtobuf {
    /// The spans of a request.
    /// - Throws: `DecodingFailure` for anything that is no such request.
    static func spans(of bytes: [UInt8]) throws(DecodingFailure) -> [TraceSpan] {
        do throws(PlatformError) { return try read(bytes) } catch { throw DecodingFailure(error.message) }
    }

    private static func read(_ bytes: [UInt8]) throws(PlatformError) -> [TraceSpan] {
        var spans: [TraceSpan] = []
        var request = ProtobufReader(bytes[...])
        while let (field, value) = try request.next() {
            if field == 1 { try readResource(value.message(), &spans) }
        }
        return spans
    }

    private static func readResource(_ reader: ProtobufReader, _ spans: inout [TraceSpan]) throws(PlatformError) {
        var reader = reader
        var resource: [String: JSONValue] = [:]
        var scopes: [ProtobufReader] = []
        while let (field, value) = try reader.next() {
            switch field {
            case 1:
                var content = try value.message()
                while let (field, value) = try content.next() {
                    guard field == 1 else { continue }
                    let attribute = try attribute(value.message())
                    resource[attribute.key] = SpanDraft.plain(attribute.value)
                }
            case 2: scopes.append(try value.message())
            default: continue
            }
        }
        for var scope in scopes {
            while let (field, value) = try scope.next() {
                guard field == 2 else { continue }
                guard spans.count < TraceLimits.spansPerCall else {
                    throw fault("more than \(TraceLimits.spansPerCall) spans in one call")
                }
                let draft = try draft(value.message())
                do throws(DecodingFailure) { spans.append(try draft.span(resource: resource)) } catch {
                    throw fault(error.description)
                }
            }
        }
    }

    private static func draft(_ reader: ProtobufReader) throws(PlatformError) -> SpanDraft {
        var reader = reader
        var draft = SpanDraft()
        while let (field, value) = try reader.next() {
            switch field {
            case 1: draft.traceID = Array(try value.content())
            case 2: draft.spanID = Array(try value.content())
            case 3: draft.others["trace_state"] = .string(try value.lenientText())
            case 4: draft.parentID = Array(try value.content())
            case 5: draft.name = try value.lenientText()
            case 6: draft.others["kind"] = .integer(try value.integer())
            case 7: draft.startedAt = try value.integer()
            case 8: draft.endedAt = try value.integer()
            case 9: draft.attributes.append(try attribute(value.message()))
            case 10: draft.others["dropped_attributes_count"] = .integer(try value.integer())
            case 11: draft.events.append(try event(value.message()))
            case 12: draft.others["dropped_events_count"] = .integer(try value.integer())
            case 13: draft.links.append(try link(value.message()))
            case 14: draft.others["dropped_links_count"] = .integer(try value.integer())
            case 15: draft.status = try status(value.message())
            case 16: draft.others["flags"] = .integer(try value.integer())
            default: continue
            }
            guard draft.attributes.count <= TraceLimits.attributesPerSpan,
                max(draft.events.count, draft.links.count) <= TraceLimits.attributesPerSpan
            else {
                throw fault(
                    "a span has more than \(TraceLimits.attributesPerSpan) attributes, events or links")
            }
        }
        return draft
    }

    private static func status(_ reader: ProtobufReader) throws(PlatformError) -> (code: Int64, message: String) {
        var reader = reader
        var status = (code: Int64(0), message: "")
        while let (field, value) = try reader.next() {
            if field == 2 { status.message = try value.lenientText() }
            if field == 3 { status.code = try value.integer() }
        }
        return status
    }

    private static func event(_ reader: ProtobufReader) throws(PlatformError) -> JSONValue {
        var reader = reader
        var event: [String: JSONValue] = [:]
        var attributes: [(key: String, value: JSONValue)] = []
        while let (field, value) = try reader.next() {
            switch field {
            case 1: event["time_unix_nano"] = .integer(try value.integer())
            case 2: event["name"] = .string(try value.lenientText())
            case 3: attributes.append(try attribute(value.message()))
            default: continue
            }
        }
        event["attributes"] = SpanDraft.list(attributes)
        return .object(event)
    }

    private static func link(_ reader: ProtobufReader) throws(PlatformError) -> JSONValue {
        var reader = reader
        var link: [String: JSONValue] = [:]
        var attributes: [(key: String, value: JSONValue)] = []
        while let (field, value) = try reader.next() {
            switch field {
            case 1: link["trace_id"] = .string(Data(try value.content()).base64EncodedString())
            case 2: link["span_id"] = .string(Data(try value.content()).base64EncodedString())
            case 3: link["trace_state"] = .string(try value.lenientText())
            case 4: attributes.append(try attribute(value.message()))
            default: continue
            }
        }
        link["attributes"] = SpanDraft.list(attributes)
        return .object(link)
    }

    private static func attribute(
        _ reader: ProtobufReader, depth: Int = 0
    ) throws(PlatformError) -> (key: String, value: JSONValue) {
        var reader = reader
        var attribute = (key: "", value: JSONValue.object([:]))
        while let (field, value) = try reader.next() {
            if field == 1 { attribute.key = try value.lenientText() }
            if field == 2 { attribute.value = try anyValue(value.message(), depth: depth) }
        }
        return attribute
    }

    private static func anyValue(_ reader: ProtobufReader, depth: Int) throws(PlatformError) -> JSONValue {
        guard depth < SpanDraft.depthMax else {
            throw fault("a value is nested more than \(SpanDraft.depthMax) levels deep")
        }
        var reader = reader
        var found: JSONValue = [:]
        while let (field, value) = try reader.next() {
            switch field {
            case 1: found = ["string_value": .string(try value.lenientText())]
            case 2: found = ["bool_value": .bool(try value.unsigned() != 0)]
            case 3: found = ["int_value": .integer(Int64(bitPattern: try value.unsigned()))]
            case 4: found = ["double_value": SpanDraft.number(Double(bitPattern: try value.unsigned()))]
            case 5:
                var (list, values) = (try value.message(), [JSONValue]())
                while let (field, value) = try list.next() {
                    guard field == 1 else { continue }
                    values.append(try anyValue(value.message(), depth: depth + 1))
                }
                found = ["array_value": ["values": .array(values)]]
            case 6:
                var (list, values) = (try value.message(), [(key: String, value: JSONValue)]())
                while let (field, value) = try list.next() {
                    guard field == 1 else { continue }
                    values.append(try attribute(value.message(), depth: depth + 1))
                }
                found = ["kvlist_value": ["values": SpanDraft.list(values)]]
            case 7: found = ["bytes_value": .string(Data(try value.content()).base64EncodedString())]
            default: continue
            }
        }
        return found
    }

    private static func fault(_ text: String) -> PlatformError { PlatformError(.invalidInput, "", text) }
}

extension ProtobufReader.Value {
    fileprivate func message() throws(PlatformError) -> ProtobufReader { ProtobufReader(try content()) }

    /// Text; what is no UTF-8 is replaced, so that one bad byte does not cost a trace.
    fileprivate func lenientText() throws(PlatformError) -> String { String(decoding: try content(), as: UTF8.self) }

    fileprivate func unsigned() throws(PlatformError) -> UInt64 {
        switch self {
        case .varint(let value), .fixed64(let value): return value
        case .fixed32(let value): return UInt64(value)
        case .bytes: throw PlatformError(.invalidInput, "", "a protobuf field holds no number")
        }
    }

    /// A number that JSON's readers take for an integer.
    fileprivate func integer() throws(PlatformError) -> Int64 {
        guard let value = Int64(exactly: try unsigned()) else {
            throw PlatformError(.invalidInput, "", "a protobuf number is greater than \(Int64.max)")
        }
        return value
    }
}
