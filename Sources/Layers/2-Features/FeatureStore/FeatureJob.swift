public import Datasets
public import Definitions
public import PlatformCore

/// A feature view as a job for somebody else's cluster: one script in the engine's language.
///
/// The questions are rows with `__row` (unique), `__time` (milliseconds) and the view's join keys as text; the answer has the
/// same rows with a column for each feature. `${questions}`, `${output}` and for Flink `${events}` and `${work}` stand for
/// paths that whoever runs it fills in; Spark's shell does so by itself (`--hivevar questions=…`).
public struct FeatureJob: Sendable {
    /// The script.
    public let script: String

    /// Writes the job.
    ///
    /// - Parameters:
    ///   - table: the source's table as it is now; Flink reads `${events}` instead, JSON lines with the table's columns and
    ///     moments as milliseconds.
    ///   - dialect: the engine's language.
    /// - Throws: `invalidInput` with feature, function and engine for what the dialect cannot say.
    public init(
        view: FeatureViewDefinition, source: SourceDefinition, table: TableScan, dialect: SQLDialect
    ) throws(PlatformError) {
        let sql = try FeatureSQL(view: view, source: source, dialect: dialect)
        var statements: [String]
        let names = view.features.map { dialect.identifier($0.name) }
        let keys = view.joinKeys.map(dialect.identifier)
        let answer = (["q.__row", "q.__time"] + keys.map { "q.\($0)" } + names.map { "a.\($0)" }).joined(
            separator: ", ")
        let joined = "questions q JOIN answers a ON a.__row = q.__row"
        let asked = (["__row", "__time"] + keys).joined(separator: ", ")
        var how: String
        switch dialect {
        case .duckdb:
            how = "Run: replace ${questions} and ${output} (Parquet files), then `duckdb -f job.sql`."
            statements =
                ["SET TimeZone = 'UTC'"] + dialect.preparation
                + ["CREATE TEMP TABLE questions AS SELECT \(asked) FROM read_parquet('${questions}')"]
            statements += sql.statements(events: table.sql(dialect), questions: "questions", result: "answers")
            statements.append("COPY (SELECT \(answer) FROM \(joined) ORDER BY q.__row) TO '${output}' (FORMAT parquet)")
        case .spark:
            how =
                "Run: spark-sql --hivevar questions=FOLDER --hivevar output=FOLDER -f job.sql (Spark 4; Parquet folders)."
            statements = [
                "SET spark.sql.session.timeZone = UTC", "SET spark.sql.ansi.enabled = true",
                "CREATE DATABASE IF NOT EXISTS bottega_job", "USE bottega_job",
                "CREATE OR REPLACE TEMPORARY VIEW questions AS SELECT \(asked) FROM parquet.`${questions}`",
            ]
            statements += sql.statements(events: table.sql(dialect), questions: "questions", result: "answers")
            statements.append("INSERT OVERWRITE DIRECTORY '${output}' USING parquet SELECT \(answer) FROM \(joined)")
            statements.append("DROP DATABASE bottega_job CASCADE")
        case .flink:
            how =
                "Run: replace ${events}, ${questions}, ${output} and ${work} (folders), then `sql-client.sh -f job.sql` (Flink 2)."
            func declare(_ name: String, _ columns: [(String, String)], _ path: String) -> String {
                let list = columns.map { "\(dialect.identifier($0.0)) \($0.1)" }.joined(separator: ", ")
                return
                    "CREATE TABLE \(name) (\(list)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = '\(path)')"
            }
            let question = [("__row", "BIGINT"), ("__time", "BIGINT")] + view.joinKeys.map { ($0, "STRING") }
            statements = [
                "SET 'execution.runtime-mode' = 'batch'", "SET 'table.local-time-zone' = 'UTC'",
                "SET 'table.dml-sync' = 'true'",
                declare(
                    "events",
                    source.columns.map { ($0.name, dialect.declaredType($0.type)) }
                        + ["__event_time", "__ingest_time", "__sequence"].map { ($0, "BIGINT") }, "${events}"),
                declare("questions", question, "${questions}"),
                declare(
                    "output", question + view.features.map { ($0.name, dialect.declaredType($0.type)) }, "${output}"),
            ]
            statements += sql.statements(events: "events", questions: "questions", result: "answers")
            statements.append("INSERT INTO output SELECT \(answer) FROM \(joined)")
        }
        script =
            """
            -- Features of view \(view.versionName) at the moments of a table of questions, for \(dialect.title).
            -- \(how)
            -- Questions: __row (BIGINT, unique), __time (BIGINT, milliseconds since 1970, UTC), \(view.joinKeys.joined(separator: ", ")) (text).
            -- Source: table \(source.name) at version \(table.version).

            """ + statements.map { $0 + ";\n" }.joined()
    }
}
