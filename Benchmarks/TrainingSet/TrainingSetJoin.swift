import Aggregation
import ColumnFiles
import Definitions
import FeatureStore
import Foundation
import PlatformCore

/// Parquet in, Parquet out: the windows that `training_set.py` compares with DuckDB's.
///
/// `training-set-join --shape all|asof --events FILE --questions FILE --output FILE [--threads N] [--memory MiB]
/// [--spill FOLDER] [--codec snappy|zstd]`. Prints one line of JSON.
@main
struct TrainingSetJoin {
    static func definitions(shape: String) throws -> DefinitionSet {
        var features = ""
        if shape == "all" {
            for window in ["5m", "1h", "30d"] {
                features += "  - {name: count_\(window), aggregate: count, column: amount, window: \(window)}\n"
                for function in ["sum", "mean", "min", "max", "last"] {
                    features +=
                        "  - {name: \(function)_\(window), aggregate: \(function), column: amount, window: \(window)}\n"
                }
            }
        }
        // The newest value, if it is at most a week old.
        features += "  - {name: as_of, aggregate: last, column: amount, window: 7d}\n"
        return try DefinitionCompiler.compile([
            DefinitionFile(
                path: "benchmark.yaml", folder: "/",
                text: """
                    kind: Entity
                    name: account
                    keys: [entity]
                    ---
                    kind: Source
                    name: payments
                    event_time: happened
                    key: [entity]
                    schema:
                      - {name: entity, type: int64}
                      - {name: happened, type: timestamp}
                      - {name: amount, type: int64}
                    ---
                    kind: FeatureView
                    name: spending
                    entities: [account]
                    source: payments
                    features:
                    \(features)
                    """)
        ])
    }

    static func main() async throws {
        var options: [String: String] = [:]
        let arguments = Array(CommandLine.arguments.dropFirst())
        for index in stride(from: 0, to: arguments.count - 1, by: 2) {
            options[String(arguments[index].dropFirst(2))] = arguments[index + 1]
        }
        guard let events = options["events"], let questions = options["questions"], let output = options["output"]
        else {
            print("usage: training-set-join --shape all|asof --events FILE --questions FILE --output FILE")
            exit(2)
        }
        let set = try definitions(shape: options["shape"] ?? "all")
        guard let view = set.featureViews[Name(static: "spending")] else { preconditionFailure("defined above") }
        let source = set.source(of: view)
        let plan = AggregationPlan(view: view, source: source)
        let settings = PointInTimeJoin.Settings(
            threads: options["threads"].flatMap(Int.init) ?? ProcessInfo.processInfo.activeProcessorCount,
            memoryByteCountMax: (options["memory"].flatMap(Int.init) ?? 2048) << 20,
            spillFolder: options["spill"] ?? "/tmp",
            output: ParquetWriter.Settings(codec: options["codec"] == "zstd" ? .zstd : .snappy))
        let start = ContinuousClock.now
        let report = try await PointInTimeJoin(settings).run(
            [PointInTimeJoin.Table(questions: questions, output: output)], time: "t",
            views: [
                PointInTimeJoin.View(
                    plan: plan, source: source, events: [events], questionKeys: ["entity"],
                    outputs: plan.features.map(\.name))
            ], columns: [.question("label_id")] + plan.features.indices.map { .feature(view: 0, feature: $0) })
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        print(
            "{\"seconds\": \(seconds), \"questions\": \(report.questions), \"events\": \(report.events), \"spilled\": \(report.spilledByteCount)}"
        )
    }
}
