import Definitions
public import PlatformCore

/// The features of a plan laid out flat: what a read that wants numbers goes by.
///
/// A plan is made of arrays and names, and who walks them counts references that every other reader counts too: on two
/// processors that cost more than the arithmetic. Here everything is plain memory that nobody owns but the program.
///
/// `@unchecked`: its memory is written in `init` and never again.
public final class ReadProgram: @unchecked Sendable {
    /// What one window of one column answers.
    private struct Output {
        let function: AggregateFunction
        let place: Int
    }
    private struct ColumnWindow {
        /// Position in `windows`.
        let window: Int
        let outputs: Range<Int>
    }
    /// Aggregates over one number column, or the count of events.
    private struct Group {
        /// Position among the plan's columns; -1 for a count of events.
        let column: Int
        let traits: Accumulator.Traits
        let slot: Int
        let windows: Range<Int>
    }
    private struct Pick {
        let isLast: Bool
        let storage: AggregationPlan.Storage
        let column: Int
        let slot: Int
        /// Position in `windows`; -1 for all history.
        let window: Int
        let place: Int
    }

    /// The plan it was made from.
    public let plan: AggregationPlan
    private let stride: Int
    private let featureCount: Int
    private let placeCount: Int
    private let timeToLive: Int64?
    private let isInclusive: Bool
    /// Whether a feature asks which values are equal or chooses an event by a condition, or counts texts or vectors: those
    /// go by the plan.
    private let hasMore: Bool
    private let outputs: UnsafeMutableBufferPointer<Output>
    private let columnWindows: UnsafeMutableBufferPointer<ColumnWindow>
    private let groups: UnsafeMutableBufferPointer<Group>
    private let picks: UnsafeMutableBufferPointer<Pick>
    private let combinations: UnsafeMutableBufferPointer<AggregationPlan.Combination>
    /// Places of lists, which are no numbers.
    private let lists: UnsafeMutableBufferPointer<Int>
    /// The windows of all features, rising.
    private let windows: UnsafeMutableBufferPointer<Int64>
    /// What the places hold where there is no event.
    private let nothing: UnsafeMutableBufferPointer<Double>

    /// Compiles a plan.
    public init(_ plan: AggregationPlan) {
        self.plan = plan
        stride = plan.layout.stride
        featureCount = plan.features.count
        placeCount = plan.computed.count
        timeToLive = plan.timeToLive
        isInclusive = plan.inclusive
        func isFlat(_ group: AggregationPlan.ColumnGroup) -> Bool {
            group.column.map { plan.columns[$0].storage.isNumber } ?? true
        }
        let flat = plan.groups.filter(isFlat)
        hasMore = flat.count < plan.groups.count || !plan.valueGroups.isEmpty || !plan.gatedPicks.isEmpty
        let spans = Set(flat.flatMap { $0.windows.map(\.window) } + plan.picks.compactMap(\.window)).sorted()
        func place(of window: Int64) -> Int { spans.firstIndex(of: window) ?? 0 }
        var (outputs, columnWindows, groups): ([Output], [ColumnWindow], [Group]) = ([], [], [])
        for group in flat {
            let first = columnWindows.count
            for window in group.windows {
                let start = outputs.count
                outputs += window.outputs.map { Output(function: $0.function, place: $0.output) }
                columnWindows.append(
                    ColumnWindow(window: place(of: window.window), outputs: start..<outputs.count))
            }
            groups.append(
                Group(
                    column: group.column ?? -1,
                    traits: group.column.map { Accumulator.Traits(plan.columns[$0]) } ?? Accumulator.Traits(),
                    slot: group.column.map { plan.layout.slots[$0] } ?? 0, windows: first..<columnWindows.count))
        }
        let picks = plan.picks.map { pick in
            Pick(
                isLast: pick.isLast, storage: plan.columns[pick.column].storage, column: pick.column,
                slot: plan.layout.slots[pick.column], window: pick.window.map(place) ?? -1, place: pick.output)
        }
        self.outputs = Self.kept(outputs)
        self.columnWindows = Self.kept(columnWindows)
        self.groups = Self.kept(groups)
        self.picks = Self.kept(picks)
        combinations = Self.kept(plan.combinations)
        lists = Self.kept(plan.lists.map(\.output))
        windows = Self.kept(spans)
        nothing = Self.kept(plan.computed.map { $0.function.countsNothingAsZero ? 0 : .nan })
        // A place that nothing writes would be served as whatever stood in that memory.
        for (place, count) in writerCounts.enumerated() where count != 1 {
            preconditionFailure("\(count) parts of the program write '\(plan.computed[place].name)'")
        }
    }

    /// For each computed place, how many parts of the program write it for an entity that is present: exactly one.
    var writerCounts: [Int] {
        var counts = [Int](repeating: 0, count: placeCount)
        for group in groups {
            for window in group.windows {
                for output in columnWindows[window].outputs { counts[outputs[output].place] += 1 }
            }
        }
        for pick in picks { counts[pick.place] += 1 }
        if hasMore {
            for place in EventSeries.placesOfValues(plan) { counts[place] += 1 }
        }
        for place in lists { counts[place] += 1 }
        for combination in combinations { counts[combination.output] += 1 }
        return counts
    }

    deinit {
        outputs.deallocate()
        columnWindows.deallocate()
        groups.deallocate()
        picks.deallocate()
        combinations.deallocate()
        lists.deallocate()
        windows.deallocate()
        nothing.deallocate()
    }

    private static func kept<Element>(_ elements: [Element]) -> UnsafeMutableBufferPointer<Element> {
        let memory = UnsafeMutableBufferPointer<Element>.allocate(capacity: elements.count)
        _ = memory.initialize(from: elements)
        return memory
    }

    /// What features are for an entity that has never been seen: 0 for counts, null for the rest.
    public func writeNothing(into values: UnsafeMutableBufferPointer<Double>) {
        for place in 0..<featureCount { values[place] = nothing[place] }
    }

    /// Computes every feature at `time` as doubles, without allocating.
    ///
    /// Truth values are 0 and 1, moments milliseconds; NaN stands for null, for text and for lists.
    /// - Parameters:
    ///   - series: an entity's events under the same plan.
    ///   - values: at least as many places as the plan has features.
    ///   - missing: is told of pages that are needed and not in memory. Where it is told of any, the answer is of no use:
    ///     load them and ask again.
    public func evaluate(
        _ series: borrowing EventSeries, at time: EventTime, into values: UnsafeMutableBufferPointer<Double>,
        missing: inout [PageReference]
    ) -> EntityPresence {
        precondition(values.count >= featureCount, "a place for every feature")
        let moment = time.milliseconds
        let tick = isInclusive || moment == .min ? moment : moment - 1
        if placeCount == featureCount { return evaluate(series, tick, values, &missing) }
        return withUnsafeTemporaryAllocation(of: Double.self, capacity: placeCount) { places in
            let presence = evaluate(series, tick, places, &missing)
            for place in 0..<featureCount { values[place] = places[place] }
            return presence
        }
    }

    private func evaluate(
        _ series: borrowing EventSeries, _ tick: Int64, _ values: UnsafeMutableBufferPointer<Double>,
        _ missing: inout [PageReference]
    ) -> EntityPresence {
        let upper = series.position(after: tick, stride, &missing)
        guard let newest = series.newestVisible(before: upper, tick: tick, stride, &missing) else {
            for place in 0..<placeCount { values[place] = nothing[place] }
            return .notFound
        }
        let newestTime = series.eventTime(at: newest, stride)
        if let timeToLive, newestTime <= EventSeries.saturating(tick, minus: timeToLive) {
            for place in 0..<placeCount { values[place] = .nan }
            return .outsideMaxAge(newestEventTime: EventTime(milliseconds: newestTime))
        }
        withUnsafeTemporaryAllocation(of: EventSeries.Position.self, capacity: max(1, windows.count)) { lows in
            for index in windows.indices {
                lows[index] = series.position(
                    after: EventSeries.saturating(tick, minus: windows[index]), stride, &missing)
            }
            for index in groups.indices {
                if groups[index].column < 0 {
                    count(series, groups[index], upper, tick, lows, values, &missing)
                } else {
                    aggregate(series, groups[index], upper, tick, lows, values, &missing)
                }
            }
            for index in picks.indices { pick(series, picks[index], newest, newestTime, tick, lows, values, &missing) }
        }
        if hasMore { series.evaluateValues(plan, upper: upper, tick: tick, into: values, &missing) }
        for index in lists.indices { values[lists[index]] = .nan }
        for index in combinations.indices {
            let operands = combinations[index].operands
            let (upper, lower) = (values[operands.numerator], values[operands.denominator])
            values[combinations[index].output] =
                if let precision = operands.precision {
                    Double(EventSeries.estimate(upper, lower, precision))
                } else {
                    ExactArithmetic.ratio(upper, lower) ?? .nan
                }
        }
        return .present(newestEventTime: EventTime(milliseconds: newestTime))
    }

    // MARK: One column

    private func count(
        _ series: borrowing EventSeries, _ group: Group, _ upper: EventSeries.Position, _ tick: Int64,
        _ lows: UnsafeMutableBufferPointer<EventSeries.Position>, _ values: UnsafeMutableBufferPointer<Double>,
        _ missing: inout [PageReference]
    ) {
        var (from, count) = (upper, 0)
        for index in group.windows {
            let low = lows[columnWindows[index].window]
            if low < from { count += series.countVisible(from: low, to: from, tick: tick, stride, &missing) }
            from = low
            for output in columnWindows[index].outputs { values[outputs[output].place] = Double(count) }
        }
    }

    private func aggregate(
        _ series: borrowing EventSeries, _ group: Group, _ upper: EventSeries.Position, _ tick: Int64,
        _ lows: UnsafeMutableBufferPointer<EventSeries.Position>, _ values: UnsafeMutableBufferPointer<Double>,
        _ missing: inout [PageReference]
    ) {
        var accumulator = Accumulator(group.traits)
        var from = upper
        // What a window gives is computed once, however many windows hold just these events.
        var answers = Answers()
        for index in group.windows {
            let low = lows[columnWindows[index].window]
            if low < from {
                series.accumulate(
                    &accumulator, group.column, slot: group.slot, stride: stride, from: low, to: from, upper: upper,
                    tick: tick, &missing)
                answers = Answers()
            }
            from = low
            for output in columnWindows[index].outputs {
                values[outputs[output].place] = answers.value(
                    outputs[output].function, accumulator.total, group.traits)
            }
        }
    }

    /// The values of the functions over one set of events.
    private struct Answers {
        private var sum: Double?
        private var mean: Double?
        private var deviation: Double?

        @inline(__always)
        mutating func value(
            _ function: AggregateFunction, _ total: EventSeries.ColumnBlock, _ traits: Accumulator.Traits
        ) -> Double {
            if function == .count { return Double(total.count) }
            if total.count == 0 { return .nan }
            switch function {
            case .min: return traits.number(total.minimum)
            case .max: return traits.number(total.maximum)
            case .sum:
                let value = sum ?? ExactArithmetic.sum(total.sum, power: traits.power) ?? .nan
                sum = value
                return value
            case .mean:
                let value =
                    mean ?? ExactArithmetic.mean(total.sum, count: total.count, power: traits.power) ?? .nan
                mean = value
                return value
            case .stddev:
                let value =
                    deviation
                    ?? ExactArithmetic.standardDeviation(
                        total.squareSum, squares: total.squares, count: total.count, power: traits.power) ?? .nan
                deviation = value
                return value
            case .count, .last, .first, .distinctCount, .approxCountDistinct, .mode, .lastN, .lastNDistinct, .ratio:
                return .nan
            }
        }
    }

    private func pick(
        _ series: borrowing EventSeries, _ pick: Pick, _ newest: EventSeries.Position, _ newestTime: Int64,
        _ tick: Int64, _ lows: UnsafeMutableBufferPointer<EventSeries.Position>,
        _ values: UnsafeMutableBufferPointer<Double>, _ missing: inout [PageReference]
    ) {
        values[pick.place] = .nan
        var chosen = newest
        if pick.window >= 0 {
            if newestTime <= EventSeries.saturating(tick, minus: windows[pick.window]) { return }
            if !pick.isLast {
                guard let oldest = series.oldestVisible(from: lows[pick.window], tick: tick, stride, &missing) else {
                    return  // its page is missing
                }
                chosen = oldest
            }
        }
        let start = chosen.offset * stride
        series.withWords(at: chosen) { words in
            switch pick.storage {
            case .real: values[pick.place] = Accumulator.real(words[start + pick.slot])
            case .integer:
                let flags = words[start + EventLayout.flags + pick.column >> 6]
                if flags >> Int64(pick.column & 63) & 1 != 0 {
                    values[pick.place] = Double(words[start + pick.slot])
                }
            case .text, .vector: break
            }
        }
    }
}
