import Definitions
import PlatformCore

/// Features that ask which values are equal, and lists.
extension EventSeries {
    /// The different values of one column, window by window, from the newest event back.
    func evaluate(
        _ group: AggregationPlan.ValueGroup, _ plan: AggregationPlan, upper: Position, tick: Int64,
        into sink: inout some FeatureSink, _ missing: inout [PageReference]
    ) {
        var windows = group.windows[...]
        if group.isBounded {
            // What is many for all that ask is not counted, nor anything longer.
            let last = windows.lastIndex { window in
                window.coupons.contains { coupons in
                    sink.number(coupons.place) <= Double(DistinctEstimate.exactCouponCountMax(coupons.precision))
                }
            }
            windows = windows[..<(last.map { $0 + 1 } ?? 0)]
            for window in group.windows[windows.endIndex...] {
                for output in window.outputs { sink.put(0, .int64, output.output) }
            }
        }
        if group.countsOnly, !valueIndexes.isEmpty,
            let counts = distinctCounts(of: group.column, windows: windows.map(\.window), at: tick)
        {
            for (window, count) in zip(windows, counts) {
                for output in window.outputs { sink.put(Int64(count), .int64, output.output) }
            }
            return
        }
        let (column, layout) = (plan.columns[group.column], plan.layout)
        var tally = ValueTally()
        var from = upper
        for window in windows {
            let low = position(after: Self.saturating(tick, minus: window.window), layout.stride, &missing)
            walkBack(from: low, to: from, tick: tick, isEager: true, &missing) { chunk, range, isKnown in
                if isKnown, range.count == chunk.count, !chunk.values.isEmpty {
                    chunk.addAll(group.column, column, layout, to: &tally)
                } else {
                    chunk.add(range, known: isKnown ? nil : tick, group.column, column, layout, to: &tally)
                }
                return true
            }
            from = min(from, low)
            for output in window.outputs {
                switch output.function {
                case .distinctCount: sink.put(Int64(tally.count), .int64, output.output)
                case .mode:
                    if let value = tally.mostFrequent {
                        Self.put(value, of: tally, column, output.output, into: &sink)
                    } else {
                        sink.putNull(output.output)
                    }
                default:
                    guard type(of: sink).takesLists, tally.count > 0 else {
                        sink.putNull(output.output)
                        continue
                    }
                    var cells = CellList()
                    for value in 0..<min(tally.count, output.countMax) {
                        Self.put(value, of: tally, column, 0, into: &cells)
                    }
                    sink.put(cells.values, output.output)
                }
            }
        }
    }

    private static func put(
        _ value: Int, of tally: ValueTally, _ column: AggregationPlan.Column, _ output: Int,
        into sink: inout some FeatureSink
    ) {
        switch column.storage {
        case .real: sink.put(Accumulator.real(tally.words[value]), output)
        case .integer: sink.put(tally.words[value], column.type, output)
        case .text: sink.put(tally.texts[value], output)
        case .vector: sink.putNull(output)
        }
    }

    /// The cells of the newest visible events that have one, newest first.
    func evaluate(
        _ list: AggregationPlan.List, _ plan: AggregationPlan, upper: Position, tick: Int64,
        into sink: inout some FeatureSink, _ missing: inout [PageReference]
    ) {
        guard type(of: sink).takesLists else {
            sink.putNull(list.output)
            return
        }
        let stride = plan.layout.stride
        var cells = CellList()
        let low = position(after: Self.saturating(tick, minus: list.window), stride, &missing)
        walkBack(from: low, to: upper, tick: tick, isEager: false, &missing) { chunk, range, isKnown in
            for event in range.reversed() where isKnown || chunk.ingestTime(event, stride) <= tick {
                if cells.values.count == list.countMax { return false }
                put(event: event, of: chunk, column: list.column, plan, 0, into: &cells)
            }
            return cells.values.count < list.countMax
        }
        if cells.values.isEmpty { sink.putNull(list.output) } else { sink.put(cells.values, list.output) }
    }

    /// The cell of the newest or oldest visible event for which a condition holds.
    func evaluate(
        _ pick: AggregationPlan.GatedPick, _ plan: AggregationPlan, upper: Position, tick: Int64,
        into sink: inout some FeatureSink, _ missing: inout [PageReference]
    ) {
        let stride = plan.layout.stride
        let low = position(after: Self.saturating(tick, minus: pick.window), stride, &missing)
        var found: (chunk: EventChunk, event: Int)?
        walkBack(
            from: low, to: upper, tick: tick, isEager: false, isReversed: !pick.isLast,
            wants: { $0.blocks[pick.gate].count > 0 }, &missing
        ) { chunk, range, isKnown in
            func holds(_ event: Int) -> Bool {
                (isKnown || chunk.ingestTime(event, stride) <= tick)
                    && chunk.isPresent(event, column: pick.gate, stride)
            }
            guard let event = pick.isLast ? range.last(where: holds) : range.first(where: holds) else { return true }
            found = (chunk, event)
            return false
        }
        if let found {
            put(event: found.event, of: found.chunk, column: pick.column, plan, pick.output, into: &sink)
        } else {
            sink.putNull(pick.output)
        }
    }

    /// Goes over the events between two places, the newest first, while `body` says so.
    ///
    /// - Parameters:
    ///   - isEager: goes on behind a page that is missing, so that all missing ones are told at once.
    ///   - isReversed: goes from the oldest chunk to the newest instead.
    ///   - wants: whether a chunk or group with this summary is looked at.
    ///   - body: takes a chunk and a range of its events; the flag says whether all of them are known at `tick`.
    private func walkBack(
        from low: Position, to high: Position, tick: Int64, isEager: Bool, isReversed: Bool = false,
        wants: (SpanSummary) -> Bool = { _ in true }, _ missing: inout [PageReference],
        _ body: (EventChunk, Range<Int>, Bool) -> Bool
    ) {
        guard low < high else { return }
        func goesOnInTail() -> Bool {
            guard high.group == groups.count else { return true }
            let start = low.group == groups.count ? low.offset : 0
            return start >= high.offset || body(tail, start..<high.offset, tail.summary.ingestMaximum <= tick)
        }
        /// `first ... last`, in the order of the walk; empty if the last comes before the first.
        func steps(_ first: Int, _ last: Int) -> StrideThrough<Int> {
            isReversed ? stride(from: first, through: last, by: 1) : stride(from: last, through: first, by: -1)
        }
        if !isReversed, !goesOnInTail() { return }
        for group in steps(low.group, min(high.group, groups.count - 1)) {
            if groups[group].summary.ingestMinimum > tick || !wants(groups[group].summary) { continue }
            let first = group == low.group ? low.chunk : 0
            let last = group == high.group ? high.chunk : groups[group].chunks.count - 1
            for index in steps(first, last) {
                let chunk = groups[group].chunks[index]
                let from = group == low.group && index == low.chunk ? low.offset : 0
                let to = group == high.group && index == high.chunk ? high.offset : chunk.count
                guard from < to, chunk.summary.ingestMinimum <= tick, wants(chunk.summary) else { continue }
                if chunk.isLoaded {
                    guard body(chunk, from..<to, chunk.summary.ingestMaximum <= tick) else { return }
                } else {
                    missing.append(reference(group, index))
                    guard isEager else { return }
                }
            }
        }
        if isReversed { _ = goesOnInTail() }
    }
}

/// Gathers cells one after another; nulls are left out.
private struct CellList: FeatureSink {
    static var takesLists: Bool { false }
    var values: [CellValue] = []
    func number(_: Int) -> Double { .nan }
    mutating func put(_: [CellValue], _: Int) {}
    mutating func putNull(_: Int) {}
    mutating func put(_ value: Double, _: Int) { values.append(.double(value)) }
    mutating func put(_ value: Int64, _ type: ColumnType, _: Int) {
        values.append(type == .bool ? .bool(value != 0) : .integer(value))
    }
    mutating func put(_ value: String, _: Int) { values.append(.text(value)) }
}
