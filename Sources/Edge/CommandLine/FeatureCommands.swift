import ArgumentParser
import Foundation
import PlatformCore

struct FeaturesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "features",
        abstract: "Ask about features: what is built, who uses it, do served and offline values agree.",
        subcommands: [
            Status.self, Versions.self, Retire.self, Pin.self, Unpin.self, Reuse.self, Try.self, Parity.self, SQL.self,
        ])

    struct Parity: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compute served values again with the offline engine and compare them, bit for bit.",
            discussion: """
                Compares logged predictions, and probes of the online path at the present, at random moments and at the edges \
                of windows. Exit code 3 if a value differs. Without a name: every view.
                """)
        @Option(help: "One view.") var view: String?
        @Option(help: "The views of one service.") var service: String?
        @Option(help: "The views that a model reads, and its predictions.") var model: String?
        @Option(help: "Predictions taken from the log for each model.") var predictions = 500
        @Option(help: "Questions put to the online path for each view.") var probes = 200
        @Option(help: "Chooses the samples.") var seed = 0
        @Flag(help: "List every feature, not only those that differ.") var all = false
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var body: [String: JSONValue] = [
                "predictions": .integer(Int64(predictions)), "probes": .integer(Int64(probes)),
                "seed": .integer(Int64(seed)),
            ]
            for (key, value) in [("view", view), ("service", service), ("model", model)] {
                if let value { body[key] = .string(value) }
            }
            let started = try await client.post("/api/v1/features/parity", .object(body))
            let result = try await client.wait(for: started, label: "features parity", quiet: server.json)
            show(result) { FeaturesCommand.describe($0, all: all) }
            if result["different"]?.integerValue ?? 0 > 0 {
                throw CommandFailure(
                    exitCode: 3, description: "served and offline values differ; the certificate holds the examples")
            }
        }
    }

    struct SQL: ClientCommand {
        static let configuration = CommandConfiguration(
            commandName: "sql", abstract: "Print a view as a job for another engine: the same plan, the same values.",
            discussion: "The head of the script says how to run it and which paths to fill in.")
        @Argument(help: "The feature view.") var view: String
        @Option(help: "duckdb, spark or flink.") var dialect = "spark"
        @Flag(help: "A continuous job: the features after each event (flink).") var stream = false
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let result = try await client.get(
                "/api/v1/features/sql", query: ["view": view, "dialect": dialect, "stream": String(stream)])
            show(result) { $0["script"]?.stringValue ?? "" }
        }
    }

    private static func describe(_ result: JSONValue, all: Bool) -> String {
        func count(_ key: String, _ value: JSONValue) -> Int64 { value[key]?.integerValue ?? 0 }
        let features = result["features"]?.arrayValue ?? []
        var lines = [
            "compared \(Human.cell(result["compared"])), different \(Human.cell(result["different"]))"
                + (count("in_flight", result) > 0
                    ? ", in flight \(Human.cell(result["in_flight"])) (a row was acknowledged in that very moment)"
                    : ""),
            "  \(Human.cell(result["predictions"])) predictions, \(Human.cell(result["probes"])) probes, "
                + "\(features.count) features, \(result["engine"]?.stringValue ?? "")",
        ]
        if count("skipped", result) > 0 {
            lines.append("  left out, wholly or in part: \(Human.cell(result["skipped"])) predictions")
            for (reason, number) in (result["leftOut"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
                lines.append("    \(Human.cell(number))  \(reason)")
            }
        }
        // Versions are told apart where there are several of one view.
        let versions = Dictionary(grouping: features, by: { $0["view"]?.stringValue ?? "" })
            .mapValues { Set($0.compactMap { $0["version"]?.stringValue }) }
        func name(_ feature: JSONValue) -> String {
            let view = feature["view"]?.stringValue ?? ""
            let name = feature["feature"]?.stringValue ?? ""
            guard !view.hasPrefix("service/") else { return "\(name) (computed on demand, \(view))" }
            let version = feature["version"]?.stringValue ?? view
            return "\(versions[view, default: []].count > 1 ? version : view)__\(name)"
        }
        if count("beyond_retention", result) > 0 {
            lines.append(
                "  left out: \(Human.cell(result["beyond_retention"])) answers that need rows which have left their table by its retention"
            )
        }
        for feature in features {
            let (compared, different) = (count("compared", feature), count("different", feature))
            guard all || different > 0 || compared == 0 else { continue }
            let name = name(feature)
            lines.append(
                compared == 0
                    ? "  not compared  \(name)"
                    : "  \(different > 0 ? "DIFFERENT   " : "equal       ")  \(name)  \(different) of \(compared)")
        }
        for example in (result["differences"]?.arrayValue ?? []).prefix(5) {
            let keys = (example["keys"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
                .map { "\($0.key)=\($0.value.stringValue ?? "")" }.joined(separator: " ")
            lines.append(
                "  \(name(example)) for \(keys) at "
                    + "\(Human.cell(example["time"])): served \(example["served"]?.stringValue ?? ""), "
                    + "offline \(example["offline"]?.stringValue ?? "") [\(example["origin"]?.stringValue ?? "")]"
                    + (example["explanation"]?.stringValue.map { "\n    \($0)" } ?? ""))
        }
        lines.append("  certificate \(result["certificate"]?.stringValue ?? "")")
        return lines.joined(separator: "\n")
    }
}
