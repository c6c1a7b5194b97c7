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
    }

    private static let rules = [
        Rule(
            method: "POST", call: "experiments/create", action: "experiment.created", subject: "experiment",
            field: "name"),
        Rule(
            method: "POST", call: "experiments/update", action: "experiment.renamed", subject: "experiment",
            field: "experiment_id"),
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
                let body = (try? request.json()) ?? .null
                let name = request.parameters[rule.field] ?? body[rule.field]?.stringValue ?? ""
                return try await services.audited(
                    request.actor, rule.action, "\(rule.subject)/\(Self.clean(name))",
                    outcome: { (response: APIResponse) in
                        guard response.status < 300 else { return nil }
                        let renamed = rule.action == "experiment.renamed" ? body["new_name"]?.stringValue : nil
                        return renamed.map { ["name": .string(String($0.prefix(500)))] } ?? [:]
                    }
                ) { try await route.handler(request) }
            }
        }
    }
}
