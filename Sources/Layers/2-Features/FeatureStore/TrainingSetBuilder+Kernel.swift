import Aggregation
import ColumnFiles
import Datasets
import Definitions
import Expressions
import Foundation
import PlatformCore
import StoragePorts

extension TrainingSetBuilder {
    /// Statements that leave `dataset` and `question` in the session that runs them, and the files that they read.
    struct Prepared {
        var statements: [String]
        var files: [String] = []
        /// What the manifest says besides the engine's version.
        var engineSuffix = ""
    }

    /// A change of this number says that the kernel's answers, or how they reach the files, changed.
    static let kernelVersion = 1

    /// Lets the kernel compute the windows where it can, and the engine the rest.
    func prepare(_ sql: TrainingSetSQL) async throws -> Prepared {
        let order = sql.viewOrder
        let plans = order.indices.map { index -> AggregationPlan? in
            guard kernel != nil, sql.dialect == .duckdb, let view = sql.definitions.featureViews[order[index]]
            else { return nil }
            let positions = sql.outputs(ofView: index).compactMap { output in
                view.features.firstIndex { $0.name == output.feature }
            }
            let source = sql.source(view.source)
            let plan = AggregationPlan(view: view, source: source).selecting(positions)
            return PointInTimeJoin.answers(plan) ? plan : nil
        }
        guard let kernel, plans.contains(where: { $0 != nil }) else {
            return Prepared(statements: try sql.statements())
        }
        var prepared = Prepared(statements: [])
        func staged() async throws -> String {
            let path = try await content.base.stagingPath(suffix: ".parquet")
            prepared.files.append(path)
            return path
        }
        do {
            let questions = try await staged()
            let count = try await engine.rows(
                "SELECT (SELECT count(*) FROM question) AS asked, (SELECT count(*) FROM labelled) AS labelled",
                setup: (sql.questionStatements + [
                    "COPY (SELECT * FROM labelled ORDER BY __row) TO \(SQLText.literal(questions)) (FORMAT parquet, COMPRESSION snappy)"
                ]).joined(separator: ";\n"), limits: limits)
            let asked = count.first?["asked"]?.integerValue ?? 0
            let answers = try await staged()
            let computed = try await compute(sql, plans, kernel, questions: questions, answers: answers, staged)
            guard computed else {
                prepared.statements = try sql.statements()
                return prepared
            }
            prepared.statements =
                SQLDialect.duckdb.preparation + [
                    "CREATE TEMP TABLE question AS SELECT * FROM range(\(asked))",
                    "CREATE TEMP TABLE labelled AS SELECT * FROM read_parquet(\(SQLText.literal(questions)))",
                ]
            for index in order.indices {
                guard plans[index] != nil else {
                    prepared.statements += try sql.featureStatements(ofView: index)
                    continue
                }
                let columns = sql.outputs(ofView: index).map { ", \(SQLText.identifier($0.column))" }.joined()
                prepared.statements.append(
                    "CREATE TEMP VIEW \(TrainingSetSQL.table(ofView: index)) AS SELECT __row\(columns) FROM read_parquet(\(SQLText.literal(answers)))"
                )
            }
            prepared.statements.append(sql.datasetStatement)
            prepared.engineSuffix = "; windows: bottega \(Self.kernelVersion)"
            return prepared
        } catch {
            for path in prepared.files { try? FileManager.default.removeItem(atPath: path) }
            throw error
        }
    }

    /// Computes all views that have a plan into one file; `false` if the tables cannot be read even after the engine wrote
    /// them anew.
    private func compute(
        _ sql: TrainingSetSQL, _ plans: [AggregationPlan?], _ kernel: PointInTimeJoin.Settings, questions: String,
        answers: String, _ staged: () async throws -> String
    ) async throws -> Bool {
        var settings = kernel
        settings.spillFolder = URL(filePath: answers).deletingLastPathComponent().path
        var isRewritten = false
        while true {
            var views: [PointInTimeJoin.View] = []
            var columns: [PointInTimeJoin.Column] = [.question("__row")]
            for (index, plan) in plans.enumerated() {
                guard let plan else { continue }
                let source = sql.source(plan.view.source)
                var files = isRewritten ? nil : sql.scans[source.name]?.files
                if files == nil {
                    let path = try await staged()
                    try await engine.execute(Self.rewrite(sql, plan, to: path), limits: limits)
                    files = [path]
                }
                columns += plan.features.indices.map { .feature(view: views.count, feature: $0) }
                views.append(
                    PointInTimeJoin.View(
                        plan: plan, source: source, events: files ?? [], questionKeys: plan.view.joinKeys,
                        outputs: sql.outputs(ofView: index).map(\.column), knownBefore: sql.asOf.milliseconds))
            }
            do {
                _ = try await PointInTimeJoin(settings).run(
                    [PointInTimeJoin.Table(questions: questions, output: answers)], time: "__time", views: views,
                    columns: columns)
                return true
            } catch {
                guard error is ColumnFileError else { throw error }
                if isRewritten { return false }
                isRewritten = true
            }
        }
    }

    /// SQL that writes what a plan reads of its source into one file of the types that the kernel reads.
    private static func rewrite(_ sql: TrainingSetSQL, _ plan: AggregationPlan, to path: String) -> String {
        var names = plan.view.joinKeys
        let read = plan.sourceColumns(of: plan.columns.map(\.name) + plan.derivedColumns.flatMap(\.expression.columns))
        for name in read + ["__event_time", "__ingest_time", "__sequence"]
        where !names.contains(name) {
            names.append(name)
        }
        let list = names.map(SQLText.identifier).joined(separator: ", ")
        let table = sql.scans[plan.view.source]?.sql ?? ""
        return """
            COPY (SELECT \(list) FROM \(table) WHERE __ingest_time < \(sql.asOf.milliseconds))
            TO \(SQLText.literal(path)) (FORMAT parquet, COMPRESSION snappy)
            """
    }
}
