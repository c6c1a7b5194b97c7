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
    private var recent: RecentNotes
    /// How many values it may hold.
    private let valueCountMax: Int
    /// It holds the values with an event after this moment.
    private var from = Int64.min

    /// - Parameters:
    ///   - known: the moment by which all events are known and have happened that the index is built from.
    ///   - valueCountMax: how many values it may hold; of more it knows the half that occurred last.
    init(column: Int, isText: Bool, known: Int64, valueCountMax: Int = .max) {
        self.column = column
        self.isText = isText
        self.valueCountMax = valueCountMax
        recent = RecentNotes(known: known)
    }

    /// How many values it knows, some of which may lie before every window.
    var valueCount: Int { words.count }
    /// Bytes of memory, about.
    var byteCount: Int { slots.count * 4 + words.count * 24 + texts.count * 16 + recent.byteCount }

    /// How many different values have an event after `moment` that is visible at `tick`; `nil` if too many events are not.
    func count(after moment: Int64, at tick: Int64) -> Int? {
        guard moment >= from, let hidden = recent.hidden(at: tick) else { return nil }
        var count = times.count(after: moment)
        guard !hidden.isEmpty else { return count }
        for (value, visible) in hidden {
            if newest[value] > moment { count -= 1 }
            if visible > moment { count += 1 }
        }
        return count
    }

    // MARK: Keeping up

    /// Notes an event with this number.
    /// - Parameter known: the first moment at which the event has happened and is known.
    mutating func note(_ word: Int64, at time: Int64, known: Int64) {
        guard time > from else { return }
        let slot = find(word)
        note(slot: slot, word, at: time, known: known)
    }

    /// Notes an event with this text.
    mutating func note(_ text: String, at time: Int64, known: Int64) {
        guard time > from else { return }
        let word = Int64(bitPattern: ValueTally.hash(text))
        let slot = find(text, word)
        if slots[slot] < 0 { texts.append(text) }
        note(slot: slot, word, at: time, known: known)
    }

    private mutating func note(slot: Int, _ word: Int64, at time: Int64, known: Int64) {
        let value = Int(slots[slot])
        guard value >= 0 else {
            recent.add(value: words.count, time: time, known: known, before: .min)
            times.insert(time)
            append(word, slot, time)
            return shrinkIfFull()
        }
        let before = newest[value]
        recent.add(value: value, time: time, known: known, before: before)
        guard time > before else { return }
        newest[value] = time
        times.remove(before)
        times.insert(time)
    }

    /// Forgets the values that did not occur for longest where there are more than anybody asks about.
    ///
    /// What is left answers for windows that begin behind them; those that begin before have more values than are asked for.
    private mutating func shrinkIfFull() {
        guard words.count > valueCountMax else { return }
        let sorted = SortedTimes.sorted(newest)
        keep(after: sorted[sorted.count - valueCountMax / 2])
    }

    private mutating func keep(after moment: Int64) {
        from = max(from, moment)
        let kept = newest.indices.filter { newest[$0] > moment }
        words = kept.map { words[$0] }
        if isText { texts = kept.map { texts[$0] } }
        newest = kept.map { newest[$0] }
        makeSlots(for: words.count)
        times = SortedTimes(newest)
        recent.forget()
    }

    /// The slot of a number, or the free one where it belongs.
    private func find(_ word: Int64) -> Int {
        var slot = Int(truncatingIfNeeded: ValueTally.hash(word)) & (slots.count - 1)
        while slots[slot] >= 0, words[Int(slots[slot])] != word { slot = (slot + 1) & (slots.count - 1) }
        return slot
    }

    private func find(_ text: String, _ word: Int64) -> Int {
        var slot = Int(truncatingIfNeeded: word) & (slots.count - 1)
        while slots[slot] >= 0 {
            let value = Int(slots[slot])
            if words[value] == word, texts[value].utf8.elementsEqual(text.utf8) { break }
            slot = (slot + 1) & (slots.count - 1)
        }
        return slot
    }

    private mutating func append(_ word: Int64, _ slot: Int, _ time: Int64) {
        slots[slot] = Int32(truncatingIfNeeded: words.count)
        words.append(word)
        newest.append(time)
        if 2 * words.count >= slots.count { makeSlots(for: 2 * words.count) }
    }

    /// Lays the values out in slots for `count` of them.
    private mutating func makeSlots(for count: Int) {
        var slotCount = 64
        while slotCount <= 2 * count { slotCount *= 2 }
        slots = Array(repeating: -1, count: slotCount)
        slots.withUnsafeMutableBufferPointer { slots in
            for (value, word) in words.enumerated() {
                let hash = isText ? UInt64(bitPattern: word) : ValueTally.hash(word)
                var slot = Int(truncatingIfNeeded: hash) & (slotCount - 1)
                while slots[slot] >= 0 { slot = (slot + 1) & (slotCount - 1) }
                slots[slot] = Int32(truncatingIfNeeded: value)
            }
        }
    }

    /// Forgets values without an event after `moment`, if they are most of those that it knows.
    mutating func trim(after moment: Int64) {
        guard valueCount > 64, 2 * times.count(after: moment) < valueCount else { return }
        keep(after: moment)
    }

    // MARK: Building

    /// A number and when it occurred.
    typealias Occurrence = (word: Int64, time: Int64)

    /// Makes room for so many values; only between `init` and `built`.
    mutating func reserve(_ count: Int) {
        let count = min(count, valueCountMax, 1 << 22)
        words.reserveCapacity(count)
        newest.reserveCapacity(count)
        if 2 * count >= slots.count { makeSlots(for: count) }
    }

    /// Takes numbers up, those of neighbouring slots together, which spares most of the waits for memory; `built` has to
    /// follow before anything else.
    mutating func take(_ occurrences: [Occurrence]) {
        defer { shrinkIfFull() }
        let needed = words.count + occurrences.count
        if 2 * needed >= slots.count { makeSlots(for: needed) }
        let mask = slots.count - 1
        let shift = max(0, slots.count.trailingZeroBitCount - 8)
        var starts = [Int](repeating: 0, count: (mask >> shift) + 2)
        func part(_ word: Int64) -> Int { (Int(truncatingIfNeeded: ValueTally.hash(word)) & mask) >> shift }
        for (word, _) in occurrences { starts[part(word) + 1] += 1 }
        for index in 1..<starts.count { starts[index] += starts[index - 1] }
        withUnsafeTemporaryAllocation(of: Occurrence.self, capacity: max(1, occurrences.count)) { sorted in
            for occurrence in occurrences {
                let place = part(occurrence.word)
                sorted.initializeElement(at: starts[place], to: occurrence)
                starts[place] += 1
            }
            for index in occurrences.indices {
                let (word, time) = sorted[index]
                guard time > from else { continue }
                let slot = find(word)
                let value = Int(slots[slot])
                if value >= 0 {
                    if time > newest[value] { newest[value] = time }
                } else {
                    append(word, slot, time)
                }
            }
        }
    }

    /// Takes a text up; `built` has to follow before anything else.
    mutating func take(_ text: String, at time: Int64) {
        guard time > from else { return }
        defer { shrinkIfFull() }
        let word = Int64(bitPattern: ValueTally.hash(text))
        let slot = find(text, word)
        let value = Int(slots[slot])
        if value >= 0 {
            if time > newest[value] { newest[value] = time }
        } else {
            texts.append(text)
            append(word, slot, time)
        }
    }

    /// Says that everything has been taken up.
    mutating func built() {
        if slots.count > 16 * max(64, words.count) { makeSlots(for: words.count) }
        times = SortedTimes(newest)
    }
}

/// The newest notes of an index: what questions go by that come before some of the events have happened or are known.
///
/// A question of this millisecond does not see an event of this millisecond. Which values such events have stands here,
/// with the newest event that each had before, so the count is still found without looking at events.
private struct RecentNotes: Sendable {
    private static let countMax = 16_384

    private struct Note {
        let value: Int
        let time: Int64
        let known: Int64
        /// Time of the value's newest event before; the lowest of all where it had none.
        let before: Int64
        /// The latest `known` of this and all earlier notes.
        let knownBefore: Int64
    }

    private var notes: [Note] = []
    /// All events without a note are visible from here on.
    private var known: Int64

    init(known: Int64) { self.known = known }

    var byteCount: Int { notes.capacity * 40 }

    mutating func add(value: Int, time: Int64, known: Int64, before: Int64) {
        if notes.count == Self.countMax {
            self.known = notes[Self.countMax / 2 - 1].knownBefore
            notes.removeFirst(Self.countMax / 2)
        }
        notes.append(
            Note(
                value: value, time: time, known: known, before: before,
                knownBefore: max(known, notes.last?.knownBefore ?? self.known)))
    }

    /// Forgets the notes; questions before the latest of them are not answered any more.
    mutating func forget() {
        known = notes.last?.knownBefore ?? known
        notes = []
    }

    /// Values with an event that is not visible at `tick`, each with the time of its newest one that is; `nil` where the
    /// notes do not reach back so far.
    func hidden(at tick: Int64) -> [(value: Int, visible: Int64)]? {
        guard known <= tick else { return nil }
        guard let last = notes.last, last.knownBefore > tick else { return [] }
        var (low, high) = (0, notes.count)
        while low < high {
            let middle = (low + high) / 2
            if notes[middle].knownBefore <= tick { low = middle + 1 } else { high = middle }
        }
        var visible: [Int: Int64] = [:]
        for note in notes[low...] {
            let before = visible[note.value] ?? note.before
            visible[note.value] = note.known <= tick ? max(before, note.time) : before
        }
        return visible.map { ($0.key, $0.value) }
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
        let sorted = Self.sorted(times)
        for start in stride(from: 0, to: sorted.count, by: Self.blockCountMax) {
            blocks.append(Array(sorted[start..<min(sorted.count, start + Self.blockCountMax)]))
            counts.append(blocks[blocks.count - 1].count)
        }
    }

    /// Sorts by eleven bits at a time: a day of milliseconds takes three passes.
    static func sorted(_ times: [Int64]) -> [Int64] {
        guard times.count > 2_048 else { return times.sorted() }
        var (least, most) = (Int64.max, Int64.min)
        for time in times { (least, most) = (min(least, time), max(most, time)) }
        let bitCount = 64 - UInt64(bitPattern: most &- least).leadingZeroBitCount
        var (from, to) = (times, times)
        for shift in Swift.stride(from: 0, to: bitCount, by: 11) {
            var starts = [Int](repeating: 0, count: 2_049)
            func digit(_ time: Int64) -> Int { Int(UInt64(bitPattern: time &- least) >> UInt64(shift) & 2_047) }
            from.withUnsafeBufferPointer { from in
                to.withUnsafeMutableBufferPointer { to in
                    for time in from { starts[digit(time) + 1] += 1 }
                    for index in 1..<starts.count { starts[index] += starts[index - 1] }
                    for time in from {
                        let place = digit(time)
                        to[starts[place]] = time
                        starts[place] += 1
                    }
                }
            }
            swap(&from, &to)
        }
        return from
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
