public import ArgumentParser
import Foundation
import PlatformCore

/// Options of every command that talks to a server.
public struct ServerOptions: ParsableArguments {
    @Option(name: .long, help: "The server. Default: BOTTEGA_URL, else http://127.0.0.1:8000.")
    var url: String?
    @Flag(name: .long, help: "Print the server's answer as JSON.")
    var json = false
    @Option(
        name: .customLong("as"),
        help: ArgumentHelp(
            "Who asks, for approvals and the audit chain. Default: BOTTEGA_ACTOR, else USER, else local.",
            valueName: "name"))
    var actor: String?

    /// Makes options.
    public init() {}
}

/// A command that talks to a server: failures become one line on standard error and an exit code that means something.
protocol ClientCommand: AsyncParsableCommand {
    var server: ServerOptions { get }
    func run(_ client: APIClient) async throws
}

extension ClientCommand {
    func run() async throws {
        do { try await run(APIClient(url: server.url, actor: server.actor)) } catch let failure as CommandFailure {
            if server.json, let answer = failure.answer { print(answer.prettyText) }
            try? FileHandle.standardError.write(contentsOf: Data("bottega: \(failure.description)\n".utf8))
            throw ExitCode(failure.exitCode)
        }
    }

    /// Prints the answer as JSON if that was asked for, else what `text` makes of it.
    func show(_ answer: JSONValue, _ text: (JSONValue) -> String) {
        print(server.json ? answer.prettyText : text(answer))
    }
}

/// Every command that needs nothing but the HTTP contract.
public enum ClientCommands {
    /// The commands, in the order of the help page.
    public static let all: [any ParsableCommand.Type] = [
        Plan.self, Apply.self, Ingest.self, DataCommand.self, QuarantineCommand.self, TableCommand.self,
        CatalogCommand.self, LineageCommand.self, FeaturesCommand.self, DatasetCommand.self, Train.self, Evaluate.self,
        Score.self, Scores.self, ScoredStreamCommand.self,
        RunCommand.self,
        ModelCommand.self, DeployCommand.self, Rollback.self, RolloutCommand.self, ShadowCommand.self, Predict.self,
        PredictionJobsCommand.self,
        Label.self, Why.self, Replay.self, MonitorCommand.self,
        WorkflowsCommand.self, AuditCommand.self, CollectCommand.self, Status.self,
    ]
}
