/// Keeps a share of the keys: the same ones in every process and for ever.
struct RowSampling: Sendable {
    private let limit: UInt64

    /// `nil` where all rows are kept.
    init?(share: Double) {
        guard share < 1 else { return nil }
        limit = UInt64(share * 18_446_744_073_709_551_615.0)
    }

    /// Whether rows of a key are kept: FNV-1a over its bytes, mixed by MurmurHash3's finalizer, below the share of 2^64.
    func keeps(_ key: String) -> Bool {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in key.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        hash = (hash ^ (hash >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        hash = (hash ^ (hash >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return hash ^ (hash >> 33) < limit
    }
}
