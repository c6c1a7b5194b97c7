import ArgumentParser
import PlatformCore

struct ScoredStreamCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scored-stream", abstract: "Show how far scored streams are, and their events.",
        subcommands: [Status.self, Tail.self], defaultSubcommand: Status.self)

    struct Status: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Show how far each stream is.")
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/scored-streams")) { found in
                let streams = found["streams"]?.arrayValue ?? []
                guard !streams.isEmpty else {
                    return "no deployment scores a stream; 'stream: {source: NAME}' in its definition makes it"
                }
                return Human.table(
                    ["DEPLOYMENT", "SOURCE", "EVENTS", "WAITING", "LAST SCORED AT", "VERSION", ""],
                    streams.map { stream in
                        ["deployment", "source", "events", "waiting"].map { Human.cell(stream[$0]) } + [
                            Human.cell(stream["last"]?["scored_at"]), Human.cell(stream["last"]?["model_version"]),
                            stream["deployed"]?.boolValue == true ? "" : "nothing is deployed; rows wait",
                        ]
                    })
            }
        }
    }

    struct Tail: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the newest events of a stream, one line of JSON each.",
            discussion: "'bottega why' with an event's prediction_id says where it came from.")
        @Argument(help: "The deployment.") var deployment: String
        @Option(help: "How many events, up to 10000.") var count = 10
        @Option(help: "Begin with this event instead of the newest; the first is 0.") var from: Int?
        @Flag(help: "Go on with what comes, until interrupted.") var follow = false
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let path = "/api/v1/deployments/\(deployment)/scored-events"
            func page(_ from: Int, _ count: Int, wait: Bool) async throws -> JSONValue {
                var query = ["from": String(from), "count": String(count)]
                if wait { query["wait"] = "20" }
                return try await client.get(path, query: query)
            }
            var next = from ?? 0
            if from == nil {
                let end = Int(try await page(0, 1, wait: false)["end"]?.integerValue ?? 0)
                next = max(0, end - count)
            }
            var left = count
            repeat {
                let found = try await page(next, follow ? 1000 : max(1, left), wait: follow)
                let events = found["events"]?.arrayValue ?? []
                for event in events { print(event.text) }
                next = Int(found["next"]?.integerValue ?? Int64(next))
                left -= events.count
                if events.isEmpty, !follow { return }
            } while follow || left > 0
        }
    }
}
