import ArgumentParser
import PlatformCore

struct WorkflowsCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "workflows",
        abstract: "Show retrainings and rollouts: where each stands, what was decided and why, and whom it waits for.")
    @Option(help: "Only those of this model.") var model: String?
    @Flag(help: "Also those that are over.") var all = false
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer = try await client.get("/api/v1/workflows")
        show(answer) { answer in
            let blocks =
                chosen(answer["workflows"], isOver: { !["running", "waiting"].contains($0["state"]?.stringValue) })
                .map(Self.retraining)
                + chosen(
                    answer["rollouts"], isOver: { ["production", "withdrawn"].contains($0["phase"]?.stringValue) }
                ).map(Self.rollout)
            return blocks.isEmpty
                ? "nothing is under way" + (all ? "" : "; --all shows what is over") : blocks.joined(separator: "\n")
        }
    }

    private func chosen(_ list: JSONValue?, isOver: (JSONValue) -> Bool) -> [JSONValue] {
        (list?.arrayValue ?? []).filter {
            (model == nil || $0["model"]?.stringValue == model) && (all || !isOver($0))
        }
    }

    private static func retraining(_ state: JSONValue) -> String {
        var lines = [
            "retraining of \(Human.cell(state["model"])) since \(Human.cell(state["started_at"])): "
                + "\(Human.cell(state["state"])); \(Human.cell(state["trigger"]))"
        ]
        for step in state["steps"]?.arrayValue ?? [] {
            lines.append("  \(Human.cell(step["time"]))  \(Human.cell(step["name"]))  \(Human.cell(step["reason"]))")
        }
        if let reason = state["reason"]?.stringValue, !reason.isEmpty,
            state["steps"]?.arrayValue?.last?["reason"]?.stringValue != reason
        {
            lines.append("  \(Human.cell(state["state"])): \(reason)")
        }
        return (lines + waiting(state)).joined(separator: "\n")
    }

    private static func rollout(_ state: JSONValue) -> String {
        let line =
            "rollout of \(Human.cell(state["model"])) version \(Human.cell(state["challenger"])) against "
            + "\(Human.cell(state["champion"])) in \(Human.cell(state["deployment"])): \(Human.cell(state["phase"])) since "
            + Human.cell(state["since"])
        return ([line] + waiting(state)).joined(separator: "\n")
    }

    private static func waiting(_ state: JSONValue) -> [String] {
        (state["waiting_for"]?.stringValue).map { ["  waits for \($0)"] } ?? []
    }
}
