import APIContract
import Definitions
import FeatureStore
import PlatformCore

/// Reading features by name: one body in, one body out, synchronously.
///
/// Small questions are answered on the connection's event loop, larger ones by the framework's route; both come here.
struct OnlineFeatureRoute: Sendable {
    /// Most entities of one question.
    static let entityCountMax = 10_000
    /// Largest body that is answered on the event loop: some hundred entities.
    static let directByteCountMax = 16 << 10

    let stream: StreamEngine

    /// The route as the event loop takes it.
    var direct: DirectRoute {
        DirectRoute("POST", "/features/groups/{view}/get-online", byteCountMax: Self.directByteCountMax) {
            name, body, answer in
            do {
                let question = try Question(name, body[...])
                guard self.stream.isReady(question.name, question.request) else { return false }
                answer(APIResponse(body: .bytes(try self.answer(question))))
            } catch {
                let known = ErrorTable.platformError(error)
                answer(
                    APIResponse(
                        status: ErrorTable.status(known.code), body: .bytes(ErrorTable.json(known).canonicalBytes)))
            }
            return true
        }
    }

    /// The answer as the framework's route gives it, which can wait.
    func answer(_ text: String, _ body: ArraySlice<UInt8>) async throws -> [UInt8] {
        let question = try Question(text, body)
        await stream.prepare(question.name, question.request)
        return try answer(question)
    }

    /// A question as it came.
    private struct Question {
        let name: Name
        var request: OnlineRequest
        /// What of the answer is wanted; all of it where it does not say.
        let features: JSONValue?
        var withAges = false

        /// - Throws: `PlatformError` for a bad question; `DecodingFailure` for bytes that are no JSON.
        init(_ text: String, _ body: ArraySlice<UInt8>) throws {
            name = try checkedName(text, "view")
            let fields = try RequestBody(try JSONValue.parse(body))
            try fields.checkKeys(["entities", "features", "request", "as_of", "ages"])
            guard let list = fields["entities"]?.arrayValue, 1...entityCountMax ~= list.count else {
                throw PlatformError(
                    .invalidInput, "request body", "'entities' must be a list of 1 to 10,000 objects of join keys")
            }
            request = OnlineRequest(
                entities: try list.enumerated().map { try keys($1, at: $0) }, time: try fields.time("as_of"))
            if let brought = fields["request"] {
                guard let brought = brought.arrayValue, brought.count == list.count else {
                    throw PlatformError(
                        .invalidInput, "request body", "'request' must be a list of one object for each entity")
                }
                request.request = try brought.enumerated().map { try cells($1, at: $0) }
            }
            features = fields["features"]
            if let wanted = fields["ages"] {
                guard case .bool(let flag) = wanted else {
                    throw PlatformError(.invalidInput, "request body", "'ages' must be true or false")
                }
                withAges = flag
            }
        }
    }

    /// - Throws: `PlatformError` for an unknown name or a bad question.
    private func answer(_ question: Question) throws -> [UInt8] {
        let answer = try stream.online(question.name, question.request)
        var out: [UInt8] = []
        let places = try question.features.map { try Self.places($0, in: answer.names) }
        Self.write(answer, only: places ?? Array(answer.names.indices), withAges: question.withAges, to: &out)
        return out
    }

    private static func places(_ wanted: JSONValue, in names: [String]) throws -> [Int] {
        guard let wanted = wanted.arrayValue, !wanted.isEmpty, wanted.count <= entityCountMax else {
            throw PlatformError(.invalidInput, "request body", "'features' must be a list of names")
        }
        let known = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        return try wanted.map { name in
            guard let text = name.stringValue else {
                throw PlatformError(.invalidInput, "features", "a name is text, not \(name.kindName)")
            }
            guard let place = known[text] else {
                let near = nearestName(to: text, among: names)
                throw PlatformError(
                    .invalidInput, "features",
                    "no feature is called '\(text.prefix(128))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            return place
        }
    }

    private static func keys(_ entity: JSONValue, at index: Int) throws -> [String: String] {
        guard case .object(let members) = entity else {
            throw PlatformError(
                .invalidInput, "entities[\(index)]", "an object of join keys is expected, not \(entity.kindName)")
        }
        return try members.compactMapValues { value -> String? in
            switch value {
            case .null: return nil
            case .string(let text): return text
            case .integer(let number): return String(number)
            default:
                throw PlatformError(.invalidInput, "entities[\(index)]", "a join key is text, not \(value.kindName)")
            }
        }
    }

    private static func cells(_ request: JSONValue, at index: Int) throws -> [String: CellValue] {
        guard case .object(let members) = request else {
            throw PlatformError(
                .invalidInput, "request[\(index)]", "an object of features is expected, not \(request.kindName)")
        }
        return try members.mapValues { value in
            switch value {
            case .null: return .null
            case .integer(let number): return .double(Double(number))
            case .number(let number): return .double(number)
            case .string(let text): return .text(text)
            default:
                throw PlatformError(
                    .invalidInput, "request[\(index)]", "a feature is a number or text, not \(value.kindName)")
            }
        }
    }

    // MARK: JSON out

    private static func write(
        _ answer: OnlineFeatures, only places: [Int], withAges: Bool, to out: inout [UInt8]
    ) {
        out.reserveCapacity(64 + places.count * (32 + 72 * answer.entities.count))
        out.append(contentsOf: "{\"names\":".utf8)
        writeList(places, to: &out) { JSONValue.write(answer.names[$0], to: &$1) }
        out.append(contentsOf: ",\"entities\":".utf8)
        // Features of one view share their event time, so its text is mostly that of the feature before.
        var last: (time: EventTime, text: [UInt8])?
        writeList(answer.entities, to: &out) { entity, out in
            out.append(contentsOf: "{\"values\":".utf8)
            writeList(places, to: &out) { write(entity.values[$0], to: &$1) }
            out.append(contentsOf: ",\"statuses\":".utf8)
            writeList(places, to: &out) { place, out in
                out.append(0x22)
                out.append(contentsOf: entity.statuses[place].text.utf8)
                out.append(0x22)
            }
            out.append(contentsOf: ",\"event_times\":".utf8)
            writeList(places, to: &out) { place, out in
                guard let time = entity.eventTimes[place] else { return out.append(contentsOf: "null".utf8) }
                if last?.time != time { last = (time, Array("\"\(time.description)\"".utf8)) }
                out.append(contentsOf: last?.text ?? [])
            }
            if withAges {
                out.append(contentsOf: ",\"ages\":".utf8)
                writeList(places, to: &out) { place, out in
                    let age = entity.eventTimes[place].map { String(answer.time.since($0).milliseconds) }
                    out.append(contentsOf: (age ?? "null").utf8)
                }
                out.append(contentsOf: ",\"staleness\":".utf8)
                writeList(places, to: &out) { $1.append(contentsOf: String(entity.staleness[$0]).utf8) }
            }
            out.append(0x7D)
        }
        out.append(0x7D)
    }

    private static func writeList<Element>(
        _ elements: [Element], to out: inout [UInt8], _ body: (Element, inout [UInt8]) -> Void
    ) {
        out.append(0x5B)
        var isFirst = true
        for element in elements {
            if !isFirst { out.append(0x2C) }
            isFirst = false
            body(element, &out)
        }
        out.append(0x5D)
    }

    private static func write(_ cell: CellValue, to out: inout [UInt8]) {
        switch cell {
        case .null: out.append(contentsOf: "null".utf8)
        case .integer(let value): out.append(contentsOf: String(value).utf8)
        case .double(let value): JSONValue.write(value, to: &out)
        case .bool(let value): out.append(contentsOf: (value ? "true" : "false").utf8)
        case .text(let value): JSONValue.write(value, to: &out)
        case .list(let cells): writeList(cells, to: &out) { write($0, to: &$1) }
        }
    }
}
