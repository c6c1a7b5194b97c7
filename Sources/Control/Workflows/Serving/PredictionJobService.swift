import Definitions
public import Governance
public import Logging
public import ModelServing
public import PlatformCore
public import ServiceLifecycle

/// Computes prediction jobs, one part after the other, and tells their ends.
public final class PredictionJobService: Service {
    /// Limits of the queue.
    public struct Configuration: Sendable {
        /// Most instances that wait in all.
        public var instanceCountMax: Int
        /// How long a finished job is kept.
        public var retention: TimeSpan

        /// Makes limits.
        public init(instanceCountMax: Int, retention: TimeSpan) {
            self.instanceCountMax = instanceCountMax
            self.retention = retention
        }
    }
    /// Most instances of one job.
    public static let instanceCountMax = 100_000
    /// Attempts to tell the end of a job: the last about an hour after the first.
    private static let attemptCountMax = 8

    /// The jobs.
    public let store: PredictionJobStore
    private let predictor: Predictor
    private let transport: any WebhookTransport
    private let configuration: Configuration
    private let logger: Logger
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation

    /// Computes with `predictor` what `store` holds; `transport` decides which webhooks are allowed.
    public init(
        store: PredictionJobStore, predictor: Predictor, transport: any WebhookTransport,
        configuration: Configuration, logger: Logger
    ) {
        self.store = store
        self.predictor = predictor
        self.transport = transport
        self.configuration = configuration
        self.logger = logger
        (wakes, waker) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Accepts a job: durable when it returns.
    ///
    /// - Parameter body: one instance, or `instances` with up to 100,000; beside them perhaps `webhook`, a URL.
    /// - Throws: `PlatformError`: `notFound` for a model that is not deployed, `invalidInput`, `overloaded`.
    public func submit(model: String, body: JSONValue, terms: RequestTerms) async throws -> PredictionJob {
        guard predictor.routes.route(model) != nil else {
            throw PlatformError(
                .notFound, "model/\(model.prefix(128))", "no deployment serves it; 'bottega deploy' makes one")
        }
        if let fault = terms.fault { throw PlatformError(.invalidInput, fault.field, fault.message) }
        guard case .object(var members) = body else {
            throw PlatformError(.invalidInput, "request body", "an object is expected, not \(body.kindName)")
        }
        var webhook = ""
        if let given = members.removeValue(forKey: "webhook")?.unlessNull {
            guard let url = given.stringValue, url.utf8.count <= 2000 else {
                throw PlatformError(.invalidInput, "webhook", "a URL is expected")
            }
            try transport.check(url)
            webhook = url
        }
        let instances = try Self.instances(.object(members), countMax: Self.instanceCountMax)
        let job = try await store.add(
            model: model, caller: terms.caller, priority: (terms.priority ?? .low).rawValue, instances: instances,
            webhook: webhook, instanceCountMax: configuration.instanceCountMax)
        waker.yield()
        return job
    }

    /// The instances of a request: those of a list, or the request itself.
    /// - Throws: `PlatformError` (`invalidInput`).
    public static func instances(_ body: JSONValue, countMax: Int) throws(PlatformError) -> [JSONValue] {
        guard let list = body["instances"] else { return [body] }
        guard let elements = list.arrayValue, 1...countMax ~= elements.count else {
            throw PlatformError(.invalidInput, "instances", "a list of 1 to \(countMax) instances is expected")
        }
        guard body.objectValue?.count == 1 else {
            throw PlatformError(.invalidInput, "request body", "'instances' stands by itself, or with 'webhook'")
        }
        return elements
    }

    // MARK: Work

    /// Computes until graceful shutdown.
    ///
    /// What is not computed then is computed after the next start.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    while !Task.isCancelled {
                        self.waker.yield()
                        try? await Task.sleep(for: .seconds(2))
                    }
                }
                group.addTask {
                    while !Task.isCancelled {
                        await self.noting("webhooks of prediction jobs wait") { try await self.deliverDue() }
                        try? await Task.sleep(for: .seconds(1))
                    }
                }
                group.addTask {
                    for await _ in self.wakes where !Task.isCancelled {
                        await self.noting("prediction jobs wait") {
                            while !Task.isCancelled, try await self.computeNext() {}
                            let kept = self.configuration.retention.milliseconds
                            try await self.store.forget(
                                finishedBefore: EventTime(
                                    milliseconds: self.store.clock.now().milliseconds - kept))
                        }
                    }
                }
            }
        }
    }

    private func noting(_ message: Logger.Message, _ work: () async throws -> Void) async {
        do { try await work() } catch {
            if !Task.isCancelled { logger.error(message, metadata: ["error": "\(errorText(error))"]) }
        }
    }

    /// Computes one part; `false` if there is none.
    func computeNext() async throws -> Bool {
        guard let work = try await store.next() else { return false }
        var terms = RequestTerms(
            caller: work.job.caller, priority: RequestPriority(rawValue: work.priority) ?? .low, explaining: .asked)
        terms.hasTime = true
        var answer = await predictor.answerLater(
            model: work.job.model, body: work.request, terms: terms, pressure: predictor.admission.pressure)
        while answer.status == 429 {  // others first
            try await Task.sleep(for: .milliseconds(100))
            answer = await predictor.answerLater(
                model: work.job.model, body: work.request, terms: terms, pressure: predictor.admission.pressure)
        }
        await predictor.log.take(answer.entries, policy: answer.logPolicy)
        let (head, end) = ("{\"predictions\":[".utf8.count, 2)
        // An answer that lacks a prediction for want of a fallback is a prediction that says so.
        guard answer.status == 200 || answer.status == 503, !answer.entries.isEmpty, answer.body.count > head + end
        else {
            try await store.finish(
                work, predictions: [], count: 0, fault: String(decoding: answer.body, as: UTF8.self))
            return true
        }
        try await store.finish(
            work, predictions: Array(answer.body[head..<(answer.body.count - end)]), count: answer.entries.count,
            fault: nil)
        return true
    }

    // MARK: Webhooks

    private func deliverDue() async throws {
        for (job, attempts) in try await store.dueDeliveries() {
            let body = job.json.canonicalBytes
            let headers = [
                "Content-Type": "application/json", "User-Agent": "bottega-webhook", "X-Bottega-Job": job.id,
            ]
            var isDelivered = false
            var mayRetry = attempts + 1 < Self.attemptCountMax
            do throws(PlatformError) {
                let answer = try await transport.post(job.webhook, headers: headers, body: body)
                isDelivered = 200..<300 ~= answer.status
            } catch {
                mayRetry = mayRetry && error.code != .refused
            }
            let wait = Int64(1000) << Int64(2 * min(attempts, 5))
            try await store.delivered(
                job.id, isDelivered ? "delivered" : mayRetry ? "pending" : "failed", attempts: attempts + 1,
                dueAt: EventTime(milliseconds: store.clock.now().milliseconds + wait))
        }
    }
}
