/// How decisions fall on the groups of a protected attribute, as fairlearn measures them.
///
/// A difference is the largest of the groups' rates less the smallest, a ratio the smallest divided by the largest; 0 and 1
/// are equality. A group without rows of a class has no rate of that class and is left out of it, which `undefined` says.
/// - SeeAlso: Hardt, Price & Srebro (2016), *Equality of Opportunity in Supervised Learning*.
public struct FairnessReport: Sendable, Hashable, Codable {
    /// One group.
    public struct Group: Sendable, Hashable, Codable {
        /// The attribute's value.
        public let value: String
        /// Rows.
        public let rowCount: Int
        /// Positive rows.
        public let positiveCount: Int
        /// Whether the group, or one of its classes, has fewer rows than a rate needs to be trusted.
        public let isSmall: Bool
        /// Share called positive, with Wilson's interval.
        public let selectionRate: ConfidenceInterval
        /// Share of its positives called positive; `nil` without positives.
        public let truePositiveRate: ConfidenceInterval?
        /// Share of its negatives called positive; `nil` without negatives.
        public let falsePositiveRate: ConfidenceInterval?

        enum CodingKeys: String, CodingKey {
            case value
            case rowCount = "rows"
            case positiveCount = "positives"
            case isSmall = "is_small"
            case selectionRate = "selection_rate"
            case truePositiveRate = "true_positive_rate"
            case falsePositiveRate = "false_positive_rate"
        }
    }

    /// What compares the groups.
    public enum Measure: String, Sendable, Codable, CaseIterable, CodingKeyRepresentable {
        /// Largest less smallest selection rate.
        case demographicParityDifference = "demographic_parity_difference"
        /// Smallest by largest selection rate.
        case demographicParityRatio = "demographic_parity_ratio"
        /// Largest less smallest true positive rate.
        case equalOpportunityDifference = "equal_opportunity_difference"
        /// Smallest by largest true positive rate.
        case equalOpportunityRatio = "equal_opportunity_ratio"
        /// The larger of the differences of true and of false positive rates.
        case equalizedOddsDifference = "equalized_odds_difference"
        /// The smaller of the ratios of true and of false positive rates.
        case equalizedOddsRatio = "equalized_odds_ratio"

        /// Whether more is better.
        public var higherIsBetter: Bool { rawValue.hasSuffix("ratio") }
    }

    /// The attribute's column.
    public let attribute: String
    /// A prediction at or above it calls a row positive.
    public let threshold: Double
    /// Its groups, by value.
    public let groups: [Group]
    /// Measures with intervals; those that are undefined are in `undefined`.
    public let measures: [Measure: ConfidenceInterval]
    /// Why a measure has no value, or which groups it leaves out.
    public let undefined: [String: String]

    /// A measure's value; `nil` if it is undefined.
    public subscript(measure: Measure) -> ConfidenceInterval? { measures[measure] }

    /// What every row is called, `true` for positive; `nil` if some are called otherwise.
    ///
    /// Rates of 0 in every group, or of 1, are equal, and say nothing of how a model treats the groups.
    public var onlyCall: Bool? { Self.onlyCall(groups) }

    private static func onlyCall(_ groups: [Group]) -> Bool? {
        guard let first = groups.first?.selectionRate.estimate, first == 0 || first == 1,
            groups.allSatisfy({ $0.selectionRate.estimate == first })
        else { return nil }
        return first == 1
    }

    /// Measures groups of rows.
    /// - Parameters:
    ///   - attribute: the column's name.
    ///   - rows: rows of one output and two classes.
    ///   - groups: the group of each row.
    ///   - threshold: a prediction at or above it calls a row positive.
    ///   - smallBelow: rows of a group, or of a class of it, below which it is marked as small.
    ///   - bootstrap: draws for the intervals of the measures; the interval is the estimate itself without.
    /// - Throws: `shapeMismatch`, `outcomeNotBinary`, `needsOneOutput`.
    public init(
        attribute: String, rows: EvaluationRows, groups: SliceColumn, threshold: Double = 0.5, smallBelow: Int = 30,
        bootstrap: Bootstrap? = nil
    ) throws(StatisticsError) {
        guard rows.outputCount == 1 else { throw .needsOneOutput(rows.outputCount) }
        guard groups.codes.count == rows.rowCount else { throw .shapeMismatch(groups.codes.count, rows.rowCount) }
        let classes = try rows.classes()
        let called = rows.calledClasses(threshold: threshold)
        // Cell of each row: group · 4 + class · 2 + called.
        let cells = classes.indices.map { Int(groups.codes[$0]) * 4 + Int(classes[$0]) * 2 + Int(called[$0]) }
        var counts = [Int](repeating: 0, count: groups.values.count * 4)
        for cell in cells { counts[cell] += 1 }
        var described: [Group] = []
        for (number, value) in groups.values.enumerated() {
            let cell = Array(counts[(number * 4)..<(number * 4 + 4)])
            let (negatives, positives) = (cell[0] + cell[1], cell[2] + cell[3])
            guard negatives + positives > 0 else { continue }
            described.append(
                Group(
                    value: value, rowCount: negatives + positives, positiveCount: positives,
                    isSmall: min(negatives, positives) < smallBelow,
                    selectionRate: try ConfidenceInterval.share(cell[1] + cell[3], of: negatives + positives),
                    truePositiveRate: try? ConfidenceInterval.share(cell[3], of: positives),
                    falsePositiveRate: try? ConfidenceInterval.share(cell[1], of: negatives)))
        }
        let estimates = Self.measures(counts)
        var replicates: [Measure: [Double]] = [:]
        bootstrap?.forEachDraw(of: rows) { _, weights in
            var drawn = [Int](repeating: 0, count: counts.count)
            for row in cells.indices { drawn[cells[row]] += Int(weights[row]) }
            for (measure, value) in Self.measures(drawn) { replicates[measure, default: []].append(value) }
        }
        var (found, reasons) = ([Measure: ConfidenceInterval](), [String: String]())
        for measure in Measure.allCases {
            guard let estimate = estimates[measure] else {
                reasons[measure.rawValue] =
                    described.count < 2 ? "there is one group only" : "fewer than two groups have the rate"
                continue
            }
            guard let bootstrap else {
                found[measure] = ConfidenceInterval(estimate: estimate, lower: estimate, upper: estimate, confidence: 0)
                continue
            }
            do throws(StatisticsError) {
                found[measure] = try bootstrap.interval(
                    estimate, replicates[measure] ?? [], unitCount: rows.unitCount)
            } catch { reasons[measure.rawValue] = error.description }
        }
        for group in described {
            if group.truePositiveRate == nil {
                reasons["true_positive_rate"] = "'\(group.value)' has no positives and is left out"
            }
            if group.falsePositiveRate == nil {
                reasons["false_positive_rate"] = "'\(group.value)' has no negatives and is left out"
            }
        }
        if let call = Self.onlyCall(described) {
            reasons["selection_rate"] =
                "no row is called \(call ? "negative" : "positive") at the threshold \(threshold): equal rates show nothing here"
        }
        self.attribute = attribute
        self.threshold = threshold
        self.groups = described
        measures = found
        undefined = reasons
    }

    private enum CodingKeys: String, CodingKey { case attribute, threshold, groups, measures, undefined }

    /// Measures from counts by group, class and call.
    private static func measures(_ counts: [Int]) -> [Measure: Double] {
        var selection = Extremes()
        var (truePositive, falsePositive) = (Extremes(), Extremes())
        for group in stride(from: 0, to: counts.count, by: 4) {
            let (negatives, positives) = (counts[group] + counts[group + 1], counts[group + 2] + counts[group + 3])
            selection.add(counts[group + 1] + counts[group + 3], of: negatives + positives)
            truePositive.add(counts[group + 3], of: positives)
            falsePositive.add(counts[group + 1], of: negatives)
        }
        var result: [Measure: Double] = [:]
        if selection.groups > 1 {
            result[.demographicParityDifference] = selection.high - selection.low
            result[.demographicParityRatio] = selection.ratio
        }
        if truePositive.groups > 1 {
            result[.equalOpportunityDifference] = truePositive.high - truePositive.low
            result[.equalOpportunityRatio] = truePositive.ratio
            if falsePositive.groups > 1 {
                result[.equalizedOddsDifference] = max(
                    truePositive.high - truePositive.low, falsePositive.high - falsePositive.low)
                result[.equalizedOddsRatio] = min(truePositive.ratio, falsePositive.ratio)
            }
        }
        return result
    }

    private struct Extremes {
        var (groups, low, high) = (0, 1.0, 0.0)
        /// Two rates of 0 are equal.
        var ratio: Double { high == 0 ? 1 : low / high }
        mutating func add(_ count: Int, of rows: Int) {
            guard rows > 0 else { return }
            let share = Double(count) / Double(rows)
            groups += 1
            low = min(low, share)
            high = max(high, share)
        }
    }
}

/// A column that cuts rows into groups.
public struct SliceColumn: Sendable, Hashable {
    /// The column's name.
    public let name: String
    /// Its values, in order.
    public let values: [String]
    /// Position of each row's value.
    public let codes: [Int32]

    /// Makes a column of texts.
    /// - Parameters:
    ///   - name: the column's name.
    ///   - texts: the value of each row.
    ///   - order: values in the order to show them; others follow, numbers by size, texts by their bytes.
    public init(name: String, texts: [String], order: [String] = []) {
        let given = Set(order)
        let distinct =
            order
            + Set(texts).subtracting(given).sorted { left, right in
                if let low = Double(left), let high = Double(right), low != high { return low < high }
                return left.utf8.lexicographicallyPrecedes(right.utf8)
            }
        let codes = Dictionary(uniqueKeysWithValues: distinct.enumerated().map { ($1, Int32($0)) })
        self.name = name
        values = distinct
        self.codes = texts.map { codes[$0] ?? 0 }
    }

    /// Rows of each value.
    public var places: [[Int]] {
        var places = [[Int]](repeating: [], count: values.count)
        for (row, code) in codes.enumerated() { places[Int(code)].append(row) }
        return places
    }
}
