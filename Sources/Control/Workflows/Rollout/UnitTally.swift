/// Counts different units of champion and challenger with bounded memory.
///
/// Beyond `countMax` units only those whose hash ends in a zero bit are kept, then in two, and so on: a sample of units
/// that is the same on both sides.
struct UnitTally: Sendable {
    private static let countMax = 1 << 18
    private var mask: UInt64 = 0
    private var champion: Set<UInt64> = []
    private var challenger: Set<UInt64> = []

    mutating func add(_ unit: UInt64, isChallenger: Bool) {
        guard unit & mask == 0 else { return }
        if isChallenger { challenger.insert(unit) } else { champion.insert(unit) }
        guard champion.count + challenger.count > Self.countMax else { return }
        mask = mask << 1 | 1
        champion = champion.filter { $0 & mask == 0 }
        challenger = challenger.filter { $0 & mask == 0 }
    }

    /// Units of champion and challenger that are kept.
    var counts: [Int] { [champion.count, challenger.count] }
}
