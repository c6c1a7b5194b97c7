import ArgumentParser
import Foundation
import PlatformCore

struct RolloutCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollout", abstract: "Start, follow, explain and steer the rollout of a version.",
        subcommands: [
            Start.self, Status.self, Explain.self, Pause.self, Resume.self, Advance.self, Abort.self,
        ], defaultSubcommand: Status.self)

    struct Start: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Bring a version into staging and on its way through shadow and canary into production.")
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @Option(help: "Why; kept for ever.") var reason: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post(
                "/api/v1/models/\(model)/rollout", ["version": .integer(Int64(version)), "reason": .string(reason)])
            show(answer, RolloutCommand.status)
        }
    }

    struct Status: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show where the newest rollout of a model stands and what it waits for.")
        @Argument(help: "The model.") var model: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/models/\(model)/rollout"), RolloutCommand.status)
        }
    }

    struct Explain: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show every decision of the newest rollout with the checks that it was made from.")
        @Argument(help: "The model.") var model: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/models/\(model)/rollout")) { answer in
                var blocks: [String] = []
                for rollout in (answer["earlier"]?.arrayValue ?? []).reversed() {
                    blocks.append("an earlier rollout of version \(Human.cell(rollout["challenger"]))")
                    blocks += RolloutCommand.decisions(rollout)
                }
                if !blocks.isEmpty { blocks.append("the newest") }
                blocks += RolloutCommand.decisions(answer)
                if let now = answer["now"]?.unlessNull {
                    let head = "now  \(Human.cell(now["decision"]))\n  \(Human.cell(now["reason"]))"
                    blocks.append(([head] + RolloutCommand.checks(now["checks"])).joined(separator: "\n"))
                }
                return blocks.joined(separator: "\n")
            }
        }
    }

    struct Pause: SteeringCommand {
        static let word = "pause"
        static let configuration = CommandConfiguration(
            abstract: "Keep a rollout at its present share; guardrails go on.")
        @OptionGroup var steering: SteeringOptions
        @OptionGroup var server: ServerOptions
    }

    struct Resume: SteeringCommand {
        static let word = "resume"
        static let configuration = CommandConfiguration(abstract: "Let a rollout go on; its step begins again.")
        @OptionGroup var steering: SteeringOptions
        @OptionGroup var server: ServerOptions
    }

    struct Advance: SteeringCommand {
        static let word = "advance"
        static let configuration = CommandConfiguration(
            abstract: "Take the next step now, if no guardrail is broken and its gates hold.")
        @OptionGroup var steering: SteeringOptions
        @OptionGroup var server: ServerOptions
    }

    struct Abort: SteeringCommand {
        static let word = "abort"
        static let configuration = CommandConfiguration(
            abstract: "Give all traffic back to the champion and archive the challenger.")
        @OptionGroup var steering: SteeringOptions
        @OptionGroup var server: ServerOptions
    }

    private static func decisions(_ rollout: JSONValue) -> [String] {
        (rollout["decisions"]?.arrayValue ?? []).map { decision in
            let head =
                "\(Human.cell(decision["time"]))  \(Human.cell(decision["phase"])) at "
                + "\(percent(decision["share"])) by \(Human.cell(decision["actor"]))\n"
                + "  \(Human.cell(decision["reason"]))"
            return ([head] + checks(decision["checks"])).joined(separator: "\n")
        }
    }

    static func percent(_ share: JSONValue?) -> String {
        let percent = ((share?.doubleValue ?? 0) * 10_000).rounded() / 100
        return (percent == percent.rounded() ? String(Int(percent)) : String(percent)) + " %"
    }

    static func checks(_ list: JSONValue?) -> [String] {
        (list?.arrayValue ?? []).map { check in
            let verdict = check["verdict"]?.stringValue ?? ""
            let word = verdict == "failed" ? "FAILED " : verdict.padding(toLength: 7, withPad: " ", startingAt: 0)
            return "    \(word)  \(Human.cell(check["name"])): \(Human.cell(check["detail"]))"
        }
    }

    static func status(_ answer: JSONValue) -> String {
        var lines = [
            "version \(Human.cell(answer["challenger"])) of \(Human.cell(answer["model"])) against "
                + "\(Human.cell(answer["champion"])): \(Human.cell(answer["phase"])) at \(percent(answer["share"])) since "
                + Human.cell(answer["since"])
        ]
        // People may publish other shares than the rollout's.
        if let force = answer["in_force"]?.unlessNull, let share = force["share"]?.doubleValue,
            share != answer["share"]?.doubleValue
        {
            lines.append(
                "  gets \(percent(force["share"])) of the traffic by revision \(Human.cell(force["revision"])) of "
                    + "\(Human.cell(force["actor"])): \(Human.cell(force["reason"]))")
        }
        if let halted = answer["halted"]?.stringValue { lines.append("  stands still: \(halted)") }
        if let waiting = answer["waiting_for"]?.stringValue { lines.append("  waits for \(waiting)") }
        if let now = answer["now"]?.unlessNull {
            lines.append("  \(Human.cell(now["decision"])): \(Human.cell(now["reason"]))")
            lines += checks(now["checks"])
        } else if let last = answer["decisions"]?.arrayValue?.last {
            lines.append("  \(Human.cell(last["reason"]))")
        }
        return lines.joined(separator: "\n")
    }
}

struct SteeringOptions: ParsableArguments {
    @Argument(help: "The model.") var model: String
    @Option(help: "Why; kept for ever.") var reason: String
}

/// A word to a rollout that is under way.
protocol SteeringCommand: ClientCommand {
    static var word: String { get }
    var steering: SteeringOptions { get }
}

extension SteeringCommand {
    func run(_ client: APIClient) async throws {
        let answer = try await client.post(
            "/api/v1/models/\(steering.model)/rollout/\(Self.word)", ["reason": .string(steering.reason)])
        show(answer, RolloutCommand.status)
    }
}
