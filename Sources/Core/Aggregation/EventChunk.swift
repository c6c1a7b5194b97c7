/// How one event lies in a chunk's words: event time, ingest time, sequence, flags of null, then the columns, vectors as
/// two floats in a word.
struct EventLayout: Sendable {
    static let eventTime = 0
    static let ingestTime = 1
    static let sequence = 2
    static let flags = 3

    /// Words of flags; a set bit says that a column kept as an integer or a vector has a value.
    let flagCount: Int
    /// Words of one event.
    let stride: Int
    /// Texts of one event.
    let textCount: Int
    /// For each column the place of its first word, or of its text among the texts.
    let slots: [Int]

    init(_ columns: [AggregationPlan.Column]) {
        flagCount = columns.contains { [.integer, .vector].contains($0.storage) } ? (columns.count + 63) / 64 : 0
        var words = Self.flags + flagCount
        var texts = 0
        var slots: [Int] = []
        for column in columns {
            if column.storage == .text {
                slots.append(texts)
                texts += 1
            } else {
                slots.append(words)
                words += column.storage == .vector ? (column.length + 1) / 2 : 1
            }
        }
        stride = words
        textCount = texts
        self.slots = slots
    }
}

/// Where an event stands among the others of its entity: the tie rule.
struct EventOrder: Comparable, Sendable {
    var eventTime: Int64
    var ingestTime: Int64
    var sequence: UInt64

    static func < (left: EventOrder, right: EventOrder) -> Bool {
        (left.eventTime, left.ingestTime, left.sequence) < (right.eventTime, right.ingestTime, right.sequence)
    }
}

/// What is known of a run of events without looking at them.
struct SpanSummary: Sendable {
    var count = 0
    var first = EventOrder(eventTime: .max, ingestTime: .max, sequence: .max)
    var lastEventTime = Int64.min
    var ingestMinimum = Int64.max
    var ingestMaximum = Int64.min
    /// The first moment at which one of the events has happened and is known.
    var knownFrom = Int64.max
    /// One for each column of the plan; none for the newest chunk of a series while it is short.
    var blocks: [EventSeries.ColumnBlock] = []

    mutating func add(_ order: EventOrder) {
        count += 1
        first = min(first, order)
        lastEventTime = max(lastEventTime, order.eventTime)
        ingestMinimum = min(ingestMinimum, order.ingestTime)
        ingestMaximum = max(ingestMaximum, order.ingestTime)
        knownFrom = min(knownFrom, max(order.eventTime, order.ingestTime))
    }

    mutating func add(_ other: SpanSummary, plan: AggregationPlan) {
        count += other.count
        first = min(first, other.first)
        lastEventTime = max(lastEventTime, other.lastEventTime)
        ingestMinimum = min(ingestMinimum, other.ingestMinimum)
        ingestMaximum = max(ingestMaximum, other.ingestMaximum)
        knownFrom = min(knownFrom, other.knownFrom)
        if blocks.isEmpty {
            blocks = other.blocks
        } else {
            for index in plan.shapes.indices {
                var accumulator = Accumulator(plan.shapes[index].traits, from: blocks[index])
                accumulator.add(other.blocks[index])
                blocks[index] = accumulator.total
            }
        }
    }
}

/// Some tens of events of one entity, in order, row by row in one array.
struct EventChunk: Sendable {
    /// Names the chunk among the pages of its series; 0 for the newest one, which is part of the head.
    var identifier: UInt64 = 0
    var summary = SpanSummary()
    var words: [Int64] = []
    var texts: [String?] = []
    /// For each column whose values are compared, those of a chunk before the newest one, newest first; else empty.
    var values: [[ValueEntry]] = []
    /// Whether the events are in memory; the summary always is.
    var isLoaded = true
    /// Whether it differs from what is stored.
    var isChanged = true

    var count: Int { summary.count }

    @inline(__always)
    func eventTime(_ event: Int, _ stride: Int) -> Int64 { words[event * stride + EventLayout.eventTime] }
    @inline(__always)
    func ingestTime(_ event: Int, _ stride: Int) -> Int64 { words[event * stride + EventLayout.ingestTime] }
    func order(_ event: Int, _ stride: Int) -> EventOrder {
        let start = event * stride
        return EventOrder(
            eventTime: words[start], ingestTime: words[start + EventLayout.ingestTime],
            sequence: UInt64(bitPattern: words[start + EventLayout.sequence]))
    }
    /// Whether an event has a value in a column that is kept as an integer.
    @inline(__always)
    func isPresent(_ event: Int, column: Int, _ stride: Int) -> Bool {
        words[event * stride + EventLayout.flags + column >> 6] >> Int64(column & 63) & 1 != 0
    }

    /// Events at or before `moment`.
    func count(through moment: Int64, _ stride: Int) -> Int {
        words.withUnsafeBufferPointer { words in
            var (low, high) = (0, summary.count)
            while low < high {
                let middle = (low + high) / 2
                if words[middle * stride] <= moment { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }

    private func place(of order: EventOrder, _ stride: Int) -> Int {
        var (low, high) = (0, count)
        if high == 0 || self.order(high - 1, stride) < order { return high }
        while low < high {
            let middle = (low + high) / 2
            if order < self.order(middle, stride) { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Puts an event at its place.
    mutating func insert(
        _ row: UnsafeMutableBufferPointer<Int64>, _ rowTexts: [String?], _ order: EventOrder, _ layout: EventLayout
    ) {
        let place = place(of: order, layout.stride)
        if place == count {
            words.append(contentsOf: row)
            if !rowTexts.isEmpty { texts.append(contentsOf: rowTexts) }
        } else {
            words.insert(contentsOf: row, at: place * layout.stride)
            if !rowTexts.isEmpty { texts.insert(contentsOf: rowTexts, at: place * layout.textCount) }
        }
        summary.add(order)
        isChanged = true
    }

    /// A chunk of the events in `range`.
    func part(_ range: Range<Int>, identifier: UInt64, _ layout: EventLayout) -> EventChunk {
        var part = EventChunk()
        part.identifier = identifier
        part.words = Array(words[(range.lowerBound * layout.stride)..<(range.upperBound * layout.stride)])
        if layout.textCount > 0 {
            part.texts = Array(texts[(range.lowerBound * layout.textCount)..<(range.upperBound * layout.textCount)])
        }
        for event in 0..<range.count { part.summary.add(part.order(event, layout.stride)) }
        return part
    }

    /// Makes the summaries of all columns.
    mutating func summarize(_ plan: AggregationPlan) {
        summarizeColumns(plan)
        summarizeValues(plan)
    }

    /// Makes the summaries of all columns, but not of which values are equal.
    mutating func summarizeColumns(_ plan: AggregationPlan) {
        let stride = plan.layout.stride
        summary.blocks = plan.shapes.indices.map { index in
            let column = plan.shapes[index]
            var accumulator = Accumulator(column.traits)
            words.withUnsafeBufferPointer { words in
                switch column.storage {
                case .real: for event in 0..<count { accumulator.add(words[event * stride + column.slot]) }
                case .integer:
                    for event in 0..<count where isPresent(event, column: index, stride) {
                        accumulator.add(words[event * stride + column.slot])
                    }
                case .vector:
                    for event in 0..<count where isPresent(event, column: index, stride) { accumulator.addPresence() }
                case .text:
                    for event in 0..<count where texts[event * plan.layout.textCount + column.slot] != nil {
                        accumulator.addPresence()
                    }
                }
            }
            return accumulator.total
        }
    }

    /// Adds an event that was just inserted to the summaries of all columns.
    mutating func addToSummary(
        _ row: UnsafeMutableBufferPointer<Int64>, _ rowTexts: [String?], _ plan: AggregationPlan
    ) {
        for index in plan.shapes.indices {
            let column = plan.shapes[index]
            let slot = column.slot
            var accumulator = Accumulator(column.traits, from: summary.blocks[index])
            var isPresent: Bool { row[EventLayout.flags + index >> 6] >> Int64(index & 63) & 1 != 0 }
            switch column.storage {
            case .real: accumulator.add(row[slot])
            case .integer: if isPresent { accumulator.add(row[slot]) }
            case .text: if rowTexts[slot] != nil { accumulator.addPresence() }
            case .vector: if isPresent { accumulator.addPresence() }
            }
            summary.blocks[index] = accumulator.total
        }
    }
}

/// Up to some hundred chunks that follow each other: a page of the directory of a long series.
struct EventGroup: Sendable {
    var identifier: UInt64
    var summary = SpanSummary()
    var chunks: [EventChunk] = []
    var isLoaded = true
    var isChanged = true

    init(identifier: UInt64) { self.identifier = identifier }

    /// Makes the summary from those of the chunks.
    mutating func summarize(_ plan: AggregationPlan) {
        summary = SpanSummary()
        for chunk in chunks { summary.add(chunk.summary, plan: plan) }
    }
}
