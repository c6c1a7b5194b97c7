import Foundation
import Statistics

/// How the answers of champion and challenger are distributed, in bins that the champion's first answers fix.
///
/// So the bins fit a probability, a price and a delay alike: ten of equal share, the outer ones without an end. Where those
/// answers are few different values, what lies below and above them has bins of its own. Bounded: bins, and up to
/// `heldCountMax` challenger answers that came before the bins.
struct AnswerDistributions: Sendable {
    /// Champion answers that fix the bins, and answers that each side needs for a verdict.
    static let countMin = 200
    private static let heldCountMax = 10_000
    private static let binCount = 10

    /// Ends of the bins in ascending order; empty before they are fixed.
    private(set) var edges: [Float] = []
    private(set) var champion: [Int] = []
    private(set) var challenger: [Int] = []
    private var heldChampion: [Float] = []
    private var heldChallenger: [Float] = []

    mutating func addChampion(_ value: Float) {
        guard edges.isEmpty else { return champion[bin(of: value)] += 1 }
        heldChampion.append(value)
        if heldChampion.count == Self.countMin { fix() }
    }

    mutating func addChallenger(_ value: Float) {
        guard edges.isEmpty else { return challenger[bin(of: value)] += 1 }
        if heldChallenger.count < Self.heldCountMax { heldChallenger.append(value) }
    }

    /// PSI of the challenger's answers against the champion's; `nil` while either has too few.
    var populationStabilityIndex: Double? {
        guard champion.reduce(0, +) >= Self.countMin, challenger.reduce(0, +) >= Self.countMin else { return nil }
        return try? DriftMeasure.populationStabilityIndex(
            reference: champion, current: challenger, pseudoCount: 0.5)
    }

    /// The first bin holds what is no number, the last what is above all edges.
    private func bin(of value: Float) -> Int {
        value.isNaN ? 0 : 1 + edges.count { $0 <= value }
    }

    private mutating func fix() {
        let sorted = heldChampion.filter(\.isFinite).sorted()
        guard let least = sorted.first, let most = sorted.last else {
            heldChampion.removeAll()
            return
        }
        // Of few values a bin without an end would take others for the outermost.
        let isOfFewValues = Set(sorted).count <= Self.binCount
        var found: Set<Float> = isOfFewValues ? [least, most.nextUp] : []
        for step in 1..<Self.binCount { found.insert(sorted[sorted.count * step / Self.binCount]) }
        edges = found.sorted()
        champion = Array(repeating: 0, count: edges.count + 2)
        challenger = champion
        for value in heldChampion { champion[bin(of: value)] += 1 }
        for value in heldChallenger { challenger[bin(of: value)] += 1 }
        heldChampion = []
        heldChallenger = []
    }
}
