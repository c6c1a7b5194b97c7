import ArgumentParser
import Foundation
import PlatformCore

struct Evaluate: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Evaluate a version on any data with the artifact that serves, and compare versions on the same rows.",
        discussion: """
            Without data: the test part of the training set that the version was trained on. The result is kept as evidence of \
            the version, and its metrics as a run. Intervals are bootstrap intervals; a difference whose interval holds 0 is \
            unclear.
            """)
    @Argument(help: "The model, or MODEL@VERSION. Without a version: the champion, else the newest.") var model: String
    @Option(help: "Hash of a training set, or a .parquet, .csv or .ndjson file with the model's inputs and a label.")
    var dataset: String?
    @Option(help: "Part of the training set: train, validation or test. Default: test.") var part: String?
    @Option(help: "The label's column. Default: that of the training set.") var label: String?
    @Option(parsing: .upToNextOption, help: "Other versions to compare with, such as --compare 1 2.") var compare:
        [Int] = []
    @Option(
        parsing: .upToNextOption,
        help: "Columns by whose values the metrics are repeated, such as --slice origin carrier.") var slice: [String] =
            []
    @Option(parsing: .upToNextOption, help: "Columns whose groups are compared for fairness, separated by blanks.")
    var protected: [String] = []
    @Option(help: "The column that says which rows belong to one query of a ranking.") var query: String?
    @Option(
        parsing: .upToNextOption,
        help: "Metrics, such as --metric auc f1_macro ndcg@10 quantile_loss@0.9. Default: those of the task.")
    var metric: [String] = []
    @Option(help: "Score from which a row is called positive. Default: 0.5.") var threshold: Double?
    @Option(help: "Bins of calibration. Default: 10.") var bins: Int?
    @Option(help: "How the reliability curve is cut: uniform or quantile. Default: uniform.") var binStrategy: String?
    @Option(help: "Draws of the intervals. Default: at most 1,000, fewer for many rows.") var replicates: Int?
    @Option(help: "Confidence of the intervals. Default: 0.95.") var confidence: Double?
    @Option(help: "Seed of the draws. Default: 0.") var seed: Int?
    @Flag(help: "Do not write the metrics to runs.") var untracked = false
    @Option(help: "Write a page with charts to this file.") var html: String?
    @OptionGroup var server: ServerOptions

    private static let formats = ["parquet": "parquet", "csv": "csv", "ndjson": "ndjson", "jsonl": "ndjson"]

    func run(_ client: APIClient) async throws {
        let parts = model.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
        var body: [String: JSONValue] = [:]
        if parts.count == 2 {
            guard let number = Int(parts[1].hasPrefix("v") ? String(parts[1].dropFirst()) : parts[1]), number > 0 else {
                throw CommandFailure(exitCode: 2, description: "'\(parts[1])' is no version number")
            }
            body["version"] = .integer(Int64(number))
        } else if parts.count > 2 {
            throw CommandFailure(exitCode: 2, description: "'\(model)' must be MODEL or MODEL@VERSION")
        }
        func set(_ key: String, _ list: [String]) {
            if !list.isEmpty { body[key] = .array(list.map(JSONValue.string)) }
        }
        set("slices", slice)
        set("protected", protected)
        set("metrics", metric)
        if !compare.isEmpty { body["compare"] = .array(compare.map { .integer(Int64($0)) }) }
        if let label { body["label"] = .string(label) }
        if let query { body["query"] = .string(query) }
        if let threshold { body["threshold"] = .number(threshold) }
        if let bins { body["bins"] = .integer(Int64(bins)) }
        if let binStrategy { body["bin_strategy"] = .string(binStrategy) }
        if let replicates { body["replicates"] = .integer(Int64(replicates)) }
        if let confidence { body["confidence"] = .number(confidence) }
        if let seed { body["seed"] = .integer(Int64(seed)) }
        if untracked { body["track"] = false }
        if let part { body["part"] = .string(part) }
        if let dataset {
            for (key, value) in try await data(dataset, client) { body[key] = value }
        }
        let started = try await client.post("/api/v1/models/\(parts[0])/evaluations", .object(body))
        let result = try await client.wait(for: started, label: "evaluate \(model)", quiet: server.json)
        if let html {
            let page = try await client.text(result["page"]?.stringValue ?? "")
            do { try page.write(toFile: html, atomically: true, encoding: .utf8) } catch {
                throw CommandFailure(exitCode: 2, description: "\(html): cannot be written; check the folder")
            }
        }
        show(result, EvaluationText.describe)
    }

    /// A training set by its hash, or a file that is handed in.
    private func data(_ text: String, _ client: APIClient) async throws -> [String: JSONValue] {
        if 8...64 ~= text.utf8.count, text.allSatisfy(\.isHexDigit) { return ["dataset": .string(text.lowercased())] }
        guard let format = Self.formats[URL(fileURLWithPath: text).pathExtension.lowercased()] else {
            throw CommandFailure(
                exitCode: 2,
                description: "'\(text)' is neither the hash of a training set nor a .parquet, .csv or .ndjson file")
        }
        let answer = try await client.send("POST", "/api/v1/evaluation-data", body: .file(text))
        return [
            "data": answer["data"] ?? .null, "format": .string(format),
            "name": .string(URL(fileURLWithPath: text).lastPathComponent),
        ]
    }
}

/// An evaluation as text.
enum EvaluationText {
    static func describe(_ found: JSONValue) -> String {
        let versions = found["versions"]?.arrayValue ?? []
        guard let first = versions.first else { return found.prettyText }
        let data = found["data"]
        let place =
            data?["dataset"]?.stringValue.map {
                "the \(data?["part"]?.stringValue ?? "") part of dataset \($0.prefix(12))"
            } ?? data?["name"]?.stringValue ?? "the data"
        let left = data?["rows_without_label"]?.integerValue ?? 0
        var lines = [
            "\(Human.cell(found["model"])) on \(place): \(Human.cell(data?["rows"])) rows, label \(Human.cell(data?["label"])), "
                + "mean \(Human.cell(first["report"]?["label_mean"]))"
                + (left > 0 ? "; \(Human.count(Double(left))) rows without a label are left out" : "")
        ]
        lines += (data?["warnings"]?.arrayValue ?? []).map { "WARNING  \($0.stringValue ?? "")" } + [""]
        let comparisons = found["comparisons"]?.arrayValue ?? []
        var header = ["METRIC"] + versions.map { "VERSION \(Human.cell($0["version"]))" }
        header += comparisons.map { "AGAINST \(Human.cell($0["against"]))" }
        var rows: [[String]] = []
        for (place, metric) in (first["report"]?["metrics"]?.arrayValue ?? []).enumerated() {
            var row = [Human.cell(metric["metric"])]
            for version in versions { row.append(value(version["report"]?["metrics"]?.arrayValue?[place])) }
            for comparison in comparisons { row.append(difference(comparison["differences"]?.arrayValue?[place])) }
            rows.append(row)
        }
        lines.append(Human.table(header, rows))
        if let draws = first["report"]?["plan"]?["bootstrap"] {
            lines.append(
                "intervals: \(Human.cell((draws["confidence"]?.doubleValue).map { .number($0 * 100) })) % of "
                    + "\(Human.cell(draws["replicateCount"])) bootstrap draws, seed \(Human.cell(draws["seed"]))")
        }
        for version in versions { lines += details(version, several: versions.count > 1) }
        lines.append("")
        if let hash = found["evaluation"]?.stringValue { lines.append("kept as evaluation \(hash)") }
        let runs = versions.compactMap { $0["run_id"]?.stringValue }
        if !runs.isEmpty { lines.append("metrics in run \(runs.joined(separator: ", "))") }
        return lines.joined(separator: "\n")
    }

    private static func number(_ value: JSONValue?) -> String {
        value?.doubleValue.map { String(format: abs($0) >= 1000 ? "%.1f" : "%.4f", $0) } ?? "–"
    }

    private static func value(_ metric: JSONValue?) -> String {
        guard metric?["value"]?.doubleValue != nil else { return "– (\(Human.cell(metric?["reason"])))" }
        guard let interval = metric?["interval"], !interval.isNull else { return number(metric?["value"]) }
        return "\(number(metric?["value"]))  [\(number(interval["lower"])), \(number(interval["upper"]))]"
    }

    private static func difference(_ difference: JSONValue?) -> String {
        guard let interval = difference?["difference"], !interval.isNull else { return "–" }
        let sign = (interval["estimate"]?.doubleValue ?? 0) > 0 ? "+" : ""
        return
            "\(sign)\(number(interval["estimate"]))  [\(number(interval["lower"])), \(number(interval["upper"]))] \(Human.cell(difference?["verdict"]))"
    }

    private static func details(_ version: JSONValue, several: Bool) -> [String] {
        var lines: [String] = []
        let report = version["report"]
        let of = several ? " of version \(Human.cell(version["version"]))" : ""
        let slices = report?["slices"]?.arrayValue ?? []
        if !slices.isEmpty {
            let names = (report?["metrics"]?.arrayValue ?? []).prefix(4).map { Human.cell($0["metric"]) }
            lines += ["", "Slices\(of)"]
            lines.append(
                Human.table(
                    ["COLUMN", "VALUE", "ROWS", "LABEL"] + names.map { $0.uppercased() } + [""],
                    slices.map { slice in
                        [
                            Human.cell(slice["column"]), Human.cell(slice["value"]), Human.cell(slice["rows"]),
                            number(slice["label_mean"]),
                        ]
                            + names.indices.map { number(slice["metrics"]?.arrayValue?[$0]["value"]) }
                            + [slice["is_small"]?.boolValue == true ? "few rows" : ""]
                    }))
        }
        for fairness in report?["fairness"]?.arrayValue ?? [] {
            lines += [
                "",
                "Fairness\(of) by \(Human.cell(fairness["attribute"])), called positive from \(Human.cell(fairness["threshold"]))",
            ]
            lines.append(
                Human.table(
                    ["GROUP", "ROWS", "CALLED POSITIVE", "TRUE POSITIVE RATE", "FALSE POSITIVE RATE", ""],
                    (fairness["groups"]?.arrayValue ?? []).map { group in
                        [
                            Human.cell(group["value"]), Human.cell(group["rows"]),
                            number(group["selection_rate"]?["estimate"]),
                            number(group["true_positive_rate"]?["estimate"]),
                            number(group["false_positive_rate"]?["estimate"]),
                            group["is_small"]?.boolValue == true ? "few rows" : "",
                        ]
                    }))
            for (name, interval) in (fairness["measures"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
                lines.append(
                    "  \(name) \(number(interval["estimate"]))  [\(number(interval["lower"])), \(number(interval["upper"]))]"
                )
            }
            for (name, reason) in (fairness["undefined"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
                lines.append("  \(name): \(Human.cell(reason))")
            }
        }
        return lines
    }
}
