import StoragePorts

/// A run that a search found, and where it stands in the order.
struct FoundRun {
    let row: MetadataRow
    /// Values of the order's terms.
    let place: [MetadataValue]
}

extension RunQuery {
    /// How many rows of a clause are counted at most.
    private static let probeCountMax = 10_000

    /// The first runs behind `place`, in order.
    func runs(
        behind place: [MetadataValue]?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        let driver = try driver(countMax: countMax, transaction)
        if driver == nil, let walkedMetric {
            return try walk(walkedMetric.key, walkedMetric.isAscending, place, countMax, transaction)
        }
        guard let driver else {
            return try runs(
                from: "tracking_run r", joins: terms.compactMap(\.join), base + clauses.map { $0.of(run: "r.number") },
                terms, place, countMax, transaction)
        }
        // The other clauses ask for the driver's run, so that a run is only looked up when it passes all of them.
        let others = clauses.enumerated().filter { $0.offset != driver.clause }.map { $0.element.of(run: Self.driven) }
        return try runs(
            from: "\(driver.table) v CROSS JOIN tracking_run r", joins: terms.compactMap(\.join),
            [driver.condition] + others + [Fragment(sql: "r.number = \(Self.driven)", arguments: [])] + base, terms,
            place, countMax, transaction)
    }

    private static let driven = "v.run_number"

    /// The clause to begin with: the rarest, if beginning with it is likely to be less work than a walk in order.
    private func driver(countMax: Int, _ transaction: any MetadataTransaction) throws -> Driver? {
        if drivers.isEmpty { return nil }
        let total = Double(
            max(
                1, try transaction.query("SELECT MAX(number) AS number FROM tracking_run").first?.integer("number") ?? 1
            ))
        var rarest: (driver: Driver, count: Double)?
        var share = 1.0
        // Equalities first: they are rare more often, and what is rarer than all others need not be counted further.
        for driver in drivers.sorted(by: { $0.isEquality && !$1.isEquality }) {
            let countMax = rarest.map { min(Self.probeCountMax, Int($0.count) + 1) } ?? Self.probeCountMax
            let count = Double(
                try transaction.query(
                    """
                    SELECT COUNT(*) AS count FROM (SELECT 1 FROM \(driver.table) v WHERE \(driver.condition.sql)
                    LIMIT \(countMax)) counted
                    """, driver.condition.arguments
                ).first?.integer("count") ?? 0)
            // Of a clause that was not counted to its end the share lies between that and 1: the geometric middle.
            share *= count < Double(countMax) ? min(1, count / total) : min(1, count / total).squareRoot()
            if count < rarest?.count ?? Double(Self.probeCountMax) { rarest = (driver, count) }
        }
        guard let rarest else { return nil }
        // A walk in order looks at so many runs until a page is full, if the clauses know nothing of each other.
        let walked = isWalkable ? min(total, Double(countMax) / max(share, 1e-9)) : total
        return rarest.count <= walked ? rarest.driver : nil
    }

    /// Walks along the index of a metric's values, then over NaN, then over the runs that lack the metric.
    private func walk(
        _ key: String, _ isAscending: Bool, _ place: [MetadataValue]?, _ countMax: Int,
        _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        var found: [FoundRun] = []
        let rest = Array(terms.dropFirst(2))
        let firstPhase = place?.first?.integerValue ?? 0
        for phase in firstPhase...2 where found.count < countMax {
            let isResumed = phase == firstPhase
            let wanted = countMax - found.count
            if phase == 2 {
                let lacks = Fragment(
                    sql:
                        "NOT EXISTS (SELECT 1 FROM tracking_metric_latest o WHERE o.run_number = r.number AND o.key = ?)",
                    arguments: [.text(key)])
                found += try runs(
                    from: "tracking_run r", joins: [], base + clauses.map { $0.of(run: "r.number") } + [lacks], rest,
                    isResumed ? place.map { Array($0.dropFirst(2)) } : nil, wanted, transaction
                ).map { FoundRun(row: $0.row, place: [2, nil] + $0.place) }
                continue
            }
            let walked = Fragment(
                sql: "o.key = ? AND o.is_nan = \(phase) AND r.number = o.run_number", arguments: [.text(key)])
            found += try runs(
                from: "tracking_metric_latest o CROSS JOIN tracking_run r", joins: [],
                [walked] + clauses.map { $0.of(run: "o.run_number") } + base,
                [Term(sql: "o.value", isAscending: isAscending)] + rest,
                isResumed ? place.map { Array($0.dropFirst()) } : nil, wanted, transaction
            ).map { FoundRun(row: $0.row, place: [.integer(phase)] + $0.place) }
        }
        return found
    }

    private func runs(
        from: String, joins: [Fragment], _ conditions: [Fragment], _ terms: [Term], _ place: [MetadataValue]?,
        _ countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        var conditions = conditions
        if let place { conditions.append(Self.behind(place, terms)) }
        let values = terms.enumerated().map { "\($0.element.sql) AS place\($0.offset)" }.joined(separator: ", ")
        let order = terms.map { "\($0.sql) \($0.isAscending ? "ASC" : "DESC")" }.joined(separator: ", ")
        let sql = """
            SELECT r.*, \(values) FROM \(from) \(joins.map(\.sql).joined(separator: " "))
            WHERE \(conditions.map(\.sql).joined(separator: " AND ")) ORDER BY \(order) LIMIT \(countMax)
            """
        let rows = try transaction.query(sql, joins.flatMap(\.arguments) + conditions.flatMap(\.arguments))
        return rows.map { row in FoundRun(row: row, place: terms.indices.map { row["place\($0)"] }) }
    }

    /// The condition of lying behind a place in the order.
    static func behind(_ place: [MetadataValue], _ terms: [Term]) -> Fragment {
        var alternatives: [String] = []
        var arguments: [MetadataValue] = []
        var equal: [String] = []
        var equalArguments: [MetadataValue] = []
        var bound = ""
        var boundArguments: [MetadataValue] = []
        for (term, value) in zip(terms, place) {
            if value == .null {
                equal.append("\(term.sql) IS NULL")
                continue
            }
            alternatives.append((equal + ["\(term.sql) \(term.isAscending ? ">" : "<") ?"]).joined(separator: " AND "))
            arguments += equalArguments + [value]
            if equal.isEmpty {  // what an index can use: an alternative alone it cannot
                bound = "\(term.sql) \(term.isAscending ? ">=" : "<=") ? AND "
                boundArguments = [value]
            }
            equal.append("\(term.sql) = ?")
            equalArguments.append(value)
        }
        return Fragment(
            sql: "\(bound)(\(alternatives.map { "(\($0))" }.joined(separator: " OR ")))",
            arguments: boundArguments + arguments)
    }
}
