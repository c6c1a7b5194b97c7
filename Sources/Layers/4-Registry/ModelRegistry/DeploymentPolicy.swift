public import PlatformCore

/// A version and its share of a deployment's traffic.
public struct TrafficShare: Sendable, Hashable, Codable {
    /// The version.
    public let version: Int
    /// Share of requests it answers, above 0, at most 1.
    public let share: Double

    /// Makes a share.
    public init(version: Int, share: Double) {
        self.version = version
        self.share = share
    }
}

/// Which versions answer a deployment's requests.
public struct DeploymentPolicy: Sendable, Hashable, Codable {
    /// Versions that answer; their shares add up to 1.
    public let variants: [TrafficShare]
    /// Versions that see every request and whose answers nobody sees.
    public let shadows: [Int]
    /// The version to keep warm for a rollback.
    public let previous: Int?
    /// Share of requests that each shadow sees, in their order; `nil` where each sees all.
    public let shadowShares: [Double]?
    /// Which points fall to which version; `nil` before it is published, and with one variant.
    public internal(set) var slices: [TrafficSlice]?

    /// Makes a policy; `publish` checks it and deals the points.
    public init(
        variants: [TrafficShare], shadows: [Int] = [], previous: Int? = nil, shadowShares: [Double]? = nil
    ) {
        self.variants = variants
        self.shadows = shadows
        self.previous = previous
        self.shadowShares = shadowShares
    }

    /// The points as they fall under this policy, also under one of before points were kept: the first variant then has
    /// what the others, one after the other from 0 on, leave it.
    public var dealt: [TrafficSlice] {
        if let slices { return slices }
        var result: [TrafficSlice] = []
        var edge = 0.0
        var next = 0
        for share in variants.dropFirst() {
            edge += share.share
            let end = min(TrafficSlice.pointCount, Int((edge * Double(TrafficSlice.pointCount)).rounded()))
            if end > next { result.append(TrafficSlice(version: share.version, from: next, to: end)) }
            next = max(next, end)
        }
        if let main = variants.first, next < TrafficSlice.pointCount {
            result.append(TrafficSlice(version: main.version, from: next, to: TrafficSlice.pointCount))
        }
        return result
    }

    /// The policy with its points dealt, moving as few as possible away from `before`.
    func dealing(from before: DeploymentPolicy?) -> DeploymentPolicy {
        guard variants.count > 1 else { return self }
        var policy = self
        policy.slices = TrafficSlice.deal(variants.map { ($0.version, $0.share) }, before: before?.dealt ?? [])
        return policy
    }

    /// Every version that must be loaded.
    public var versions: [Int] { Set(variants.map(\.version) + shadows + (previous.map { [$0] } ?? [])).sorted() }

    /// The version with the largest share; the lower number if two are equal.
    ///
    /// `nil` without variants.
    public var mainVersion: Int? {
        variants.max { ($0.share, $1.version) < ($1.share, $0.version) }?.version
    }

    /// What is wrong with the policy by itself; `nil` if nothing is.
    public var fault: String? {
        if variants.isEmpty { return "a policy needs at least one variant" }
        if Set(variants.map(\.version)).count != variants.count { return "a version appears twice among the variants" }
        if variants.contains(where: { !($0.share > 0 && $0.share <= 1) }) {
            return "a share must be above 0 and at most 1"
        }
        let total = variants.reduce(0) { $0 + $1.share }
        if abs(total - 1) > 1e-9 { return "the shares add up to \((total * 1e9).rounded() / 1e9), not to 1" }
        if Set(shadows).count != shadows.count { return "a version appears twice among the shadows" }
        if let both = shadows.first(where: { shadow in variants.contains { $0.version == shadow } }) {
            return "version \(both) is a variant and a shadow"
        }
        if let shares = shadowShares {
            if shares.count != shadows.count { return "there are \(shadows.count) shadows and \(shares.count) shares" }
            if shares.contains(where: { !($0 > 0 && $0 <= 1) }) {
                return "a shadow's share must be above 0 and at most 1"
            }
        }
        return nil
    }
}

/// One published policy of a deployment.
public struct PolicyRevision: Sendable, Hashable {
    /// The deployment.
    public let deployment: Name
    /// The model it serves.
    public let model: Name
    /// From 1, without gaps.
    public let revision: Int
    /// When it was published; never before its predecessor.
    public let time: EventTime
    /// Who published it.
    public let actor: String
    /// Why.
    public let reason: String
    /// What it says.
    public let policy: DeploymentPolicy
    /// The revision that a rollback went back to; `nil` for other revisions.
    public let restores: Int?

    /// The share of traffic that a version answers; 0 for one that it does not name.
    public func share(of version: Int) -> Double { policy.variants.first { $0.version == version }?.share ?? 0 }

    /// Whether it sends requests to a version, or copies of them.
    func names(_ number: Int) -> Bool {
        policy.variants.contains { $0.version == number } || policy.shadows.contains(number)
    }
}

extension PolicyRevision {
    /// The policies that led to the one in force, oldest first: without those that a rollback left.
    private static func path(_ history: [PolicyRevision]) -> [PolicyRevision] {
        var path: [PolicyRevision] = []
        for revision in history {
            if let restored = revision.restores {
                while let last = path.last, last.revision > restored { path.removeLast() }
            } else {
                path.append(revision)
            }
        }
        return path
    }

    /// The main version before the one that is it now, in a history of all revisions, oldest first; `nil` if there was none.
    public static func previousVersion(_ history: [PolicyRevision]) -> Int? {
        let path = path(history)
        guard let current = path.last?.policy.mainVersion else { return nil }
        return path.last { $0.policy.mainVersion != current }?.policy.mainVersion
    }

    /// Finds where a rollback of `history` (all revisions, oldest first) goes, or says why there is no such place.
    ///
    /// The version to leave is the variant that came in last. The goal is the latest policy before it, where policies
    /// that were themselves left by a rollback do not count: rolling back twice goes back two steps and never forth
    /// again.
    static func rollbackGoal(_ history: [PolicyRevision]) -> Result<(goal: PolicyRevision, leaving: Int), PlatformError>
    {
        let path = path(history)
        guard let current = path.last else {
            return .failure(PlatformError(.notFound, "deployment", "nothing was ever deployed"))
        }
        func isIn(_ version: Int, _ revision: PolicyRevision) -> Bool {
            revision.policy.variants.contains { $0.version == version }
        }
        let ages = current.policy.variants.map { variant in
            (version: variant.version, age: path.reversed().prefix { isIn(variant.version, $0) }.count)
        }
        guard let newest = ages.min(by: { ($0.age, -$0.version) < ($1.age, -$1.version) })?.version,
            let goal = path.last(where: { !isIn(newest, $0) })
        else {
            return .failure(
                PlatformError(
                    .refused, "deployment/\(current.deployment)",
                    "no earlier policy is left to go back to; publish one, or deploy another version"))
        }
        return .success((goal, newest))
    }
}
