import Definitions
public import PlatformCore
public import RuntimePorts

/// How explanations look in answers.
public enum ExplanationAnswer {
    /// Base values, margins and contributions by the names of the inputs: a number each, or a list with one for each margin
    /// of a model that has several; and what they are measured in.
    public static func json(_ explanation: Explanation, names: [String], scale: MarginScale?) -> JSONValue {
        func value(_ numbers: [Double]) -> JSONValue {
            numbers.count == 1 ? .number(numbers[0]) : .array(numbers.map(JSONValue.number))
        }
        var contributions: [String: JSONValue] = [:]
        for (position, name) in names.enumerated() {
            contributions[name] = value(explanation.contributions.map { $0[position] })
        }
        return [
            "base_value": value(explanation.baseValues), "margin": value(explanation.margins),
            "contributions": .object(contributions), "scale": scale.map { .string($0.rawValue) } ?? .null,
        ]
    }
}

extension Predictor {
    /// Whether a request gets explanations where it is answered.
    public enum Explaining: Sendable {
        /// Those that ask for explanations, and those whose features `prepare` has to be asked for, are left unanswered
        /// (`Answer.isLeft`): they would hold an event loop up.
        case left
        /// Those that ask for explanations get them.
        case asked
        /// All get them.
        case always
    }

    /// Most instances in one request that are explained.
    public static let explainedInstanceCountMax = 100
}

extension DeploymentRoute {
    /// Checks that whichever variant answers can explain itself.
    /// - Throws: `unsupportedModel` with the version and the reason.
    func checkExplaining() throws(ModelError) {
        // One that is not loaded is answered for by the fallback, unexplained.
        for variant in variants where variant.version.isLoaded {
            do { _ = try variant.version.loaded.explaining() } catch {
                throw ModelError(
                    error.code, "\(variant.version.model) version \(variant.version.number): \(error.message)")
            }
        }
    }

    /// Explains a prediction that a variant has made.
    func explain(_ record: PredictionRecord) throws(ModelError) -> JSONValue {
        guard record.choice != .fallback,
            let version = variants.first(where: { $0.version.number == record.version })?.version
        else { return .null }
        let explanations = try version.loaded.explaining().explain(record.inputs.map { Float($0) }, rowCount: 1)
        return ExplanationAnswer.json(
            explanations[0], names: version.binding.definition.inputNames,
            scale: version.loaded.description.marginScale)
    }
}
