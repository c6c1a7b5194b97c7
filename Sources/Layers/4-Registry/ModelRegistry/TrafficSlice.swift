/// Who answers a stretch of the points that units are dealt to.
///
/// Points are whole numbers below `TrafficSlice.pointCount`; a unit's point never changes under one salt. So a version
/// keeps its units as long as its share does not fall, and gets more only from those that fell.
public struct TrafficSlice: Sendable, Hashable, Codable {
    /// Points in all.
    public static let pointCount = 1_000_000
    /// The version that answers.
    public let version: Int
    /// First point.
    public let from: Int
    /// First point after it.
    public let to: Int

    /// Makes a slice.
    public init(version: Int, from: Int, to: Int) {
        self.version = version
        self.from = from
        self.to = to
    }

    /// Deals the points to `shares` so that as few as possible move from where `before` has them.
    ///
    /// A version whose share falls gives up its lowest points; those whose share rises take what is free from the lowest
    /// on, in the order of `shares`.
    public static func deal(_ shares: [(version: Int, share: Double)], before: [TrafficSlice]) -> [TrafficSlice] {
        guard let main = shares.max(by: { $0.share < $1.share })?.version else { return [] }
        var open: [Int: Int] = [:]
        for (version, share) in shares { open[version] = Int((share * Double(pointCount)).rounded()) }
        open[main, default: 0] += pointCount - open.values.reduce(0, +)
        var kept: [TrafficSlice] = []
        var free: [(from: Int, to: Int)] = []
        var next = pointCount
        // From the top down: what a version keeps are its highest points.
        for slice in before.sorted(by: { $0.from > $1.from }) where slice.to > slice.from {
            if slice.to < next { free.append((slice.to, next)) }
            next = slice.from
            let count = min(slice.to - slice.from, open[slice.version] ?? 0)
            if count > 0 {
                kept.append(TrafficSlice(version: slice.version, from: slice.to - count, to: slice.to))
                open[slice.version, default: 0] -= count
            }
            if slice.to - count > slice.from { free.append((slice.from, slice.to - count)) }
        }
        if next > 0 { free.append((0, next)) }
        free.sort { $0.from < $1.from }
        // Challengers are served from the lowest free points, the main version takes the rest.
        for version in shares.map(\.version).filter({ $0 != main }) + [main] {
            while let wanted = open[version], wanted > 0, let stretch = free.first {
                let count = min(wanted, stretch.to - stretch.from)
                kept.append(TrafficSlice(version: version, from: stretch.from, to: stretch.from + count))
                open[version] = wanted - count
                if stretch.from + count == stretch.to {
                    free.removeFirst()
                } else {
                    free[0].from += count
                }
            }
        }
        return merged(kept.sorted { $0.from < $1.from })
    }

    private static func merged(_ slices: [TrafficSlice]) -> [TrafficSlice] {
        var result: [TrafficSlice] = []
        for slice in slices {
            if let last = result.last, last.version == slice.version, last.to == slice.from {
                result[result.count - 1] = TrafficSlice(version: slice.version, from: last.from, to: slice.to)
            } else {
                result.append(slice)
            }
        }
        return result
    }
}
