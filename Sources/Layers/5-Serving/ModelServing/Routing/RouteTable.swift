public import Definitions
public import PlatformCore
public import RuntimePorts
import Synchronization

/// One version of a model, loaded and ready.
public final class ServedVersion: Sendable {
    /// The model's name.
    public let model: Name
    /// Version number.
    public let number: Int
    /// Hash of the artifact.
    public let artifact: ContentHash
    /// The same as text.
    let artifactText: String
    /// The model in memory.
    public let loaded: any LoadedModel
    /// The same if its answers are waited for.
    public let deferred: (any DeferredModel)?
    /// Its feature service.
    public let binding: ServiceBinding
    /// That it is in memory.
    public let residence: Residence

    /// That a version is in memory, for who has to find it there without keeping it.
    ///
    /// An object that is referred to weakly counts its references several times as slowly for ever after, and each request
    /// counts some of its version's: this one is referred to instead.
    public final class Residence: Sendable {
        fileprivate let model: Name
        fileprivate let number: Int
        fileprivate let artifact: ContentHash
        fileprivate let loaded: any LoadedModel
        fileprivate let binding: ServiceBinding

        fileprivate init(
            _ model: Name, _ number: Int, _ artifact: ContentHash, _ loaded: any LoadedModel, _ binding: ServiceBinding
        ) {
            self.model = model
            self.number = number
            self.artifact = artifact
            self.loaded = loaded
            self.binding = binding
        }
    }

    /// The version that is in memory.
    public init(_ residence: Residence) {
        model = residence.model
        number = residence.number
        artifact = residence.artifact
        artifactText = residence.artifact.hex
        loaded = residence.loaded
        deferred = residence.loaded.deferred
        binding = residence.binding
        self.residence = residence
    }

    /// Whether the model can be asked; the fallback answers where it cannot.
    public var isLoaded: Bool { !(loaded is UnloadedModel) }

    /// Puts a loaded model beside the service that feeds it.
    /// - Throws: `ModelError` (`shapeMismatch`) if the model does not take what the service gives.
    public convenience init(
        model: Name, number: Int, artifact: ContentHash, loaded: any LoadedModel, binding: ServiceBinding
    )
        throws(ModelError)
    {
        // A model that is being registered has no number yet.
        let subject = number > 0 ? "\(model) version \(number)" : "the model file for '\(model)'"
        guard loaded.description.featureCount == binding.inputCount else {
            let (read, given) = (loaded.description.featureNames, binding.definition.inputNames)
            func listed(_ names: [String]) -> String {
                names.prefix(10).map { "'\($0)'" }.joined(separator: ", ") + (names.count > 10 ? ", …" : "")
            }
            let lacking = read.isEmpty ? [] : given.filter { !read.contains($0) }
            let foreign = read.filter { !given.contains($0) }
            throw ModelError(
                .shapeMismatch,
                "\(subject) reads \(loaded.description.featureCount) features, its service "
                    + "'\(binding.definition.name)' gives \(binding.inputCount)"
                    + (lacking.isEmpty ? "" : "; the model does not read \(listed(lacking))")
                    + (foreign.isEmpty ? "" : "; the service does not give \(listed(foreign))"))
        }
        let names = loaded.description.featureNames
        // LightGBM writes a blank in a name as '_'.
        func isSame(_ read: String, _ given: String) -> Bool {
            read == given || read == String(given.map { $0.isWhitespace ? "_" : $0 })
        }
        let other = zip(names, binding.definition.inputNames).enumerated().first { !isSame($1.0, $1.1) }
        guard names.isEmpty || other == nil else {
            let position = other?.offset ?? 0
            throw ModelError(
                .shapeMismatch,
                "\(subject) reads '\(names[position])' at position \(position), its service gives "
                    + "'\(binding.definition.inputNames[position])'")
        }
        self.init(
            Residence(model, number, artifact, try loaded.reading(categories: binding.definition.categories), binding))
    }
}

/// Where a deployed model's requests go; immutable, swapped whole.
public final class DeploymentRoute: Sendable {
    /// A version and its share of traffic.
    public struct Variant: Sendable {
        /// The version.
        public let version: ServedVersion
        /// Share of traffic, from 0 to 1.
        public let share: Double
        /// Makes a variant.
        public init(version: ServedVersion, share: Double) {
            self.version = version
            self.share = share
        }
    }
    /// The deployment's definition.
    public let definition: DeploymentDefinition
    /// Revision of the policy.
    public let revision: Int
    /// Live variants; the first is the primary.
    ///
    /// Shares sum to 1.
    public let variants: [Variant]
    /// Versions that see a copy of requests.
    public let shadows: [ServedVersion]
    /// Versions that a rollback would bring back; in memory while this route is.
    public let reserve: [ServedVersion]
    /// Every version that the route needs, some more than once.
    public let versions: [ServedVersion]
    /// What keeps the versions ready that are waited for.
    private let ready: [ReadyModel]
    /// What answers when the model does not.
    let fallback: FallbackChain
    /// Predictions made a short while ago.
    let cache: PredictionCache?
    /// Predictions made before.
    let precomputed: PrecomputedScores?
    /// Longest time of a request.
    let timeout: Duration?
    /// Whether nothing is looked up and nothing required before the model is asked.
    let asksModelAtOnce: Bool
    /// Whether an answer may have to be waited for: such requests are not answered on event loops.
    public let isDeferred: Bool
    /// The highest hash of a request that each shadow sees; none where each sees all.
    private let shadowEdges: [UInt64]
    /// Deals units to points.
    private let sticky: StickyHash
    /// For each stretch of points its end and the variant that answers, from the lowest on.
    private let edges: [(to: Int, variant: Int)]
    /// Points of the holdout.
    private let holdoutEdge: Int
    /// Whether units have to be told apart at all.
    let isSplit: Bool

    /// Makes a route.
    ///
    /// - Parameters:
    ///   - slices: which version answers up to which point, in ascending order; empty to deal the shares one after the
    ///     other, the primary taking what the others leave.
    ///   - shadowShares: share of requests that each shadow sees; empty for all.
    ///   - fallbackVersions: versions that answer when another does not, by the place of their step in the promise.
    ///   - precomputed: predictions that are looked up before the model is asked.
    ///   - reserve: versions that a rollback would bring back.
    public init(
        definition: DeploymentDefinition, revision: Int, variants: [Variant], shadows: [ServedVersion],
        slices: [(version: Int, to: Int)] = [], shadowShares: [Double] = [],
        fallbackVersions: [Int: ServedVersion] = [:], precomputed: PrecomputedScores? = nil,
        reserve: [ServedVersion] = []
    ) {
        precondition(!variants.isEmpty, "a route has a primary")
        self.definition = definition
        self.revision = revision
        self.variants = variants
        self.shadows = shadows
        self.reserve = reserve
        let all = variants.map(\.version) + shadows + fallbackVersions.values + reserve
        var seen: Set<ObjectIdentifier> = []
        ready = all.filter { seen.insert(ObjectIdentifier($0.residence)).inserted }.compactMap {
            $0.deferred?.keepReady()
        }
        versions = all
        isDeferred =
            variants.contains { $0.version.deferred != nil } || fallbackVersions.values.contains { $0.deferred != nil }
        let promise = definition.promise
        fallback = FallbackChain(promise, versions: fallbackVersions, binding: variants[0].version.binding)
        cache = promise.cache.map(PredictionCache.init)
        self.precomputed = precomputed
        timeout = promise.deadline.map { .milliseconds($0.milliseconds) }
        asksModelAtOnce = promise.requiredFeatures.isEmpty && promise.cache == nil && precomputed == nil
        shadowEdges =
            shadowShares.count == shadows.count && shadowShares.contains { $0 < 1 }
            ? shadowShares.map { $0 < 1 ? UInt64($0 * 0x1p64) : .max } : []
        sticky = StickyHash(definition, service: variants[0].version.binding.definition)
        var edges: [(to: Int, variant: Int)] = slices.compactMap { slice in
            variants.firstIndex { $0.version.number == slice.version }.map { (slice.to, $0) }
        }
        if edges.isEmpty {
            var edge = 0.0
            for (position, variant) in variants.enumerated().dropFirst() {
                edge += variant.share
                edges.append((Int((edge * Double(StickyHash.pointCount)).rounded()), position))
            }
        }
        self.edges = edges
        holdoutEdge = Int((definition.rollout.holdout * Double(StickyHash.pointCount)).rounded())
        isSplit = variants.count > 1 || holdoutEdge > 0
    }

    /// The first of the required features that has no value; `nil` if all have one.
    func missingFeature(_ vector: InputVector, _ binding: ServiceBinding) -> String? {
        definition.promise.requiredFeatures.first { name in
            binding.position(of: name).map { vector.inputs[$0].isNaN } ?? false
        }
    }

    /// The variant of a version, for a caller who asks for that one.
    func variant(of version: Int) -> (variant: Variant, choice: PredictionRecord.Choice)? {
        variants.firstIndex { $0.version.number == version }.map { (variants[$0], $0 == 0 ? .primary : .canary) }
    }

    /// The variant for these values of the sticky fields: the same values always get the same point, so raising a share
    /// only adds some.
    func choose(_ keys: [String?], inputs: [Double]) -> (variant: Variant, choice: PredictionRecord.Choice) {
        guard isSplit else { return (variants[0], .primary) }
        let unit = sticky.unit(keys: keys, inputs: inputs)
        if holdoutEdge > 0, StickyHash.holdoutPoint(of: unit) < holdoutEdge { return (variants[0], .holdout) }
        let point = StickyHash.point(of: unit)
        for edge in edges where point < edge.to {
            return (variants[edge.variant], edge.variant == 0 ? .primary : .canary)
        }
        return (variants[0], .primary)
    }

    /// The shadows that see the request with this identifier.
    func shadows(of id: String) -> [ServedVersion] {
        guard !shadowEdges.isEmpty else { return shadows }
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in id.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return zip(shadows, shadowEdges).compactMap { shadow, edge in
            // Each shadow draws for itself: two of 10 % are not the same 10 %.
            var mixed = hash &+ UInt64(bitPattern: Int64(shadow.number)) &* 0x9E37_79B9_7F4A_7C15
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return (mixed ^ (mixed >> 31)) <= edge ? shadow : nil
        }
    }
}

/// Where each deployed model's requests go: read by every prediction, replaced a few times a day.
public final class RouteTable: Sendable {
    private let current = Mutex<[String: DeploymentRoute]>([:])  // held for one look-up; an actor would add a hop
    /// Requests in hand by deployed model, for deployments that bound them; they outlive a route.
    private let limits = Mutex<[String: ConcurrencyLimit]>([:])

    private let listeners = Mutex<[@Sendable () -> Void]>([])

    /// A table without routes.
    public init() {}

    /// Adds somebody who is told after each change; what it does must be quick.
    public func addListener(_ listener: @escaping @Sendable () -> Void) { listeners.withLock { $0.append(listener) } }

    /// The route of a model.
    public func route(_ model: String) -> DeploymentRoute? { current.withLock { $0[model] } }
    /// The requests in hand of a model's deployment.
    func limit(_ model: String) -> ConcurrencyLimit {
        limits.withLock { limits in
            if let known = limits[model] { return known }
            let limit = ConcurrencyLimit()
            limits[model] = limit
            return limit
        }
    }
    /// Requests in hand by model, of deployments that bound them.
    public func inHand() -> [String: Int] { limits.withLock { $0.mapValues(\.inHand) } }
    /// All routes by model.
    public func routes() -> [String: DeploymentRoute] { current.withLock { $0 } }
    /// Replaces the route of a model for all requests from now on; `nil` removes it.
    public func publish(_ route: DeploymentRoute?, for model: Name) {
        current.withLock { $0[model.text] = route }
        for listener in listeners.withLock({ $0 }) { listener() }
    }
}
