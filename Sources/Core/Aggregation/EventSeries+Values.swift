import Definitions
import PlatformCore

/// Features that ask which values are equal, and lists.
extension EventSeries {
    /// Counts the different values of one column, window by window, from the newest event back.
    ///
    /// Values come up in the order of their newest events, so the first of several equally frequent ones is the mode.
    func evaluate(
        _ group: AggregationPlan.CodeGroup, _ plan: AggregationPlan, upper: Int, tick: Int64,
        into sink: inout some FeatureSink
    ) {
        let codes = columns[group.column].codes
        let capacity = max(1, codes.count)
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: 2 * capacity) { scratch in
            scratch.update(repeating: 0)
            var tally = Tally(
                counts: UnsafeMutableBufferPointer(rebasing: scratch[..<capacity]),
                order: UnsafeMutableBufferPointer(rebasing: scratch[capacity...]))
            var from = upper
            for window in group.windows {
                let low = firstIndex(after: Self.saturating(tick, minus: window.window))
                count(into: &tally, codes, from: low, to: from, tick: tick)
                from = min(from, low)
                for output in window.outputs {
                    switch output.function {
                    case .distinctCount: sink.put(Int64(tally.distinct), .int64, output.output)
                    case .mode:
                        if let code = tally.mostFrequent {
                            put(code: code, column: group.column, plan, output.output, into: &sink)
                        } else {
                            sink.putNull(output.output)
                        }
                    default:
                        guard type(of: sink).takesLists, tally.distinct > 0 else {
                            sink.putNull(output.output)
                            continue
                        }
                        var cells = CellList()
                        for place in 0..<min(tally.distinct, output.countMax) {
                            put(code: Int(tally.order[place]), column: group.column, plan, 0, into: &cells)
                        }
                        sink.put(cells.values, output.output)
                    }
                }
            }
        }
    }

    /// How often each value occurs, and the values in the order in which they came up.
    private struct Tally {
        let counts: UnsafeMutableBufferPointer<Int32>
        let order: UnsafeMutableBufferPointer<Int32>
        var distinct = 0

        @inline(__always)
        mutating func add(_ code: Int32, _ count: Int32) {
            let place = Int(code)
            if counts[place] == 0 {
                order[distinct] = code
                distinct += 1
            }
            counts[place] += count
        }

        var mostFrequent: Int? {
            var (best, most) = (-1, Int32(0))
            for place in 0..<distinct where counts[Int(order[place])] > most {
                best = Int(order[place])
                most = counts[best]
            }
            return best < 0 ? nil : best
        }
    }

    private func count(into tally: inout Tally, _ codes: ValueCodes, from low: Int, to high: Int, tick: Int64) {
        codes.events.withUnsafeBufferPointer { events in
            codes.entries.withUnsafeBufferPointer { entries in
                var end = high
                while end > low {
                    let block = (end - 1) / Self.blockSize
                    let start = max(low, block * Self.blockSize)
                    if block < settledBlockCount, blockIngest[block].minimum > tick {
                        end = start
                        continue
                    }
                    if block < settledBlockCount, end - start == Self.blockSize, blockIngest[block].maximum <= tick {
                        for place in codes.starts[block]..<codes.starts[block + 1] {
                            tally.add(entries[place].code, entries[place].count)
                        }
                    } else {
                        for event in stride(from: end - 1, through: start, by: -1)
                        where events[event] >= 0 && ingestTimes[event] <= tick {
                            tally.add(events[event], 1)
                        }
                    }
                    end = start
                }
            }
        }
    }

    private func put(
        code: Int, column index: Int, _ plan: AggregationPlan, _ output: Int, into sink: inout some FeatureSink
    ) {
        let column = plan.columns[index]
        switch column.storage {
        case .real: sink.put(Accumulator.real(columns[index].codes.words[code]), output)
        case .integer: sink.put(columns[index].codes.words[code], column.type, output)
        case .text: sink.put(columns[index].codes.texts[code], output)
        }
    }

    /// The cells of the newest visible events that have one, newest first.
    func newestCells(
        of column: Int, _ plan: AggregationPlan, atMost countMax: Int, from low: Int, to high: Int, tick: Int64
    ) -> [CellValue] {
        var cells = CellList()
        var event = high - 1
        while event >= low, cells.values.count < countMax {
            let block = event / Self.blockSize
            if block < settledBlockCount, blockIngest[block].minimum > tick {
                event = block * Self.blockSize - 1
                continue
            }
            if ingestTimes[event] <= tick { put(event: event, column: column, plan, 0, into: &cells) }
            event -= 1
        }
        return cells.values
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
