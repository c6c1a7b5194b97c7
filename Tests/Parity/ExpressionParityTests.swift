import Expressions
import PlatformCore
import StoragePorts
import Synchronization
import Testing

/// Random expressions over random rows: the evaluator and DuckDB give the same bits.
@Suite("Expressions in SQL")
struct ExpressionParityTests {
    @Test("The evaluator and DuckDB agree on random expressions and rows", arguments: UInt64(0)..<3)
    func duckdb(seed: UInt64) async throws {
        var generator = GeneratedExpressions(seed: seed)
        let rows = (0..<60).map { _ in generator.row() }
        var expressions: [Expression] = []
        while expressions.count < 25 {
            expressions.append(
                try Expression.compile(generator.expression(), columns: GeneratedExpressions.columns))
        }
        let names = GeneratedExpressions.columns.map(\.name)
        let values = rows.enumerated().map { "(\($0), \(GeneratedExpressions.sql($1, .duckdb)))" }
        let table =
            "CREATE TABLE r AS SELECT * FROM (VALUES \(values.joined(separator: ",\n"))) r(n, \(names.joined(separator: ", ")))"
        let columns = expressions.enumerated().map { "\($1.sql(.duckdb) { "r.\($0)" }) AS e\($0)" }
        let found = Mutex<[JSONValue]>([])
        try await CommandLineEngine().query(
            "SELECT \(columns.joined(separator: ",\n")) FROM r ORDER BY n", setup: table, limits: QueryLimits()
        ) { row in found.withLock { $0.append(row) } }
        let answers = found.withLock { $0 }
        #expect(answers.count == rows.count)
        var different = 0
        for (row, answer) in zip(rows, answers) {
            for (index, expression) in expressions.enumerated() {
                let expected = expression.evaluate(row)
                let answered = GeneratedExpressions.cell(answer["e\(index)"], expression.type)
                guard !Self.same(expected, answered) else { continue }
                different += 1
                if different < 8 {
                    Issue.record("\(expression.text) of \(row): evaluator \(expected), DuckDB \(answered)")
                }
            }
        }
        #expect(different == 0)
    }

    /// Equal bits: `CellValue` would call canonically equivalent texts equal.
    private static func same(_ left: CellValue, _ right: CellValue) -> Bool {
        switch (left, right) {
        case (.text(let left), .text(let right)): left.utf8.elementsEqual(right.utf8)
        case (.double(let left), .double(let right)): left.bitPattern == right.bitPattern
        default: left == right
        }
    }
}
