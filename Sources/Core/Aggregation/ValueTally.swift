/// A value of one chunk: its newest event there, and how many of the chunk's events hold it.
struct ValueEntry: Sendable {
    let hash: UInt64
    let event: Int32
    let count: Int32
}

/// The different values of some events and how often each occurs, in the order in which they come up.
///
/// A table with open addressing: for events that come newest first, the order is that of the values' newest events, so the
/// first of several equally frequent values is the mode. Texts are equal by their bytes.
struct ValueTally {
    private var slots: [Int32] = Array(repeating: -1, count: 16)
    private var hashes: [UInt64] = []
    private(set) var words: [Int64] = []
    private(set) var texts: [String] = []
    private(set) var events: [Int32] = []
    private(set) var counts: [Int32] = []

    /// How many different values there are.
    var count: Int { counts.count }

    /// Different in every process, so that nobody can choose values that collide.
    private static let seed: UInt64 = {
        var hasher = Hasher()
        hasher.combine(0)
        return UInt64(bitPattern: Int64(hasher.finalize()))
    }()

    static func hash(_ word: Int64) -> UInt64 {
        var mixed = UInt64(bitPattern: word) ^ seed
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    static func hash(_ text: String) -> UInt64 {
        var (hasher, text) = (Hasher(), text)
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        return UInt64(bitPattern: Int64(hasher.finalize()))
    }

    @discardableResult
    mutating func add(_ word: Int64, hash: UInt64, event: Int = 0, count: Int32 = 1) -> Int {
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 {
            let value = Int(slots[slot])
            if words[value] == word {
                counts[value] += count
                return value
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        words.append(word)
        return append(slot, hash, event, count)
    }

    @discardableResult
    mutating func add(_ text: String, hash: UInt64, event: Int = 0, count: Int32 = 1) -> Int {
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 {
            let value = Int(slots[slot])
            if hashes[value] == hash, texts[value].utf8.elementsEqual(text.utf8) {
                counts[value] += count
                return value
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        texts.append(text)
        return append(slot, hash, event, count)
    }

    private mutating func append(_ slot: Int, _ hash: UInt64, _ event: Int, _ count: Int32) -> Int {
        let added = counts.count
        slots[slot] = Int32(truncatingIfNeeded: added)
        hashes.append(hash)
        events.append(Int32(truncatingIfNeeded: event))
        counts.append(count)
        guard 2 * counts.count >= slots.count else { return added }
        slots = Array(repeating: -1, count: 4 * slots.count)
        for (value, hash) in hashes.enumerated() {
            var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
            while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
            slots[slot] = Int32(truncatingIfNeeded: value)
        }
        return added
    }

    /// Position of the value that occurs most often, the first of several; `nil` without any.
    var mostFrequent: Int? {
        var (best, most) = (-1, Int32(0))
        for (value, count) in counts.enumerated() where count > most { (best, most) = (value, count) }
        return best < 0 ? nil : best
    }

    /// The values as the summary of a chunk.
    var entries: [ValueEntry] {
        counts.indices.map { ValueEntry(hash: hashes[$0], event: events[$0], count: counts[$0]) }
    }
}

extension EventChunk {
    /// Makes the summaries of columns whose values are compared; they are not stored.
    mutating func summarizeValues(_ plan: AggregationPlan) {
        guard plan.comparesValues else { return }
        values = plan.columns.enumerated().map { index, column in
            guard column.comparesValues else { return [] }
            var tally = ValueTally()
            add(0..<count, known: nil, index, column, plan.layout, to: &tally)
            return tally.entries
        }
    }

    /// Adds the values of events, newest first.
    /// - Parameter known: the moment by which an event must be known; `nil` if all are.
    func add(
        _ range: Range<Int>, known: Int64?, _ index: Int, _ column: AggregationPlan.Column, _ layout: EventLayout,
        to tally: inout ValueTally
    ) {
        let (stride, slot) = (layout.stride, layout.slots[index])
        for event in range.reversed() {
            if let known, ingestTime(event, stride) > known { continue }
            switch column.storage {
            case .real:
                let word = words[event * stride + slot]
                if !Accumulator.real(word).isNaN { tally.add(word, hash: ValueTally.hash(word), event: event) }
            case .integer:
                guard isPresent(event, column: index, stride) else { continue }
                let word = words[event * stride + slot]
                tally.add(word, hash: ValueTally.hash(word), event: event)
            case .text:
                guard let text = texts[event * layout.textCount + slot] else { continue }
                tally.add(text, hash: ValueTally.hash(text), event: event)
            case .vector: break
            }
        }
    }

    /// Adds the values of all events through their summary.
    func addAll(_ index: Int, _ column: AggregationPlan.Column, _ layout: EventLayout, to tally: inout ValueTally) {
        for entry in values[index] {
            if column.storage == .text {
                guard let text = texts[Int(entry.event) * layout.textCount + layout.slots[index]] else { continue }
                tally.add(text, hash: entry.hash, count: entry.count)
            } else {
                let word = words[Int(entry.event) * layout.stride + layout.slots[index]]
                tally.add(word, hash: entry.hash, count: entry.count)
            }
        }
    }
}
