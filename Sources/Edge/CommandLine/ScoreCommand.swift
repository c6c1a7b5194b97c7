import ArgumentParser
import Foundation
import PlatformCore

struct Score: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Score a batch with a registered version and write a dated partition of a table of scores.",
        discussion: """
            Features are joined as they could have been known at the moment of each row; with --features-in-file they stand in the \
            file. A partition appears whole or not at all. Work that was killed continues when it is asked for again.

            --out ./scores/ (anything with a slash, or that begins with . or ~) is a folder here: the partition is written to \
            FOLDER/date=DAY as well, from the server's table that has the folder's name, or that of --table.
            """)
    @Argument(help: "The model, or MODEL@VERSION, MODEL@ALIAS, MODEL@STAGE. Without: the champion, else the newest.")
    var model: String
    @Option(help: "A source, a .parquet, .csv or .ndjson file, or with --sources a query in DuckDB's SQL.")
    var spine: String?
    @Option(help: "The table of scores to write into, or a folder such as ./scores/.") var out: String?
    @Option(help: "The table of scores, if --out is a folder. Default: the folder's name.") var table: String?
    @Option(help: "Day of the partition, such as 2024-01-31, and of a source's rows. Default: today, and all rows.")
    var date: String?
    @Option(help: "Column with the moment of each row, of a file or query.") var eventTime: String?
    @Option(parsing: .upToNextOption, help: "The sources that the query reads, separated by blanks.") var sources:
        [String] = []
    @Option(help: "Environment variable of the server with a PostgreSQL connection: --spine is a query there.")
    var postgres: String?
    @Flag(help: "The Parquet file has the model's inputs already: nothing is joined.") var featuresInFile = false
    @Option(help: "What was not known by then is not used, \(Human.momentHelp). Default: now.") var asOf: String?
    @Option(
        parsing: .upToNextOption,
        help: "Columns to keep, separated by blanks. Default: keys and time; all others of a file with features.")
    var keep: [String] = []
    @Flag(help: "Replace a partition that is there.") var replace = false
    @Flag(help: "Print a Spark job that scores a table with this version in its executors; nothing is scored here.")
    var printSpark = false
    @Flag(help: "Publish rows for which the model gives no number.") var allowNulls = false
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let parts = model.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        if printSpark {
            let version = parts.count == 2 ? "?version=\(parts[1])" : ""
            print(
                SparkJob.text(try await client.get("/api/v1/models/\(parts[0])/scoring-plan\(version)")), terminator: ""
            )
            return
        }
        guard let spine, let out = out ?? table else {
            throw CommandFailure(
                exitCode: 2,
                description: "say with --spine what to score, and with --out which table or folder to write")
        }
        let folder = ScoresFolder(out)
        let name = try folder.map { try table ?? $0.tableName() } ?? out
        if folder == nil, let table, table != out {
            throw CommandFailure(
                exitCode: 2,
                description: "'\(out)' and '\(table)' both name a table; a folder is written with a slash, as ./\(out)/"
            )
        }
        var body: [String: JSONValue] = ["table": .string(name), "rows": try rows(spine)]
        if parts.count == 2 { body["version"] = .string(parts[1]) }
        if let date { body["date"] = .string(date) }
        if let asOf { body["as_of"] = .string(asOf) }
        if !keep.isEmpty { body["keep"] = .array(keep.map(JSONValue.string)) }
        if replace { body["replace"] = true }
        if allowNulls { body["allow_nulls"] = true }
        try folder?.prepare(for: date, of: name, replaces: replace)
        let started = try await client.post("/api/v1/models/\(parts[0])/scores", .object(body))
        var result = try await client.wait(for: started, label: "score \(model)", quiet: server.json)
        if let folder {
            guard case .object(var members) = result, let date = result["date"]?.stringValue, ScoresFolder.isDay(date)
            else {
                throw CommandFailure(
                    exitCode: 1,
                    description:
                        "the server does not say which day it scored; is it of the same version as this command?")
            }
            members["folder"] = .string(try await folder.write(date, of: name, replaces: replace, client))
            result = .object(members)
        }
        show(result) { found in
            let rows = Human.count(found["rows"]?.doubleValue ?? 0)
            let resumed = found["resumed_parts"]?.integerValue ?? 0
            let note =
                found["unchanged"]?.boolValue == true
                ? "; it was there already, scored at \(Human.cell(found["scored_at"]))"
                : resumed > 0 ? "; \(resumed) parts were there already" : ""
            let warnings = (found["warnings"]?.arrayValue ?? []).map { "\nWARNING  \($0.stringValue ?? "")" }.joined()
            return """
                \(rows) rows scored with \(Human.cell(found["model"])) version \(Human.cell(found["version"]))\(note)
                \(Human.cell(found["folder"]))\(warnings)
                """
        }
    }

    private func rows(_ spine: String) throws -> JSONValue {
        func time() throws -> JSONValue {
            guard let eventTime else {
                throw CommandFailure(
                    exitCode: 2, description: "say with --event-time which column has the moment of each row")
            }
            return .string(eventTime)
        }
        if let postgres {
            return ["postgres": .string(spine), "connection": .string(postgres), "event_time": try time()]
        }
        if !sources.isEmpty {
            return [
                "sql": .string(spine), "sources": .array(sources.map(JSONValue.string)), "event_time": try time(),
            ]
        }
        let path = URL(fileURLWithPath: spine).standardizedFileURL.path
        if featuresInFile { return ["features": .string(path)] }
        let isFile =
            spine.contains("/") || FileManager.default.fileExists(atPath: path)
            || ["parquet", "csv", "ndjson", "jsonl", "json"].contains(URL(fileURLWithPath: spine).pathExtension)
        if !isFile, spine.contains(where: \.isWhitespace) {
            throw CommandFailure(
                exitCode: 2,
                description:
                    "'\(spine.prefix(60))' is neither a source nor a file; SQL says with --sources what it reads")
        }
        return isFile ? ["files": .string(path), "event_time": try time()] : ["source": .string(spine)]
    }
}

struct Scores: ClientCommand {
    static let configuration = CommandConfiguration(abstract: "List the partitions of tables of scores.")
    @Argument(help: "The table. Without: all.") var table: String?
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let found = try await client.get("/api/v1/scores", query: table.map { ["table": $0] } ?? [:])
        if let table, found["partitions"]?.arrayValue?.isEmpty != false {
            throw CommandFailure(
                exitCode: 4,
                description: "there is no table of scores '\(table)'; 'bottega scores' lists those there are",
                answer: found)
        }
        show(found) { found in
            let partitions = found["partitions"]?.arrayValue ?? []
            guard !partitions.isEmpty else { return "nothing was scored yet; 'bottega score' does" }
            return Human.table(
                ["TABLE", "DATE", "MODEL", "VERSION", "ROWS", "SCORED AT"],
                partitions.map { partition in
                    ["table", "date", "model", "version", "rows", "scored_at"].map { Human.cell(partition[$0]) }
                })
        }
    }
}

/// A Spark job that scores with one version.
enum SparkJob {
    static func text(_ plan: JSONValue) -> String {
        let (model, version) = (Human.cell(plan["model"]), Human.cell(plan["version"]))
        let inputs = (plan["inputs"]?.arrayValue ?? []).compactMap { $0["name"]?.stringValue }
        return """
            \"\"\"Scores a Parquet table with \(model) version \(version) in Spark's executors.

                spark-submit job.py --bottega-url http://127.0.0.1:8000 --source features/ --target scores/ --keep id

            Needs the Python package bottega and pyarrow beside pyspark, and the program bottega on every executor. The table has the
            model's inputs: \(inputs.prefix(8).joined(separator: ", "))\(inputs.count > 8 ? ", …" : "").
            \"\"\"

            import argparse
            import os
            import tempfile

            from bottega import spark as scoring
            from pyspark.sql import SparkSession

            parser = argparse.ArgumentParser()
            parser.add_argument("--bottega-url", default=os.environ.get("BOTTEGA_URL", "http://127.0.0.1:8000"))
            parser.add_argument("--source", required=True)
            parser.add_argument("--target", required=True)
            parser.add_argument("--keep", nargs="+", default=[])
            parser.add_argument("--program", default="bottega", help="the program on the executors")
            options = parser.parse_args()

            session = SparkSession.builder.appName("score \(model) \(version)").getOrCreate()
            with tempfile.TemporaryDirectory() as folder:
                model = scoring.fetch(
                    options.bottega_url, "\(model)", "\(version)", folder, os.environ.get("BOTTEGA_TOKEN"))
                session.sparkContext.addFile(model.file)
                frame = session.read.parquet(options.source)
                scored = scoring.score(frame, model, keep=options.keep, binary=options.program)
                scored.write.mode("errorifexists").parquet(options.target)

            """
    }
}
