/// When each different value of one column last occurred in a series: what a distinct count over a window that ends after
/// all events comes down to.
///
/// Such a window holds a value exactly if the value's newest event lies behind the window's start, so the count is the
/// number of newest events behind that start. Which of several events of one moment is the newest does not matter, nor do
/// late events that are not the newest of their value; an event is never taken back, and one that is forgotten lies before
/// every window. The index is derived from the events and not stored.
struct ValueIndex: Sendable {
    /// Position among the plan's columns.
    let column: Int
    private let isText: Bool
    /// Positions of values by hash; -1 where there is none.
    private var slots: [Int32] = Array(repeating: -1, count: 64)
    /// The values: bits of a number, or the hash of a text.
    private var words: [Int64] = []
    private var texts: [String] = []
    /// For each value the time of its newest event.
    private var newest: [Int64] = []
    /// The same times in order.
    private var times = SortedTimes()

    init(column: Int, isText: Bool) {
        self.column = column
        self.isText = isText
    }

    /// How many values it knows, some of which may lie before every window.
    var valueCount: Int { words.count }
    /// Bytes of memory, about.
    var byteCount: Int { slots.count * 4 + words.count * 24 + texts.count * 16 }

    /// How many different values have an event after `moment`.
    func count(after moment: Int64) -> Int { times.count(after: moment) }

    // MARK: Keeping up

    /// Notes an event with this number.
    mutating func note(_ word: Int64, at time: Int64) {
        let hash = ValueTally.hash(word)
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 {
            let value = Int(slots[slot])
            if words[value] == word { return move(value, to: time) }
            slot = (slot + 1) & (slots.count - 1)
        }
        append(word, slot, time)
    }

    /// Notes an event with this text.
    mutating func note(_ text: String, at time: Int64) {
        let hash = ValueTally.hash(text)
        let word = Int64(bitPattern: hash)
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 {
            let value = Int(slots[slot])
            if words[value] == word, texts[value].utf8.elementsEqual(text.utf8) { return move(value, to: time) }
            slot = (slot + 1) & (slots.count - 1)
        }
        texts.append(text)
        append(word, slot, time)
    }

    private mutating func move(_ value: Int, to time: Int64) {
        let before = newest[value]
        guard time > before else { return }
        newest[value] = time
        guard !isBeingBuilt else { return }
        times.remove(before)
        times.insert(time)
    }

    private mutating func append(_ word: Int64, _ slot: Int, _ time: Int64) {
        slots[slot] = Int32(truncatingIfNeeded: words.count)
        words.append(word)
        newest.append(time)
        if !isBeingBuilt { times.insert(time) }
        if 2 * words.count >= slots.count { makeSlots() }
    }

    private mutating func makeSlots() {
        var count = 64
        while count < 4 * words.count { count *= 2 }
        slots = Array(repeating: -1, count: count)
        for (value, word) in words.enumerated() {
            let hash = isText ? UInt64(bitPattern: word) : ValueTally.hash(word)
            var slot = Int(truncatingIfNeeded: hash) & (count - 1)
            while slots[slot] >= 0 { slot = (slot + 1) & (count - 1) }
            slots[slot] = Int32(truncatingIfNeeded: value)
        }
    }

    // MARK: Building

    private var isBeingBuilt = false

    /// Notes many events without keeping the times in order meanwhile.
    mutating func build(_ body: (inout ValueIndex) throws -> Void) rethrows {
        isBeingBuilt = true
        try body(&self)
        isBeingBuilt = false
        times = SortedTimes(newest)
    }

    /// Forgets values without an event after `moment`, if they are most of those that it knows.
    mutating func trim(after moment: Int64) {
        guard valueCount > 64, 2 * count(after: moment) < valueCount else { return }
        let kept = newest.indices.filter { newest[$0] > moment }
        words = kept.map { words[$0] }
        if isText { texts = kept.map { texts[$0] } }
        newest = kept.map { newest[$0] }
        makeSlots()
        times = SortedTimes(newest)
    }
}

/// Moments in order, with repetitions, in blocks of some hundred.
struct SortedTimes: Sendable {
    private static let blockCountMax = 512
    private var blocks: [[Int64]] = []
    /// How many each block holds: apart, so that counting reads memory in a row.
    private var counts: [Int] = []

    init() {}

    init(_ times: [Int64]) {
        let sorted = times.sorted()
        for start in stride(from: 0, to: sorted.count, by: Self.blockCountMax) {
            blocks.append(Array(sorted[start..<min(sorted.count, start + Self.blockCountMax)]))
            counts.append(blocks[blocks.count - 1].count)
        }
    }

    var count: Int { counts.reduce(0, +) }

    /// The first block whose last moment is after `moment`, or not before it.
    private func block(_ moment: Int64, orAt: Bool) -> Int {
        var (low, high) = (0, blocks.count)
        while low < high {
            let middle = (low + high) / 2
            let last = blocks[middle][counts[middle] - 1]
            if last < moment || !orAt && last == moment { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// How many of a block's moments are before `moment`, or at it.
    private func place(_ moment: Int64, in block: Int, orAt: Bool) -> Int {
        var (low, high) = (0, counts[block])
        while low < high {
            let middle = (low + high) / 2
            let time = blocks[block][middle]
            if time < moment || orAt && time == moment { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// How many moments are after `moment`.
    func count(after moment: Int64) -> Int {
        let first = block(moment, orAt: false)
        guard first < blocks.count else { return 0 }
        var total = counts[first] - place(moment, in: first, orAt: true)
        for index in (first + 1)..<max(first + 1, counts.count) { total += counts[index] }
        return total
    }

    mutating func insert(_ moment: Int64) {
        var index = block(moment, orAt: true)
        if index == blocks.count {
            // Behind all others, as most are.
            if index == 0 || counts[index - 1] >= Self.blockCountMax {
                blocks.append([moment])
                counts.append(1)
                return
            }
            index -= 1
        }
        blocks[index].insert(moment, at: place(moment, in: index, orAt: true))
        counts[index] += 1
        guard counts[index] > Self.blockCountMax else { return }
        let half = counts[index] / 2
        blocks.insert(Array(blocks[index][half...]), at: index + 1)
        counts.insert(counts[index] - half, at: index + 1)
        blocks[index].removeSubrange(half...)
        counts[index] = half
    }

    /// Takes out one of the moments that equal `moment`; there is one.
    mutating func remove(_ moment: Int64) {
        let index = block(moment, orAt: true)
        guard index < blocks.count else { return }
        let place = place(moment, in: index, orAt: false)
        guard place < counts[index], blocks[index][place] == moment else { return }
        blocks[index].remove(at: place)
        counts[index] -= 1
        if counts[index] == 0 {
            blocks.remove(at: index)
            counts.remove(at: index)
        } else if counts[index] < Self.blockCountMax / 4, index + 1 < blocks.count,
            counts[index] + counts[index + 1] <= Self.blockCountMax / 2
        {
            blocks[index] += blocks[index + 1]
            counts[index] += counts[index + 1]
            blocks.remove(at: index + 1)
            counts.remove(at: index + 1)
        }
    }
}
