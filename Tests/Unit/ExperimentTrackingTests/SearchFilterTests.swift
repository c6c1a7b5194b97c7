import PlatformCore
import Testing

@testable import ExperimentTracking

struct SearchFilterTests {
    @Test func readsEveryKindOfClause() throws {
        let filter = try SearchFilter(
            """
            metrics.auc >= 0.5 and params."a b" != 'x''y' AND tags.`mlflow.prompt.is_prompt` ilike "T%" \
            AND run_id NOT IN ('a', 'b',) AND metrics.loss IS NOT NULL AND status='RUNNING'
            """)
        #expect(
            filter.clauses == [
                SearchClause(entity: "metrics", key: "auc", comparison: .greaterOrEqual, operand: .number(0.5)),
                SearchClause(entity: "params", key: "a b", comparison: .notEqual, operand: .text("x'y")),
                SearchClause(
                    entity: "tags", key: "mlflow.prompt.is_prompt", comparison: .ilike, operand: .text("T%")),
                SearchClause(entity: nil, key: "run_id", comparison: .isNotIn, operand: .texts(["a", "b"])),
                SearchClause(entity: "metrics", key: "loss", comparison: .isNotNull, operand: .none),
                SearchClause(entity: nil, key: "status", comparison: .equal, operand: .text("RUNNING")),
            ])
    }

    @Test(arguments: [
        "a", "a =", "= 'x'", "a = 'x", "a = 'x' OR b = 'y'", "a = 'x' AND", "(a = 'x')", "a ! 'x'", "a IN ()",
        "a IN ('x'", "a LIKE 3", "a IS NIL", "metrics. = 3", "a = b", "a NOT 'x'", "a = 'x' b = 'y'",
        "a > 0x10", "a > inf",
    ])
    func refusesWhatIsNoFilter(text: String) {
        #expect { try SearchFilter(text) } throws: { ($0 as? PlatformError)?.code == .invalidInput }
    }

    @Test func aNumberTooLargeIsMoreThanAnyAndAKeyMayHaveSingleQuotes() throws {
        #expect(
            try SearchFilter("metrics.a < 1e400 AND tags.'a b' = 'c'").clauses == [
                SearchClause(entity: "metrics", key: "a", comparison: .less, operand: .number(.infinity)),
                SearchClause(entity: "tags", key: "a b", comparison: .equal, operand: .text("c")),
            ])
    }

    @Test func refusesWhatIsTooLong() {
        let clauses = Array(repeating: "a = 'x'", count: 101).joined(separator: " AND ")
        #expect(throws: PlatformError.self) { try SearchFilter(clauses) }
        #expect(throws: PlatformError.self) {
            try SearchFilter("a = '" + String(repeating: "x", count: 70_000) + "'")
        }
    }

    @Test(arguments: UInt64(0)..<40)
    func noTextMakesItTrap(seed: UInt64) throws {
        var generator = SeededGenerator(state: seed)
        let pieces = [
            "metrics.", "a", "`", "\"", "'", "=", "!=", ">", "<=", "(", ")", ",", " ", "IN", "NOT", "IS", "NULL",
            "LIKE",
            "AND", "1e5", "-", "é", "\u{0}", ".", "0x1p3", "nan", "%",
        ]
        for _ in 0..<200 {
            let text = (0..<Int.random(in: 0..<14, using: &generator))
                .map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
            guard let filter = try? SearchFilter(text) else { continue }
            // What was accepted is a list of clauses that runs can be asked for, or is refused by name.
            #expect(!filter.clauses.isEmpty || text.allSatisfy { $0 == " " })
            _ = try? RunQuery(experiments: [1], filter: filter, orders: [], view: .active)
        }
    }

    @Test func aSortKeyIsNamedOnce() throws {
        #expect(throws: PlatformError.self) { try SearchOrder.list(["metrics.a", "metrics.a DESC"]) }
        let order = try SearchOrder("params.`x y` desc")
        #expect(order == SearchOrder(entity: "params", key: "x y", isAscending: false))
    }
}
