import APIContract
import PlatformCore

/// Puts calls of MLflow's that make, hide or remove things into the audit chain.
///
/// What is logged to runs is not: it is data, and the runs themselves say who logged it and when.
enum AuditedRoutes {
    private struct Rule: Sendable {
        let method: String
        /// How the pattern ends, after `/mlflow/` or `/mlflow-artifacts/`.
        let call: String
        let action: String
        /// What the subject begins with, and the field of the body or the path that names the thing.
        let subject: String
        let field: String
        /// Fields of the body or the path that the entry repeats; never contents.
        var noted: [String] = []
    }

    private static let rules = [
        Rule(
            method: "POST", call: "experiments/create", action: "experiment.created", subject: "experiment",
            field: "name"),
        Rule(
            method: "POST", call: "experiments/update", action: "experiment.renamed", subject: "experiment",
            field: "experiment_id", noted: ["new_name"]),
        Rule(
            method: "POST", call: "experiments/delete", action: "experiment.deleted", subject: "experiment",
            field: "experiment_id"),
        Rule(
            method: "POST", call: "experiments/restore", action: "experiment.restored", subject: "experiment",
            field: "experiment_id"),
        Rule(method: "POST", call: "runs/delete", action: "run.deleted", subject: "run", field: "run_id"),
        Rule(method: "POST", call: "runs/restore", action: "run.restored", subject: "run", field: "run_id"),
        Rule(
            method: "POST", call: "traces/delete-traces", action: "traces.deleted", subject: "experiment",
            field: "experiment_id"),
        Rule(
            method: "DELETE", call: "logged-models/{model_id}", action: "logged_model.deleted", subject: "logged_model",
            field: "model_id"),
        Rule(
            method: "POST", call: "datasets/create", action: "evaluation_dataset.created",
            subject: "evaluation_dataset",
            field: "name"),
        Rule(
            method: "DELETE", call: "datasets/{dataset_id}", action: "evaluation_dataset.deleted",
            subject: "evaluation_dataset", field: "dataset_id"),
        Rule(
            method: "DELETE", call: "datasets/{dataset_id}/records", action: "evaluation_dataset.records_deleted",
            subject: "evaluation_dataset", field: "dataset_id"),
        Rule(
            method: "POST", call: "datasets/{dataset_id}/records", action: "evaluation_dataset.records_merged",
            subject: "evaluation_dataset", field: "dataset_id"),
        Rule(
            method: "PATCH", call: "datasets/{dataset_id}/tags", action: "evaluation_dataset.tagged",
            subject: "evaluation_dataset", field: "dataset_id"),
        Rule(
            method: "DELETE", call: "datasets/{dataset_id}/tags/{key}", action: "evaluation_dataset.tag_deleted",
            subject: "evaluation_dataset", field: "dataset_id", noted: ["key"]),
        Rule(
            method: "POST", call: "datasets/{dataset_id}/add-experiments",
            action: "evaluation_dataset.experiments_added", subject: "evaluation_dataset", field: "dataset_id",
            noted: ["experiment_ids"]),
        Rule(
            method: "POST", call: "datasets/{dataset_id}/remove-experiments",
            action: "evaluation_dataset.experiments_removed", subject: "evaluation_dataset", field: "dataset_id",
            noted: ["experiment_ids"]),
        Rule(
            method: "POST", call: "scorers/register", action: "scorer.registered", subject: "scorer", field: "name"),
        Rule(method: "DELETE", call: "scorers/delete", action: "scorer.deleted", subject: "scorer", field: "name"),
        Rule(
            method: "DELETE", call: "artifacts/{path...}", action: "artifacts.deleted", subject: "artifacts",
            field: "path"),
    ]

    /// A name as a subject may have it; the route itself says what is wrong with a name that has other characters.
    private static func clean(_ name: String) -> String {
        let scalars = name.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }
        return String(String.UnicodeScalarView(scalars.prefix(500)))
    }

    /// A field as an entry repeats it: a text, or the first of a list of them.
    private static func short(_ value: JSONValue) -> JSONValue {
        if let list = value.arrayValue { return .array(list.prefix(100).map(short)) }
        return .string(String((value.stringValue ?? value.text).prefix(500)))
    }

    /// The same routes, those that change things audited.
    static func wrap(_ routes: [Route], _ services: PlatformServices) -> [Route] {
        routes.map { route in
            guard
                let rule = rules.first(where: {
                    $0.method == route.method
                        && (route.pattern.hasSuffix("/mlflow/\($0.call)")
                            || route.pattern.hasSuffix("/mlflow-artifacts/\($0.call)"))
                })
            else { return route }
            return .init(route.method, route.pattern, body: route.body, refusals: route.refusals) { request in
                // Bodies of megabytes are read by the route alone.
                let isInPath = ([rule.field] + rule.noted).allSatisfy { request.parameters[$0] != nil }
                let body = isInPath ? .null : (try? request.json()) ?? .null
                func field(_ name: String) -> JSONValue? {
                    request.parameters[name].map(JSONValue.string) ?? body[name]
                }
                let name = field(rule.field)?.stringValue ?? ""
                return try await services.audited(
                    request.actor, rule.action, "\(rule.subject)/\(Self.clean(name))",
                    outcome: { (response: APIResponse) in
                        guard response.status < 300 else { return nil }
                        let noted = rule.noted.compactMap { name in
                            field(name).map { (name == "new_name" ? "name" : name, Self.short($0)) }
                        }
                        return .object(Dictionary(noted, uniquingKeysWith: { $1 }))
                    }
                ) { try await route.handler(request) }
            }
        }
    }
}
