public import PlatformCore

/// A row that broke its source's contract, as it stands in topic `quarantine.<source>`.
public struct QuarantinedRow: Sendable, Hashable {
    /// When it reached us.
    public let time: EventTime
    /// Where it came from: `push`, or a file's name.
    public let origin: String
    /// The push or load it was part of.
    public let batch: String
    /// Line of the file, or position in the push, from 1.
    public let position: Int
    /// Why, each with the refused value: `dep_delay: 'abc' is not a number`.
    public let reasons: [String]
    /// The row as JSON text, or the raw line where it could not be read; cut to 64 KiB.
    public let row: String
    /// How its cells are written.
    public let form: RowOrigin
    /// Log offset of the record that this one takes the place of: the row was tried again, and broke another rule.
    public let replaces: UInt64?

    /// Longest kept text of a row, in bytes.
    public static let rowByteCountMax = 64 << 10

    init(
        time: EventTime, origin: String, batch: String, position: Int, reasons: [String], row: String,
        form: RowOrigin, replaces: UInt64? = nil
    ) {
        self.form = form
        self.replaces = replaces
        self.time = time
        self.origin = origin
        self.batch = batch
        self.position = position
        self.reasons = reasons
        self.row =
            row.utf8.count <= Self.rowByteCountMax
            ? row : String(decoding: row.utf8.prefix(Self.rowByteCountMax), as: UTF8.self)
    }

    /// The row as the HTTP contract shows it.
    public var json: JSONValue {
        [
            "time": .string(time.description), "origin": .string(origin), "batch": .string(batch),
            "position": .integer(Int64(position)), "reasons": .array(reasons.map(JSONValue.string)),
            "row": .string(row),
        ]
    }

    /// What tells two quarantined rows apart: the same line of the same file is one.
    ///
    /// A row that was tried again is another one.
    var identity: String { "\(batch)\u{1F}\(position)" + (replaces.map { "\u{1F}\($0)" } ?? "") }

    func encoded(push: (key: String, report: JSONValue)?) -> [UInt8] {
        var members: [String: JSONValue] = [
            "t": .integer(time.milliseconds), "o": .string(origin), "b": .string(batch), "n": .integer(Int64(position)),
            "s": .array(reasons.map(JSONValue.string)), "w": .string(row), "f": .string(form.rawValue),
        ]
        if let replaces { members["p"] = .integer(Int64(clamping: replaces)) }
        if let push {
            members["k"] = .string(push.key)
            members["r"] = push.report
        }
        return JSONValue.object(members).canonicalBytes
    }

    /// Reads a record's value; `nil` if it is none.
    init?(_ value: JSONValue) {
        guard let time = value["t"]?.integerValue, let origin = value["o"]?.stringValue,
            let batch = value["b"]?.stringValue, let position = value["n"]?.integerValue,
            let reasons = value["s"]?.arrayValue, let row = value["w"]?.stringValue
        else { return nil }
        self.init(
            time: EventTime(milliseconds: time), origin: origin, batch: batch, position: Int(position),
            reasons: reasons.compactMap(\.stringValue), row: row,
            form: value["f"]?.stringValue.flatMap(RowOrigin.init) ?? (origin == "push" ? .push : .csv),
            replaces: value["p"]?.integerValue.map(UInt64.init(clamping:)))
    }
}
