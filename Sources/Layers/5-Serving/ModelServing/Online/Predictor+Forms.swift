import Definitions
public import PlatformCore
import RuntimePorts

/// Requests of any form, read as JSON values.
extension Predictor {
    /// Answers a request of any form: batches, ages, explanations, and whatever has a fault to be worded.
    func answerWhole(
        _ question: Question, model: String, body: UnsafeRawBufferPointer, scratch: PredictionScratch,
        terms: RequestTerms
    ) -> Answer {
        let form: Form
        switch read(body, question, model: model, terms: terms) {
        case .success(let read): form = read
        case .failure(let refused): return refused.answer
        }
        let (instances, isBatch, withAges) = (form.instances, form.isBatch, form.withAges)
        let withExplanations = form.withExplanations
        if terms.explaining == .left, !question.route.isReady(for: instances) { return .left }
        var out: [UInt8] = []
        out.reserveCapacity(256 * instances.count)
        if isBatch { out.append(contentsOf: "{\"predictions\":[".utf8) }
        var entries: [PredictionLogEntry] = []
        entries.reserveCapacity(instances.count)
        var faults: [(Int, FieldFault)] = []
        var (isUnanswered, isTooLate) = (false, false)
        for (index, instance) in instances.enumerated() {
            switch predict(.value(instance), question, scratch) {
            case .success(let entry)?:
                if index > 0 { out.append(0x2C) }
                var explanation: JSONValue?
                if withExplanations, faults.isEmpty {
                    do { explanation = try question.route.explain(scratch.record) } catch {
                        metrics.countRefused(model: model, status: 422)
                        return refusal(422, .invalidInput, "explain", error.message)
                    }
                }
                if faults.isEmpty {
                    Self.write(
                        scratch.record, agesOf: withAges ? scratch.binding : nil,
                        withLatency: form.withLatency, explanation: explanation, to: &out)
                }
                entries.append(entry)
                isUnanswered = isUnanswered || scratch.isUnanswered
                isTooLate = isTooLate || scratch.isUnansweredForTime
            case .failure(let fault)?: faults += fault.faults.map { (index, $0) }
            case nil: break
            }
        }
        guard faults.isEmpty else {
            metrics.countRefused(model: model, status: 422)
            return refusal(faults, isBatch: isBatch, model: model)
        }
        if isTooLate { return tooLate(model, entries, question) }
        if isBatch { out.append(contentsOf: "]}".utf8) }
        return Answer(
            status: isUnanswered ? 503 : 200, body: out, entries: entries,
            logPolicy: question.route.definition.predictionLog)
    }

    /// What a request of any form asks for.
    struct Form {
        let instances: [JSONValue]
        let isBatch: Bool
        let withAges: Bool
        let withExplanations: Bool
        let withLatency: Bool
    }
    struct Refused: Error { let answer: Answer }

    /// Reads a request of any form.
    func read(_ body: UnsafeRawBufferPointer, _ question: Question, model: String, terms: RequestTerms)
        -> Result<Form, Refused>
    {
        func refused(_ status: Int, _ code: PlatformError.Code, _ subject: String, _ message: String)
            -> Result<Form, Refused>
        {
            .failure(Refused(answer: refusal(status, code, subject, message)))
        }
        var request: JSONValue
        do {
            request = try JSONValue.parse(Array(body)[...], limits: JSONLimits(byteCountMax: 4 << 20, depthMax: 16))
        } catch {
            metrics.countRefused(model: model, status: 400)
            return refused(400, .invalidInput, "request body", error.description)
        }
        let wishes: Wishes
        do { wishes = try Wishes.take(from: &request, terms) } catch {
            metrics.countRefused(model: model, status: 422)
            return refused(422, error.code, error.subject, error.message)
        }
        let withExplanations = wishes.withExplanations
        if withExplanations, terms.explaining == .left { return .failure(Refused(answer: .left)) }
        var instances = [request]
        var isBatch = false
        if let list = request["instances"] {
            guard let elements = list.arrayValue, 1...Self.instanceCountMax ~= elements.count else {
                metrics.countRefused(model: model, status: 422)
                return refused(
                    422, .invalidInput, "instances", "a list of 1 to \(Self.instanceCountMax) instances is expected")
            }
            if let fault = Self.besideInstances(request) {
                metrics.countRefused(model: model, status: 422)
                return refused(422, .invalidInput, fault.field, fault.message)
            }
            instances = elements
            isBatch = true
        }
        if withExplanations, let refusal = refusalToExplain(instances.count, question.route) {
            return .failure(Refused(answer: refusal))
        }
        return .success(
            Form(
                instances: instances, isBatch: isBatch, withAges: wishes.withAges,
                withExplanations: withExplanations, withLatency: wishes.withLatency))
    }

    /// What a request asks for beside predictions.
    public struct Wishes: Sendable {
        /// Whether the ages of features are told.
        public var withAges: Bool
        /// Whether each prediction is explained.
        public var withExplanations: Bool
        /// Whether it is told where the time went.
        public var withLatency: Bool

        /// Takes them out of a request's top level, where they count more than its terms.
        /// - Throws: `invalidInput` for one that is neither true nor false.
        public static func take(from request: inout JSONValue, _ terms: RequestTerms) throws(PlatformError) -> Wishes {
            var flags = [
                "ages": terms.withAges, "explain": terms.explaining == .always, "latency": terms.withLatency,
            ]
            if case .object(var members) = request {
                for name in ["ages", "explain", "latency"] {
                    guard let wanted = members.removeValue(forKey: name) else { continue }
                    guard case .bool(let flag) = wanted else {
                        throw PlatformError(
                            .invalidInput, name, "true or false is expected, not \(wanted.kindName)")
                    }
                    flags[name] = flag
                }
                request = .object(members)
            }
            return Wishes(
                withAges: flags["ages"] == true, withExplanations: flags["explain"] == true,
                withLatency: flags["latency"] == true)
        }

        /// The same as members of a request, those that are wished.
        public var members: [String: JSONValue] {
            [("ages", withAges), ("explain", withExplanations), ("latency", withLatency)].reduce(into: [:]) {
                if $1.1 { $0[$1.0] = true }
            }
        }
    }

    /// What stands beside a request's `instances` and is not known there; `nil` if nothing does.
    public static func besideInstances(_ request: JSONValue) -> FieldFault? {
        guard let other = request.objectValue?.keys.sorted().first(where: { $0 != "instances" }) else { return nil }
        let near = nearestName(to: other, among: ["ages", "explain", "latency"])
        let isInstance = ["entities", "features"].contains(other)
        return FieldFault(
            field: String(other.prefix(64)),
            message: isInstance
                ? "it stands beside 'instances', where it is not read; each instance has its own"
                : "unknown member beside 'instances'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    /// Checks that a deployment explains its predictions.
    /// - Throws: `invalidInput` with the version and the reason.
    public func checkExplaining(_ route: DeploymentRoute) throws(PlatformError) {
        do { try route.checkExplaining() } catch { throw PlatformError(.invalidInput, "explain", error.message) }
    }

    private func refusalToExplain(_ count: Int, _ route: DeploymentRoute) -> Answer? {
        var reason = "up to \(Self.explainedInstanceCountMax) instances are explained in one request, not \(count)"
        if count <= Self.explainedInstanceCountMax {
            do {
                try route.checkExplaining()
                return nil
            } catch { reason = error.message }
        }
        metrics.countRefused(model: route.definition.model.text, status: 422)
        return refusal(422, .invalidInput, "explain", reason)
    }

    /// One instance of a request: its bytes, to be tried the quick way, its value, or a row of columns.
    enum Instance {
        case bytes(UnsafeRawBufferPointer)
        case value(JSONValue)
        case row(InputColumns, Int)

        /// Turns it into the input of a service: the faults, none for a good one; `nil` if the quick way does not take it.
        func assemble(_ binding: ServiceBinding, asOf: EventTime, into vector: inout InputVector)
            throws(PlatformError) -> [FieldFault]?
        {
            switch self {
            case .bytes(let bytes): try binding.assembleQuickly(bytes, asOf: asOf, into: &vector) ? [] : nil
            case .value(let value): try binding.assemble(value, asOf: asOf, into: &vector)
            case .row(let columns, let row): try binding.assemble(columns, row: row, asOf: asOf, into: &vector)
            }
        }

        /// The same, where the quick way's no is none.
        func assembleSlowly(_ binding: ServiceBinding, asOf: EventTime, into vector: inout InputVector)
            throws(PlatformError) -> [FieldFault]
        {
            if let faults = try assemble(binding, asOf: asOf, into: &vector) { return faults }
            guard case .bytes(let bytes) = self, let value = try? JSONValue.parse(Array(bytes)[...]) else {
                return [FieldFault(field: "", message: "it cannot be read")]
            }
            return try binding.assemble(value, asOf: asOf, into: &vector)
        }
    }
}
