import PlatformCore

extension AggregationPlan.Storage {
    /// Whether cells are kept as words of one number each.
    var isNumber: Bool { self == .real || self == .integer }
}

/// Columns whose cells are several numbers: two floats in a word, the first one in its lower half.
extension EventChunk {
    /// Whether the event has a value, for a column that is no number.
    @inline(__always)
    func holds(_ event: Int, _ column: Int, _ storage: AggregationPlan.Storage, _ layout: EventLayout) -> Bool {
        storage == .text
            ? texts[event * layout.textCount + layout.slots[column]] != nil
            : isPresent(event, column: column, layout.stride)
    }

    /// Writes a vector into an event's words.
    ///
    /// A cell of another length, or with a number that single precision does not hold, is null, as any cell of another
    /// type is.
    /// - Returns: whether there is a value.
    static func write(_ cell: CellValue, to row: UnsafeMutableBufferPointer<Int64>, at slot: Int, length: Int) -> Bool {
        guard case .list(let cells) = cell, cells.count == length,
            cells.allSatisfy({ $0.number.map { Float($0).isFinite } ?? false })
        else { return false }
        for (place, element) in cells.enumerated() {
            // Adding zero makes a negative zero positive.
            let bits = (Float(element.number ?? 0) + 0).bitPattern
            row[slot + place / 2] |= Int64(bitPattern: UInt64(bits) << UInt64(place % 2 * 32))
        }
        return true
    }

    /// The vector whose words begin at `word`.
    func vector(at word: Int, length: Int) -> [CellValue] {
        (0..<length).map { place in
            let pair = UInt64(bitPattern: words[word + place / 2])
            return .double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: pair >> UInt64(place % 2 * 32)))))
        }
    }
}
