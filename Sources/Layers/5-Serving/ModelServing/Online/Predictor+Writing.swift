import Definitions
import PlatformCore

/// Answers as JSON.
extension Predictor {
    /// Appends one answer.
    ///
    /// `prediction` is the probability of the positive class, the value, or the most probable class.
    /// - Parameters:
    ///   - binding: names the features whose ages are told too: milliseconds since the newest event behind each.
    ///   - withLatency: whether it is told where the time went.
    ///   - explanation: told too; null for a fallback, which no model computed.
    static func write(
        _ record: borrowing PredictionRecord, agesOf binding: ServiceBinding? = nil, withLatency: Bool = false,
        explanation: JSONValue? = nil, to out: inout [UInt8]
    ) {
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
        out.append(contentsOf: String(record.choice == .fallback ? record.fallback?.version ?? 0 : record.version).utf8)
        out.append(contentsOf: ",\"variant\":\"".utf8)
        out.append(contentsOf: record.choice.word.utf8)
        out.append(contentsOf: "\",\"prediction_id\":\"".utf8)
        out.append(contentsOf: record.id.utf8)
        out.append(contentsOf: "\",\"fallback\":".utf8)
        if record.choice == .fallback {
            out.append(contentsOf: "true,\"fallback_reason\":".utf8)
            JSONValue.write(record.callersReason, to: &out)
            if let fallback = record.fallback {
                out.append(contentsOf: ",\"fallback_cause\":\"\(fallback.cause.rawValue)\",\"fallback_step\":".utf8)
                out.append(contentsOf: (fallback.step.isEmpty ? "null" : "\"\(fallback.step)\"").utf8)
            }
        } else {
            out.append(contentsOf: "false".utf8)
        }
        switch record.origin {
        case .model: break
        case .cache: out.append(contentsOf: ",\"cached\":true".utf8)
        case .precomputed: out.append(contentsOf: ",\"precomputed\":true".utf8)
        }
        if withLatency {
            let latency = record.latency
            out.append(
                contentsOf:
                    ",\"latency_microseconds\":{\"features\":\(latency.features),\"score\":\(latency.score),\"total\":\(latency.total)}"
                    .utf8)
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
        if let explanation {
            out.append(contentsOf: ",\"explanation\":".utf8)
            out.append(contentsOf: explanation.canonicalBytes)
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
}
