import Aggregation
import Definitions
import PlatformCore
import StoragePorts

/// The answers: every question with its features.
extension FeatureSQL {
    /// The features over one window at each question, in columns `v` and their place in the plan.
    ///
    /// One table for each window: an engine that looked all pieces of all windows up in one query would hold them all in
    /// memory at once, and plan for minutes.
    func windowTable(_ index: Int, _ names: Names) -> Step {
        let window = windows[index]
        var joins: [String] = []
        func join(_ table: String, as alias: String, number: String? = nil) {
            let other = number.map { "number = \($0)" } ?? "rank = q.rank"
            joins.append("LEFT JOIN \(table) \(alias) ON \(alias).entity = q.entity AND \(alias).\(other)")
        }
        if !features(over: window, Self.totals).isEmpty { join(names.sum(index), as: "s") }
        let gates = Set(gated(over: window).map(Self.gateName)).sorted()
        let picks: Set<AggregateFunction> = [.min, .max, .first]
        if !features(over: window, picks).isEmpty || !gates.isEmpty { join(names.table("pick\(index)"), as: "p") }
        for gate in gates { join(names.event, as: "g\(gate)", number: "p.\(gate)") }
        if features(over: window, [.first]).contains(where: { $0.gate == nil }) {
            join(names.event, as: "f", number: "p.first")
        }
        for column in columns(over: window, [.mode]) {
            join(names.table("pickmode\(index)_\(column)"), as: "b\(column)")
            join(names.event, as: "m\(column)", number: dialect.remainder("b\(column).best", "4294967296"))
        }
        for list in Set(features(over: window, [.lastN, .lastNDistinct]).map(Self.listName)).sorted() {
            join(names.table("list\(index)_\(list)"), as: "l\(list)")
        }
        let values = plan.computed.enumerated().filter { isWindowed($1) && $1.window == window }
            .map { ", \(windowValue($1)) AS v\($0)" }
        return Step(
            name: names.table("window\(index)"), isReused: true,
            query: """
                SELECT q.entity, q.rank\(values.joined())
                FROM \(names.question) q
                \(joins.joined(separator: "\n"))
                """)
    }

    func resultTable(questions: String, result: String, _ names: Names) -> String {
        let joins = windows.indices.map { index in
            "LEFT JOIN \(names.table("window\(index)")) w\(index) ON w\(index).entity = n.entity AND w\(index).rank = n.rank"
        }
        let columns = plan.features.indices.map { place in
            var value = expression(place)
            if let timeToLive = plan.timeToLive {
                value = "CASE WHEN e.happened <= n.tick - \(timeToLive) THEN NULL ELSE \(value) END"
            }
            return ", \(value) AS \(dialect.identifier(outputs[place].column))"
        }
        return dialect.create(
            dialect.identifier(result),
            as: """
                SELECT t.__row\(columns.joined())
                FROM \(questions) t
                LEFT JOIN \(names.key) k ON \(keys.map { "t.\($0) = k.\($0)" }.joined(separator: " AND "))
                LEFT JOIN \(names.newest) n ON n.entity = k.entity AND n.tick = t.\(tick)
                LEFT JOIN \(names.event) e ON e.entity = n.entity AND e.number = n.number
                \(joins.joined(separator: "\n"))
                """)
    }

    /// Whether a feature stands in the table of its window: all but ratios, estimates, and `last` of the newest event.
    private func isWindowed(_ feature: AggregationPlan.Feature) -> Bool {
        feature.operands == nil && feature.window != nil && (feature.function != .last || feature.gate != nil)
    }

    private func typed(_ feature: AggregationPlan.Feature, _ value: String) -> String {
        feature.type == .bool ? "CAST(\(value) AS BOOLEAN)" : value
    }

    /// The feature at a place of the plan, for a row of questions.
    private func expression(_ place: Int) -> String {
        let feature = plan.computed[place]
        if let operands = feature.operands {
            func number(_ place: Int) -> String { "CAST(\(expression(place)) AS DOUBLE)" }
            if let precision = operands.precision {
                return dialect.estimate(
                    expression(operands.numerator), coupons: expression(operands.denominator), precision)
            }
            return dialect.ratio(number(operands.numerator), number(operands.denominator))
        }
        guard isWindowed(feature), let index = feature.window.flatMap({ windows.firstIndex(of: $0) }) else {
            let value = typed(feature, "e.x\(feature.column ?? 0)")
            guard let window = feature.window else { return value }
            return "CASE WHEN e.happened > n.tick - \(window) THEN \(value) END"
        }
        // A question about an unknown entity has no row there, and counts nothing.
        return feature.function.countsNothingAsZero ? "coalesce(w\(index).v\(place), 0)" : "w\(index).v\(place)"
    }

    /// The feature from the tables of its window.
    private func windowValue(_ feature: AggregationPlan.Feature) -> String {
        guard let column = feature.column else { return "CAST(s.n AS BIGINT)" }
        let power = dialect.real(plan.columns[column].power)
        let (count, total) = ("s.n\(column)", "s.t\(column)")
        let isSum = "\(count) > 0 AND \(total) < \(dialect.wide(ExactArithmetic.poisonThreshold))"
        return switch feature.function {
        case .count: "CAST(\(count) AS BIGINT)"
        case .distinctCount: "CAST(s.d\(column) AS BIGINT)"
        case .sum: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / \(power) END"
        case .mean: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / (\(power) * \(dialect.double(count))) END"
        case .stddev: dialect.deviation("s.b\(column)", "s.q\(column)", count, power)
        case .min: typed(feature, "p.low\(column)")
        case .max: typed(feature, "p.top\(column)")
        case .mode: typed(feature, "m\(column).x\(column)")
        case .lastN, .lastNDistinct: "l\(Self.listName(feature)).cells"
        case .first, .last, .approxCountDistinct, .ratio:
            typed(feature, "\(feature.gate == nil ? "f" : "g\(Self.gateName(feature))").x\(column)")
        }
    }
}
