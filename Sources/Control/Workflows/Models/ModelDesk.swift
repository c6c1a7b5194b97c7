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
    let routes: RouteTable
    let evaluator: VersionEvaluator
    let definitions: @Sendable () -> DefinitionSet
    let service: @Sendable (ContentHash) async throws -> ServiceVersion?
    let reader: @Sendable (ServiceVersion) throws -> any VectorReader
    let dataset: @Sendable (ContentHash) async throws -> DatasetParts
    var sources: GateSources?
    let logger: Logger
    private var bindings: [ContentHash: ServiceBinding] = [:]
    /// Versions in memory: routes hold those they need, `recent` those that gates and the like asked for last.
    private var loaded: [String: (use: Use, residence: WeakResidence)] = [:]
    var recent: [ServedVersion] = []
    /// Routes that a rehearsal stands in front of, so that what they need stays in memory.
    var rehearsed: [Name: DeploymentRoute] = [:]
    var scores: [(key: String, rows: EvaluationRows)] = []
    /// Versions that could not be loaded, and when that is tried again.
    let unloaded = Mutex<[Name: [UnloadedVersion]]>([:])
    var tries: [Name: (next: ContinuousClock.Instant, pause: Duration)] = [:]
    /// Differences that the log has been told, by version.
    var toldDifferences: [String: [String]] = [:]

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

    func binding(_ version: ServiceVersion) throws -> ServiceBinding {
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
        remembered(try await routed(model, number))
    }

    /// A version in memory for rows that hold its inputs: nothing is joined.
    ///
    /// One that was not trained on a training set of this platform reads the columns that its signature or its file names.
    /// - Throws: as `served`; `refused` if neither names them.
    public func servedWithColumns(_ model: Name, _ number: Int) async throws -> ServedVersion {
        let hasService = try await registry.version(model, number).candidate.origin.serviceVersion != nil
        return remembered(try await routed(model, number, withColumns: !hasService))
    }

    private func remembered(_ version: ServedVersion) -> ServedVersion {
        recent.removeAll { $0.residence === version.residence }
        recent.append(version)
        recent.removeFirst(max(0, recent.count - Self.recentCountMax))
        return version
    }

    /// A version in memory with its features, for whoever holds it.
    ///
    /// - Parameter withColumns: whether it reads the columns that it names itself, as one without a feature service has to.
    func routed(_ model: Name, _ number: Int, withColumns: Bool = false) async throws -> ServedVersion {
        let key = "\(model)/\(number)\(withColumns ? "/columns" : "")"
        let use = use(of: model)
        if let known = resident(key, use) { return known }
        let version = try await registry.version(model, number)
        let service = withColumns ? nil : try await service(of: version)
        let artifact = version.candidate.artifact
        let bytes = try await content.get(artifact.hash, byteCountMax: Self.artifactByteCountMax)
        var file = try await load(bytes, fileName: artifact.fileName, options: use.options)
        if let batching = use.batching { file = BatchingModel(file, batching) }
        if let known = resident(key, use) { return known }
        let ready = try ServedVersion(
            model: model, number: number, artifact: artifact.hash, loaded: file,
            binding: try binding(service ?? Self.columns(of: version, file.description)))
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
    func service(of version: ModelVersion) async throws -> ServiceVersion {
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
    func differences(of model: any LoadedModel, subject: String, in deployment: DeploymentDefinition?)
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
}
