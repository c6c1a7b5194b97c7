import Definitions
import ModelRegistry
import PlatformCore
import Testing

/// Units keep their version unless a share makes them move.
struct TrafficSliceTests {
    private typealias Shares = [(version: Int, share: Double)]

    private func points(_ slices: [TrafficSlice]) -> [Int: Int] {
        slices.reduce(into: [:]) { $0[$1.version, default: 0] += $1.to - $1.from }
    }

    /// The version of every thousandth point.
    private func owners(_ slices: [TrafficSlice]) -> [Int] {
        stride(from: 500, to: TrafficSlice.pointCount, by: 1000).map { point in
            slices.first { $0.from <= point && point < $0.to }?.version ?? 0
        }
    }

    /// SplitMix64, so that a failure can be repeated.
    private struct Random: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }
    }

    @Test func aRampKeepsThoseItHas() {
        var before = TrafficSlice.deal([(1, 1)], before: [])
        var last: Set<Int> = []
        for share in [0.01, 0.05, 0.1, 0.25, 0.5, 0.999] {
            before = TrafficSlice.deal([(1, 1 - share), (2, share)], before: before)
            let now = Set(owners(before).indices.filter { owners(before)[$0] == 2 })
            #expect(last.isSubset(of: now), "\(share)")
            #expect(points(before)[2] == Int((share * 1_000_000).rounded()))
            last = now
        }
    }

    /// Whatever the shares were and become: no point is lost, and no version both gives and takes.
    @Test(arguments: 0..<50) func onlyWhatHasToMoveMoves(seed: UInt64) {
        var random = Random(state: seed)
        var before: [TrafficSlice] = []
        for _ in 0..<12 {
            let versions = (1...5).filter { _ in Bool.random(using: &random) }
            let weights = (versions.isEmpty ? [1] : versions).map { ($0, Double.random(in: 0.01...1, using: &random)) }
            let total = weights.reduce(0) { $0 + $1.1 }
            let shares: Shares = weights.map { ($0.0, $0.1 / total) }
            let after = TrafficSlice.deal(shares, before: before)
            #expect(after.first?.from == 0 && after.last?.to == TrafficSlice.pointCount)
            #expect(zip(after, after.dropFirst()).allSatisfy { $0.to == $1.from && $0.version != $1.version })
            for (version, share) in shares {
                #expect(abs(Double(points(after)[version] ?? 0) - share * 1_000_000) <= Double(shares.count))
            }
            if !before.isEmpty {
                let (old, new) = (points(before), points(after))
                let moved = zip(owners(before), owners(after)).filter { $0 != $1 }
                for (from, to) in moved {
                    #expect((new[from] ?? 0) < (old[from] ?? 0), "version \(from) gave and did not fall")
                    #expect((new[to] ?? 0) > (old[to] ?? 0), "version \(to) took and did not rise")
                }
            }
            before = after
        }
    }

    @Test func thePointsOutliveARestartAndARollback() async throws {
        let fixture = try await RegistryFixture()
        for number in 1...3 {
            try await fixture.register("v\(number)")
            try await fixture.move(number, .staging, .canary)
        }
        func publish(_ shares: [TrafficShare]) async throws -> DeploymentPolicy {
            fixture.tick()
            return try await fixture.registry.publish(
                fixture.deployment, of: fixture.model, DeploymentPolicy(variants: shares), actor: "ann", reason: "test"
            ).policy
        }
        _ = try await publish([.init(version: 1, share: 1)])
        let first = try await publish([.init(version: 1, share: 0.9), .init(version: 2, share: 0.1)])
        let second = try await publish([
            .init(version: 1, share: 0.5), .init(version: 2, share: 0.1), .init(version: 3, share: 0.4),
        ])
        #expect(
            first.slices == [.init(version: 2, from: 0, to: 100_000), .init(version: 1, from: 100_000, to: 1_000_000)])
        #expect(second.slices?.first == .init(version: 2, from: 0, to: 100_000), "version 2 keeps its units")
        #expect(try await fixture.registry.current(fixture.deployment)?.policy == second)
        let back = try await fixture.registry.rollback(fixture.deployment, actor: "ann", reason: "worse").policy
        #expect(back.slices == first.slices)
    }

    /// A policy of before points were kept deals them as it did then.
    @Test func policiesWithoutPointsAreDealtAsBefore() throws {
        let stored = try JSONValue.parse(
            #"{"variants":[{"version":1,"share":0.7},{"version":2,"share":0.1},{"version":3,"share":0.2}],"shadows":[]}"#
        ).decoded(as: DeploymentPolicy.self)
        #expect(
            stored.dealt == [
                .init(version: 2, from: 0, to: 100_000), .init(version: 3, from: 100_000, to: 300_000),
                .init(version: 1, from: 300_000, to: 1_000_000),
            ])
    }

    @Test(arguments: [
        ([4], [0.5, 0.5], "1 shadows and 2 shares"), ([4], [0], "above 0"), ([4], [1.5], "at most 1"),
    ]) func badShadowSharesAreFaults(shadows: [Int], shares: [Double], fault: String) {
        let policy = DeploymentPolicy(
            variants: [.init(version: 1, share: 1)], shadows: shadows, shadowShares: shares)
        #expect(policy.fault?.contains(fault) == true)
    }
}
