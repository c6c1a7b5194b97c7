/// Positions of a few names, found by their bytes, without making a string.
struct NameTable: Sendable {
    private let names: [[UInt8]]
    /// Positions plus one by hash, 0 for none; a power of two, at most half full.
    private let slots: [UInt32]

    init(_ names: [String]) {
        self.names = names.map { Array($0.utf8) }
        var size = 4
        while size < 2 * names.count { size *= 2 }
        var slots = [UInt32](repeating: 0, count: size)
        for (position, name) in self.names.enumerated() {
            var slot = name.withUnsafeBytes { Self.hash($0) } & (size - 1)
            while slots[slot] != 0 { slot = (slot + 1) & (size - 1) }
            slots[slot] = UInt32(position + 1)
        }
        self.slots = slots
    }

    /// FNV-1a of a name.
    private static func hash(_ bytes: UnsafeRawBufferPointer) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return Int(truncatingIfNeeded: (hash ^ hash >> 32) & 0x7FFF_FFFF)
    }

    /// Where a name stands; `guess` is looked at first, as callers mostly keep the order of the names.
    func position(of name: UnsafeRawBufferPointer, guess: Int) -> Int? {
        if names.indices.contains(guess), matches(name, guess) { return guess }
        var slot = Self.hash(name) & (slots.count - 1)
        while slots[slot] != 0 {
            let position = Int(slots[slot]) - 1
            if matches(name, position) { return position }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    private func matches(_ name: UnsafeRawBufferPointer, _ position: Int) -> Bool {
        names[position].withUnsafeBytes { $0.count == name.count && $0.elementsEqual(name) }
    }
}
