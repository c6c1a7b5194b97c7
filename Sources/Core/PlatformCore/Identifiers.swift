/// A name given by people: of a source, view, model, topic.
///
/// It is safe in a path, a URL and a metric label.
///
/// 1 to 128 characters of `A–Z a–z 0–9 _ . -`, beginning with a letter, a digit or `_`.
public struct Name: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// The text of the name.
    public let text: String

    /// The name as it is written.
    public var description: String { text }

    /// Checks `text`; `nil` if it is not a name.
    public init?(_ text: some StringProtocol) {
        let bytes = text.utf8
        guard 1...128 ~= bytes.count, let first = bytes.first, first != 45, first != 46,
            bytes.allSatisfy({ 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == 95 || $0 == 45 || $0 == 46 })
        else { return nil }
        self.text = String(text)
    }

    /// A name known when the program was written.
    ///
    /// Traps on anything else; never use it on outside text.
    public init(static text: StaticString) {
        guard let name = Name(String(describing: text)) else { preconditionFailure("'\(text)' is not a name") }
        self = name
    }

    /// Byte order of the text.
    public static func < (left: Name, right: Name) -> Bool { left.text < right.text }

    /// Reads and checks the text.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let name = Name(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not a name")
        }
        self = name
    }

    /// Writes the text.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }
}

/// SHA-256 of some bytes: the name of an immutable artifact, dataset, definition or piece of evidence.
///
/// `ContentHashing` computes it; this is the value.
public struct ContentHash: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// 64 lower-case hexadecimal digits.
    public let hex: String

    /// The 64 digits.
    public var description: String { hex }

    /// The first 12 digits, for people.
    public var short: String { String(hex.prefix(12)) }

    /// Checks `hex`; `nil` unless it is 64 lower-case hexadecimal digits.
    public init?(hex: some StringProtocol) {
        guard hex.utf8.count == 64, hex.utf8.allSatisfy({ 48...57 ~= $0 || 97...102 ~= $0 }) else { return nil }
        self.hex = String(hex)
    }

    /// Makes a hash from its 32 bytes.
    public init(bytes: some Sequence<UInt8>) {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(64)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        precondition(text.count == 64, "a content hash has 32 bytes")
        hex = String(decoding: text, as: UTF8.self)
    }

    /// Order of the digits.
    public static func < (left: ContentHash, right: ContentHash) -> Bool { left.hex < right.hex }

    /// Reads and checks the digits.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let hash = ContentHash(hex: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is no SHA-256")
        }
        self = hash
    }

    /// Writes the digits.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(hex)
    }
}

/// The join key of one entity: its key values in the order in which the feature view names them.
///
/// Held as one text with the unit separator (U+001F) between values, so that equality, hashing and storage are those of
/// a string. A value is at most 512 bytes and holds no control character, hence no separator.
public struct EntityKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The values joined by U+001F.
    public let joined: String

    /// Longest accepted value in UTF-8 bytes.
    public static let valueByteCountMax = 512

    /// Makes a key of one or more values; `nil` if one is empty, too long or holds a control character.
    public init?(values: some Collection<String>) {
        guard !values.isEmpty, values.allSatisfy(EntityKey.accepts) else { return nil }
        joined = values.joined(separator: "\u{1F}")
    }

    /// Takes a text that an `EntityKey` once gave as `joined`.
    public init(joined: String) { self.joined = joined }

    /// Whether `value` may be part of a key.
    public static func accepts(_ value: String) -> Bool {
        1...valueByteCountMax ~= value.utf8.count && !value.utf8.contains { $0 < 0x20 || $0 == 0x7F }
    }

    /// The values, in order.
    public var values: [String] { joined.split(separator: "\u{1F}", omittingEmptySubsequences: false).map(String.init) }

    /// The values with commas between them, for people.
    public var description: String { values.joined(separator: ",") }

    /// Byte order of the joined text.
    public static func < (left: EntityKey, right: EntityKey) -> Bool { left.joined < right.joined }
}
