/// A set of 64-bit hashes: open addressing with linear probing, no removal.
struct HashSet64: Sendable {
    private var slots: [UInt64] = []
    private(set) var count = 0

    /// An empty set with room for `capacity` hashes.
    init(capacity: Int = 0) {
        guard capacity > 0 else { return }
        var slotCount = 64
        while slotCount * 3 <= capacity * 5 { slotCount *= 2 }
        slots = [UInt64](repeating: 0, count: slotCount)
    }

    /// Whether the hash is in the set.
    func contains(_ hash: UInt64) -> Bool {
        guard !slots.isEmpty else { return false }
        let hash = hash == 0 ? 1 : hash
        var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[at] != 0 {
            if slots[at] == hash { return true }
            at = (at + 1) & (slots.count - 1)
        }
        return false
    }

    /// Adds the hash; gives false if it was there.
    @discardableResult
    mutating func insert(_ hash: UInt64) -> Bool {
        let hash = hash == 0 ? 1 : hash
        if count * 5 >= slots.count * 3 { grow() }
        var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[at] != 0 {
            if slots[at] == hash { return false }
            at = (at + 1) & (slots.count - 1)
        }
        slots[at] = hash
        count += 1
        return true
    }

    private mutating func grow() {
        let old = slots
        slots = [UInt64](repeating: 0, count: max(1024, old.count * 2))
        for hash in old where hash != 0 {
            var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
            while slots[at] != 0 { at = (at + 1) & (slots.count - 1) }
            slots[at] = hash
        }
    }
}

/// Remembers at least the last `generationRowCount` hashes, and at most twice as many, in two generations.
struct RecentRows: Sendable {
    private let generationRowCount: Int
    private var current = HashSet64()
    private var previous = HashSet64()

    init(generationRowCount: Int) { self.generationRowCount = max(1, generationRowCount) }

    func contains(_ hash: UInt64) -> Bool { current.contains(hash) || previous.contains(hash) }

    mutating func insert(_ hash: UInt64) {
        if current.count >= generationRowCount {
            previous = current
            current = HashSet64()
        }
        current.insert(hash)
    }
}

/// 64-bit hashes of bytes under a seed of this process, so that nobody outside can make two rows collide on purpose.
struct RowHasher: Sendable {
    private let seed: UInt64

    init(seed: UInt64 = .random(in: .min ... .max)) { self.seed = seed }

    /// The hash: 8 bytes at a time through a folded 64 × 64 bit product (the mixing step of wyhash).
    func hash(_ bytes: some Collection<UInt8>) -> UInt64 {
        bytes.withContiguousStorageIfAvailable { hash(contiguous: $0) } ?? hash(Array(bytes))
    }

    private func hash(contiguous bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
        var state = seed ^ 0xA076_1D64_78BD_642F
        let raw = UnsafeRawBufferPointer(bytes)
        var at = 0
        while at + 8 <= raw.count {
            state = Self.mix(state ^ raw.loadUnaligned(fromByteOffset: at, as: UInt64.self), 0xE703_7ED1_A0B4_28DB)
            at += 8
        }
        var tail: UInt64 = 0
        for index in at..<raw.count { tail = tail << 8 | UInt64(raw[index]) }
        state = Self.mix(state ^ tail, 0x8EBC_6AF0_9C88_C6E3)
        return Self.mix(state ^ UInt64(raw.count), seed | 1)
    }

    private static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }
}
