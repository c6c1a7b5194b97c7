/// A page of a series that is not in memory.
public struct PageReference: Sendable, Hashable {
    let group: Int
    let chunk: Int
    /// Names the page among those of its series.
    public let identifier: UInt64
}

extension EventSeries {
    /// A place between events; the group after the last one is the newest chunk.
    struct Position: Comparable {
        var group: Int
        var chunk: Int
        var offset: Int

        static func < (left: Position, right: Position) -> Bool {
            (left.group, left.chunk, left.offset) < (right.group, right.chunk, right.offset)
        }
    }

    func chunk(at position: Position) -> EventChunk {
        position.group < groups.count ? groups[position.group].chunks[position.chunk] : tail
    }

    func reference(_ group: Int, _ chunk: Int) -> PageReference {
        PageReference(group: group, chunk: chunk, identifier: groups[group].chunks[chunk].identifier)
    }

    /// The place after the events at or before `moment`.
    ///
    /// - Parameter missing: told of the page that is needed and not in memory; the answer is then of no use.
    func position(after moment: Int64, _ stride: Int, _ missing: inout [PageReference]) -> Position {
        if groups.isEmpty || tail.summary.first.eventTime <= moment {
            return Position(group: groups.count, chunk: 0, offset: tail.count(through: moment, stride))
        }
        guard let group = Self.last(groups.count, { groups[$0].summary.first.eventTime <= moment }) else {
            return Position(group: 0, chunk: 0, offset: 0)
        }
        let count = groups[group].chunks.count
        let chunk = Self.last(count) { groups[group].chunks[$0].summary.first.eventTime <= moment } ?? 0
        var offset = groups[group].chunks[chunk].count
        if groups[group].chunks[chunk].summary.lastEventTime > moment {
            if groups[group].chunks[chunk].isLoaded {
                offset = groups[group].chunks[chunk].count(through: moment, stride)
            } else {
                missing.append(reference(group, chunk))
            }
        }
        return Position(group: group, chunk: chunk, offset: offset)
    }

    /// Goes over the events between two places that are known at `tick`, in order.
    ///
    /// - Parameters:
    ///   - whole: takes the summary of a chunk, or a group, all of whose events count.
    ///   - part: takes a chunk and a range of its events; the flag says whether all of them are known, else each has to
    ///     be looked at.
    @inline(__always)
    func walk(
        from low: Position, to high: Position, tick: Int64, _ missing: inout [PageReference],
        whole: (SpanSummary) -> Void, part: (EventChunk, Range<Int>, Bool) -> Void
    ) {
        guard low < high else { return }
        if low.group < groups.count { walkGroups(from: low, to: high, tick: tick, &missing, whole: whole, part: part) }
        guard high.group == groups.count else { return }
        let start = low.group == groups.count ? low.offset : 0
        if start < high.offset { part(tail, start..<high.offset, tail.summary.ingestMaximum <= tick) }
    }

    @inline(__always)
    private func walkGroups(
        from low: Position, to high: Position, tick: Int64, _ missing: inout [PageReference],
        whole: (SpanSummary) -> Void, part: (EventChunk, Range<Int>, Bool) -> Void
    ) {
        // In place: a copy of a chunk counts references to three arrays.
        groups.withUnsafeBufferPointer { groups in
            for group in low.group..<min(groups.count, high.group + 1) {
                let isFirst = group == low.group
                let isLast = group == high.group
                if groups[group].summary.ingestMinimum > tick { continue }
                if !isLast, !isFirst || low.chunk == 0 && low.offset == 0, groups[group].summary.ingestMaximum <= tick {
                    whole(groups[group].summary)
                    continue
                }
                groups[group].chunks.withUnsafeBufferPointer { chunks in
                    let firstChunk = isFirst ? low.chunk : 0
                    let lastChunk = isLast ? high.chunk : chunks.count - 1
                    guard firstChunk <= lastChunk else { return }
                    for index in firstChunk...lastChunk {
                        let from = isFirst && index == low.chunk ? low.offset : 0
                        let to = isLast && index == high.chunk ? high.offset : chunks[index].summary.count
                        guard from < to, chunks[index].summary.ingestMinimum <= tick else { continue }
                        let isKnown = chunks[index].summary.ingestMaximum <= tick
                        if isKnown, from == 0, to == chunks[index].summary.count {
                            whole(chunks[index].summary)
                        } else if chunks[index].isLoaded {
                            part(chunks[index], from..<to, isKnown)
                        } else {
                            missing.append(
                                PageReference(group: group, chunk: index, identifier: chunks[index].identifier))
                        }
                    }
                }
            }
        }
    }

    /// The newest event before `upper` that is known at `tick`.
    func newestVisible(before upper: Position, tick: Int64, _ stride: Int, _ missing: inout [PageReference])
        -> Position?
    {
        if upper.group == groups.count {
            var event = upper.offset - 1
            while event >= 0 {
                if tail.ingestTime(event, stride) <= tick {
                    return Position(group: upper.group, chunk: 0, offset: event)
                }
                event -= 1
            }
        }
        for group in Swift.stride(from: min(upper.group, groups.count - 1), through: 0, by: -1) {
            if groups[group].summary.ingestMinimum > tick { continue }
            let last = group == upper.group ? upper.chunk : groups[group].chunks.count - 1
            for index in Swift.stride(from: last, through: 0, by: -1) {
                let chunk = groups[group].chunks[index]
                var event = (group == upper.group && index == upper.chunk ? upper.offset : chunk.count) - 1
                guard event >= 0, chunk.summary.ingestMinimum <= tick else { continue }
                guard chunk.isLoaded else {
                    missing.append(reference(group, index))
                    return nil
                }
                while event >= 0 {
                    if chunk.ingestTime(event, stride) <= tick {
                        return Position(group: group, chunk: index, offset: event)
                    }
                    event -= 1
                }
            }
        }
        return nil
    }

    /// The first event from `low` on that is known at `tick`.
    func oldestVisible(from low: Position, tick: Int64, _ stride: Int, _ missing: inout [PageReference]) -> Position? {
        var group = low.group
        while group < groups.count {
            let start = group == low.group ? low.chunk : 0
            if groups[group].summary.ingestMinimum <= tick {
                for index in start..<groups[group].chunks.count {
                    let chunk = groups[group].chunks[index]
                    let from = group == low.group && index == low.chunk ? low.offset : 0
                    guard from < chunk.count, chunk.summary.ingestMinimum <= tick else { continue }
                    guard chunk.isLoaded else {
                        missing.append(reference(group, index))
                        return nil
                    }
                    for event in from..<chunk.count where chunk.ingestTime(event, stride) <= tick {
                        return Position(group: group, chunk: index, offset: event)
                    }
                }
            }
            group += 1
        }
        let from = low.group == groups.count ? low.offset : 0
        for event in from..<max(from, tail.count) where tail.ingestTime(event, stride) <= tick {
            return Position(group: groups.count, chunk: 0, offset: event)
        }
        return nil
    }
}
