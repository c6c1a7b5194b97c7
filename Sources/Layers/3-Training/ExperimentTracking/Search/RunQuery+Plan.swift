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
    /// How many rows of a clause are tried at most to learn how many pass the others.
    private static let sampleCountMax = 256
    private static let driven = "v.run_number"

    /// What was learnt of the clauses before the search.
    private struct Survey {
        let total: Double
        /// Rows of the clauses that an index answers, by clause; at most `probeCountMax`, or hardly more than the rarest.
        var counts: [Int: Double] = [:]
        /// The rarest of them, if it is rarer than `probeCountMax`.
        var rarest: (driver: Driver, count: Double)?
        /// Those that were counted to their end.
        var counted: Set<Int> = []
        /// Roughly the share of runs that pass all of them, if they know nothing of each other.
        var share = 1.0

        /// The rows of a clause, if they were counted to their end.
        func known(_ clause: Int) -> Double? { counted.contains(clause) ? counts[clause] : nil }
    }

    /// The first runs behind `place`, in order.
    func runs(
        behind place: [MetadataValue]?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        let survey = try survey(transaction)
        if let walkedMetric {
            guard let (driver, count) = survey.rarest else {
                return try walk(walkedMetric.key, walkedMetric.isAscending, place, countMax, survey, transaction)
            }
            if let found = try walkAhead(driver, count, place, countMax, survey, transaction) { return found }
            return try runs(drivenBy: driver, place, countMax, survey, transaction)
        }
        if let (driver, count) = survey.rarest {
            // A walk in order looks at so many runs until a page is full.
            let walked = isWalkable ? min(survey.total, Double(countMax) / max(survey.share, 1e-9)) : survey.total
            if count <= walked { return try runs(drivenBy: driver, place, countMax, survey, transaction) }
        }
        return try runs(
            from: "tracking_run r", joins: terms.compactMap(\.join), base + others(survey, of: "r.number"), terms,
            place, countMax, transaction)
    }

    /// The clauses but one, as conditions on a run; those that few runs pass come first.
    private func others(_ survey: Survey, but left: Set<Int> = [], of run: String) -> [Fragment] {
        clauses.indices.filter { !left.contains($0) }
            .sorted { (survey.counts[$0] ?? .infinity, $0) < (survey.counts[$1] ?? .infinity, $1) }
            .map { clauses[$0].of(run: run) }
    }

    private func survey(_ transaction: any MetadataTransaction) throws -> Survey {
        if drivers.isEmpty { return Survey(total: 0) }
        var survey = Survey(
            total: Double(
                max(
                    1,
                    try transaction.query("SELECT MAX(number) AS number FROM tracking_run").first?.integer("number")
                        ?? 1)))
        // Equalities first: they are rare more often, and what is rarer than all others need not be counted further.
        for driver in drivers.sorted(by: { $0.isEquality && !$1.isEquality }) {
            let countMax = survey.rarest.map { min(Self.probeCountMax, Int($0.count) + 1) } ?? Self.probeCountMax
            let count = Double(
                try transaction.query(
                    """
                    SELECT COUNT(*) AS count FROM (SELECT 1 FROM \(driver.table) v WHERE \(driver.condition.sql)
                    LIMIT \(countMax)) counted
                    """, driver.condition.arguments
                ).first?.integer("count") ?? 0)
            let share = min(1, count / survey.total)
            // Of a clause that was not counted to its end the share lies between that and 1: the geometric middle.
            survey.share *= count < Double(countMax) ? share : share.squareRoot()
            survey.counts[driver.clause] = count
            if count < Double(countMax) { survey.counted.insert(driver.clause) }
            if count < survey.rarest?.count ?? Double(Self.probeCountMax) { survey.rarest = (driver, count) }
        }
        return survey
    }

    /// Looks at every run of one clause; the other clauses ask for the number that its row gives, so that a run is only
    /// looked up when it passes all of them.
    private func runs(
        drivenBy driver: Driver, _ place: [MetadataValue]?, _ countMax: Int, _ survey: Survey,
        _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        try runs(
            from: "\(driver.table) v CROSS JOIN tracking_run r", joins: terms.compactMap(\.join),
            [driver.condition] + others(survey, but: [driver.clause], of: Self.driven)
                + [Fragment(sql: "r.number = \(Self.driven)", arguments: [])] + base, terms,
            place, countMax, transaction)
    }

    /// Walks along the wanted metric as far as a page should need, if that is likely to be less work than looking at every
    /// row of the rarest clause; `nil` where it is not, or if the page is not full there.
    private func walkAhead(
        _ driver: Driver, _ count: Double, _ place: [MetadataValue]?, _ countMax: Int, _ survey: Survey,
        _ transaction: any MetadataTransaction
    ) throws -> [FoundRun]? {
        guard let (key, isAscending) = walkedMetric, place?.first?.integerValue ?? 0 == 0,
            count > 16
        else { return nil }
        let (tested, tests) = tests(of: key)
        let sample = try sample(of: driver, count, tested: tested, survey, transaction)
        // The walk meets only runs that pass the tests of the metric itself; how many those are is known or sampled.
        let walkable = tested.compactMap { survey.known($0) }.min() ?? survey.total * sample.shareOfTested
        let walked = Double(countMax) * walkable / (sample.share * count)
        let met = tested.contains(driver.clause) ? walked : walked * count / survey.total
        // In microseconds, measured over 100,000 runs: a step of the walk, a row of the clause put into a set, a run of
        // the set that is looked at; a row of the clause that is looked at, and one that passes.
        let walkCost = 0.4 * walked + 0.35 * count + 2.5 * met
        let driverCost = 2.3 * count + 3 * sample.share * count
        guard walkCost < driverCost else { return nil }
        // As far as that, and twice for bad luck: a stretch that lacks what the whole has costs no more than that.
        var last: MetadataValue?
        if 2 * walked < walkable {
            let range = range(of: key, place, isAscending)
            last = try transaction.query(
                """
                SELECT o.value AS value FROM tracking_metric_latest o WHERE \(range.sql)
                ORDER BY o.value \(isAscending ? "ASC" : "DESC") LIMIT 1 OFFSET \(Int(2 * walked))
                """, range.arguments
            ).first?["value"]
        }
        let found = try numbers(
            along: key, isAscending, place.map { Array($0.dropFirst()) }, countMax, survey, only: driver, upTo: last,
            transaction)
        // Behind the numbers come runs without one, unless a test of the metric leaves them out.
        return found.count < countMax && (last != nil || tests.isEmpty) ? nil : found
    }

    /// What the first rows of a clause tell of the others: roughly the share that passes all clauses, and the share that
    /// passes those of `tested`; neither is zero.
    private func sample(
        of driver: Driver, _ count: Double, tested: [Int], _ survey: Survey, _ transaction: any MetadataTransaction
    ) throws -> (share: Double, shareOfTested: Double) {
        let sampleCount = min(Self.sampleCountMax, Int(count) / 8)
        let rows = Fragment(
            sql: """
                (SELECT v.run_number AS run_number FROM \(driver.table) v WHERE \(driver.condition.sql)
                LIMIT \(sampleCount)) v
                """, arguments: driver.condition.arguments)
        func share(_ joined: String, _ conditions: [Fragment]) throws -> Double {
            let passed =
                try transaction.query(
                    """
                    SELECT COUNT(*) AS count FROM \(rows.sql) \(joined)
                    WHERE \(conditions.map(\.sql).joined(separator: " AND "))
                    """, rows.arguments + conditions.flatMap(\.arguments)
                ).first?.integer("count") ?? 0
            return max(0.5, Double(passed)) / Double(sampleCount)
        }
        let passing = try share(
            "CROSS JOIN tracking_run r",
            others(survey, but: [driver.clause], of: Self.driven)
                + [Fragment(sql: "r.number = \(Self.driven)", arguments: [])] + base)
        let isKnown = tested.isEmpty || tested.contains { survey.known($0) != nil }
        return (passing, isKnown ? 1 : try share("", tested.map { clauses[$0].of(run: Self.driven) }))
    }

    /// Which clauses compare the metric itself.
    private func tests(of key: String) -> (clauses: [Int], conditions: [Fragment]) {
        let own = metricTests.filter { $0.value.key == key }.sorted { $0.key < $1.key }
        return (
            own.map(\.key),
            own.map { Fragment(sql: "o.value \($0.value.comparison) ?", arguments: [.real($0.value.number)]) }
        )
    }

    /// The stretch of a metric's numbers that a walk behind a place goes through, over the alias `o`.
    private func range(of key: String, _ place: [MetadataValue]?, _ isAscending: Bool) -> Fragment {
        var parts = [Fragment(sql: "o.key = ? AND o.is_nan = 0", arguments: [.text(key)])] + tests(of: key).conditions
        if let place, place.count > 1, place[1] != .null {
            parts.append(Fragment(sql: "o.value \(isAscending ? ">=" : "<=") ?", arguments: [place[1]]))
        }
        return Fragment(sql: parts.map(\.sql).joined(separator: " AND "), arguments: parts.flatMap(\.arguments))
    }

    /// Walks along the index of a metric's values, then over NaN, then over the runs that lack the metric.
    private func walk(
        _ key: String, _ isAscending: Bool, _ place: [MetadataValue]?, _ countMax: Int, _ survey: Survey,
        _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        var found: [FoundRun] = []
        let firstPhase = place?.first?.integerValue ?? 0
        // What is compared with a number is one.
        let lastPhase: Int64 = tests(of: key).clauses.isEmpty ? 2 : 0
        guard firstPhase <= lastPhase else { return [] }
        for phase in firstPhase...lastPhase where found.count < countMax {
            let wanted = countMax - found.count
            let isResumed = phase == firstPhase
            if phase == 2 {
                let lacks = Fragment(
                    sql:
                        "NOT EXISTS (SELECT 1 FROM tracking_metric_latest o WHERE o.run_number = r.number AND o.key = ?)",
                    arguments: [.text(key)])
                found += try runs(
                    from: "tracking_run r", joins: [], base + others(survey, of: "r.number") + [lacks],
                    Array(terms.dropFirst(2)), isResumed ? place.map { Array($0.dropFirst(2)) } : nil, wanted,
                    transaction
                ).map { FoundRun(row: $0.row, place: [2, nil] + $0.place) }
                continue
            }
            found += try numbers(
                along: key, isAscending, isNaN: phase == 1, isResumed ? place.map { Array($0.dropFirst()) } : nil,
                wanted, survey, transaction)
        }
        return found
    }

    /// Runs along the index of a metric's values: those with a number, or those with NaN.
    ///
    /// - Parameters:
    ///   - place: without its first part, which says number or NaN.
    ///   - driver: a clause with few rows, which are put into a set first; a look at a set costs less than one at a table.
    ///   - last: the last value to look at.
    private func numbers(
        along key: String, _ isAscending: Bool, isNaN: Bool = false, _ place: [MetadataValue]?, _ countMax: Int,
        _ survey: Survey, only driver: Driver? = nil, upTo last: MetadataValue? = nil,
        _ transaction: any MetadataTransaction
    ) throws -> [FoundRun] {
        let (tested, tests) = tests(of: key)
        var walked = [
            Fragment(
                sql: "o.key = ? AND o.is_nan = \(isNaN ? 1 : 0) AND r.number = o.run_number", arguments: [.text(key)])
        ]
        if !isNaN { walked += tests }
        if let last { walked.append(Fragment(sql: "o.value \(isAscending ? "<=" : ">=") ?", arguments: [last])) }
        var answered = Set(tested)
        if let driver, answered.insert(driver.clause).inserted {
            // The plus keeps the database from looking up each number of the set instead of walking.
            walked.append(
                Fragment(
                    sql: """
                        +o.run_number IN (SELECT v.run_number FROM \(driver.table) v WHERE \(driver.condition.sql))
                        """, arguments: driver.condition.arguments))
        }
        return try runs(
            from: "tracking_metric_latest o CROSS JOIN tracking_run r", joins: [],
            walked + others(survey, but: answered, of: "o.run_number") + base,
            [Term(sql: "o.value", isAscending: isAscending)] + terms.dropFirst(2), place, countMax, transaction
        ).map { FoundRun(row: $0.row, place: [isNaN ? 1 : 0] + $0.place) }
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
