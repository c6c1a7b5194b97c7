/// Count, exact sums and extremes of one column over the events seen so far.
struct Accumulator {
    /// What of a column decides how it is added up.
    struct Traits: Sendable {
        var isReal = false
        var power = 1.0
        var needsSum = false
        var needsSquares = false
        var needsExtremes = false

        init() {}

        init(_ column: AggregationPlan.Column) {
            isReal = column.storage == .real
            power = column.power
            needsSum = column.needsSum
            needsSquares = column.needsSquares
            needsExtremes = column.needsExtremes
        }

        /// A kept value as a number.
        @inline(__always)
        func number(_ word: Int64) -> Double { isReal ? Accumulator.real(word) : Double(word) }
    }

    private(set) var total: EventSeries.ColumnBlock
    private let traits: Traits

    init(_ traits: Traits, from total: EventSeries.ColumnBlock = EventSeries.ColumnBlock()) {
        self.total = total
        self.traits = traits
    }

    init(_ column: AggregationPlan.Column, from total: EventSeries.ColumnBlock = EventSeries.ColumnBlock()) {
        self.init(Traits(column), from: total)
    }

    /// Whether the values are reals.
    var isReal: Bool { traits.isReal }

    /// Forgets what was added and goes on from a block.
    mutating func restart(from block: EventSeries.ColumnBlock) { total = block }

    /// Adds a kept value; for reals NaN is null and adds nothing.
    @inline(__always)
    mutating func add(_ word: Int64) {
        let real = Double(bitPattern: UInt64(bitPattern: word))
        if traits.isReal, real.isNaN { return }
        if traits.needsExtremes { widen(word, word) }
        total.count += 1
        guard traits.needsSum || traits.needsSquares else { return }
        let scaled = traits.isReal ? ExactArithmetic.scaled(real, by: traits.power) : word
        total.sum &+= scaled == ExactArithmetic.unsummable ? ExactArithmetic.poison : Int128(scaled)
        if traits.needsSquares {
            if scaled != ExactArithmetic.unsummable, scaled.magnitude < UInt64(ExactArithmetic.squareBound) {
                total.squareSum &+= Int128(scaled)
                total.squares &+= Int128(scaled) &* Int128(scaled)
            } else {
                total.squareSum &+= ExactArithmetic.poison
            }
        }
    }

    /// Adds a text, of which only the presence is summarized.
    @inline(__always)
    mutating func addPresence() { total.count += 1 }

    /// Adds a whole block.
    @inline(__always)
    mutating func add(_ block: EventSeries.ColumnBlock) {
        guard block.count > 0 else { return }
        if traits.needsExtremes { widen(block.minimum, block.maximum) }
        total.count += block.count
        total.sum &+= block.sum
        total.squareSum &+= block.squareSum
        total.squares &+= block.squares
    }

    @inline(__always)
    private mutating func widen(_ low: Int64, _ high: Int64) {
        if total.count == 0 {
            total.minimum = low
            total.maximum = high
        } else if traits.isReal {
            if Self.real(low) < Self.real(total.minimum) { total.minimum = low }
            if Self.real(high) > Self.real(total.maximum) { total.maximum = high }
        } else {
            total.minimum = min(total.minimum, low)
            total.maximum = max(total.maximum, high)
        }
    }

    @inline(__always)
    static func real(_ word: Int64) -> Double { Double(bitPattern: UInt64(bitPattern: word)) }
}
