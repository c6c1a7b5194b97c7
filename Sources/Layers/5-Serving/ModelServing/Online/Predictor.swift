public import Definitions
public import PlatformCore
import RuntimePorts
import Synchronization

/// Answers prediction requests: validate, choose a variant, read features, score, hand to the log.
///
/// Synchronous and free of disk waits, to be called on event loops.
public final class Predictor: Sendable {
    /// Where requests go.
    public let routes: RouteTable
    /// Takes what was answered.
    public let log: PredictionLog
    /// What was measured.
    public let metrics: ServingMetrics
    private let clock: any PlatformClock
    private let identifiers: IdentifierSource

    /// Most instances in one request.
    public static let instanceCountMax = 1000

    /// Makes a predictor.
    public init(
        routes: RouteTable, log: PredictionLog, metrics: ServingMetrics, clock: any PlatformClock,
        identifiers: IdentifierSource
    ) {
        self.routes = routes
        self.log = log
        self.metrics = metrics
        self.clock = clock
        self.identifiers = identifiers
    }

    /// An answer, and what has to reach the log before it may leave.
    public struct Answer: Sendable {
        /// HTTP status.
        public let status: Int
        /// JSON.
        public let body: [UInt8]
        /// For the log; empty for refused requests.
        public let entries: [PredictionLogEntry]
        /// What the answer owes the log.
        public let logPolicy: PredictionLogPolicy
    }

    /// Answers one request body.
    public func answer(model: String, body: ArraySlice<UInt8>, caller: String) -> Answer {
        let start = ContinuousClock.now
        guard let route = routes.route(model) else {
            metrics.countRefused(model: "", status: 404)
            return refusal(
                404, .notFound, "model/\(model.prefix(128))", "no deployment serves it; 'bottega deploy' makes one")
        }
        var request: JSONValue
        do {
            request = try JSONValue.parse(body, limits: JSONLimits(byteCountMax: 4 << 20, depthMax: 16))
        } catch {
            metrics.countRefused(model: model, status: 400)
            return refusal(400, .invalidInput, "request body", error.description)
        }
        var withAges = false
        if case .object(var members) = request, let wanted = members.removeValue(forKey: "ages") {
            guard case .bool(let flag) = wanted else {
                metrics.countRefused(model: model, status: 422)
                return refusal(422, .invalidInput, "ages", "true or false is expected, not \(wanted.kindName)")
            }
            withAges = flag
            request = .object(members)
        }
        var instances = [request]
        var isBatch = false
        if let list = request["instances"] {
            guard let elements = list.arrayValue, 1...Self.instanceCountMax ~= elements.count else {
                metrics.countRefused(model: model, status: 422)
                return refusal(
                    422, .invalidInput, "instances", "a list of 1 to \(Self.instanceCountMax) instances is expected")
            }
            instances = elements
            isBatch = true
        }
        var out: [UInt8] = []
        out.reserveCapacity(256 * instances.count)
        if isBatch { out.append(contentsOf: "{\"predictions\":[".utf8) }
        var entries: [PredictionLogEntry] = []
        entries.reserveCapacity(instances.count)
        var faults: [(Int, FieldFault)] = []
        let now = clock.now()
        for (index, instance) in instances.enumerated() {
            switch predict(instance, route: route, at: now, start: start, caller: caller) {
            case .success(let (entry, binding)):
                if index > 0 { out.append(0x2C) }
                if faults.isEmpty { Self.write(entry.record, agesOf: withAges ? binding : nil, to: &out) }
                entries.append(entry)
            case .failure(let fault): faults += fault.faults.map { (index, $0) }
            }
        }
        guard faults.isEmpty else {
            metrics.countRefused(model: model, status: 422)
            return refusal(faults, isBatch: isBatch, model: model)
        }
        if isBatch { out.append(contentsOf: "]}".utf8) }
        return Answer(
            status: entries.contains { $0.record.choice == .fallback } && route.definition.fallback == nil ? 503 : 200,
            body: out, entries: entries, logPolicy: route.definition.predictionLog)
    }

    private struct Faults: Error { let faults: [FieldFault] }

    private func predict(
        _ instance: JSONValue, route: DeploymentRoute, at now: EventTime, start: ContinuousClock.Instant, caller: String
    ) -> Result<(PredictionLogEntry, ServiceBinding), Faults> {
        let primary = route.variants[0].version
        let begin = ContinuousClock.now
        var vector = InputVector()
        var variant = route.variants[0]
        var choice = PredictionRecord.Choice.primary
        var output: [Float] = []
        var reason = ""
        do {
            let faults = try primary.binding.assemble(instance, asOf: now, into: &vector)
            guard faults.isEmpty else { return .failure(Faults(faults: faults)) }
            (variant, choice) = route.choose(vector.keys, inputs: vector.inputs)
            if variant.version.binding !== primary.binding {  // another feature service: its own reading
                let more = try variant.version.binding.assemble(instance, asOf: now, into: &vector)
                guard more.isEmpty else { return .failure(Faults(faults: more)) }
            }
        } catch {
            reason = "features cannot be read: \(error.message)"
        }
        let assembled = ContinuousClock.now
        if reason.isEmpty {
            do { output = try variant.version.loaded.predict(vector.inputs.map(Float.init), rowCount: 1) } catch {
                reason = "the model failed: \(error.message)"
            }
        }
        if !reason.isEmpty {
            choice = .fallback
            output = route.definition.fallback.map { [Float($0)] } ?? []
        }
        let done = ContinuousClock.now
        let binding = variant.version.binding
        let record = PredictionRecord(
            id: identifiers.next(), time: now, model: variant.version.model.text,
            version: variant.version.number,
            artifact: choice == .fallback ? "" : variant.version.artifact.hex, policyRevision: route.revision,
            choice: choice, serviceVersion: binding.definition.version.hex,
            entities: zip(binding.definition.joinKeys, vector.keys).map { .init(key: $0, value: $1) },
            inputs: vector.inputs, ages: vector.ages, statuses: vector.statuses, overridden: vector.overridden,
            output: output, fallbackReason: reason,
            latency: .init(
                features: Self.microseconds(assembled - begin), score: Self.microseconds(done - assembled),
                total: Self.microseconds(done - start)), caller: caller)
        metrics.count(record)
        return .success((PredictionLogEntry(record: record, shadows: route.shadows), binding))
    }

    private static func microseconds(_ duration: Duration) -> UInt32 {
        let (seconds, attoseconds) = duration.components
        return UInt32(clamping: seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
    }

    // MARK: JSON out

    /// Appends one answer.
    ///
    /// `prediction` is the probability of the positive class, the value, or the most probable class.
    /// - Parameter binding: names the features whose ages are told too: milliseconds since the newest event behind each.
    static func write(_ record: PredictionRecord, agesOf binding: ServiceBinding? = nil, to out: inout [UInt8]) {
        out.append(contentsOf: "{\"prediction\":".utf8)
        if record.output.count > 1 {
            let best = record.output.indices.max { record.output[$0] < record.output[$1] } ?? 0
            out.append(contentsOf: String(best).utf8)
            out.append(contentsOf: ",\"probabilities\":[".utf8)
            for (index, value) in record.output.enumerated() {
                if index > 0 { out.append(0x2C) }
                write(value, to: &out)
            }
            out.append(0x5D)
        } else if let value = record.output.first {
            write(value, to: &out)
        } else {
            out.append(contentsOf: "null".utf8)
        }
        out.append(contentsOf: ",\"model\":\"".utf8)
        out.append(contentsOf: record.model.utf8)  // a Name: nothing to escape
        out.append(contentsOf: "\",\"model_version\":".utf8)
        out.append(contentsOf: String(record.choice == .fallback ? 0 : record.version).utf8)
        out.append(contentsOf: ",\"variant\":\"".utf8)
        out.append(contentsOf: record.choice.word.utf8)
        out.append(contentsOf: "\",\"prediction_id\":\"".utf8)
        out.append(contentsOf: record.id.utf8)
        out.append(contentsOf: "\",\"fallback\":".utf8)
        if record.choice == .fallback {
            out.append(contentsOf: "true,\"fallback_reason\":".utf8)
            JSONValue.write(record.fallbackReason, to: &out)
        } else {
            out.append(contentsOf: "false".utf8)
        }
        if let binding {
            out.append(contentsOf: ",\"feature_ages\":{".utf8)
            let first = binding.definition.request.count
            for (index, feature) in binding.definition.features.enumerated() {
                if index > 0 { out.append(0x2C) }
                JSONValue.write(feature.servedName, to: &out)
                out.append(0x3A)
                let age = record.ages[first + index]
                out.append(contentsOf: (age < 0 ? "null" : String(age)).utf8)
            }
            out.append(0x7D)
        }
        out.append(0x7D)
    }

    private static func write(_ value: Float, to out: inout [UInt8]) {
        if value.isFinite {
            out.append(contentsOf: value.description.utf8)
        } else {
            out.append(contentsOf: "null".utf8)
        }
    }

    private func refusal(_ status: Int, _ code: PlatformError.Code, _ subject: String, _ message: String) -> Answer {
        let error: JSONValue = [
            "error": ["code": .string(code.rawValue), "subject": .string(subject), "message": .string(message)]
        ]
        return Answer(status: status, body: error.canonicalBytes, entries: [], logPolicy: .shed)
    }

    private func refusal(_ faults: [(Int, FieldFault)], isBatch: Bool, model: String) -> Answer {
        let fields: [JSONValue] = faults.prefix(100).map { index, fault in
            [
                "field": .string(isBatch ? "instances[\(index)].\(fault.field)" : fault.field),
                "message": .string(fault.message),
            ]
        }
        let summary = fields.map { "\($0["field"]?.stringValue ?? ""): \($0["message"]?.stringValue ?? "")" }
        let error: JSONValue = [
            "error": [
                "code": "invalid_input", "subject": .string("predict/\(model)"),
                "message": .string(summary.joined(separator: "\n")), "fields": .array(fields),
            ]
        ]
        return Answer(status: 422, body: error.canonicalBytes, entries: [], logPolicy: .shed)
    }
}
