import Definitions
public import PlatformCore

/// What can be said of an entity at a moment, before any single feature.
public enum EntityPresence: Sendable, Hashable {
    /// No event of it is visible.
    case notFound
    /// Its newest visible event is older than the view's time to live.
    case outsideMaxAge(newestEventTime: EventTime)
    /// It has a visible event that is young enough.
    case present(newestEventTime: EventTime)
}

/// Where computed values go; a generic parameter, so that the fast path has no existential.
protocol FeatureSink {
    /// Whether lists go anywhere; if not, they are not made.
    static var takesLists: Bool { get }
    /// What was put as a number; NaN for anything else.
    func number(_ output: Int) -> Double
    mutating func put(_ values: [CellValue], _ output: Int)
    mutating func putNull(_ output: Int)
    mutating func put(_ value: Double, _ output: Int)
    mutating func put(_ value: Int64, _ type: ColumnType, _ output: Int)
    mutating func put(_ value: String, _ output: Int)
}

private struct NumberSink: FeatureSink {
    static var takesLists: Bool { false }
    let values: UnsafeMutableBufferPointer<Double>
    @inline(__always) func number(_ output: Int) -> Double { values[output] }
    @inline(__always) func put(_: [CellValue], _ output: Int) { values[output] = .nan }
    @inline(__always) func putNull(_ output: Int) { values[output] = .nan }
    @inline(__always) func put(_ value: Double, _ output: Int) { values[output] = value }
    @inline(__always) func put(_ value: Int64, _: ColumnType, _ output: Int) { values[output] = Double(value) }
    @inline(__always) func put(_: String, _ output: Int) { values[output] = .nan }
}

private struct CellSink: FeatureSink {
    static var takesLists: Bool { true }
    var values: [CellValue]
    func number(_ output: Int) -> Double { values[output].number ?? .nan }
    mutating func put(_ values: [CellValue], _ output: Int) { self.values[output] = .list(values) }
    mutating func putNull(_ output: Int) { values[output] = .null }
    mutating func put(_ value: Double, _ output: Int) { values[output] = .double(value) }
    mutating func put(_ value: Int64, _ type: ColumnType, _ output: Int) {
        values[output] = type == .bool ? .bool(value != 0) : .integer(value)
    }
    mutating func put(_ value: String, _ output: Int) { values[output] = .text(value) }
}

extension EventSeries {
    /// Computes every feature of `plan` at `time` as doubles, without allocating.
    ///
    /// Truth values are 0 and 1, moments milliseconds; NaN stands for null, for text and for lists.
    /// - Parameter values: at least as many places as `plan` has features.
    public func evaluate(_ plan: AggregationPlan, at time: EventTime, into values: UnsafeMutableBufferPointer<Double>)
        -> EntityPresence
    {
        precondition(values.count >= plan.features.count, "a place for every feature")
        guard plan.computed.count > plan.features.count else {
            var sink = NumberSink(values: values)
            return evaluate(plan, at: time.milliseconds, into: &sink)
        }
        return withUnsafeTemporaryAllocation(of: Double.self, capacity: plan.computed.count) { places in
            var sink = NumberSink(values: places)
            let presence = evaluate(plan, at: time.milliseconds, into: &sink)
            for output in plan.features.indices { values[output] = places[output] }
            return presence
        }
    }

    /// Every feature of `plan` at `time` as typed cells.
    public func cells(_ plan: AggregationPlan, at time: EventTime) -> (presence: EntityPresence, values: [CellValue]) {
        var sink = CellSink(values: Array(repeating: .null, count: plan.computed.count))
        let presence = evaluate(plan, at: time.milliseconds, into: &sink)
        sink.values.removeLast(plan.computed.count - plan.features.count)
        return (presence, sink.values)
    }

    /// What features are for an entity that has never been seen: 0 for counts, null for the rest.
    public static func writeNothing(_ plan: AggregationPlan, into values: UnsafeMutableBufferPointer<Double>) {
        for (output, feature) in plan.features.enumerated() {
            values[output] = feature.function.countsNothingAsZero ? 0 : .nan
        }
    }

    private func evaluate(_ plan: AggregationPlan, at time: Int64, into sink: inout some FeatureSink) -> EntityPresence
    {
        let tick = plan.tick(at: time)
        let upper = firstIndex(after: tick)
        let newest = newestVisible(before: upper, tick: tick)
        guard newest >= 0 else {
            for (output, feature) in plan.computed.enumerated() {
                if feature.function.countsNothingAsZero {
                    sink.put(0, .int64, output)
                } else {
                    sink.putNull(output)
                }
            }
            return .notFound
        }
        let newestTime = eventTimes[newest]
        if let timeToLive = plan.timeToLive, newestTime <= Self.saturating(tick, minus: timeToLive) {
            for output in plan.computed.indices { sink.putNull(output) }
            return .outsideMaxAge(newestEventTime: EventTime(milliseconds: newestTime))
        }
        for group in plan.groups { evaluate(group, plan, upper: upper, tick: tick, into: &sink) }
        for pick in plan.picks {
            var chosen = newest
            if let window = pick.window {
                let edge = Self.saturating(tick, minus: window)
                if newestTime <= edge {
                    sink.putNull(pick.output)
                    continue
                }
                if !pick.isLast { chosen = oldestVisible(from: firstIndex(after: edge), tick: tick) }
            }
            put(event: chosen, column: pick.column, plan, pick.output, into: &sink)
        }
        for group in plan.codeGroups { evaluate(group, plan, upper: upper, tick: tick, into: &sink) }
        for list in plan.lists {
            if type(of: sink).takesLists {
                let low = firstIndex(after: Self.saturating(tick, minus: list.window))
                let values = newestCells(
                    of: list.column, plan, atMost: list.countMax, from: low, to: upper, tick: tick)
                if values.isEmpty { sink.putNull(list.output) } else { sink.put(values, list.output) }
            } else {
                sink.putNull(list.output)
            }
        }
        for ratio in plan.ratios {
            let quotient = ExactArithmetic.ratio(
                sink.number(ratio.operands.numerator), sink.number(ratio.operands.denominator))
            if let quotient { sink.put(quotient, ratio.output) } else { sink.putNull(ratio.output) }
        }
        return .present(newestEventTime: EventTime(milliseconds: newestTime))
    }

    private func evaluate(
        _ group: AggregationPlan.ColumnGroup, _ plan: AggregationPlan, upper: Int, tick: Int64,
        into sink: inout some FeatureSink
    ) {
        var from = upper
        guard let index = group.column else {
            var count = 0
            for window in group.windows {
                let low = firstIndex(after: Self.saturating(tick, minus: window.window))
                count += countVisible(from: low, to: from, tick: tick)
                from = low
                for output in window.outputs { sink.put(Int64(count), .int64, output.output) }
            }
            return
        }
        let column = plan.columns[index]
        guard column.storage != .text else {
            var count = 0
            for window in group.windows {
                let low = firstIndex(after: Self.saturating(tick, minus: window.window))
                count += countTexts(of: index, from: low, to: from, tick: tick)
                from = low
                for output in window.outputs { sink.put(Int64(count), .int64, output.output) }
            }
            return
        }
        var accumulator = Accumulator(column)
        for window in group.windows {
            let low = firstIndex(after: Self.saturating(tick, minus: window.window))
            accumulate(&accumulator, column: index, isReal: column.storage == .real, from: low, to: from, tick: tick)
            from = low
            let total = accumulator.total
            for output in window.outputs {
                put(total, output.function, column, output.output, into: &sink)
            }
        }
    }

    @inline(__always)
    private func put(
        _ total: ColumnBlock, _ function: AggregateFunction, _ column: AggregationPlan.Column, _ output: Int,
        into sink: inout some FeatureSink
    ) {
        func put(_ value: Double?) { if let value { sink.put(value, output) } else { sink.putNull(output) } }
        func put(word: Int64) {
            if column.storage == .real {
                sink.put(Accumulator.real(word), output)
            } else {
                sink.put(word, column.type, output)
            }
        }
        switch function {
        case .count: sink.put(Int64(total.count), .int64, output)
        case _ where total.count == 0: sink.putNull(output)
        case .sum: put(ExactArithmetic.sum(total.sum, power: column.power))
        case .mean: put(ExactArithmetic.mean(total.sum, count: total.count, power: column.power))
        case .stddev:
            put(
                ExactArithmetic.standardDeviation(
                    total.squareSum, squares: total.squares, count: total.count, power: column.power))
        case .min: put(word: total.minimum)
        case .max: put(word: total.maximum)
        case .last, .first, .distinctCount, .mode, .lastN, .lastNDistinct, .ratio: sink.putNull(output)
        }
    }

    func put(
        event: Int, column index: Int, _ plan: AggregationPlan, _ output: Int, into sink: inout some FeatureSink
    ) {
        let column = plan.columns[index]
        switch column.storage {
        case .real:
            let value = Accumulator.real(columns[index].words[event])
            if value.isNaN { sink.putNull(output) } else { sink.put(value, output) }
        case .integer:
            if columns[index].present[event] {
                sink.put(columns[index].words[event], column.type, output)
            } else {
                sink.putNull(output)
            }
        case .text:
            if let text = columns[index].texts[event] { sink.put(text, output) } else { sink.putNull(output) }
        }
    }

    // MARK: Walking events and blocks

    private func accumulate(
        _ accumulator: inout Accumulator, column index: Int, isReal: Bool, from low: Int, to high: Int, tick: Int64
    ) {
        guard low < high else { return }
        columns[index].words.withUnsafeBufferPointer { words in
            columns[index].present.withUnsafeBufferPointer { present in
                ingestTimes.withUnsafeBufferPointer { ingest in
                    var event = low
                    while event < high {
                        let block = event / Self.blockSize
                        let end = min(high, (block + 1) * Self.blockSize)
                        if block < settledBlockCount {
                            if blockIngest[block].minimum > tick {
                                event = end
                                continue
                            }
                            if event == block * Self.blockSize, end - event == Self.blockSize,
                                blockIngest[block].maximum <= tick
                            {
                                accumulator.add(columns[index].blocks[block])
                                event = end
                                continue
                            }
                        }
                        while event < end {
                            if ingest[event] <= tick, isReal || present[event] { accumulator.add(words[event]) }
                            event += 1
                        }
                    }
                }
            }
        }
    }

    private func countTexts(of index: Int, from low: Int, to high: Int, tick: Int64) -> Int {
        var (event, count) = (low, 0)
        while event < high {
            let block = event / Self.blockSize
            let end = min(high, (block + 1) * Self.blockSize)
            if block < settledBlockCount, event == block * Self.blockSize, end - event == Self.blockSize,
                blockIngest[block].maximum <= tick
            {
                count += columns[index].blocks[block].count
            } else if block >= settledBlockCount || blockIngest[block].minimum <= tick {
                for place in event..<end where ingestTimes[place] <= tick && columns[index].texts[place] != nil {
                    count += 1
                }
            }
            event = end
        }
        return count
    }

    private func countVisible(from low: Int, to high: Int, tick: Int64) -> Int {
        var (event, count) = (low, 0)
        while event < high {
            let block = event / Self.blockSize
            let end = min(high, (block + 1) * Self.blockSize)
            if block < settledBlockCount, blockIngest[block].maximum <= tick {
                count += end - event
            } else if block >= settledBlockCount || blockIngest[block].minimum <= tick {
                for index in event..<end where ingestTimes[index] <= tick { count += 1 }
            }
            event = end
        }
        return count
    }

    /// Number of events at or before `moment`.
    func firstIndex(after moment: Int64) -> Int {
        eventTimes.withUnsafeBufferPointer { times in
            var (low, high) = (0, times.count)
            while low < high {
                let middle = (low + high) / 2
                if times[middle] <= moment { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }

    private func newestVisible(before upper: Int, tick: Int64) -> Int {
        var event = upper - 1
        while event >= 0 {
            let block = event / Self.blockSize
            if block < settledBlockCount, blockIngest[block].minimum > tick {
                event = block * Self.blockSize - 1
                continue
            }
            if ingestTimes[event] <= tick { return event }
            event -= 1
        }
        return -1
    }

    /// The first visible event from `low` on; the caller knows that there is one.
    private func oldestVisible(from low: Int, tick: Int64) -> Int {
        var event = low
        while event < count {
            let block = event / Self.blockSize
            if block < settledBlockCount, blockIngest[block].minimum > tick {
                event = (block + 1) * Self.blockSize
                continue
            }
            if ingestTimes[event] <= tick { return event }
            event += 1
        }
        preconditionFailure("the caller found a visible event in the window")
    }

    static func saturating(_ moment: Int64, minus span: Int64) -> Int64 {
        let (difference, overflow) = moment.subtractingReportingOverflow(span)
        return overflow ? .min : difference
    }
}
