import Definitions
public import ModelServing
public import PlatformCore
import RuntimePorts
import Synchronization

/// The Open Inference Protocol V2 over the platform's deployments, whichever way requests come.
///
/// A model of the protocol is a deployed model. What is predicted this way is a prediction like any other: the same
/// variants, fallback and shadows, a record in the log, an identifier that labels refer to.
public final class InferenceService: Sendable {
    /// Models and the versions that the registry knows of them.
    public typealias Registered = @Sendable () async throws -> [(model: String, versions: [Int])]
    /// Puts a change into the audit chain: who, what, about which thing.
    public typealias Auditor = @Sendable (_ actor: String, _ action: String, _ subject: String) async -> Void

    /// The server's own version.
    let version: String
    let predictor: Predictor
    let statistics = InferenceStatistics()
    private let clock: any PlatformClock
    private let registered: Registered
    private let failure: @Sendable () -> String?
    private let audit: Auditor
    /// Models that were unloaded by way of the protocol.
    private let unloaded = Mutex<Set<String>>([])
    private let known = Mutex<[VersionKey: Known]>([:])

    private struct VersionKey: Hashable {
        let model: Name
        let number: Int
    }

    /// What was found out about a version, as long as it is in memory.
    private struct Known {
        weak var residence: ServedVersion.Residence?
        let tensors: ModelTensors
    }

    /// Answers from the parts of a platform.
    ///
    /// - Parameters:
    ///   - registered: what the registry knows, for the index.
    ///   - failure: why the platform is not ready; `nil` if it is.
    public init(
        version: String, predictor: Predictor, clock: any PlatformClock, registered: @escaping Registered,
        failure: @escaping @Sendable () -> String?, audit: @escaping Auditor
    ) {
        self.version = version
        self.predictor = predictor
        self.clock = clock
        self.registered = registered
        self.failure = failure
        self.audit = audit
    }

    /// What the server understands beside the protocol itself.
    static let extensions = [
        "classification", "model_repository", "model_repository(unload_dependents)", "model_configuration",
        "binary_tensor_data", "parameters", "statistics",
    ]

    /// Whether predictions are answered.
    var isReady: Bool { failure() == nil }

    // MARK: Models

    /// A model's route.
    /// - Parameter version: a version's number; empty for whichever the deployment says.
    /// - Throws: `notFound` in Triton's words.
    func route(_ model: String, version: String) throws(PlatformError) -> (route: DeploymentRoute, version: Int?) {
        guard let route = predictor.routes.route(model) else {
            throw PlatformError(
                .notFound, "", "Request for unknown model: '\(model.prefix(128))' is not found")
        }
        guard !unloaded.withLock({ $0.contains(model) }) else {
            throw PlatformError(.notFound, "", "Request for unknown model: '\(model)' has no available versions")
        }
        guard !version.isEmpty else { return (route, nil) }
        guard let number = Int(version), route.variants.contains(where: { $0.version.number == number }) else {
            throw PlatformError(
                .notFound, "",
                "Request for unknown model: '\(model)' version \(version.prefix(32)) is not found")
        }
        return (route, number)
    }

    /// Whether a model, or a version of it, answers.
    func isReady(_ model: String, version: String) -> Bool {
        do {
            let (route, number) = try route(model, version: version)
            return isReady && served(route, number).isLoaded
        } catch { return false }
    }

    /// The tensors of a deployment, or of one of its versions.
    func tensors(_ route: DeploymentRoute, version: Int?) -> ModelTensors {
        let served = served(route, version)
        let key = VersionKey(model: served.model, number: served.number)
        if let known = known.withLock({ $0[key] }), known.residence === served.residence { return known.tensors }
        let tensors = ModelTensors(served)
        known.withLock { known in
            if known.count >= 1000 { known = known.filter { $0.value.residence != nil } }
            known[key] = Known(residence: served.residence, tensors: tensors)
        }
        return tensors
    }

    /// The version that describes a deployment: the one that is asked for, else the primary.
    func served(_ route: DeploymentRoute, _ version: Int?) -> ServedVersion {
        (route.variants.first { $0.version.number == version } ?? route.variants[0]).version
    }

    // MARK: Inference

    /// An answer, and what the log has to get before it goes out.
    struct Reply {
        let result: InferenceResult
        let answer: Predictor.ColumnAnswer
    }

    /// A request whose tensors fit the model.
    private struct Question {
        let model: String
        let route: DeploymentRoute
        let version: Int?
        let tensors: ModelTensors
        let columns: InputColumns
        let asked: [(tensor: ModelTensors.Tensor, asked: InferenceRequest.Output)]
        let terms: RequestTerms
    }

    private func question(_ model: String, version: String, _ request: InferenceRequest, _ terms: RequestTerms)
        throws(PlatformError) -> Question
    {
        let (route, number) = try route(model, version: version)
        let tensors = tensors(route, version: number)
        var terms = terms
        do {
            try terms.read(request.parameters, keyNames: tensors.keyNames)
            return Question(
                model: model, route: route, version: number, tensors: tensors,
                columns: try tensors.columns(of: request, model: model),
                asked: try tensors.outputs(of: request, model: model), terms: terms)
        } catch {
            predictor.metrics.countRefused(model: model, status: 400)
            countFailure(model, route, number, since: ContinuousClock.now)
            throw error
        }
    }

    private func countFailure(
        _ model: String, _ route: DeploymentRoute, _ version: Int?, since start: ContinuousClock.Instant
    ) {
        statistics.countFailure(
            model: model, version: served(route, version).number, nanoseconds: Self.nanoseconds(since: start))
    }

    private func reply(
        _ answer: Predictor.ColumnAnswer, to question: Question, _ request: InferenceRequest,
        since start: ContinuousClock.Instant
    ) -> Reply {
        let result = InferenceResult(
            model: question.model, version: Self.version(of: answer.predictions), id: request.id,
            outputs: question.asked.map {
                question.tensors.fill(
                    $0.tensor, $0.asked, isBinary: $0.asked.isBinary ?? request.wantsBinary, from: answer.predictions)
            })
        if answer.failure != nil {
            countFailure(question.model, question.route, question.version, since: start)
        } else {
            statistics.count(
                answer.predictions, model: question.model, nanoseconds: Self.nanoseconds(since: start),
                now: UInt64(max(0, clock.now().milliseconds)))
        }
        return Reply(result: result, answer: answer)
    }

    /// Whether a model, if there is one, is asked without waiting.
    func answersAtOnce(_ model: String) -> Bool { predictor.routes.route(model).map { !$0.isDeferred } ?? true }

    /// Answers a request on an event loop; the caller gives `answer.entries` to the log.
    ///
    /// - Returns: `nil` where the answer has to be waited for.
    func inferAtOnce(
        _ model: String, version: String, _ request: InferenceRequest, terms: RequestTerms, pressure: Int,
        scratch: PredictionScratch
    ) throws(PlatformError) -> Reply? {
        let start = ContinuousClock.now
        let question = try question(model, version: version, request, terms)
        do {
            let answer = try predictor.predict(
                model: model, version: question.version, columns: question.columns, terms: question.terms,
                pressure: pressure, scratch: scratch)
            return answer.map { reply($0, to: question, request, since: start) }
        } catch {
            countFailure(model, question.route, question.version, since: start)
            throw error
        }
    }

    /// Answers a request; the caller gives `answer.entries` to the log.
    func infer(_ model: String, version: String, _ request: InferenceRequest, terms: RequestTerms)
        async throws(PlatformError) -> Reply
    {
        let start = ContinuousClock.now
        let question = try question(model, version: version, request, terms)
        do {
            let answer = try await predictor.predictLater(
                model: model, version: question.version, columns: question.columns, terms: question.terms,
                pressure: predictor.admission.pressure)
            return reply(answer, to: question, request, since: start)
        } catch {
            countFailure(model, question.route, question.version, since: start)
            throw error
        }
    }

    /// Answers a request once the log has what the deployment wants it to have.
    func answer(_ model: String, version: String, _ request: InferenceRequest, terms: RequestTerms) async throws
        -> InferenceResult
    {
        predictor.admission.beginWaiting()
        defer { predictor.admission.endWaiting() }
        let reply = try await infer(model, version: version, request, terms: terms)
        let answer = reply.answer
        let isTaken = await predictor.log.take(answer.entries, policy: answer.logPolicy, until: answer.deadline)
        if !isTaken, let late = predictor.lateness(answer.deadline) { throw late }
        if let failure = answer.failure { throw failure }
        return reply.result
    }

    /// The versions that answered, each once.
    private static func version(of predictions: [ColumnPrediction]) -> String {
        var versions: [Int] = []
        for prediction in predictions where !versions.contains(prediction.version) {
            versions.append(prediction.version)
        }
        return versions.map(String.init).joined(separator: ",")
    }

    private static func nanoseconds(since start: ContinuousClock.Instant) -> UInt64 {
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        return UInt64(clamping: seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    // MARK: Repository

    /// A version of a model in the index.
    struct IndexEntry: Sendable, Hashable {
        let name: String
        let version: String
        let state: String
        let reason: String
    }

    /// What the registry has and what of it answers.
    func index(readyOnly: Bool) async throws -> [IndexEntry] {
        let routes = predictor.routes.routes()
        let gone = unloaded.withLock { $0 }
        var entries: [IndexEntry] = []
        var names: Set<String> = []
        for (model, versions) in try await registered() {
            names.insert(model)
            for version in versions {
                entries.append(Self.entry(model, version, routes[model], isUnloaded: gone.contains(model)))
            }
        }
        for (model, route) in routes where !names.contains(model) {
            for variant in route.variants {
                entries.append(Self.entry(model, variant.version.number, route, isUnloaded: gone.contains(model)))
            }
        }
        return entries.filter { !readyOnly || $0.state == "READY" }.sorted {
            ($0.name, Int($0.version) ?? 0) < ($1.name, Int($1.version) ?? 0)
        }
    }

    private static func entry(_ model: String, _ version: Int, _ route: DeploymentRoute?, isUnloaded: Bool)
        -> IndexEntry
    {
        var (state, reason) = ("UNAVAILABLE", "not deployed")
        if isUnloaded {
            reason = "unloaded"
        } else if let route {
            if route.variants.contains(where: { $0.version.number == version }) {
                (state, reason) = ("READY", "")
            } else if route.shadows.contains(where: { $0.number == version }) {
                reason = "answers in shadow"
            }
        }
        return IndexEntry(name: model, version: String(version), state: state, reason: reason)
    }

    /// Takes back an unloading.
    ///
    /// A model is loaded by its deployment; this loads none.
    func load(_ model: String, parameters: [String: InferenceParameter], actor: String) async throws {
        if let name = parameters.keys.sorted().first {
            throw InferenceFault.invalid(
                "failed to load '\(model.prefix(128))': parameter '\(name.prefix(64))' is not taken; versions come from "
                    + "the registry")
        }
        guard predictor.routes.route(model) != nil else {
            throw InferenceFault.invalid(
                "failed to load '\(model.prefix(128))': no deployment serves it; 'bottega deploy' makes one")
        }
        if unloaded.withLock({ $0.remove(model) != nil }) {
            await audit(actor, "model.loaded", "model/\(model)")
        }
    }

    /// Hides a model from callers of the protocol until it is loaded or the server starts again.
    ///
    /// Its deployment goes on answering `/predict`: who answers there is the deployment's policy.
    func unload(_ model: String, actor: String) async {
        // As with Triton, what is not there is unloaded.
        if predictor.routes.route(model) != nil, unloaded.withLock({ $0.insert(model).inserted }) {
            await audit(actor, "model.unloaded", "model/\(model)")
        }
    }

    /// Versions whose statistics are asked for: of one model, of one version, or of all.
    func counted(_ model: String, version: String) throws(PlatformError) -> [(model: String, version: Int)] {
        if !model.isEmpty {
            let found: (route: DeploymentRoute, version: Int?)
            do { found = try route(model, version: version) } catch {
                throw InferenceFault.invalid(
                    (try? route(model, version: "")) == nil
                        ? "requested model '\(model.prefix(128))' is not available"
                        : "requested model version is not available for model '\(model)'")
            }
            return found.route.variants.map { (model, $0.version.number) }
                .filter { found.version == nil || $0.1 == found.version }
        }
        let gone = unloaded.withLock { $0 }
        return predictor.routes.routes().filter { !gone.contains($0.key) }.sorted { $0.key < $1.key }.flatMap {
            (model, route) in route.variants.map { (model, $0.version.number) }
        }
    }
}
