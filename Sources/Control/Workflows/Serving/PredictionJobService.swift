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
    /// Rung when there is something to compute.
    private let work = WakeSignal()
    /// Rung when a job has ended.
    private let ends = WakeSignal()

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
    }

    /// Accepts a job: durable when it returns.
    ///
    /// - Parameter body: one instance, or `instances` with up to 100,000; beside them perhaps `webhook`, a URL or an object
    ///   of `url` and `secret`, and `ages`, `explain`, `latency`.
    /// - Throws: `PlatformError`: `notFound` for a model that is not deployed, `invalidInput`, `overloaded`.
    public func submit(model: String, body: JSONValue, terms: RequestTerms) async throws -> PredictionJob {
        let route = try predictor.route(model)
        if let fault = terms.fault { throw PlatformError(.invalidInput, fault.field, fault.message) }
        guard case .object(var members) = body else {
            throw PlatformError(.invalidInput, "request body", "an object is expected, not \(body.kindName)")
        }
        let webhook = try webhook(members.removeValue(forKey: "webhook")?.unlessNull)
        var request = JSONValue.object(members)
        let wishes = try Predictor.Wishes.take(from: &request, terms)
        if wishes.withExplanations { try predictor.checkExplaining(route) }
        let instances = try Self.instances(request, countMax: Self.instanceCountMax)
        let job = try await store.add(
            model: model, caller: terms.caller, priority: (terms.priority ?? .low).rawValue, instances: instances,
            wishes: wishes, webhook: webhook.url, secret: webhook.secret,
            instanceCountMax: configuration.instanceCountMax)
        work.ring()
        return job
    }

    /// Where the end of a job is told, and with which key.
    private func webhook(_ given: JSONValue?) throws(PlatformError) -> (url: String, secret: String?) {
        guard let given else { return ("", nil) }
        let members = given.objectValue ?? ["url": given]
        for key in members.keys where key != "url" && key != "secret" {
            throw PlatformError(
                .invalidInput, "webhook", "'\(key.prefix(60))' is not known here; 'url' and 'secret' are")
        }
        guard let url = members["url"]?.stringValue, url.utf8.count <= 2000 else {
            throw PlatformError(.invalidInput, "webhook", "a URL is expected, or an object of 'url' and 'secret'")
        }
        try transport.check(url)
        guard let key = members["secret"]?.unlessNull else { return (url, nil) }
        guard let secret = key.stringValue, 1...1024 ~= secret.utf8.count else {
            throw PlatformError(.invalidInput, "webhook.secret", "a text of 1 to 1024 bytes is expected")
        }
        return (url, secret)
    }

    /// Calls a job off.
    /// - Throws: `PlatformError`: `notFound`, `conflict` for a job that has ended.
    public func cancel(_ id: String) async throws -> PredictionJob {
        let job = try await store.cancel(id)
        ends.ring()
        return job
    }

    /// The instances of a request: those of a list, or the request itself.
    /// - Throws: `PlatformError` (`invalidInput`).
    public static func instances(_ body: JSONValue, countMax: Int) throws(PlatformError) -> [JSONValue] {
        guard let list = body["instances"] else { return [body] }
        guard let elements = list.arrayValue, 1...countMax ~= elements.count else {
            throw PlatformError(.invalidInput, "instances", "a list of 1 to \(countMax) instances is expected")
        }
        if let fault = Predictor.besideInstances(body) {
            throw PlatformError(.invalidInput, fault.field, fault.message)
        }
        return elements
    }

    // MARK: Work

    /// Computes until graceful shutdown.
    ///
    /// What is not computed then is computed after the next start. Nothing is looked for while nothing happens: submitted
    /// jobs, jobs that ended and moments that were waited for wake it.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    while !Task.isCancelled {
                        let rings = self.work.rings
                        let isDone = await self.noting("prediction jobs wait") {
                            while !Task.isCancelled, try await self.computeNext() {}
                        }
                        await self.work.wait(past: rings, atMost: isDone ? nil : Self.afterFault)
                    }
                }
                group.addTask {
                    while !Task.isCancelled {
                        let rings = self.ends.rings
                        var due: Duration?
                        let isDone = await self.noting("webhooks of prediction jobs wait") {
                            try await self.deliverDue()
                            due = try await self.forget()
                        }
                        await self.ends.wait(past: rings, atMost: isDone ? due : Self.afterFault)
                    }
                }
            }
        }
    }

    /// How long it waits after the store has failed.
    private static let afterFault = Duration.seconds(2)

    /// Forgets jobs that ended long ago.
    /// - Returns: time until there is something to forget or to tell; `nil` if there is neither.
    private func forget() async throws -> Duration? {
        let (now, kept) = (store.clock.now().milliseconds, configuration.retention.milliseconds)
        try await store.forget(finishedBefore: EventTime(milliseconds: now - kept))
        let moments = [
            try await store.nextDelivery(), try await store.oldestEnd()?.advanced(by: configuration.retention),
        ]
        guard let next = moments.compactMap(\.self).min() else { return nil }
        return .milliseconds(max(1, next.milliseconds - now + 1))
    }

    private func noting(_ message: Logger.Message, _ work: () async throws -> Void) async -> Bool {
        do {
            try await work()
            return true
        } catch {
            if !Task.isCancelled { logger.error(message, metadata: ["error": "\(errorText(error))"]) }
            return false
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
        while answer.status == 429 {  // others first; that there is room again is measured, nobody tells of it
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
            ends.ring()
            return true
        }
        try await store.finish(
            work, predictions: Array(answer.body[head..<(answer.body.count - end)]), count: answer.entries.count,
            fault: nil)
        ends.ring()
        return true
    }

    // MARK: Webhooks

    private func deliverDue() async throws {
        for (job, attempts) in try await store.dueDeliveries() {
            let body = job.json.canonicalBytes
            var isDelivered = false
            var mayRetry = attempts + 1 < Self.attemptCountMax
            do {
                let headers = WebhookMessage.headers(
                    id: job.id, body: body, secret: try await store.secret(of: job.id), at: store.clock.now())
                isDelivered = 200..<300 ~= (try await transport.post(job.webhook, headers: headers, body: body)).status
            } catch let error as PlatformError {
                // A secret that cannot be read any more is as final as an address that policy forbids.
                mayRetry = mayRetry && error.code != .refused && error.code != .corrupted
            }
            let wait = Int64(1000) << Int64(2 * min(attempts, 5))
            try await store.delivered(
                job.id, isDelivered ? "delivered" : mayRetry ? "pending" : "failed", attempts: attempts + 1,
                dueAt: EventTime(milliseconds: store.clock.now().milliseconds + wait))
        }
    }
}
