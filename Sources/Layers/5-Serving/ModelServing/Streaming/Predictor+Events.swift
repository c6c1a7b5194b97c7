import Definitions
public import PlatformCore
import StoragePorts

/// An event of a stream that is to be scored: what a request would say.
public struct ScoringEvent: Sendable {
    /// Values of the join keys by name; null where there is none.
    public let entities: [String: JSONValue]
    /// Values of the request features by name.
    public let features: [String: JSONValue]
    /// Makes an event.
    public init(entities: [String: JSONValue], features: [String: JSONValue]) {
        self.entities = entities
        self.features = features
    }
}

extension Predictor {
    /// Scores one event as a request would be answered, and tells everything that decided it.
    ///
    /// It does not go to the prediction log: who asks keeps the event, with the record in it. An event that a request would be refused for has
    /// `error` and a null prediction.
    /// - Returns: `nil` if no deployment serves the model.
    public func score(_ event: ScoringEvent, model: String, caller: String, scratch: PredictionScratch) async
        -> ScoredEvent?
    {
        guard let route = routes.route(model) else { return nil }
        var body: [UInt8] = []
        JSONValue.object(["entities": .object(event.entities), "features": .object(event.features)]).write(to: &body)
        var record = scratch.record
        var binding = scratch.binding
        func ask() async -> Answer {
            if route.isDeferred {
                return await answerLater(model: model, body: body, caller: caller, explaining: .asked)
            }
            return body.withUnsafeBytes {
                self.answer(model: model, body: $0, caller: caller, scratch: scratch, explaining: .asked)
            }
        }
        var reply = await ask()
        // An event has time; that there is room again is measured, nobody tells of it.
        while reply.status == 429, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(50))
            reply = await ask()
        }
        if route.isDeferred {
            if let known = try? reply.entries.first?.record() { record = known }
            binding = route.variants.first { $0.version.binding.versionText == record.serviceVersion }?.version.binding
        } else {
            (record, binding) = (scratch.record, scratch.binding)
        }
        if reply.status == 429 { return nil }
        guard let stored = reply.entries.first?.stored, let binding else {
            if reply.status == 404 { return nil }
            let error = (try? JSONValue.parse(reply.body))?["error"]
            return ScoredEvent(error: error?["message"] ?? .string("it cannot be scored"))
        }
        var inputs: [String: JSONValue] = [:]
        for (place, name) in binding.definition.inputNames.enumerated() where record.inputs.indices.contains(place) {
            inputs[name] = Self.input(record.inputs[place], of: place, binding)
        }
        var ages: [String: JSONValue] = [:]
        for (place, name) in binding.definition.inputNames.enumerated()
        where record.ages.indices.contains(place) && record.ages[place] >= 0 {
            ages[name] = .integer(record.ages[place])
        }
        var members: [String: JSONValue] = [
            "prediction": record.prediction.map(Self.number) ?? .null, "model": .string(record.model),
            "model_version": .integer(Int64(record.version)), "variant": .string(record.choice.word),
            "fallback": .bool(record.choice == .fallback), "prediction_id": .string(record.id),
            "scored_at": .string(record.time.description), "entities": .object(event.entities),
            "features": .object(inputs), "feature_ages_ms": .object(ages),
        ]
        if record.output.count > 1 { members["probabilities"] = .array(record.output.map(Self.number)) }
        if !record.fallbackReason.isEmpty { members["reason"] = .string(record.callersReason) }
        return ScoredEvent(members: members, time: record.time, record: stored.value)
    }

    private static func number(_ value: Float) -> JSONValue { value.isFinite ? .number(Double(value)) : .null }

    /// An input as the source has it: the text of a category, a number, null.
    private static func input(_ value: Double, of place: Int, _ binding: ServiceBinding) -> JSONValue {
        guard value.isFinite else { return .null }
        if binding.definition.request.indices.contains(place),
            case .category(let values) = binding.definition.request[place].kind, values.indices.contains(Int(value))
        {
            return .string(values[Int(value)])
        }
        return .number(value)
    }
}
