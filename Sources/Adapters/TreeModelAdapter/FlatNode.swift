/// Row values in the form that nodes compare with: integers in the order of the floats.
///
/// Each feature has two keys, equal unless the value is missing: then one is below and one is above every threshold, and
/// a split reads the one that sends a missing value its default way. So a split needs no test for missing values. ±0 are
/// one key. Keys of numbers stay clear of both ends of `Int32`.
enum OrderedKey {
    /// The key of a missing value at splits that send it left.
    static let missingLeft = Int32.min
    /// The key of a missing value at splits that send it right.
    static let missingRight = Int32.max

    /// The key of a number.
    @inline(__always)
    static func of(_ value: Float) -> Int32 {
        let bits = Int32(bitPattern: (value + 0).bitPattern)  // + 0 turns -0 into 0
        return bits ^ ((bits >> 31) & Int32.max)
    }

    /// The largest key that goes left at the threshold: left is `value < threshold`; nothing is below NaN.
    static func lastLeft(ofThreshold threshold: Float) -> Int32 {
        threshold.isNaN ? missingLeft : of(threshold) - 1
    }
}

/// One node of a compiled tree.
///
/// Children of a node stand side by side after it, at a distance kept in the node.
///
/// A leaf is its own child: its slot always holds `Int32.min`, which is above no key, and its distance is 0. So a walk
/// may take more steps than a branch is deep, and walks of several trees or rows can go on side by side without a test.
/// The key of a leaf is its value's bits.
protocol FlatNode: BitwiseCopyable, Sendable {
    /// Makes a node, or `nil` if the numbers do not fit this layout.
    init?(key: Int32, slot: Int, distance: Int, isCategorical: Bool)
    /// Row keys up to this one go left; the value of a leaf; for a categorical split, where its bit set starts.
    var key: Int32 { get }
    /// Which of the row's keys it compares.
    var slot: Int { get }
    /// Nodes from this one to its left child.
    var distance: Int { get }
    /// Whether the split asks for membership in a set.
    var isCategorical: Bool { get }
}

/// Eight bytes: one load reads the whole node.
struct PackedNode: FlatNode {
    private let bits: UInt64

    init?(key: Int32, slot: Int, distance: Int, isCategorical: Bool) {
        guard slot < 1 << 15, distance < 1 << 16 else { return nil }
        bits =
            UInt64(UInt32(bitPattern: key)) | UInt64(distance) << 32 | UInt64(slot) << 48
            | (isCategorical ? 1 << 63 : 0)
    }

    @inline(__always) var key: Int32 { Int32(truncatingIfNeeded: bits) }
    @inline(__always) var slot: Int { Int(truncatingIfNeeded: (bits >> 48) & 0x7FFF) }
    @inline(__always) var distance: Int { Int(truncatingIfNeeded: (bits >> 32) & 0xFFFF) }
    @inline(__always) var isCategorical: Bool { bits >> 63 == 1 }
}

/// Twelve bytes, for models with very many features or very wide trees.
struct WideNode: FlatNode {
    let key: Int32
    private let slotAndKind: UInt32
    private let distanceBits: UInt32

    init?(key: Int32, slot: Int, distance: Int, isCategorical: Bool) {
        guard slot < 1 << 31, distance < 1 << 32 else { return nil }
        self.key = key
        slotAndKind = UInt32(slot) | (isCategorical ? 1 << 31 : 0)
        distanceBits = UInt32(distance)
    }

    @inline(__always) var slot: Int { Int(slotAndKind & 0x7FFF_FFFF) }
    @inline(__always) var distance: Int { Int(distanceBits) }
    @inline(__always) var isCategorical: Bool { slotAndKind >> 31 == 1 }
}
