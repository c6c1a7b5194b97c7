import Definitions
public import PlatformCore

/// The events of one entity in one view: all that its features can still need, in the order of the tie rule.
///
/// Events lie by (event time, ingest time, sequence) in chunks of some tens. Chunks have summaries and stand in groups
/// that have summaries too, so a window of a million events costs tens of steps, an event that is late moves some ten
/// others, and what has not changed is not written again. The newest chunk is the only one of most entities. Chunks may
/// be out of memory; `docs/adr/0012-chunked-state.md` has the reasons.
///
/// The series does not know its plan; every call is given the same one.
public struct EventSeries: Sendable {
    /// What a summary says of one column.
    struct ColumnBlock: Sendable, Equatable {
        var count = 0
        var sum: Int128 = 0
        var squareSum: Int128 = 0
        var squares: Int128 = 0
        /// Smallest and largest value, as kept: bits of a double, or an integer.
        var minimum: Int64 = 0
        var maximum: Int64 = 0
    }

    /// Chunks older than the newest one, by group.
    var groups: [EventGroup] = []
    /// The newest events.
    var tail = EventChunk()
    /// Events in `groups`.
    var groupedCount = 0
    /// Pages that are stored and no longer needed.
    var removedPages: [UInt64] = []
    /// What distinct counts of a long series go by, one for each counted column, or none; see `makeValueIndexes`.
    var valueIndexes: [ValueIndex] = []
    /// What came in since `beginValueIndexes`.
    var arrivedValues: [ArrivedValue]?
    var nextIdentifier: UInt64 = 1
    /// Events at which the series is next looked through for those that nothing needs.
    var trimCount = Self.trimCountMin
    /// One more than the highest sequence ever inserted, forgotten events included; 0 before the first.
    public internal(set) var nextSequence: UInt64 = 0
    /// Newest ingest time ever inserted.
    public internal(set) var newestIngestTime = Int64.min

    static let trimCountMin = 64
    /// Events from which on the newest chunk has a summary too: fewer are added up as fast as one is read.
    static let summarizedCountMin = 8

    /// A series without events.
    public init(plan: AggregationPlan) {}

    /// Events kept.
    public var count: Int { groupedCount + tail.count }
    /// Event time of the newest event.
    public var newestEventTime: Int64? {
        if tail.count > 0 { return tail.summary.lastEventTime }
        return groups.last?.summary.lastEventTime
    }
    /// Whether a part of it is stored in pages of its own.
    public var hasPages: Bool { !groups.isEmpty }
    /// Bytes of memory that its events take, about.
    public var byteCount: Int {
        var count = valueIndexes.reduce(0) { $0 + $1.byteCount } + (arrivedValues?.count ?? 0) * 56
        count += tail.words.count * 8 + tail.texts.count * 16 + tail.summary.blocks.count * 96
        for group in groups {
            for chunk in group.chunks {
                count += 160 + 96 * chunk.summary.blocks.count + chunk.words.count * 8 + chunk.texts.count * 16
                count += chunk.values.reduce(0) { $0 + $1.count * 16 }
            }
        }
        return count
    }

    // MARK: Inserting

    /// The page that has to be loaded before an event can be inserted; `nil` if none has to.
    public func pageNeeded(toInsertAt eventTime: EventTime, ingestTime: EventTime, sequence: UInt64) -> PageReference? {
        guard !groups.isEmpty else { return nil }
        let order = EventOrder(
            eventTime: eventTime.milliseconds, ingestTime: ingestTime.milliseconds, sequence: sequence)
        if order >= tail.summary.first { return nil }
        let (group, chunk) = place(of: order)
        if groups[group].chunks[chunk].isLoaded { return nil }
        return PageReference(group: group, chunk: chunk, identifier: groups[group].chunks[chunk].identifier)
    }

    /// What came of an event that was offered.
    public enum Insertion: Sendable {
        /// It was added; so many of its values are too large to be summed.
        case added(unsummable: Int)
        /// Its sequence is not above all that were inserted, so it was added before.
        case knownBefore
        /// This page has to be loaded first.
        case needs(PageReference)
    }

    /// Adds an event unless it was added before: events are offered in the order of their sequences.
    ///
    /// As `insert`, in one call: a caller that keeps the series in an object would copy it for each question.
    public mutating func offer(
        eventTime: EventTime, ingestTime: EventTime, sequence: UInt64, cells: [CellValue], plan: AggregationPlan
    ) -> Insertion {
        if sequence < nextSequence { return .knownBefore }
        if let page = pageNeeded(toInsertAt: eventTime, ingestTime: ingestTime, sequence: sequence) {
            return .needs(page)
        }
        return .added(
            unsummable: insert(
                eventTime: eventTime, ingestTime: ingestTime, sequence: sequence, cells: cells, plan: plan))
    }

    /// Adds an event at its place, in a time that does not depend on the length of the series.
    ///
    /// The page that it belongs to must be loaded: see `pageNeeded`.
    /// - Parameters:
    ///   - cells: the source row's cells.
    ///   - isWhole: the cells of derived columns stand behind them and are not computed again.
    /// - Returns: how many of its values are too large to be summed.
    @discardableResult
    public mutating func insert(
        eventTime: EventTime, ingestTime: EventTime, sequence: UInt64, cells: [CellValue], isWhole: Bool = false,
        plan: AggregationPlan
    ) -> Int {
        let order = EventOrder(
            eventTime: eventTime.milliseconds, ingestTime: ingestTime.milliseconds, sequence: sequence)
        nextSequence = max(nextSequence, sequence &+ 1)
        newestIngestTime = max(newestIngestTime, order.ingestTime)
        return withUnsafeTemporaryAllocation(of: Int64.self, capacity: plan.layout.stride) { row in
            row.initialize(repeating: 0)
            row[EventLayout.eventTime] = order.eventTime
            row[EventLayout.ingestTime] = order.ingestTime
            row[EventLayout.sequence] = Int64(bitPattern: sequence)
            var texts: [String?] = []
            let unsummable =
                plan.isDerived && !isWhole
                ? Self.fill(row, &texts, plan.view.row(cells), plan) : Self.fill(row, &texts, cells, plan)
            if !valueIndexes.isEmpty || arrivedValues != nil { noteValues(of: row, texts, order, plan) }
            place(row, texts, order, plan)
            return unsummable
        }
    }

    private static func fill(
        _ row: UnsafeMutableBufferPointer<Int64>, _ texts: inout [String?], _ cells: [CellValue],
        _ plan: AggregationPlan
    ) -> Int {
        var unsummable = 0
        for index in plan.shapes.indices {
            let column = plan.shapes[index]
            let cell = column.position < cells.count ? cells[column.position] : .null
            switch column.storage {
            case .real:
                // Adding zero makes a negative zero positive: which of two zeros is the smaller must not depend on order.
                let value = (cell.number ?? .nan) + 0.0
                if column.traits.needsSum || column.traits.needsSquares, !value.isNaN,
                    ExactArithmetic.scaled(value, by: column.traits.power) == ExactArithmetic.unsummable
                {
                    unsummable += 1
                }
                row[column.slot] = Int64(bitPattern: value.bitPattern)
            case .integer:
                guard let value = integer(cell) else { continue }
                if column.traits.needsSum || column.traits.needsSquares, value == ExactArithmetic.unsummable {
                    unsummable += 1
                }
                row[column.slot] = value
                row[EventLayout.flags + index >> 6] |= 1 << Int64(index & 63)
            case .text:
                if case .text(let value) = cell { texts.append(value) } else { texts.append(nil) }
            case .vector:
                guard EventChunk.write(cell, to: row, at: column.slot, length: column.length) else {
                    continue
                }
                row[EventLayout.flags + index >> 6] |= 1 << Int64(index & 63)
            }
        }
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

    private mutating func place(
        _ row: UnsafeMutableBufferPointer<Int64>, _ texts: [String?], _ order: EventOrder, _ plan: AggregationPlan
    ) {
        if groups.isEmpty || order >= tail.summary.first {
            tail.insert(row, texts, order, plan.layout)
            if tail.count >= 2 * plan.sizes.chunk {
                seal(plan)
            } else if tail.summary.blocks.isEmpty {
                if tail.count >= min(Self.summarizedCountMin, plan.sizes.chunk) { tail.summarizeColumns(plan) }
            } else {
                tail.addToSummary(row, texts, plan)
            }
            return
        }
        let (group, chunk) = place(of: order)
        insert(row, texts, order, group, chunk, plan)
    }

    /// The chunk before the newest one in which an event belongs.
    private func place(of order: EventOrder) -> (group: Int, chunk: Int) {
        let group = Self.last(groups.count) { groups[$0].summary.first <= order } ?? 0
        let chunks = groups[group].chunks
        return (group, Self.last(chunks.count) { chunks[$0].summary.first <= order } ?? 0)
    }

    /// The last of `count` indexes for which `holds`; it holds for all before that one.
    static func last(_ count: Int, _ holds: (Int) -> Bool) -> Int? {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if holds(middle) { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? low - 1 : nil
    }

    private mutating func insert(
        _ row: UnsafeMutableBufferPointer<Int64>, _ texts: [String?], _ order: EventOrder, _ group: Int, _ chunk: Int,
        _ plan: AggregationPlan
    ) {
        precondition(groups[group].chunks[chunk].isLoaded, "the page of a late event is loaded before")
        var single = EventChunk()
        single.insert(row, texts, order, plan.layout)
        single.summarize(plan)
        groups[group].summary.add(single.summary, plan: plan)
        let blocks = groups[group].chunks[chunk].summary.blocks
        groups[group].chunks[chunk].insert(row, texts, order, plan.layout)
        for (index, column) in plan.columns.enumerated() {
            var accumulator = Accumulator(column, from: blocks[index])
            accumulator.add(single.summary.blocks[index])
            groups[group].chunks[chunk].summary.blocks[index] = accumulator.total
        }
        groups[group].chunks[chunk].summarizeValues(plan)
        groups[group].isChanged = true
        groupedCount += 1
        if groups[group].chunks[chunk].count >= 2 * plan.sizes.chunk { split(group, chunk, plan) }
    }

    private mutating func newIdentifier() -> UInt64 {
        defer { nextIdentifier += 1 }
        return nextIdentifier
    }

    /// Makes the older half of the newest chunk a chunk of its own.
    private mutating func seal(_ plan: AggregationPlan) {
        let half = tail.count / 2
        var sealed = tail.part(0..<half, identifier: newIdentifier(), plan.layout)
        sealed.summarize(plan)
        tail = tail.part(half..<tail.count, identifier: 0, plan.layout)
        if groups.last.map({ $0.chunks.count >= plan.sizes.group }) ?? true {
            groups.append(EventGroup(identifier: newIdentifier()))
        }
        groupedCount += sealed.count
        let last = groups.count - 1
        groups[last].summary.add(sealed.summary, plan: plan)
        groups[last].chunks.append(sealed)
        groups[last].isChanged = true
    }

    private mutating func split(_ group: Int, _ chunk: Int, _ plan: AggregationPlan) {
        let whole = groups[group].chunks[chunk]
        var parts = [
            whole.part(0..<(whole.count / 2), identifier: whole.identifier, plan.layout),
            whole.part((whole.count / 2)..<whole.count, identifier: newIdentifier(), plan.layout),
        ]
        for index in parts.indices { parts[index].summarize(plan) }
        groups[group].chunks.replaceSubrange(chunk...chunk, with: parts)
        guard groups[group].chunks.count >= 2 * plan.sizes.group else { return }
        var second = EventGroup(identifier: newIdentifier())
        second.chunks = Array(groups[group].chunks[plan.sizes.group...])
        groups[group].chunks.removeSubrange(plan.sizes.group...)
        groups[group].summarize(plan)
        second.summarize(plan)
        groups.insert(second, at: group + 1)
    }

    // MARK: Forgetting

    /// Forgets events that no question at or after `earliest` can need, if enough came in since the last time.
    ///
    /// When it does so depends on the events alone, so a series that is built again from the log forgets the same.
    public mutating func trimIfGrown(answeringFrom earliest: EventTime, plan: AggregationPlan) {
        if count >= trimCount { trim(answeringFrom: earliest, plan: plan) }
    }

    /// Forgets events that no question at or after `earliest` can need: whole chunks, and single events of the newest one.
    ///
    /// An event is needed while a window can hold it once it is known, or while it can be the newest visible one: no newer
    /// event is known as early.
    public mutating func trim(answeringFrom earliest: EventTime, plan: AggregationPlan) {
        let first = plan.tick(at: earliest.milliseconds)
        if !groups.isEmpty { trimChunks(first, plan) }
        if groups.isEmpty { trimTail(first, plan) }
        for index in valueIndexes.indices {
            valueIndexes[index].trim(after: Self.saturating(first, minus: plan.reach))
        }
        let kept = count
        trimCount = max(Self.trimCountMin, min(2 * kept, kept + plan.sizes.chunk))
    }

    private mutating func trimChunks(_ first: Int64, _ plan: AggregationPlan) {
        let (edge, underflow) = first.subtractingReportingOverflow(plan.reach)
        func isOut(_ summary: SpanSummary) -> Bool {
            plan.reach == 0 || !underflow && summary.lastEventTime <= edge
        }
        var knownFrom = tail.summary.knownFrom
        var knownAfter: [Int64] = []
        for group in groups.reversed() {
            knownAfter.append(knownFrom)
            knownFrom = min(knownFrom, group.summary.knownFrom)
        }
        var wholeGroups = 0
        while wholeGroups < groups.count, isOut(groups[wholeGroups].summary),
            knownAfter[groups.count - 1 - wholeGroups] <= first
        {
            wholeGroups += 1
        }
        for group in groups[..<wholeGroups] {
            groupedCount -= group.summary.count
            removedPages.append(group.identifier)
            removedPages += group.chunks.map(\.identifier)
        }
        let after = wholeGroups < groups.count ? knownAfter[groups.count - 1 - wholeGroups] : Int64.max
        groups.removeFirst(wholeGroups)
        guard let group = groups.first else { return }
        var out = 0
        while out < group.chunks.count, isOut(group.chunks[out].summary),
            group.chunks[(out + 1)...].reduce(after, { min($0, $1.summary.knownFrom) }) <= first
        {
            out += 1
        }
        guard out > 0 else { return }
        removedPages += group.chunks[..<out].map(\.identifier)
        groupedCount -= group.chunks[..<out].reduce(0) { $0 + $1.count }
        groups[0].chunks.removeFirst(out)
        groups[0].isChanged = true
        if groups[0].chunks.isEmpty {
            removedPages.append(groups[0].identifier)
            groups.removeFirst()
        } else {
            groups[0].summarize(plan)
        }
    }

    private mutating func trimTail(_ first: Int64, _ plan: AggregationPlan) {
        let layout = plan.layout
        var keep = [Bool](repeating: true, count: tail.count)
        var newerKnownFrom = Int64.max
        var kept = tail.count
        for index in stride(from: tail.count - 1, through: 0, by: -1) {
            let event = tail.eventTime(index, layout.stride)
            let known = max(event, tail.ingestTime(index, layout.stride))
            let visibleFrom = max(first, known)
            let (edge, underflow) = visibleFrom.subtractingReportingOverflow(plan.reach)
            let inWindow = plan.reach > 0 && (underflow || event > edge)
            keep[index] = inWindow || newerKnownFrom > visibleFrom
            if !keep[index] { kept -= 1 }
            // An event counts as known once it has also happened.
            newerKnownFrom = min(newerKnownFrom, known)
        }
        guard kept < tail.count else { return }
        var words: [Int64] = []
        var texts: [String?] = []
        words.reserveCapacity(kept * layout.stride)
        for index in keep.indices where keep[index] {
            words.append(contentsOf: tail.words[(index * layout.stride)..<((index + 1) * layout.stride)])
            if layout.textCount > 0 {
                texts.append(contentsOf: tail.texts[(index * layout.textCount)..<((index + 1) * layout.textCount)])
            }
        }
        tail = EventChunk()
        tail.words = words
        tail.texts = texts
        for index in 0..<kept { tail.summary.add(tail.order(index, layout.stride)) }
    }
}
