public import PlatformCore

/// The events of one entity in one view: all that its features can still need, in the order of the tie rule.
///
/// Events lie by (event time, ingest time, sequence), column by column. Every 64 events have a summary, so a window of
/// thousands of events costs tens of steps. The series does not know its plan; every call is given the same one.
public struct EventSeries: Sendable {
    static let blockSize = 64

    /// What a summary says of one column.
    struct ColumnBlock: Sendable {
        var count = 0
        var sum: Int128 = 0
        var squareSum: Int128 = 0
        var squares: Int128 = 0
        /// Smallest and largest value, as kept: bits of a double, or an integer.
        var minimum: Int64 = 0
        var maximum: Int64 = 0
    }

    /// One column's cells.
    struct ColumnValues: Sendable {
        /// Bits of a double (NaN is null) or integers.
        var words: [Int64] = []
        /// For integers: whether there is a value.
        var present: [Bool] = []
        var texts: [String?] = []
        var blocks: [ColumnBlock] = []
        /// Which values are equal, for features that ask.
        var codes = ValueCodes()
    }

    var eventTimes: [Int64] = []
    var ingestTimes: [Int64] = []
    var sequences: [UInt64] = []
    var columns: [ColumnValues]
    /// Smallest and largest ingest time of each full block.
    var blockIngest: [(minimum: Int64, maximum: Int64)] = []
    /// Blocks whose summaries are true; later ones are read event by event.
    var settledBlockCount = 0
    /// Highest sequence ever inserted, trimmed events included.
    public internal(set) var newestSequence: UInt64 = 0
    /// Newest ingest time ever inserted.
    public internal(set) var newestIngestTime = Int64.min
    /// How many events the last trim left.
    var countAfterTrim = 0

    /// A series without events.
    public init(plan: AggregationPlan) { columns = Array(repeating: ColumnValues(), count: plan.columns.count) }

    /// Events kept.
    public var count: Int { eventTimes.count }
    /// Event time of the newest event.
    public var newestEventTime: Int64? { eventTimes.last }

    /// Adds an event at its place; amortised constant time when it is the newest.
    /// - Parameter cells: the source row's cells.
    /// - Returns: how many of its values are too large to be summed.
    @discardableResult
    public mutating func insert(
        eventTime: EventTime, ingestTime: EventTime, sequence: UInt64, cells: [CellValue], plan: AggregationPlan
    ) -> Int {
        let (event, ingest) = (eventTime.milliseconds, ingestTime.milliseconds)
        newestSequence = max(newestSequence, sequence)
        newestIngestTime = max(newestIngestTime, ingest)
        let place = insertionPoint(event, ingest, sequence)
        let isNewest = place == eventTimes.count
        if isNewest {
            eventTimes.append(event)
            ingestTimes.append(ingest)
            sequences.append(sequence)
        } else {
            eventTimes.insert(event, at: place)
            ingestTimes.insert(ingest, at: place)
            sequences.insert(sequence, at: place)
            settledBlockCount = min(settledBlockCount, place / Self.blockSize)
        }
        var unsummable = 0
        for (index, column) in plan.columns.enumerated() {
            let cell = column.position < cells.count ? cells[column.position] : .null
            switch column.storage {
            case .real:
                // Adding zero makes a negative zero positive: which of two zeros is the smaller must not depend on order.
                let value = (cell.number ?? .nan) + 0.0
                if column.needsSum || column.needsSquares, !value.isNaN,
                    ExactArithmetic.scaled(value, by: column.power) == ExactArithmetic.unsummable
                {
                    unsummable += 1
                }
                columns[index].words.insert(Int64(bitPattern: value.bitPattern), at: place)
            case .integer:
                let value = Self.integer(cell)
                if column.needsSum || column.needsSquares, value == ExactArithmetic.unsummable { unsummable += 1 }
                columns[index].words.insert(value ?? 0, at: place)
                columns[index].present.insert(value != nil, at: place)
            case .text:
                var text: String?
                if case .text(let value) = cell { text = value }
                columns[index].texts.insert(text, at: place)
            }
            if column.needsCodes { columns[index].insertCode(at: place, storage: column.storage) }
        }
        if isNewest, eventTimes.count % Self.blockSize == 0 { settle(plan: plan) }
        return unsummable
    }

    private static func integer(_ cell: CellValue) -> Int64? {
        switch cell {
        case .integer(let value): value
        case .bool(let value): value ? 1 : 0
        case .double(let value): Int64(exactly: value)
        case .null, .text, .list: nil
        }
    }

    private func insertionPoint(_ event: Int64, _ ingest: Int64, _ sequence: UInt64) -> Int {
        func isAfter(_ index: Int) -> Bool {
            (eventTimes[index], ingestTimes[index], sequences[index]) > (event, ingest, sequence)
        }
        var (low, high) = (0, eventTimes.count)
        if high == 0 || !isAfter(high - 1) { return high }
        while low < high {
            let middle = (low + high) / 2
            if isAfter(middle) { high = middle } else { low = middle + 1 }
        }
        return low
    }

    // MARK: Summaries

    /// Brings the summaries up to date; call it after inserting older events, else answers are right but slower.
    public mutating func settle(plan: AggregationPlan) {
        let full = eventTimes.count / Self.blockSize
        guard settledBlockCount < full else { return }
        for block in settledBlockCount..<full {
            let range = (block * Self.blockSize)..<((block + 1) * Self.blockSize)
            var (minimum, maximum) = (Int64.max, Int64.min)
            for ingest in ingestTimes[range] {
                minimum = min(minimum, ingest)
                maximum = max(maximum, ingest)
            }
            if block < blockIngest.count {
                blockIngest[block] = (minimum, maximum)
            } else {
                blockIngest.append((minimum, maximum))
            }
            for (index, column) in plan.columns.enumerated() {
                let total = summary(of: column, index, range)
                if block < columns[index].blocks.count {
                    columns[index].blocks[block] = total
                } else {
                    columns[index].blocks.append(total)
                }
                if column.needsCodes { columns[index].codes.summarize(block, range) }
            }
        }
        settledBlockCount = full
    }

    private func summary(of column: AggregationPlan.Column, _ index: Int, _ range: Range<Int>) -> ColumnBlock {
        guard column.storage != .text else {
            var total = ColumnBlock()
            for event in range where columns[index].texts[event] != nil { total.count += 1 }
            return total
        }
        var accumulator = Accumulator(column)
        columns[index].words.withUnsafeBufferPointer { words in
            for event in range where column.storage == .real || columns[index].present[event] {
                accumulator.add(words[event])
            }
        }
        return accumulator.total
    }

    // MARK: Trimming

    /// Forgets events that no question at or after `earliest` can need, if enough came in since the last time.
    public mutating func trimIfGrown(answeringFrom earliest: EventTime, plan: AggregationPlan) {
        if count >= 2 * Self.blockSize, count >= 2 * countAfterTrim { trim(answeringFrom: earliest, plan: plan) }
    }

    /// Forgets events that no question at or after `earliest` can need.
    ///
    /// An event is needed while a window can hold it once it is known, or while it can be the newest visible one: no newer
    /// event is known as early.
    public mutating func trim(answeringFrom earliest: EventTime, plan: AggregationPlan) {
        let first = plan.tick(at: earliest.milliseconds)
        var keep = [Bool](repeating: true, count: count)
        var newerKnownFrom = Int64.max
        var kept = count
        for index in stride(from: count - 1, through: 0, by: -1) {
            let visibleFrom = max(first, ingestTimes[index], eventTimes[index])
            let (edge, underflow) = visibleFrom.subtractingReportingOverflow(plan.reach)
            let inWindow = plan.reach > 0 && (underflow || eventTimes[index] > edge)
            keep[index] = inWindow || newerKnownFrom > visibleFrom
            if !keep[index] { kept -= 1 }
            // An event counts as known once it has also happened.
            newerKnownFrom = min(newerKnownFrom, max(ingestTimes[index], eventTimes[index]))
        }
        countAfterTrim = kept
        guard kept < count else { return }
        func filtered<Element>(_ values: [Element]) -> [Element] {
            var out: [Element] = []
            out.reserveCapacity(kept)
            for (index, value) in values.enumerated() where keep[index] { out.append(value) }
            return out
        }
        eventTimes = filtered(eventTimes)
        ingestTimes = filtered(ingestTimes)
        sequences = filtered(sequences)
        for index in columns.indices {
            if !columns[index].words.isEmpty { columns[index].words = filtered(columns[index].words) }
            if !columns[index].present.isEmpty { columns[index].present = filtered(columns[index].present) }
            if !columns[index].texts.isEmpty { columns[index].texts = filtered(columns[index].texts) }
            columns[index].blocks = []
            if plan.columns[index].needsCodes { columns[index].encodeAll(storage: plan.columns[index].storage) }
        }
        blockIngest = []
        settledBlockCount = 0
        settle(plan: plan)
    }
}
