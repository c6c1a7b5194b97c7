import Glibc
import PlatformCore

/// An entity key compared by its bytes, as every store and engine compares it; a Swift string would hold differently
/// composed letters equal.
///
/// The hash is computed once and chooses the shard too.
struct SeriesKey: Hashable {
    let text: String
    let hash: UInt64

    private static let seed = UInt64.random(in: .min ... .max)

    init(_ text: String) {
        var text = text
        text.makeContiguousUTF8()
        self.text = text
        hash = text.utf8.withContiguousStorageIfAvailable { Self.hash(UnsafeRawBufferPointer($0)) } ?? 0
    }

    /// Eight bytes at a time through a folded 64 × 64 bit product (the mixing step of wyhash), under a seed of this
    /// process.
    private static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var state = seed ^ 0xA076_1D64_78BD_642F
        var at = 0
        while at + 8 <= bytes.count {
            state = mix(state ^ bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self), 0xE703_7ED1_A0B4_28DB)
            at += 8
        }
        var tail: UInt64 = 0
        for index in at..<bytes.count { tail = tail << 8 | UInt64(bytes[index]) }
        state = mix(state ^ tail, 0x8EBC_6AF0_9C88_C6E3)
        return mix(state ^ UInt64(bytes.count), seed | 1)
    }

    private static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }

    static func == (left: SeriesKey, right: SeriesKey) -> Bool {
        guard left.hash == right.hash, left.text.utf8.count == right.text.utf8.count else { return false }
        let isEqual = left.text.utf8.withContiguousStorageIfAvailable { left in
            right.text.utf8.withContiguousStorageIfAvailable { right in
                guard let left = left.baseAddress, let other = right.baseAddress else { return true }
                return memcmp(left, other, right.count) == 0
            }
        }
        return (isEqual ?? nil) ?? left.text.utf8.elementsEqual(right.text.utf8)
    }
    func hash(into hasher: inout Hasher) { hasher.combine(hash) }

    /// The key of the entity's head in the online store.
    var head: EntityKey { EntityKey(joined: text) }

    /// The key of a page: one part more than the entity's key has, so it is no entity's.
    func page(_ identifier: UInt64) -> EntityKey { EntityKey(joined: "\(text)\u{1F}\(String(identifier, radix: 36))") }
}
