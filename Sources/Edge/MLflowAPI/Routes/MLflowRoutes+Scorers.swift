import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    var scorerRoutes: [Route] {
        call("POST", "mlflow/scorers/register", version: "3.0") { fields in
            let document = try fields.required("serialized_scorer")
            try Self.check(scorer: document)
            let made = try await tracking.registerScorer(
                fields.required("name"), inExperiment: fields.required("experiment_id"), document: document)
            return [
                "version": .integer(made.version), "scorer_id": .string(made.scorerID),
                "experiment_id": .string(made.experimentID), "name": .string(made.name),
                "serialized_scorer": .string(made.document), "creation_time": .integer(made.createdAt.milliseconds),
            ]
        }
            + call("GET", "mlflow/scorers/list", version: "3.0", listScorers)
            + call("GET", "mlflow/scorers/versions", version: "3.0") { fields in
                let versions = try await tracking.versions(
                    ofScorer: fields.required("name"), inExperiment: fields.required("experiment_id"))
                return ["scorers": .array(versions.map(\.wire))]
            }
            + call("GET", "mlflow/scorers/get", version: "3.0") { fields in
                let found = try await tracking.scorer(
                    fields.required("name"), version: fields.integer("version"),
                    inExperiment: fields.required("experiment_id"))
                return ["scorer": found.wire]
            }
            + call("DELETE", "mlflow/scorers/delete", version: "3.0") { fields in
                try await tracking.deleteScorer(
                    fields.required("name"), version: fields.integer("version"),
                    inExperiment: fields.required("experiment_id"))
                return [:]
            }
            // Clients that read a scorer ask whether it runs by itself; none does.
            + call("GET", "mlflow/scorers/online-configs", version: "3.0") { fields in
                guard try !fields.texts("scorer_ids").isEmpty else { throw fields.missing("scorer_ids") }
                return ["configs": []]
            }
            + judgeRoutes
    }

    /// What would have the server run scorers by itself.
    private var judgeRoutes: [Route] {
        [
            ("PUT", "scorers/online-config"), ("POST", "scorer/invoke"), ("POST", "genai/evaluate/invoke"),
            ("POST", "issues/invoke"),
        ].flatMap { method, path in
            call(method, "mlflow/\(path)", version: "3.0") { _ in
                throw MLflowError(
                    "NOT_IMPLEMENTED", 501,
                    "This server runs no scorers: load them with mlflow.genai.scorers.get_scorer and evaluate where you are."
                )
            }
        }
    }

    @Sendable private func listScorers(_ fields: MLflowRequest) async throws -> JSONValue {
        let (id, several) = (try fields.text("experiment_id") ?? "", try fields.texts("experiment_ids"))
        guard id.isEmpty || several.isEmpty else {
            throw MLflowError.invalid("Cannot specify both 'experiment_id' and 'experiment_ids'.")
        }
        let found =
            id.isEmpty
            ? try await tracking.scorers(inExperiments: several.isEmpty ? nil : several)
            : try await tracking.scorers(inExperiment: id)
        return ["scorers": .array(found.map(\.wire))]
    }

    /// Refuses what MLflow's server refuses: code in a scorer, which clients would run, and models that are none.
    private static func check(scorer text: String) throws(MLflowError) {
        guard let document = try? JSONValue.parse(text), document.objectValue != nil else {
            throw .invalid("serialized_scorer must be valid JSON of an object")
        }
        guard !hasCode(document) else {
            throw .invalid(
                "Custom scorer registration (using @scorer decorator) is not supported: it would have clients run code that "
                    + "others registered. Keep the scorer's code in a repository and import it, or use built-in scorers "
                    + "or make_judge().")
        }
        guard let model = model(ofScorer: document) else { return }
        guard let name = model.stringValue, name.contains(where: { !$0.isWhitespace }) else {
            throw .invalid("Scorer model must be text that is not empty or only whitespace.")
        }
        guard !name.hasPrefix("gateway:/") else {
            throw .notFound("GatewayEndpoint not found: this server has no gateway, '\(name.prefix(100))' is not here")
        }
    }

    private static func hasCode(_ value: JSONValue) -> Bool {
        switch value {
        case .object(let members):
            members["call_source"]?.unlessNull != nil || members.values.contains(where: hasCode)
        case .array(let elements): elements.contains(where: hasCode)
        default: false
        }
    }

    /// The model that judges, wherever the kinds of scorers keep it.
    private static func model(ofScorer document: JSONValue) -> JSONValue? {
        for kind in ["instructions_judge_pydantic_data", "builtin_scorer_pydantic_data"] {
            if let data = document[kind]?.unlessNull, data != [:] { return data["model"]?.unlessNull }
        }
        if let data = document["memory_augmented_judge_data"]?.unlessNull {
            return model(ofScorer: data["base_judge"] ?? [:])
        }
        return document["third_party_scorer_data"]?["model"]?.unlessNull
    }
}
