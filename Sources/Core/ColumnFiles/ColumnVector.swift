/// The cells of one column over some rows.
public struct ColumnVector: Sendable, Equatable {
    /// Number of rows.
    public var count: Int
    /// One word for each row: an integer, the bits of a double, 0 or 1; empty for text.
    ///
    /// A null's word is 0.
    public var words: [Int64] = []
    /// For each row 1 if there is a value; `nil` if there always is.
    public var present: [UInt8]?
    /// For text: where row `i` begins in `bytes`, and the end; a null is empty.
    ///
    /// `count + 1` places, or none.
    public var offsets: [Int] = []
    /// The text of all rows.
    public var bytes: [UInt8] = []

    /// Numbers.
    public init(words: [Int64], present: [UInt8]? = nil) {
        count = words.count
        self.words = words
        self.present = present
    }

    /// Texts, by their offsets.
    public init(offsets: [Int], bytes: [UInt8], present: [UInt8]? = nil) {
        count = max(0, offsets.count - 1)
        self.offsets = offsets
        self.bytes = bytes
        self.present = present
    }

    /// Texts.
    public init(texts: [String?]) {
        count = texts.count
        offsets = [0]
        offsets.reserveCapacity(texts.count + 1)
        for text in texts {
            if let text { bytes.append(contentsOf: text.utf8) }
            offsets.append(bytes.count)
        }
        if texts.contains(where: { $0 == nil }) { present = texts.map { $0 == nil ? 0 : 1 } }
    }

    /// Whether row `index` has a value.
    public func hasValue(_ index: Int) -> Bool { present.map { $0[index] != 0 } ?? true }
    /// Whether the cells are text.
    public var isText: Bool { !offsets.isEmpty }
    /// The text of row `index`, broken UTF-8 repaired; empty for a null.
    public func text(_ index: Int) -> String {
        String(decoding: bytes[offsets[index]..<offsets[index + 1]], as: UTF8.self)
    }
}

/// What the cells of a column are.
public enum ColumnKind: Sendable, Hashable {
    /// Integers of up to 64 bits, signed.
    case integer
    /// Doubles; `float` columns are widened when read.
    case real
    /// Truth values.
    case bool
    /// Bytes that are UTF-8 text.
    case text
    /// Moments as whole units since the epoch; `perSecond` is 1,000, 1,000,000 or 1,000,000,000.
    case timestamp(perSecond: Int64)
}

/// One column of a file.
public struct FileColumn: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// What its cells are; `nil` if this reader does not read them.
    public let kind: ColumnKind?
    /// Whether it may hold nulls.
    public let isOptional: Bool
    /// Parquet's own word for a type that is not read, for errors.
    public let typeName: String
    /// Whether texts are said to be no more than bytes, and moments to have no zone.
    public let isBare: Bool

    /// A column to be written, or as found.
    public init(
        name: String, kind: ColumnKind?, isOptional: Bool = true, typeName: String = "", isBare: Bool = false
    ) {
        self.isBare = isBare
        self.name = name
        self.kind = kind
        self.isOptional = isOptional
        self.typeName = typeName
    }
}
