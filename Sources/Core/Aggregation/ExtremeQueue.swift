/// Events that can still be the smallest of a sliding window, by place; their values rise from front to back.
struct ExtremeQueue {
    let storage: UnsafeMutablePointer<UInt32>
    var head = 0
    var tail = 0

    init(storage: UnsafeMutablePointer<UInt32>) { self.storage = storage }

    var first: Int { Int(storage[head]) }

    mutating func clear() {
        head = 0
        tail = 0
    }

    @inline(__always)
    mutating func drop(before event: Int) { while head < tail, Int(storage[head]) < event { head += 1 } }

    /// Adds an event, usually the newest; an older one that became known late goes to its place, if it can ever win.
    @inline(__always)
    mutating func insert(_ event: Int, _ value: (Int) -> Int64) {
        let added = value(event)
        guard head < tail, Int(storage[tail - 1]) > event else {
            while head < tail, value(Int(storage[tail - 1])) >= added { tail -= 1 }
            storage[tail] = UInt32(truncatingIfNeeded: event)
            tail += 1
            return
        }
        var (low, high) = (head, tail)
        while low < high {
            let middle = (low + high) / 2
            if Int(storage[middle]) < event { low = middle + 1 } else { high = middle }
        }
        // Values rise, so the next one is the smallest of those that leave later.
        if value(Int(storage[low])) <= added { return }
        var from = low
        while from > head, value(Int(storage[from - 1])) >= added { from -= 1 }
        if from == low {
            (storage + low + 1).update(from: storage + low, count: tail - low)
            tail += 1
        } else if from + 1 < low {
            (storage + from + 1).update(from: storage + low, count: tail - low)
            tail -= low - from - 1
        }
        storage[from] = UInt32(truncatingIfNeeded: event)
    }
}
