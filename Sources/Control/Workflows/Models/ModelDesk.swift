public import Definitions
import Foundation
public import Logging
public import ModelRegistry
public import ModelServing
public import PlatformCore
public import RuntimePorts
import Statistics
public import StoragePorts
import Synchronization

/// What the desk needs to know of a training set.
public struct DatasetParts: Sendable {
    /// Local Parquet file by slice.
    public let paths: [String: String]
    /// The label's column.
    public let label: String
    /// Version of the feature service that it was built with.
    public let serviceVersion: ContentHash
    /// Makes it.
    public init(paths: [String: String], label: String, serviceVersion: ContentHash) {
        self.paths = paths
        self.label = label
        self.serviceVersion = serviceVersion
    }
}

/// Where versions of models are judged, promoted and put in front of traffic.
///
/// The registry keeps the facts, the route table serves; this desk is the only one that changes both, one change at a time.
public actor ModelDesk {
    let registry: ModelVersionRegistry
    private let content: ContentStore
    private let runtimes: [any ModelRuntime]
    private let routes: RouteTable
    let evaluator: VersionEvaluator
    let definitions: @Sendable () -> DefinitionSet
    private let service: @Sendable (ContentHash) async throws -> ServiceVersion?
    private let reader: @Sendable (ServiceVersion) throws -> any VectorReader
    let dataset: @Sendable (ContentHash) async throws -> DatasetParts
    var sources: GateSources?
    private let logger: Logger
    private var bindings: [ContentHash: ServiceBinding] = [:]
    /// Versions in memory: routes hold those they need, `recent` those that gates and the like asked for last.
    private var loaded: [String: (use: Use, residence: WeakResidence)] = [:]
    private var recent: [ServedVersion] = []
    /// Routes that a rehearsal stands in front of, so that what they need stays in memory.
    private var rehearsed: [Name: DeploymentRoute] = [:]
    var scores: [(key: String, rows: EvaluationRows)] = []
    /// Versions that could not be loaded, and when that is tried again.
    private let unloaded = Mutex<[Name: [UnloadedVersion]]>([:])
    private var tries: [Name: (next: ContinuousClock.Instant, pause: Duration)] = [:]
    /// Differences that the log has been told, by version.
    private var toldDifferences: [String: [String]] = [:]

    private struct WeakResidence { weak var residence: ServedVersion.Residence? }

    /// Versions without a route that stay in memory: a champion and its challenger at the gates, and some more.
    private static let recentCountMax = 4
    /// Largest model file.
    public static let artifactByteCountMax = 1 << 30

    /// Makes a desk.
    /// - Parameters:
    ///   - registry: the facts.
    ///   - content: artifacts, profiles, evidence.
    ///   - runtimes: asked in order who recognizes an artifact.
    ///   - routes: what serving reads.
    ///   - evaluator: scores slices.
    ///   - definitions: the set in force.
    ///   - service: finds a version of a feature service, also one that is no longer in force.
    ///   - reader: makes the reader of a service's view features.
    ///   - dataset: finds the parts of a training set.
    ///   - logger: hears of versions that cannot be loaded.
    public init(
        registry: ModelVersionRegistry, content: ContentStore, runtimes: [any ModelRuntime], routes: RouteTable,
        evaluator: VersionEvaluator, definitions: @escaping @Sendable () -> DefinitionSet,
        service: @escaping @Sendable (ContentHash) async throws -> ServiceVersion?,
        reader: @escaping @Sendable (ServiceVersion) throws -> any VectorReader,
        dataset: @escaping @Sendable (ContentHash) async throws -> DatasetParts, logger: Logger
    ) {
        self.registry = registry
        self.content = content
        self.runtimes = runtimes
        self.routes = routes
        self.evaluator = evaluator
        self.definitions = definitions
        self.service = service
        self.reader = reader
        self.dataset = dataset
        self.logger = logger
    }

    /// Says who answers gates about features, leaks, memory and age.
    public func ask(_ sources: GateSources) { self.sources = sources }

    // MARK: Loading

    private func binding(_ version: ServiceVersion) throws -> ServiceBinding {
        if let known = bindings[version.service.version] { return known }
        let binding = ServiceBinding(definition: version.service, reader: try reader(version))
        bindings[version.service.version] = binding
        return binding
    }

    /// What a model's deployment says of how it is to be loaded; a change of it loads versions anew.
    private struct Use: Equatable {
        var options = RuntimeOptions()
        var batching: BatchingDefinition?
    }

    private func use(of model: Name) -> Use {
        var use = Use(options: RuntimeOptions(model: model.text))
        guard let deployment = definitions().deployment(of: model) else { return use }
        let workers = deployment.workers
        use.options.environment = workers.environment
        use.options.workerCount = workers.countMin...max(workers.countMin, workers.countMax)
        use.options.memoryByteCountMax = workers.memoryByteCountMax
        use.options.timeout = .milliseconds(workers.timeout.milliseconds)
        use.batching = deployment.batching
        return use
    }

    /// Loads a model's bytes with the runtime that knows them.
    public func load(_ bytes: [UInt8], fileName: String, for model: Name? = nil) async throws -> any LoadedModel {
        try await load(bytes, fileName: fileName, options: model.map { use(of: $0).options } ?? RuntimeOptions())
    }

    private func load(_ bytes: [UInt8], fileName: String, options: RuntimeOptions) async throws -> any LoadedModel {
        guard let runtime = runtimes.first(where: { $0.recognizes(bytes, fileName: fileName) }) else {
            let known = runtimes.flatMap(\.formats).joined(separator: ", ")
            throw PlatformError(
                .invalidInput, fileName, "no runtime recognizes this model file; known formats: \(known)")
        }
        do throws(ModelError) {
            return try await runtime.open(bytes, fileName: fileName, options: options)
        } catch {
            throw PlatformError(error.code == .tooLarge ? .tooLarge : .invalidInput, fileName, error.message)
        }
    }

    /// Loads an artifact to compute predictions again that were made with a version of a feature service.
    public func load(_ bytes: [UInt8], servedWith version: String) async throws -> any LoadedModel {
        let model = try await load(bytes, fileName: "artifact")
        guard let version = ContentHash(hex: version), let found = try await service(version) else { return model }
        return try model.reading(categories: found.service.categories)
    }

    /// A version in memory with its features; it stays there for a while.
    public func served(_ model: Name, _ number: Int) async throws -> ServedVersion {
        let version = try await routed(model, number)
        recent.removeAll { $0.residence === version.residence }
        recent.append(version)
        recent.removeFirst(max(0, recent.count - Self.recentCountMax))
        return version
    }

    /// A version in memory with its features, for whoever holds it.
    private func routed(_ model: Name, _ number: Int) async throws -> ServedVersion {
        let key = "\(model)/\(number)"
        let use = use(of: model)
        if let known = resident(key, use) { return known }
        let version = try await registry.version(model, number)
        let service = try await service(of: version)
        let artifact = version.candidate.artifact
        let bytes = try await content.get(artifact.hash, byteCountMax: Self.artifactByteCountMax)
        var file = try await load(bytes, fileName: artifact.fileName, options: use.options)
        if let batching = use.batching { file = BatchingModel(file, batching) }
        if let known = resident(key, use) { return known }
        let ready = try ServedVersion(
            model: model, number: number, artifact: artifact.hash, loaded: file, binding: try binding(service))
        loaded = loaded.filter { $0.value.residence.residence != nil }
        loaded[key] = (use, WeakResidence(residence: ready.residence))
        return ready
    }

    private func resident(_ key: String, _ use: Use) -> ServedVersion? {
        guard let known = loaded[key], known.use == use else { return nil }
        return known.residence.residence.map(ServedVersion.init)
    }

    /// How a version gets to be known as trained on one.
    static let trainingSetHint =
        "Register it with 'bottega model register --run … --dataset …', or set its run's tag 'bottega.dataset' to the training "
        + "set's hash before an MLflow client registers it"

    /// The feature service that a version was trained with, in force or not.
    private func service(of version: ModelVersion) async throws -> ServiceVersion {
        guard let wanted = version.candidate.origin.serviceVersion else {
            throw PlatformError(
                .refused, version.subject,
                "it was not trained on a training set of this platform, so nothing is known of the features it reads. "
                    + Self.trainingSetHint)
        }
        guard let found = try await service(wanted) else {
            throw PlatformError(
                .conflict, version.subject,
                "it was trained with feature service version \(wanted.short), which no revision of the definitions has; "
                    + "apply that definition or train a new version")
        }
        return found
    }

    // MARK: Registration

    /// Registers a model file with what we measure on its training set.
    /// - Parameters:
    ///   - model: the model.
    ///   - bytes: the file, as the job logged it.
    ///   - fileName: its name.
    ///   - hasSignature: whether the job stated a signature; the version then gets that of the feature service.
    ///   - origin: where it comes from.
    ///   - actor: who registers.
    ///   - reason: why.
    public func register(
        _ model: Name, bytes: [UInt8], fileName: String, origin: VersionOrigin, hasSignature: Bool, actor: String,
        reason: String
    ) async throws -> ModelVersion {
        let candidate = try await judge(
            model, bytes: bytes, fileName: fileName, origin: origin, hasSignature: hasSignature)
        return try await registry.register(model, candidate, actor: actor, reason: reason)
    }

    /// The format of a model file that a runtime of ours loads; `nil` for any other.
    public func format(of bytes: [UInt8], fileName: String) async -> String? {
        (try? await load(bytes, fileName: fileName))?.description.format
    }

    /// Scores a model file on the slices of its training set: what a registration says of it.
    public func judge(
        _ model: Name, bytes: [UInt8], fileName: String, origin: VersionOrigin, hasSignature: Bool
    ) async throws -> VersionCandidate {
        guard let definition = definitions().models[model] else { throw definitions().unknown(model: model) }
        let file = try await load(bytes, fileName: fileName, for: model)
        let differences = try await differences(
            of: file, subject: "model/\(model)", in: definitions().deployment(of: model))
        guard let trainedOn = origin.dataset else {
            throw PlatformError(.invalidInput, "model/\(model)", "the training set is missing")
        }
        let parts = try await dataset(trainedOn)
        // The version that it was trained with, even if another one has come into force since.
        guard let trained = try await service(parts.serviceVersion), trained.service.name == definition.service else {
            throw PlatformError(
                .conflict, "model/\(model)",
                "its training set was not built with a version of the feature service '\(definition.service)'")
        }
        let service = trained.service
        let hash = try await content.put(bytes)
        let ready = try ServedVersion(
            model: model, number: 0, artifact: hash, loaded: file, binding: try binding(trained))
        let evaluated = try await evaluator.evaluate(
            ready.loaded, parts: parts.paths, service: service, label: parts.label,
            gates: definition.gates.values.flatMap(\.self))
        let profile = try await content.put(try JSONValue.of(evaluated.profile).canonicalBytes)
        let candidate = VersionCandidate(
            artifact: ModelArtifact(
                hash: hash, byteCount: bytes.count, format: file.description.format, fileName: fileName),
            signature: hasSignature ? Self.signature(of: service, file.description) : nil, origin: origin,
            metrics: evaluated.metrics, rows: evaluated.rows, referenceProfile: profile,
            description: definition.description, requirementDifferences: differences)
        return candidate
    }

    /// What a model finds where it runs otherwise than it was logged with.
    /// - Throws: `refused` if there is something and the deployment wants them to match.
    private func differences(of model: any LoadedModel, subject: String, in deployment: DeploymentDefinition?)
        async throws -> [String]
    {
        guard let deferred = model.deferred else { return [] }
        func found() async throws -> [String] {
            do throws(ModelError) { try await deferred.warmUp() } catch {
                throw PlatformError(.refused, subject, "it cannot be made ready: \(error.message)")
            }
            return deferred.requirementDifferences
        }
        var differences = try await found()
        guard let deployment, deployment.workers.requirements == .match, !differences.isEmpty else {
            return differences
        }
        // Something may have been installed since its workers were started.
        deferred.startAnew()
        differences = try await found()
        guard !differences.isEmpty else { return [] }
        throw PlatformError(
            .refused, subject,
            "its environment is not what it was logged with: \(differences.joined(separator: "; ")). Make one that is and "
                + "name it in 'workers: {environment: …}' of the deployment '\(deployment.name)', which wants "
                + "'requirements: match'")
    }

    /// What the versions of a model's route find where they run otherwise than they were logged with; versions without a
    /// difference are left out.
    public nonisolated func requirementDifferences(of model: Name) -> [Int: [String]] {
        let versions = routes.route(model.text)?.versions ?? []
        let found = versions.map { ($0.number, $0.deferred?.requirementDifferences ?? []) }
        return Dictionary(found.filter { !$0.1.isEmpty }, uniquingKeysWith: { $1 })
    }

    private static func signature(of service: FeatureServiceDefinition, _ model: ModelDescription) -> ModelSignature {
        let request = service.request.map { feature in
            switch feature.kind {
            case .number(let minimum, let maximum):
                SignatureField(
                    name: feature.name, kind: .number, isNullable: feature.nullable, type: "double", minimum: minimum,
                    maximum: maximum)
            case .category(let values):
                SignatureField(
                    name: feature.name, kind: .category, categories: values, isNullable: feature.nullable,
                    type: "string")
            }
        }
        let outputs = (0..<model.outputCount).map {
            SignatureField(
                name: model.outputCount == 1 ? "prediction" : "probability_\($0)", kind: .number, isNullable: false,
                type: "double")
        }
        return ModelSignature(
            inputs: request
                + (service.features.map(\.servedName) + service.onDemand.map(\.name)).map {
                    SignatureField(name: $0, kind: .number, type: "double")
                },
            outputs: outputs)
    }

    // MARK: Gates and stages

    /// Asks the gates of a stage and, if all hold, takes the step.
    /// - Returns: what the gates said; the step was taken only if all passed.
    public func promote(
        _ model: Name, _ number: Int, to stage: ModelStage, actor: String, reason: String, details: JSONValue = .null
    )
        async throws -> (gates: [GateResult], isTaken: Bool)
    {
        let current = try await registry.stage(of: model, number)
        guard ModelVersionRegistry.allows(from: current, to: stage) else {
            throw PlatformError(
                .refused, "model/\(model)/versions/\(number)",
                ModelVersionRegistry.orderMessage(from: current, to: stage))
        }
        if stage == .archived {
            try await registry.transition(
                model, number, to: stage, actor: actor, reason: reason, gates: [], details: details, expected: current,
                isHeld: holds(current))
            return ([], true)
        }
        let examination = try await examine(model, number, for: stage, actor: actor)
        guard examination.isPassed else { return (examination.gates, false) }
        try await registry.transition(
            model, number, to: stage, actor: actor, reason: reason, gates: examination.gates,
            details: Self.details(details, examination), expected: current)
        return (examination.gates, true)
    }

    /// Takes a version to a stage over those in between, if the gates of all of them hold.
    ///
    /// Every gate is asked before the first step, so a refusal leaves the version where it was.
    /// - Parameter archivingOthers: whether versions that are in that stage already go into the archive.
    public func climb(
        _ model: Name, _ number: Int, to stage: ModelStage, actor: String, reason: String, archivingOthers: Bool
    ) async throws -> (gates: [GateResult], isTaken: Bool) {
        let current = try await registry.stage(of: model, number)
        if current == stage { return ([], true) }
        let ladder: [ModelStage] = [.development, .staging, .canary, .production]
        var path = [stage]
        if let from = ladder.firstIndex(of: current), let to = ladder.firstIndex(of: stage), to > from {
            path = Array(ladder[(from + 1)...to])
        } else if current == .archived, let to = ladder.firstIndex(of: stage), to >= 1 {
            path = Array(ladder[1...to])
        }
        var asked: [GateExamination?] = []
        var from = current
        for next in path {
            guard ModelVersionRegistry.allows(from: from, to: next) else {
                throw PlatformError(
                    .refused, "model/\(model)/versions/\(number)",
                    ModelVersionRegistry.orderMessage(from: from, to: next))
            }
            asked.append(next == .archived ? nil : try await examine(model, number, for: next, actor: actor))
            from = next
        }
        let gates = asked.flatMap { $0?.gates ?? [] }
        guard gates.allSatisfy(\.passed) else { return (gates, false) }
        from = current
        for (next, examination) in zip(path, asked) {
            try await registry.transition(
                model, number, to: next, actor: actor, reason: reason, gates: examination?.gates ?? [],
                details: examination.map { Self.details(.null, $0) } ?? .null, expected: from,
                isHeld: holds(from))
            from = next
        }
        if archivingOthers, stage == .staging {
            for (other, at) in try await registry.stages(of: model) where at == .staging && other != number {
                try await registry.transition(
                    model, other, to: .archived, actor: actor, reason: "version \(number) came into staging", gates: [])
            }
        }
        return (gates, true)
    }

    /// Whether a policy keeps a version of a stage out of the archive: requests would go on to it.
    ///
    /// A challenger that the controller brought into traffic may be archived: that withdraws it. A deployment that is not
    /// defined any more answers nobody.
    private func holds(_ stage: ModelStage) -> @Sendable (PolicyRevision) -> Bool {
        { [definitions] revision in
            definitions().deployments[revision.deployment] != nil
                && (stage == .production || revision.actor != RolloutController.actor)
        }
    }

    /// Whether a deployment is defined; one that is not answers nobody, whatever its last policy says.
    public nonisolated func isDefined(_ deployment: Name) -> Bool { definitions().deployments[deployment] != nil }

    private static func details(_ details: JSONValue, _ examination: GateExamination) -> JSONValue {
        var members = details.objectValue ?? [:]
        members["seal"] = .string(examination.seal.hex)
        members["examination"] = .string(examination.evidence.hex)
        return .object(members)
    }

    // MARK: Deployments

    /// Publishes a policy and puts it in front of traffic.
    ///
    /// - Parameter expectedRevision: the revision that the caller saw; `nil` to take any.
    /// - Throws: as the registry's `publish`: `conflict` if another revision came in between.
    public func publish(
        _ policy: DeploymentPolicy, for deployment: DeploymentDefinition, actor: String, reason: String,
        expectedRevision: Int? = nil
    ) async throws -> PolicyRevision {
        // Every version is in memory before anybody is routed to it, and stays there until it is.
        var held: [ServedVersion] = []
        defer { withExtendedLifetime(held) {} }
        let current = try await registry.current(deployment.name)?.policy
        let answering = (current?.variants.map(\.version) ?? []) + (current?.shadows ?? [])
        for number in policy.versions {
            let version = try await routed(deployment.model, number)
            held.append(version)
            // What is in front of traffic already may stay there while traffic is taken from it.
            _ = try await differences(
                of: version.loaded, subject: "model/\(deployment.model)/versions/\(number)",
                in: answering.contains(number) ? nil : deployment)
        }
        let revision = try await registry.publish(
            deployment.name, of: deployment.model, policy, actor: actor, reason: reason,
            expectedRevision: expectedRevision)
        try await route(revision)
        return revision
    }

    /// Goes back to the previous policy: a pointer swap, the versions are in memory.
    public func rollback(_ deployment: Name, actor: String, reason: String, expectedRevision: Int? = nil) async throws
        -> PolicyRevision
    {
        let revision = try await registry.rollback(
            deployment, actor: actor, reason: reason, expectedRevision: expectedRevision)
        // It is decided: a version that cannot be loaded has a stand-in and is tried again.
        try await route(revision, standIn: true)
        return revision
    }

    private func route(_ revision: PolicyRevision, standIn: Bool = false) async throws {
        guard let made = try await makeRoute(revision, standIn: standIn) else { return dismiss(revision) }
        put(made, revision)
    }

    /// A deployment that is not defined any more answers nobody.
    private func dismiss(_ revision: PolicyRevision) {
        unloaded.withLock { $0[revision.deployment] = nil }
        publish(nil, for: revision.model)
    }

    private func put(_ made: MadeRoute, _ revision: PolicyRevision) {
        // Two publications may come back from the registry in either order; the later one stays.
        if let known = routes.route(revision.model.text), known.definition.name == revision.deployment,
            known.revision > revision.revision
        {
            return
        }
        rehearsed[revision.deployment] = nil
        publish(made.route, for: revision.model)
        note(made.missing, revision.deployment)
        tellDifferences(revision)
    }

    /// Puts a route in front of traffic that may have stand-ins; one without them that serves the policy already stays.
    private func take(_ made: MadeRoute, _ revision: PolicyRevision) {
        let known = routes.route(revision.model.text)
        let isServing =
            known?.definition.name == revision.deployment && known?.revision == revision.revision
            && known?.versions.allSatisfy(\.isLoaded) == true
        if isServing, made.missing.contains(where: { $0.use == .answers || $0.use == .shadows }) {
            return note(Self.servedAsBefore(made.missing), revision.deployment)
        }
        put(made, revision)
    }

    /// Versions that a deployment lacks as it is defined now, while it answers as it was defined before.
    private static func servedAsBefore(_ missing: [UnloadedVersion]) -> [UnloadedVersion] {
        missing.map {
            var version = $0
            version.isServedAsBefore = version.use == .answers || version.use == .shadows
            return version
        }
    }

    /// Says in the log what versions in front of traffic find otherwise than they were logged with, once.
    private func tellDifferences(_ revision: PolicyRevision) {
        for (number, lines) in requirementDifferences(of: revision.model).sorted(by: { $0.key < $1.key }) {
            let key = "\(revision.model)/\(number)"
            guard toldDifferences[key] != lines else { continue }
            toldDifferences[key] = lines
            logger.warning(
                "a version's environment is not what it was logged with",
                metadata: [
                    "deployment": "\(revision.deployment)", "version": "\(number)",
                    "differences": "\(lines.joined(separator: "; "))",
                ])
        }
    }

    /// Replaces a route; versions that leave the traffic with it are let go.
    private func publish(_ route: DeploymentRoute?, for model: Name) {
        let before = routes.route(model.text)?.versions ?? []
        routes.publish(route, for: model)
        let kept = route?.versions ?? []
        recent.removeAll { version in
            before.contains { $0.residence === version.residence }
                && !kept.contains { $0.residence === version.residence }
        }
    }

    /// A route and what it lacks.
    struct MadeRoute {
        let route: DeploymentRoute
        let missing: [UnloadedVersion]
    }

    /// Versions that deployments need and that cannot be loaded now, by deployment.
    public nonisolated var unloadedVersions: [UnloadedVersion] {
        unloaded.withLock { $0.sorted { $0.key.text < $1.key.text }.flatMap(\.value) }
    }

    /// Remembers what could not be loaded; the log hears of what is new and of the end of it.
    private func note(_ missing: [UnloadedVersion], _ deployment: Name) {
        let before = unloaded.withLock { unloaded in
            defer { unloaded[deployment] = missing.isEmpty ? nil : missing }
            return unloaded[deployment] ?? []
        }
        for version in missing where !before.contains(version) {
            logger.error(
                version.isServedAsBefore
                    ? "a deployment is served as it was defined before: a version cannot be loaded as it is defined now"
                    : "a version cannot be loaded",
                metadata: [
                    "deployment": "\(deployment)", "version": "\(version.version)", "use": "\(version.use.rawValue)",
                    "error": "\(version.reason)",
                ])
        }
        if missing.isEmpty {
            tries[deployment] = nil
            if !before.isEmpty {
                logger.info("all versions of a deployment are loaded", metadata: ["deployment": "\(deployment)"])
            }
        } else if tries[deployment] == nil {
            tries[deployment] = (.now + Self.shortestPause, Self.shortestPause)
        }
    }

    private static let shortestPause = Duration.seconds(2)
    private static let longestPause = Duration.seconds(60)

    /// Tries again to load what could not be loaded, with pauses that grow to a minute; to be called now and then.
    func loadUnloaded() async {
        for deployment in unloaded.withLock({ Array($0.keys) }).sorted(by: { $0.text < $1.text }) {
            guard rehearsed[deployment] == nil, let due = tries[deployment], due.next <= .now else { continue }
            let pause = min(due.pause * 2, Self.longestPause)
            tries[deployment] = (.now + pause, pause)
            do {
                guard let revision = try await registry.current(deployment),
                    let made = try await makeRoute(revision, standIn: true)
                else {
                    note([], deployment)
                    continue
                }
                let before = unloaded.withLock { $0[deployment] ?? [] }
                let isBetter = before.contains { version in
                    !made.missing.contains { ($0.version, $0.use) == (version.version, version.use) }
                }
                if isBetter, rehearsed[deployment] == nil { take(made, revision) }
            } catch {
                logger.debug(
                    "a deployment cannot be served yet",
                    metadata: ["deployment": "\(deployment)", "error": "\(errorText(error))"])
            }
        }
    }

    /// A version for a route; one that fails in its place, and why, if it cannot be loaded and `standIn` is set.
    private func standing(_ model: Name, _ number: Int, _ standIn: Bool) async throws
        -> (version: ServedVersion, fault: (any Error)?)
    {
        let fault: any Error
        do { return (try await routed(model, number), nil) } catch {
            guard standIn else { throw error }
            fault = error
        }
        let version = try await registry.version(model, number)
        let binding = try binding(try await service(of: version))
        let stand = UnloadedModel(
            reason: "version \(number): \(errorText(fault))", featureCount: binding.inputCount,
            outputCount: max(1, version.candidate.signature?.outputs.count ?? 1))
        let served = try ServedVersion(
            model: model, number: number, artifact: version.candidate.artifact.hash, loaded: stand, binding: binding)
        return (served, fault)
    }

    /// The route of a policy with the versions that it lacks; `nil` if its deployment is not defined any more.
    ///
    /// - Parameter standIn: whether a variant or shadow that cannot be loaded gets a stand-in; else that is thrown.
    func makeRoute(_ revision: PolicyRevision, standIn: Bool = false) async throws
        -> MadeRoute?
    {
        guard let definition = definitions().deployments[revision.deployment] else { return nil }
        let policy = revision.policy
        var missing: [UnloadedVersion] = []
        func lacks(_ number: Int, _ use: UnloadedVersion.Use, _ error: any Error) {
            let version = UnloadedVersion(
                deployment: revision.deployment, model: revision.model, version: number, use: use,
                reason: errorText(error))
            if !missing.contains(version) { missing.append(version) }
        }
        var variants: [DeploymentRoute.Variant] = []
        for share in policy.variants {  // the first is the primary: a policy lists the champion first
            let (version, fault) = try await standing(revision.model, share.version, standIn)
            if let fault { lacks(share.version, .answers, fault) }
            variants.append(.init(version: version, share: share.share))
        }
        var shadows: [ServedVersion] = []
        for number in policy.shadows {
            let (version, fault) = try await standing(revision.model, number, standIn)
            if let fault { lacks(number, .shadows, fault) }
            shadows.append(version)
        }
        let fallback = await fallbackVersions(definition, revision)
        for (number, error) in fallback.missing { lacks(number, .standsIn, error) }
        let reserve = await reserve(revision)
        for (number, error) in reserve.missing { lacks(number, .waitsForRollback, error) }
        let route = DeploymentRoute(
            definition: definition, revision: revision.revision, variants: variants, shadows: shadows,
            slices: (policy.slices ?? []).map { ($0.version, $0.to) }, shadowShares: policy.shadowShares ?? [],
            fallbackVersions: fallback.versions, precomputed: try precomputed(definition), reserve: reserve.versions)
        return MadeRoute(route: route, missing: missing)
    }

    /// Puts a policy that is not published in front of traffic, for a drill; gives it up with `reroute`.
    func rehearse(_ revision: PolicyRevision) async throws {
        guard let route = try await makeRoute(revision)?.route else { return }
        rehearsed[revision.deployment] = rehearsed[revision.deployment] ?? routes.route(revision.model.text)
        publish(route, for: revision.model)
    }

    /// Puts the stored policy of a deployment in front of traffic again, after a rehearsal.
    func reroute(_ deployment: Name) async throws {
        if let revision = try await registry.current(deployment) { try await route(revision) }
    }

    /// What a rollback would go back to, in memory so that it needs no store then.
    private func reserve(_ revision: PolicyRevision) async
        -> (versions: [ServedVersion], missing: [(Int, any Error)])
    {
        var (versions, missing): ([ServedVersion], [(Int, any Error)]) = ([], [])
        let goal = try? await registry.rollbackGoal(revision.deployment)
        for share in goal?.policy.variants ?? [] {
            do { versions.append(try await routed(revision.model, share.version)) } catch {
                missing.append((share.version, error))
            }
        }
        return (versions, missing)
    }

    /// The versions of the fallback's steps; a step whose version is not there is left out.
    private func fallbackVersions(_ definition: DeploymentDefinition, _ revision: PolicyRevision) async
        -> (versions: [Int: ServedVersion], missing: [(Int, any Error)])
    {
        var (versions, missing): ([Int: ServedVersion], [(Int, any Error)]) = ([:], [])
        for (index, step) in definition.promise.fallback.enumerated() {
            let number: Int
            switch step {
            case .version(let wanted): number = wanted
            case .previousVersion:
                let history = try? await registry.history(definition.name)
                guard let previous = history.flatMap(PolicyRevision.previousVersion) else { continue }
                number = previous
            case .expression, .constant: continue
            }
            do { versions[index] = try await routed(revision.model, number) } catch {
                missing.append((number, error))
            }
        }
        return (versions, missing)
    }

    /// Reads the feature that holds predictions computed before.
    private func precomputed(_ definition: DeploymentDefinition) throws -> PrecomputedScores? {
        let set = definitions()
        guard let feature = definition.promise.precomputed, let view = set.featureViews[feature.view] else {
            return nil
        }
        let service = FeatureServiceDefinition(reading: feature, of: view)
        return PrecomputedScores(
            reader: try reader(ServiceVersion(service: service, definitions: set)), joinKeys: service.joinKeys)
    }

    /// Refuses deployments of which a fallback names a version that is not registered.
    public func checkFallbacks(_ definitions: DefinitionSet) async throws {
        for deployment in definitions.deployments.values.sorted(by: { $0.name.text < $1.name.text }) {
            for case .version(let number) in deployment.promise.fallback {
                do { _ = try await registry.version(deployment.model, number) } catch {
                    throw PlatformError(
                        .invalidInput, "Deployment/\(deployment.name)",
                        "its fallback names version \(number) of the model '\(deployment.model)', which is not registered"
                    )
                }
            }
        }
    }

    /// Puts every stored policy in front of traffic: at start, and after definitions changed.
    ///
    /// Where a version cannot be loaded the deployment's fallback answers (`unloadedVersions`) until it can (`loadUnloaded`). A
    /// deployment that serves already keeps the route that it has.
    public func refreshRoutes() async {
        do {
            for deployment in try await registry.deployments() { await refresh(deployment) }
        } catch { logger.error("deployments cannot be read", metadata: ["error": "\(errorText(error))"]) }
    }

    private func refresh(_ deployment: Name) async {
        do {
            guard let revision = try await registry.current(deployment) else { return }
            do {
                guard let made = try await makeRoute(revision, standIn: true) else { return dismiss(revision) }
                take(made, revision)
            } catch {
                // Whatever it is, it is tried again as a version is that cannot be loaded.
                let reason = "the deployment cannot be served as it is defined: \(errorText(error))"
                let missing = revision.policy.variants.map {
                    UnloadedVersion(
                        deployment: deployment, model: revision.model, version: $0.version, use: .answers,
                        reason: reason)
                }
                let isServing = routes.route(revision.model.text)?.definition.name == deployment
                note(isServing ? Self.servedAsBefore(missing) : missing, deployment)
            }
        } catch {
            logger.error(
                "a deployment cannot be served",
                metadata: ["deployment": "\(deployment)", "error": "\(errorText(error))"])
        }
    }
}
