/// A text that equals another of the same bytes; a Swift string would hold differently composed letters equal.
struct ByteText: Hashable {
    let text: String

    static func == (left: ByteText, right: ByteText) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }

    func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

/// A small number for each different value of a column, so that features which ask for equal values compare integers.
///
/// Codes are not written down: they are made again when a state is read, and made anew when events are forgotten, so that
/// values which no event holds any more take no memory.
struct ValueCodes: Sendable {
    /// A value of one block and how many of the block's events hold it.
    struct Entry: Sendable {
        let code: Int32
        var count: Int32
    }

    /// For each event the code of its value; -1 for null.
    var events: [Int32] = []
    /// How many codes there are.
    private(set) var count = 0
    /// For each code an event's word or text with that value.
    private(set) var words: [Int64] = []
    private(set) var texts: [String] = []
    private var ofWord: [Int64: Int32] = [:]
    private var ofText: [ByteText: Int32] = [:]
    /// The values of each full block in the order of their newest events, newest first.
    private(set) var entries: [Entry] = []
    /// Where the entries of each block begin; one more than there are blocks.
    private(set) var starts: [Int] = [0]

    mutating func code(of word: Int64) -> Int32 {
        if let code = ofWord[word] { return code }
        let code = Int32(truncatingIfNeeded: count)
        ofWord[word] = code
        words.append(word)
        count += 1
        return code
    }

    mutating func code(of text: String) -> Int32 {
        if let code = ofText[ByteText(text: text)] { return code }
        let code = Int32(truncatingIfNeeded: count)
        ofText[ByteText(text: text)] = code
        texts.append(text)
        count += 1
        return code
    }

    /// Makes the summary of a block; those of later blocks are dropped.
    mutating func summarize(_ block: Int, _ range: Range<Int>) {
        starts.removeLast(starts.count - 1 - block)
        entries.removeLast(entries.count - starts[block])
        for event in range.reversed() where events[event] >= 0 {
            let code = events[event]
            if let place = entries[starts[block]...].firstIndex(where: { $0.code == code }) {
                entries[place].count += 1
            } else {
                entries.append(Entry(code: code, count: 1))
            }
        }
        starts.append(entries.count)
    }
}

extension EventSeries.ColumnValues {
    /// Gives the event at `place`, which is in its column already, a code.
    mutating func insertCode(at place: Int, storage: AggregationPlan.Storage) {
        codes.events.insert(code(at: place, storage: storage), at: place)
    }

    /// Makes all codes anew.
    mutating func encodeAll(storage: AggregationPlan.Storage) {
        codes = ValueCodes()
        let count = storage == .text ? texts.count : words.count
        codes.events.reserveCapacity(count)
        for place in 0..<count { codes.events.append(code(at: place, storage: storage)) }
    }

    private mutating func code(at place: Int, storage: AggregationPlan.Storage) -> Int32 {
        switch storage {
        case .real: Accumulator.real(words[place]).isNaN ? -1 : codes.code(of: words[place])
        case .integer: present[place] ? codes.code(of: words[place]) : -1
        case .text: texts[place].map { codes.code(of: $0) } ?? -1
        }
    }
}
