import Aggregation
import Definitions
import PlatformCore
import StoragePorts

/// The answers: every question with its features.
extension FeatureSQL {
    func resultTable(questions: String, result: String, _ names: Names) -> String {
        var joins: [String] = []
        func join(_ table: String, as alias: String, number: String? = nil) {
            let other = number.map { "number = \($0)" } ?? "rank = n.rank"
            joins.append("LEFT JOIN \(table) \(alias) ON \(alias).entity = n.entity AND \(alias).\(other)")
        }
        for (index, window) in windows.enumerated() {
            if !features(over: window, Self.totals).isEmpty { join(names.sum(index), as: "s\(index)") }
            let gates = Set(gated(over: window).map(Self.gateName)).sorted()
            if !features(over: window, [.min, .max, .first]).isEmpty || !gates.isEmpty {
                join(names.table("pick\(index)"), as: "p\(index)")
            }
            for gate in gates { join(names.event, as: "g\(index)_\(gate)", number: "p\(index).\(gate)") }
            if features(over: window, [.first]).contains(where: { $0.gate == nil }) {
                join(names.event, as: "f\(index)", number: "p\(index).first")
            }
            for column in columns(over: window, [.mode]) {
                let place = "\(index)_\(column)"
                join(names.table("pickmode\(place)"), as: "b\(place)")
                join(names.event, as: "m\(place)", number: dialect.remainder("b\(place).best", "4294967296"))
            }
            for list in Set(features(over: window, [.lastN, .lastNDistinct]).map(Self.listName)).sorted() {
                join(names.table("list\(index)_\(list)"), as: "l\(index)_\(list)")
            }
        }
        let columns = zip(plan.features, outputs).map { feature, output in
            var value = expression(feature)
            if let timeToLive = plan.timeToLive {
                value = "CASE WHEN e.happened <= n.tick - \(timeToLive) THEN NULL ELSE \(value) END"
            }
            return ", \(value) AS \(dialect.identifier(output.column))"
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

    private func expression(_ feature: AggregationPlan.Feature) -> String {
        func typed(_ value: String) -> String { feature.type == .bool ? "CAST(\(value) AS BOOLEAN)" : value }
        if let operands = feature.operands {
            func number(_ place: Int) -> String { "CAST(\(expression(plan.computed[place])) AS DOUBLE)" }
            return dialect.ratio(number(operands.numerator), number(operands.denominator))
        }
        guard let index = feature.window.flatMap({ window in windows.firstIndex(of: window) }),
            feature.function != .last || feature.gate != nil
        else {
            let value = typed("e.x\(feature.column ?? 0)")
            guard let window = feature.window else { return value }
            return "CASE WHEN e.happened > n.tick - \(window) THEN \(value) END"
        }
        guard let column = feature.column else { return "CAST(coalesce(s\(index).n, 0) AS BIGINT)" }
        let power = dialect.real(plan.columns[column].power)
        let (count, total) = ("s\(index).n\(column)", "s\(index).t\(column)")
        let isSum = "\(count) > 0 AND \(total) < \(dialect.wide(ExactArithmetic.poisonThreshold))"
        return switch feature.function {
        case .count: "CAST(coalesce(\(count), 0) AS BIGINT)"
        case .distinctCount: "CAST(coalesce(s\(index).d\(column), 0) AS BIGINT)"
        case .sum: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / \(power) END"
        case .mean: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / (\(power) * \(dialect.double(count))) END"
        case .stddev: dialect.deviation("s\(index).b\(column)", "s\(index).q\(column)", count, power)
        case .min: typed("p\(index).low\(column)")
        case .max: typed("p\(index).top\(column)")
        case .mode: typed("m\(index)_\(column).x\(column)")
        case .lastN, .lastNDistinct: "l\(index)_\(Self.listName(feature)).cells"
        case .first, .last, .ratio:
            typed("\(feature.gate == nil ? "f\(index)" : "g\(index)_\(Self.gateName(feature))").x\(column)")
        }
    }
}
