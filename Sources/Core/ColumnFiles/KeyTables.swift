/// Numbers distinct 64-bit words in the order of their coming.
public struct WordTable: Sendable {
    /// The words, by number.
    public private(set) var keys: [Int64] = []
    private var slots: [UInt32]
    private var mask: Int

    /// An empty table.
    public init(capacity: Int = 1024) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        slots = [UInt32](repeating: .max, count: size)
        mask = size - 1
    }

    /// Number of words.
    public var count: Int { keys.count }
    /// What `find` gives for an unknown key.
    public static let none = UInt32.max

    @inline(__always)
    private static func slot(_ key: Int64, _ mask: Int) -> Int {
        var hash = UInt64(bitPattern: key) &* 0x9E37_79B9_7F4A_7C15
        hash ^= hash >> 32
        hash &*= 0xD6E8_FEB8_6659_FD93
        return Int(truncatingIfNeeded: hash >> 20) & mask
    }

    /// The word's number, a new one if it is not known.
    public mutating func insert(_ key: Int64) -> UInt32 {
        var slot = Self.slot(key, mask)
        while true {
            let number = slots[slot]
            if number == .max { break }
            if keys[Int(number)] == key { return number }
            slot = (slot + 1) & mask
        }
        let number = UInt32(keys.count)
        keys.append(key)
        slots[slot] = number
        if keys.count * 2 > slots.count { grow() }
        return number
    }

    private mutating func grow() {
        slots = [UInt32](repeating: .max, count: slots.count * 2)
        mask = slots.count - 1
        for (number, key) in keys.enumerated() {
            var slot = Self.slot(key, mask)
            while slots[slot] != .max { slot = (slot + 1) & mask }
            slots[slot] = UInt32(number)
        }
    }

    /// Numbers of many words; `none` for unknown ones.
    public func find(_ words: [Int64]) -> [UInt32] {
        var out = [UInt32](repeating: Self.none, count: words.count)
        slots.withUnsafeBufferPointer { slots in
            keys.withUnsafeBufferPointer { keys in
                for (index, word) in words.enumerated() {
                    var slot = Self.slot(word, mask)
                    while true {
                        let number = slots[slot]
                        if number == .max { break }
                        if keys[Int(number)] == word {
                            out[index] = number
                            break
                        }
                        slot = (slot + 1) & mask
                    }
                }
            }
        }
        return out
    }
}

/// Numbers distinct texts, compared by their bytes, in the order of their coming.
public struct TextTable: Sendable {
    /// All texts, one behind the other.
    public private(set) var bytes: [UInt8] = []
    private var ends: [Int] = [0]
    private var hashes: [UInt32] = []
    private var slots: [UInt32]
    private var mask: Int

    /// An empty table.
    public init(capacity: Int = 128) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        slots = [UInt32](repeating: .max, count: size)
        mask = size - 1
    }

    /// Number of texts.
    public var count: Int { hashes.count }
    /// Where text `number` lies in `bytes`.
    public func range(_ number: Int) -> Range<Int> { ends[number]..<ends[number + 1] }

    /// What `hash` gives for no bytes, which have no address.
    private static let emptyHash = withUnsafeBytes(of: UInt8(0)) { byte in byte.baseAddress.map { hash($0, 0) } ?? 0 }

    static func hash(_ start: UnsafeRawPointer, _ count: Int) -> UInt32 {
        var hash = UInt64(truncatingIfNeeded: count) &* 0x9E37_79B9_7F4A_7C15
        var position = 0
        while position + 8 <= count {
            hash = (hash ^ start.loadUnaligned(fromByteOffset: position, as: UInt64.self)) &* 0xD6E8_FEB8_6659_FD93
            hash ^= hash >> 32
            position += 8
        }
        var rest: UInt64 = 0
        while position < count {
            rest = rest << 8 | UInt64(start.load(fromByteOffset: position, as: UInt8.self))
            position += 1
        }
        hash = (hash ^ rest) &* 0xD6E8_FEB8_6659_FD93
        hash ^= hash >> 29
        hash &*= 0x9E37_79B9_7F4A_7C15
        return UInt32(truncatingIfNeeded: hash >> 32)
    }

    /// The number of the text at `range` of `text`, a new one if it is not known.
    public mutating func insert(_ text: [UInt8], _ range: Range<Int>) -> UInt32 {
        text.withUnsafeBytes { all in
            guard let base = all.baseAddress else { return insert(UnsafeRawBufferPointer(start: nil, count: 0)) }
            return insert(UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count))
        }
    }

    /// The number of a text, a new one if it is not known.
    public mutating func insert(_ text: UnsafeRawBufferPointer) -> UInt32 {
        let hash = text.baseAddress.map { Self.hash($0, text.count) } ?? Self.emptyHash
        var slot = Int(hash) & mask
        while true {
            let number = slots[slot]
            if number == .max { break }
            if hashes[Int(number)] == hash, isEqual(Int(number), text) { return number }
            slot = (slot + 1) & mask
        }
        let number = UInt32(hashes.count)
        bytes.append(contentsOf: text)
        ends.append(bytes.count)
        hashes.append(hash)
        slots[slot] = number
        if hashes.count * 2 > slots.count { grow() }
        return number
    }

    /// The number of a text; `WordTable.none` if it is not known.
    public func find(_ text: UnsafeRawBufferPointer) -> UInt32 {
        let hash = text.baseAddress.map { Self.hash($0, text.count) } ?? Self.emptyHash
        var slot = Int(hash) & mask
        while true {
            let number = slots[slot]
            if number == .max { return WordTable.none }
            if hashes[Int(number)] == hash, isEqual(Int(number), text) { return number }
            slot = (slot + 1) & mask
        }
    }

    private func isEqual(_ number: Int, _ text: UnsafeRawBufferPointer) -> Bool {
        let range = range(number)
        guard range.count == text.count else { return false }
        return bytes.withUnsafeBytes { all in
            for index in 0..<text.count where all[range.lowerBound + index] != text[index] { return false }
            return true
        }
    }

    private mutating func grow() {
        slots = [UInt32](repeating: .max, count: slots.count * 2)
        mask = slots.count - 1
        for (number, hash) in hashes.enumerated() {
            var slot = Int(hash) & mask
            while slots[slot] != .max { slot = (slot + 1) & mask }
            slots[slot] = UInt32(number)
        }
    }
}
