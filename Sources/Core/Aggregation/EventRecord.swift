/// How one event lies in memory and in spill files: a row of 64-bit words, so that sorting moves one piece.
///
/// Words: entity (low half) and the flags of the first 32 columns (high half), event time, ingest time, sequence, a word
/// for each column of the plan, and further flag words for more than 32 columns. A flag is 1 where there is a value. A
/// column's word is the bits of a double, an integer, or a caller's handle for a text.
public struct EventRecord: Sendable {
    /// Words of one record.
    public let width: Int
    /// Words before the columns.
    public static let headWidth = 4
    private let columnCount: Int

    /// The layout for a plan of so many columns.
    public init(columnCount: Int) {
        self.columnCount = columnCount
        width = Self.headWidth + columnCount + (max(0, columnCount - 32) + 63) / 64
    }

    /// Writes the head; flags are clear.
    @inlinable
    public static func writeHead(
        _ record: UnsafeMutablePointer<Int64>, entity: UInt32, eventTime: Int64, ingestTime: Int64, sequence: Int64
    ) {
        record[0] = Int64(entity)
        record[1] = eventTime
        record[2] = ingestTime
        record[3] = sequence
    }

    /// Writes a column's value.
    @inlinable
    public func write(_ record: UnsafeMutablePointer<Int64>, column: Int, _ word: Int64) {
        record[Self.headWidth + column] = word
        if column < 32 {
            record[0] |= 1 << Int64(32 + column)
        } else {
            record[flagPlace(column)] |= 1 << Int64((column - 32) & 63)
        }
    }

    @usableFromInline
    func flagPlace(_ column: Int) -> Int { Self.headWidth + columnCount + (column - 32) / 64 }

    /// The entity's number.
    @inlinable
    public static func entity(_ record: UnsafePointer<Int64>) -> Int { Int(UInt32(truncatingIfNeeded: record[0])) }

    func hasValue(_ record: UnsafePointer<Int64>, column: Int) -> Bool {
        column < 32
            ? record[0] >> Int64(32 + column) & 1 != 0
            : record[flagPlace(column)] >> Int64((column - 32) & 63) & 1 != 0
    }
}

/// How the answer to one question lies in memory and in spill files: flag words (1 where there is a value), then a word for
/// each feature.
public struct AnswerRecord: Sendable {
    /// Flag words.
    public let flagCount: Int
    /// Words of one answer.
    public let width: Int

    /// The layout for so many features.
    public init(featureCount: Int) {
        flagCount = (featureCount + 63) / 64
        width = flagCount + featureCount
    }

    /// Whether a feature has a value.
    @inlinable
    public func hasValue(_ answer: UnsafePointer<Int64>, _ feature: Int) -> Bool {
        answer[feature >> 6] >> Int64(feature & 63) & 1 != 0
    }
    /// A feature's word.
    @inlinable
    public func word(_ answer: UnsafePointer<Int64>, _ feature: Int) -> Int64 { answer[flagCount + feature] }

    @inline(__always)
    func write(_ answer: UnsafeMutablePointer<Int64>, _ feature: Int, _ word: Int64) {
        answer[flagCount + feature] = word
        answer[feature >> 6] |= 1 << Int64(feature & 63)
    }
}
