import ArgumentParser
import PlatformCore

struct PredictionJobsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prediction-jobs", abstract: "List, show and cancel asynchronous predictions.",
        subcommands: [List.self, Show.self, Cancel.self], defaultSubcommand: List.self)

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List jobs, newest first.")
        @Option(help: "Only jobs of this model.") var model: String?
        @Option(help: "Only queued, running, succeeded, failed or cancelled ones.") var state: String?
        @Option(help: "How many at most, up to 1000.") var limit = 100
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var query = ["limit": String(limit)]
            query["model"] = model
            query["state"] = state
            show(try await client.get("/predictions/jobs", query: query)) { found in
                let jobs = found["jobs"]?.arrayValue ?? []
                guard !jobs.isEmpty else {
                    return "no jobs; 'POST /predict/MODEL/async' makes one, and ended ones are kept for a while only"
                }
                let table = Human.table(
                    ["JOB", "MODEL", "STATE", "DONE", "ACCEPTED", "WEBHOOK"],
                    jobs.map { job in
                        ["job", "model", "state"].map { Human.cell(job[$0]) } + [
                            "\(Human.cell(job["done"])) of \(Human.cell(job["instances"]))",
                            Human.cell(job["created_at"]), job["webhook"].map { Human.cell($0["state"]) } ?? "",
                        ]
                    })
                return found["next_page_token"]?.stringValue == nil ? table : table + "\nand more: --limit shows them"
            }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a job; with its predictions if it has succeeded.")
        @Argument(help: "The job.") var job: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            print(try await client.get("/predictions/jobs/\(job)").prettyText)
        }
    }

    struct Cancel: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Call a job off that has not ended.")
        @Argument(help: "The job.") var job: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.post("/predictions/jobs/\(job)/cancel")) { job in
                "cancelled after \(Human.cell(job["done"])) of \(Human.cell(job["instances"])) predictions"
            }
        }
    }
}
