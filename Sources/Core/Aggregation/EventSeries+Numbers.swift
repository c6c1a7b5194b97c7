/// Sums and counts of events between two places, on plain memory.
extension EventSeries {
    /// Adds the events of one number column between two places that are known at `tick`.
    ///
    /// - Parameters:
    ///   - accumulator: holds the events from `high` to `upper`.
    ///   - index: the column's position in the plan.
    ///   - slot: the column's word in an event of `stride` words.
    ///   - upper: the place of the question.
    func accumulate(
        _ accumulator: inout Accumulator, _ index: Int, slot: Int, stride: Int, from low: Position, to high: Position,
        upper: Position, tick: Int64, _ missing: inout [PageReference]
    ) {
        guard low < high else { return }
        var total = accumulator
        var high = high
        if high.group == groups.count, low.group < groups.count || low.offset == 0, upper.offset == tail.count,
            !tail.summary.blocks.isEmpty, tail.summary.ingestMaximum <= tick
        {
            // The whole newest chunk, so its summary stands for what was added of it and for what is left.
            total.restart(from: tail.summary.blocks[index])
            high = Position(group: groups.count, chunk: 0, offset: 0)
        }
        let (isReal, flag) = (accumulator.isReal, EventLayout.flags + index >> 6)
        walk(from: low, to: high, tick: tick, &missing) { summary in
            total.add(summary.blocks[index])
        } part: { chunk, range, isKnown in
            chunk.words.withUnsafeBufferPointer { words in
                var start = range.lowerBound * stride
                for _ in range {
                    if isKnown || words[start + EventLayout.ingestTime] <= tick,
                        isReal || words[start + flag] >> Int64(index & 63) & 1 != 0
                    {
                        total.add(words[start + slot])
                    }
                    start += stride
                }
            }
        }
        accumulator = total
    }

    /// Counts the events between two places that are known at `tick`.
    func countVisible(
        from low: Position, to high: Position, tick: Int64, _ stride: Int, _ missing: inout [PageReference]
    )
        -> Int
    {
        var count = 0
        walk(from: low, to: high, tick: tick, &missing) { summary in
            count += summary.count
        } part: { chunk, range, isKnown in
            if isKnown {
                count += range.count
            } else {
                for event in range where chunk.ingestTime(event, stride) <= tick { count += 1 }
            }
        }
        return count
    }

    /// The words of the chunk in which a place is.
    func withWords(at position: Position, _ body: (UnsafeBufferPointer<Int64>) -> Void) {
        if position.group == groups.count {
            tail.words.withUnsafeBufferPointer(body)
        } else {
            groups[position.group].chunks[position.chunk].words.withUnsafeBufferPointer(body)
        }
    }
}
