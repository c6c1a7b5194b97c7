import Definitions
import PlatformCore

/// Events of one entity, sorted and laid out column by column.
extension EntitySweep {
    /// Takes the events of an entity, sorts them by the tie rule, and lays them out column by column.
    /// - Parameters:
    ///   - records: memory that holds the records.
    ///   - places: which of them are this entity's; left in the order of the tie rule.
    public func load(_ records: UnsafePointer<Int64>, places: UnsafeMutableBufferPointer<UInt32>) {
        let count = places.count
        reserve(events: count, questions: 0)
        let width = record.width
        base = records
        sequenceOrder = places.baseAddress
        eventCount = count
        sort(records, places)
        for index in 0..<count {
            let event = records + Int(places[index]) * width
            eventTimes[index] = event[1]
            ingestTimes[index] = event[2]
            seen[index] = max(event[1], event[2])
        }
        for (column, described) in plan.columns.enumerated() {
            let (words, present) = (words[column], present[column])
            let place = EventRecord.headWidth + column
            if described.storage == .real {
                for index in 0..<count {
                    let event = records + Int(places[index]) * width
                    // Adding zero makes a negative zero positive.
                    let value = Double(bitPattern: UInt64(bitPattern: event[place])) + 0.0
                    words[index] = Int64(bitPattern: value.bitPattern)
                    present[index] = record.hasValue(event, column: column) && !value.isNaN ? 1 : 0
                }
            } else {
                for index in 0..<count {
                    let event = records + Int(places[index]) * width
                    words[index] = event[place]
                    present[index] = record.hasValue(event, column: column) ? 1 : 0
                }
            }
            guard described.storage != .text else { continue }
            if described.needsSum || described.needsSquares {
                let scaled = scaled[column]
                if described.storage == .real {
                    for index in 0..<count where present[index] != 0 {
                        scaled[index] = ExactArithmetic.scaled(
                            Double(bitPattern: UInt64(bitPattern: words[index])), by: described.power)
                    }
                } else {
                    scaled.update(from: words, count: count)
                }
            }
            if described.needsExtremes {
                let rising = rising[column]
                // The order of doubles is that of their bits, with those of negative ones turned round.
                if described.storage == .real {
                    for index in 0..<count { rising[index] = words[index] ^ ((words[index] >> 63) & Int64.max) }
                } else {
                    rising.update(from: words, count: count)
                }
            }
        }
        var isInOrder = true
        for index in 0..<count {
            order[index] = UInt32(truncatingIfNeeded: index)
            if index > 0, seen[index] < seen[index - 1] { isInOrder = false }
        }
        if !isInOrder {
            let seen = seen
            sortIndices(order, count) { seen[Int($0)] }
        }
    }

    func sort(_ records: UnsafePointer<Int64>, _ places: UnsafeMutableBufferPointer<UInt32>) {
        guard let start = places.baseAddress, places.count > 1 else { return }
        let width = record.width
        var isSorted = true
        var hasTies = false
        var last = records[Int(places[0]) * width + 1]
        for index in 1..<places.count {
            let next = records[Int(places[index]) * width + 1]
            if next < last { isSorted = false }
            if next == last { hasTies = true }
            last = next
        }
        if !isSorted { sortIndices(start, places.count) { records[Int($0) * width + 1] } }
        guard hasTies || !isSorted else { return }
        var from = 0
        while from < places.count {
            let time = records[Int(places[from]) * width + 1]
            var to = from + 1
            while to < places.count, records[Int(places[to]) * width + 1] == time { to += 1 }
            if to - from > 1 {
                var ties = UnsafeMutableBufferPointer(rebasing: places[from..<to])
                ties.sort { left, right in
                    let (left, right) = (records + Int(left) * width, records + Int(right) * width)
                    return left[2] != right[2]
                        ? left[2] < right[2] : UInt64(bitPattern: left[3]) < UInt64(bitPattern: right[3])
                }
            }
            from = to
        }
    }

    /// Sorts indices by a key, equal keys in the order in which they stand.
    func sortIndices(_ indices: UnsafeMutablePointer<UInt32>, _ count: Int, _ key: (UInt32) -> Int64) {
        var (low, high) = (Int64.max, Int64.min)
        for index in 0..<count {
            let value = key(indices[index])
            low = min(low, value)
            high = max(high, value)
        }
        let (span, overflow) = high.subtractingReportingOverflow(low)
        let indexBits = Int.bitWidth - count.leadingZeroBitCount
        let spanBits = overflow ? 64 : Int64.bitWidth - span.leadingZeroBitCount
        guard spanBits + indexBits <= 64 else {
            let whole = (0..<count).map { (key(indices[$0]), $0, indices[$0]) }
                .sorted { ($0.0, $0.1) < ($1.0, $1.1) }
            for (index, entry) in whole.enumerated() { indices[index] = entry.2 }
            return
        }
        // Key and place in one word: the sort compares single integers, and is stable by itself.
        for index in 0..<count {
            packed[index] = UInt64(key(indices[index]) - low) << UInt64(indexBits) | UInt64(index)
        }
        let mask = (UInt64(1) << UInt64(indexBits)) - 1
        if count <= 40 {
            for index in 1..<max(1, count) {
                let value = packed[index]
                var place = index
                while place > 0, packed[place - 1] > value {
                    packed[place] = packed[place - 1]
                    place -= 1
                }
                packed[place] = value
            }
        } else {
            var keys = UnsafeMutableBufferPointer(start: packed, count: count)
            keys.sort()
        }
        // `queue` is free while events are loaded.
        queue.update(from: indices, count: count)
        for index in 0..<count { indices[index] = queue[Int(packed[index] & mask)] }
    }
}
