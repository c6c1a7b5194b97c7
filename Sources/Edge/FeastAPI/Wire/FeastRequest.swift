import APIContract
import PlatformCore

/// Fields of a request, each read with its type or refused by name.
struct FeastRequest {
    let members: [String: JSONValue]

    /// Reads a JSON object whose members are all known.
    init(_ request: APIRequest, byteCountMax: Int, known: [String]) throws {
        let json = try JSONValue.parse(request.body, limits: JSONLimits(byteCountMax: byteCountMax))
        guard case .object(let members) = json else {
            throw FeastError.invalid("the request body must be an object, not \(json.kindName)")
        }
        for key in members.keys.sorted() where !known.contains(key) {
            throw FeastError.invalid(
                "unknown field '\(key.prefix(64))'" + FeastError.suggestion(key, known))
        }
        self.members = members
    }

    /// The member, unless it is null.
    subscript(key: String) -> JSONValue? { members[key]?.unlessNull }

    func text(_ key: String) throws -> String {
        guard let value = self[key] else { throw FeastError.invalid("'\(key)' is missing") }
        guard let text = value.stringValue else {
            throw FeastError.invalid("'\(key)' must be text, not \(value.kindName)")
        }
        return text
    }

    func flag(_ key: String, default value: Bool = false) throws -> Bool {
        guard let given = self[key] else { return value }
        guard let flag = given.boolValue else {
            throw FeastError.invalid("'\(key)' must be true or false, not \(given.kindName)")
        }
        return flag
    }

    func texts(_ key: String, countMax: Int) throws -> [String]? {
        guard let given = self[key] else { return nil }
        guard let list = given.arrayValue else {
            throw FeastError.invalid("'\(key)' must be a list of texts, not \(given.kindName)")
        }
        guard list.count <= countMax else {
            throw FeastError.invalid("'\(key)' has \(list.count) entries, \(countMax) are accepted")
        }
        return try list.map {
            guard let text = $0.stringValue else {
                throw FeastError.invalid("'\(key)' must be a list of texts; it holds \($0.kindName)")
            }
            return text
        }
    }

    /// A moment; as Feast has it, one without a zone is in UTC.
    func moment(_ key: String) throws -> EventTime? {
        guard self[key] != nil else { return nil }
        let text = try text(key)
        guard let moment = FeastTime.moment(text) else {
            throw FeastError.invalid("'\(key)' must be a time such as 2026-01-31T09:00:00, not '\(text.prefix(40))'")
        }
        return moment
    }
}

/// Moments as Feast writes them.
enum FeastTime {
    /// Reads ISO 8601 text; without a zone it is in UTC.
    static func moment(_ text: String) -> EventTime? { EventTime(text: zoned(text)) }

    /// The text with `Z` where it has a time of day and no zone.
    static func zoned(_ text: String) -> String {
        let bytes = text.utf8
        guard bytes.count >= 16, let last = bytes.last, 48...57 ~= last else { return text }
        let hasZone = bytes.dropFirst(11).contains { $0 == 43 || $0 == 45 }
        return hasZone ? text : text + "Z"
    }

    /// Appends a moment as RFC 3339 text in UTC: whole seconds, or milliseconds where there are any.
    static func write(_ moment: EventTime, to out: inout [UInt8]) {
        let parts = moment.civil
        func put(_ value: Int, _ width: Int) {
            var divisor = 1
            for _ in 1..<width { divisor *= 10 }
            while divisor > 0 {
                out.append(UInt8(48 + value / divisor % 10))
                divisor /= 10
            }
        }
        put(max(0, parts.year), 4)
        out.append(0x2D)
        put(parts.month, 2)
        out.append(0x2D)
        put(parts.day, 2)
        out.append(0x54)
        put(parts.hour, 2)
        out.append(0x3A)
        put(parts.minute, 2)
        out.append(0x3A)
        put(parts.second, 2)
        if parts.millisecond != 0 {
            out.append(0x2E)
            put(parts.millisecond, 3)
        }
        out.append(0x5A)
    }
}
