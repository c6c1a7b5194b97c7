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
    /// Every feature of `plan` at `time` as typed cells; `missing` as in `ReadProgram.evaluate`.
    public func cells(_ plan: AggregationPlan, at time: EventTime, missing: inout [PageReference])
        -> (presence: EntityPresence, values: [CellValue])
    {
        var sink = CellSink(values: Array(repeating: .null, count: plan.computed.count))
        let presence = evaluate(plan, at: time.milliseconds, into: &sink, &missing)
        sink.values.removeLast(plan.computed.count - plan.features.count)
        return (presence, sink.values)
    }

    /// Every feature of `plan` at `time` as typed cells; all pages are in memory.
    public func cells(_ plan: AggregationPlan, at time: EventTime) -> (presence: EntityPresence, values: [CellValue]) {
        var missing: [PageReference] = []
        let answer = cells(plan, at: time, missing: &missing)
        precondition(missing.isEmpty, "all pages are in memory")
        return answer
    }

    /// The numbers that a `ReadProgram` leaves to its plan: counts of texts and vectors, `last` and `first` with a condition,
    /// and features of equal values.
    func evaluateValues(
        _ plan: AggregationPlan, upper: Position, tick: Int64, into values: UnsafeMutableBufferPointer<Double>,
        _ missing: inout [PageReference]
    ) {
        var sink = NumberSink(values: values)
        for group in plan.groups {
            guard let column = group.column, !plan.columns[column].storage.isNumber else { continue }
            evaluate(group, plan, upper: upper, tick: tick, into: &sink, &missing)
        }
        for pick in plan.gatedPicks { evaluate(pick, plan, upper: upper, tick: tick, into: &sink, &missing) }
        for group in plan.valueGroups { evaluate(group, plan, upper: upper, tick: tick, into: &sink, &missing) }
    }

    /// The places that `evaluateValues` writes.
    static func placesOfValues(_ plan: AggregationPlan) -> [Int] {
        var places: [Int] = []
        for group in plan.groups {
            guard let column = group.column, !plan.columns[column].storage.isNumber else { continue }
            places += group.windows.flatMap { $0.outputs.map(\.output) }
        }
        places += plan.gatedPicks.map(\.output)
        return places + plan.valueGroups.flatMap { $0.windows.flatMap { $0.outputs.map(\.output) } }
    }

    private func evaluate(
        _ plan: AggregationPlan, at time: Int64, into sink: inout some FeatureSink, _ missing: inout [PageReference]
    ) -> EntityPresence {
        let tick = plan.tick(at: time)
        let layout = plan.layout
        let upper = position(after: tick, layout.stride, &missing)
        guard let newest = newestVisible(before: upper, tick: tick, layout.stride, &missing) else {
            for (output, feature) in plan.computed.enumerated() {
                if feature.function.countsNothingAsZero {
                    sink.put(0, .int64, output)
                } else {
                    sink.putNull(output)
                }
            }
            return .notFound
        }
        let newestTime = eventTime(at: newest, layout.stride)
        if let timeToLive = plan.timeToLive, newestTime <= Self.saturating(tick, minus: timeToLive) {
            for output in plan.computed.indices { sink.putNull(output) }
            return .outsideMaxAge(newestEventTime: EventTime(milliseconds: newestTime))
        }
        for group in plan.groups { evaluate(group, plan, upper: upper, tick: tick, into: &sink, &missing) }
        for pick in plan.picks {
            var chosen: Position? = newest
            if let window = pick.window {
                let edge = Self.saturating(tick, minus: window)
                if newestTime <= edge {
                    sink.putNull(pick.output)
                    continue
                }
                if !pick.isLast {
                    let low = position(after: edge, layout.stride, &missing)
                    chosen = oldestVisible(from: low, tick: tick, layout.stride, &missing)
                }
            }
            guard let chosen else { continue }  // its page is missing
            put(event: chosen.offset, of: chunk(at: chosen), column: pick.column, plan, pick.output, into: &sink)
        }
        for pick in plan.gatedPicks { evaluate(pick, plan, upper: upper, tick: tick, into: &sink, &missing) }
        for group in plan.valueGroups { evaluate(group, plan, upper: upper, tick: tick, into: &sink, &missing) }
        for list in plan.lists { evaluate(list, plan, upper: upper, tick: tick, into: &sink, &missing) }
        for combination in plan.combinations {
            let operands = combination.operands
            let (upper, lower) = (sink.number(operands.numerator), sink.number(operands.denominator))
            if let precision = operands.precision {
                sink.put(
                    Self.estimate(upper, lower, precision), .int64,
                    combination.output)
            } else if let quotient = ExactArithmetic.ratio(upper, lower) {
                sink.put(quotient, combination.output)
            } else {
                sink.putNull(combination.output)
            }
        }
        return .present(newestEventTime: EventTime(milliseconds: newestTime))
    }

    /// A count from the exact one and that of the coupons; where pages are missing they may be no numbers.
    static func estimate(_ exact: Double, _ coupons: Double, _ precision: Int) -> Int64 {
        DistinctEstimate.count(
            exact: Int64(exactly: exact) ?? 0, coupons: Int64(exactly: coupons) ?? 0, precision: precision)
    }

    private func evaluate(
        _ group: AggregationPlan.ColumnGroup, _ plan: AggregationPlan, upper: Position, tick: Int64,
        into sink: inout some FeatureSink, _ missing: inout [PageReference]
    ) {
        let layout = plan.layout
        var from = upper
        guard let index = group.column, plan.columns[index].storage.isNumber else {
            var count = 0
            for window in group.windows {
                let low = position(after: Self.saturating(tick, minus: window.window), layout.stride, &missing)
                count += countVisible(from: low, to: from, tick: tick, column: group.column, plan, &missing)
                from = low
                for output in window.outputs { sink.put(Int64(count), .int64, output.output) }
            }
            return
        }
        let column = plan.columns[index]
        var accumulator = Accumulator(column)
        for window in group.windows {
            let low = position(after: Self.saturating(tick, minus: window.window), layout.stride, &missing)
            accumulate(
                &accumulator, index, slot: layout.slots[index], stride: layout.stride, from: low, to: from,
                upper: upper, tick: tick, &missing)
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
        case .last, .first, .distinctCount, .approxCountDistinct, .mode, .lastN, .lastNDistinct, .ratio:
            sink.putNull(output)
        }
    }

    func eventTime(at position: Position, _ stride: Int) -> Int64 {
        if position.group == groups.count { return tail.eventTime(position.offset, stride) }
        return groups[position.group].chunks[position.chunk].eventTime(position.offset, stride)
    }

    @inline(__always)
    func put(
        event: Int, of chunk: EventChunk, column index: Int, _ plan: AggregationPlan, _ output: Int,
        into sink: inout some FeatureSink
    ) {
        let (column, layout) = (plan.columns[index], plan.layout)
        let word = event * layout.stride + layout.slots[index]
        switch column.storage {
        case .real:
            let value = Accumulator.real(chunk.words[word])
            if value.isNaN { sink.putNull(output) } else { sink.put(value, output) }
        case .integer:
            if chunk.isPresent(event, column: index, layout.stride) {
                sink.put(chunk.words[word], column.type, output)
            } else {
                sink.putNull(output)
            }
        case .text:
            if let text = chunk.texts[event * layout.textCount + layout.slots[index]] {
                sink.put(text, output)
            } else {
                sink.putNull(output)
            }
        case .vector:
            if type(of: sink).takesLists, chunk.isPresent(event, column: index, layout.stride) {
                sink.put(chunk.vector(at: word, length: column.length), output)
            } else {
                sink.putNull(output)
            }
        }
    }

    // MARK: Walking events and summaries

    /// Counts events, or those that have a text or a vector.
    private func countVisible(
        from low: Position, to high: Position, tick: Int64, column index: Int?, _ plan: AggregationPlan,
        _ missing: inout [PageReference]
    ) -> Int {
        var count = 0
        let layout = plan.layout
        walk(from: low, to: high, tick: tick, &missing) { summary in
            count += index.map { summary.blocks[$0].count } ?? summary.count
        } part: { chunk, range, isKnown in
            if isKnown, index == nil {
                count += range.count
            } else {
                for event in range where isKnown || chunk.ingestTime(event, layout.stride) <= tick {
                    guard let index else {
                        count += 1
                        continue
                    }
                    if chunk.holds(event, index, plan.columns[index].storage, layout) { count += 1 }
                }
            }
        }
        return count
    }

    static func saturating(_ moment: Int64, minus span: Int64) -> Int64 {
        let (difference, overflow) = moment.subtractingReportingOverflow(span)
        return overflow ? .min : difference
    }
}
