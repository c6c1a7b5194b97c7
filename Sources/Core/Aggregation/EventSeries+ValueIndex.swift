import PlatformCore

/// What distinct counts of a long series go by, made apart from the series.
public struct ValueIndexes: Sendable {
    var indexes: [ValueIndex]
}

/// A value that came in while what distinct counts go by was being made.
struct ArrivedValue: Sendable {
    /// Position among the plan's counted columns.
    let place: Int
    /// Bits of a number; of no use beside a text.
    let word: Int64
    let text: String?
    let eventTime: Int64
    let known: Int64
}

/// Distinct counts of long series without looking at their events.
extension EventSeries {
    /// Chunks from which on a series that is asked for distinct counts keeps a `ValueIndex`.
    static let indexedChunkCountMin = 16
    /// Events from which on making it takes longer than a reader should be held up for.
    static let largeCountMin = 16_384

    /// Whether a distinct count is about to look at many events each time.
    public func wantsValueIndexes(_ plan: AggregationPlan) -> Bool {
        valueIndexes.isEmpty && count >= Self.indexedChunkCountMin * plan.sizes.chunk && !plan.countedColumns.isEmpty
    }

    /// Whether what it wants takes long to be made.
    public func wantsLargeValueIndexes(_ plan: AggregationPlan) -> Bool {
        count >= Self.largeCountMin && wantsValueIndexes(plan)
    }

    /// Whether it keeps what distinct counts go by.
    public var hasValueIndexes: Bool { !valueIndexes.isEmpty }

    /// Makes what distinct counts go by: each event is looked at once, and the index kept up from then on.
    ///
    /// It is not part of the stored form, and pages that are read for it do not stay in memory.
    /// - Parameter pages: gives the bytes of pages that are not in memory, in their order.
    /// - Throws: what `pages` throws, and `DecodingFailure` for a page that is not the series'.
    public mutating func makeValueIndexes(
        plan: AggregationPlan, pages: ([PageReference]) throws -> [[UInt8]]
    ) throws {
        valueIndexes = try makingValueIndexes(plan: plan, pages: pages).indexes
        arrivedValues = nil
    }

    /// As `makeValueIndexes`, but leaves the series as it is: to be taken by `adopt`, of this series or of what has become
    /// of it since `beginValueIndexes`.
    public func makingValueIndexes(
        plan: AggregationPlan, pages: ([PageReference]) throws -> [[UInt8]]
    ) throws -> ValueIndexes {
        var scan = ValueScan(plan, series: self)
        for group in groups.indices {
            let chunks = groups[group].chunks
            let missing = chunks.indices.filter { !chunks[$0].isLoaded }
            let bytes = missing.isEmpty ? [] : try pages(missing.map { reference(group, $0) })
            guard bytes.count == missing.count else { throw DecodingFailure("a page of the series is missing") }
            for (chunk, page) in zip(missing, bytes) { try scan.add(page: page, chunks[chunk].summary) }
            for chunk in chunks where chunk.isLoaded { scan.add(chunk) }
        }
        scan.add(tail)
        return ValueIndexes(indexes: scan.finished())
    }

    /// Notes from now on what comes in, for an index that is made of a copy of the series.
    public mutating func beginValueIndexes() { arrivedValues = [] }

    /// Takes what was made of a copy, and what came in since.
    /// - Returns: `false` if the series has not noted what came in: it is to be made again.
    public mutating func adopt(_ made: ValueIndexes, plan: AggregationPlan) -> Bool {
        guard let arrived = arrivedValues else { return false }
        valueIndexes = made.indexes
        for value in arrived {
            if let text = value.text {
                valueIndexes[value.place].note(text, at: value.eventTime, known: value.known)
            } else {
                valueIndexes[value.place].note(value.word, at: value.eventTime, known: value.known)
            }
        }
        arrivedValues = nil
        return true
    }

    /// Lets go of what distinct counts go by; the next of them asks for it again.
    public mutating func dropValueIndexes() {
        valueIndexes = []
        arrivedValues = nil
    }

    /// Notes an event that is being inserted.
    mutating func noteValues(
        of row: UnsafeMutableBufferPointer<Int64>, _ texts: [String?], _ order: EventOrder, _ plan: AggregationPlan
    ) {
        let known = max(order.eventTime, order.ingestTime)
        for (place, column) in plan.countedColumns.enumerated() {
            let shape = plan.shapes[column]
            var (word, text) = (Int64(0), String?.none)
            switch shape.storage {
            case .real:
                word = row[shape.slot]
                if Accumulator.real(word).isNaN { continue }
            case .integer:
                guard row[EventLayout.flags + column >> 6] >> Int64(column & 63) & 1 != 0 else { continue }
                word = row[shape.slot]
            case .text:
                text = texts[shape.slot]
                if text == nil { continue }
            case .vector: continue
            }
            if arrivedValues != nil {
                arrivedValues?.append(
                    ArrivedValue(place: place, word: word, text: text, eventTime: order.eventTime, known: known))
            }
            guard place < valueIndexes.count else { continue }
            if let text {
                valueIndexes[place].note(text, at: order.eventTime, known: known)
            } else {
                valueIndexes[place].note(word, at: order.eventTime, known: known)
            }
        }
    }

    /// How many different values of a column lie in each of these windows at `tick`; `nil` if only the events can tell.
    func distinctCounts(of column: Int, windows: some Collection<Int64>, at tick: Int64) -> [Int]? {
        guard let index = valueIndexes.firstIndex(where: { $0.column == column }) else { return nil }
        var counts: [Int] = []
        for window in windows {
            guard let count = valueIndexes[index].count(after: Self.saturating(tick, minus: window), at: tick) else {
                return nil
            }
            counts.append(count)
        }
        return counts
    }
}

/// Goes over the events of a series, in memory or in stored pages, and gathers when the counted columns had which values.
private struct ValueScan {
    /// Occurrences that are gathered before they go into an index.
    private static let gatheredCountMax = 1 << 16

    private let plan: AggregationPlan
    private var indexes: [ValueIndex] = []
    private var gathered: [[ValueIndex.Occurrence]]
    /// Event times of the page at hand.
    private var times: [Int64] = []

    init(_ plan: AggregationPlan, series: EventSeries) {
        self.plan = plan
        let known = max(series.newestIngestTime, series.newestEventTime ?? .min)
        gathered = Array(repeating: [], count: plan.countedColumns.count)
        for (column, most) in zip(plan.countedColumns, plan.countedValueMaxima) {
            var index = ValueIndex(
                column: column, isText: plan.columns[column].storage == .text, known: known,
                valueCountMax: most)
            index.reserve(series.groups.reduce(series.tail.count) { $0 + $1.summary.blocks[column].count })
            indexes.append(index)
        }
    }

    private mutating func add(_ word: Int64, at time: Int64, to place: Int) {
        gathered[place].append((word, time))
        guard gathered[place].count >= Self.gatheredCountMax else { return }
        indexes[place].take(gathered[place])
        gathered[place].removeAll(keepingCapacity: true)
    }

    /// Adds the events of a chunk in memory.
    mutating func add(_ chunk: EventChunk) {
        let stride = plan.layout.stride
        for (place, column) in plan.countedColumns.enumerated() {
            let shape = plan.shapes[column]
            for event in 0..<chunk.count {
                let time = chunk.eventTime(event, stride)
                switch shape.storage {
                case .real:
                    let word = chunk.words[event * stride + shape.slot]
                    if !Accumulator.real(word).isNaN { add(word, at: time, to: place) }
                case .integer:
                    guard chunk.isPresent(event, column: column, stride) else { continue }
                    add(chunk.words[event * stride + shape.slot], at: time, to: place)
                case .text:
                    guard let text = chunk.texts[event * plan.layout.textCount + shape.slot] else { continue }
                    indexes[place].take(text, at: time)
                case .vector: break
                }
            }
        }
    }

    /// Adds the events of a stored page, without making a chunk of it.
    mutating func add(page bytes: [UInt8], _ known: SpanSummary) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        try EventSeries.readPageTimes(&reader, known, plan, into: &times)
        for (index, column) in plan.columns.enumerated() {
            guard let place = plan.countedColumns.firstIndex(of: index) else {
                try EventSeries.skip(column, count: times.count, &reader)
                continue
            }
            for time in times {
                switch column.storage {
                case .real:
                    let word = try reader.fixed(Int64.self)
                    if !Accumulator.real(word).isNaN { add(word, at: time, to: place) }
                case .integer: if try reader.byte() != 0 { add(try reader.signed(), at: time, to: place) }
                case .text: if try reader.byte() != 0 { indexes[place].take(try reader.text(), at: time) }
                case .vector: break  // is not counted
                }
            }
        }
        try EventSeries.expectEnd(reader)
    }

    /// The indexes of everything that was added.
    mutating func finished() -> [ValueIndex] {
        for place in indexes.indices {
            indexes[place].take(gathered[place])
            indexes[place].built()
        }
        return indexes
    }
}
