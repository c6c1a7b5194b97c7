/// How often rows of each class were called each class.
public struct ConfusionMatrix: Sendable, Hashable, Codable {
    /// Classes; their numbers are 0 up to, not including, this.
    public let classCount: Int
    /// Rows by true class and called class, shape `[classCount, classCount]`, row by row.
    public let counts: [Int]

    /// Makes a matrix.
    init(classCount: Int, counts: [Int]) {
        self.classCount = classCount
        self.counts = counts
    }

    /// Counts rows; with one output a prediction at or above `threshold` calls the row positive, with several the highest.
    /// - Throws: `outcomeNotBinary`, `unknownClass`.
    public init(_ rows: EvaluationRows, threshold: Double = 0.5) throws(StatisticsError) {
        var counts = [Int](repeating: 0, count: rows.classCount * rows.classCount)
        for (truth, called) in zip(try rows.classes(), rows.calledClasses(threshold: threshold)) {
            counts[Int(truth) * rows.classCount + Int(called)] += 1
        }
        self.init(classCount: rows.classCount, counts: counts)
    }

    /// Counts rows of two classes.
    /// - Throws: `shapeMismatch`, `emptyInput`, `notFinite`, `outcomeNotBinary`.
    public init(predictions: [Double], outcomes: [Double], threshold: Double = 0.5) throws(StatisticsError) {
        try self.init(EvaluationRows(predictions: predictions, outcomes: outcomes), threshold: threshold)
    }

    /// Rows of one class that were called another.
    public subscript(truth truth: Int, called called: Int) -> Int { counts[truth * classCount + called] }

    /// All rows.
    public var rowCount: Int { counts.reduce(0, +) }

    /// Rows of a class.
    public func rows(of truth: Int) -> Int { (0..<classCount).reduce(0) { $0 + self[truth: truth, called: $1] } }

    /// Rows that were called a class.
    public func rows(called: Int) -> Int { (0..<classCount).reduce(0) { $0 + self[truth: $1, called: called] } }

    /// Share of rows that were called rightly.
    public var accuracy: Double {
        Double((0..<classCount).reduce(0) { $0 + self[truth: $1, called: $1] }) / Double(rowCount)
    }

    /// Mean of the recalls of the classes that have rows.
    public var balancedAccuracy: Double {
        let present = (0..<classCount).filter { rows(of: $0) > 0 }
        return present.reduce(0) { $0 + Double(self[truth: $1, called: $1]) / Double(rows(of: $1)) }
            / Double(present.count)
    }

    /// Share of the rows called `class` that are of it.
    /// - Throws: `undefined` when no row was called so.
    public func precision(of class: Int = 1) throws(StatisticsError) -> Double {
        try Self.ratio(self[truth: `class`, called: `class`], rows(called: `class`), "no row was called positive")
    }

    /// Share of the rows of `class` that were called so.
    /// - Throws: `undefined` when no row is of it.
    public func recall(of class: Int = 1) throws(StatisticsError) -> Double {
        try Self.ratio(self[truth: `class`, called: `class`], rows(of: `class`), "no row is positive")
    }

    /// Harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`.
    /// - Throws: `undefined` when no row is of the class and none was called so.
    public func f1(of class: Int = 1) throws(StatisticsError) -> Double {
        try Self.ratio(
            2 * self[truth: `class`, called: `class`], rows(of: `class`) + rows(called: `class`),
            "no row is positive and none was called so")
    }

    /// One of the measures that follow from the counts.
    ///
    /// An average takes the classes that have rows or were called, and a class without a value as 0, as scikit-learn does.
    /// - Throws: `undefined`, also for precision, recall or F1 of more than two classes without an average.
    func value(of metric: EvaluationMetric) throws(StatisticsError) -> Double {
        switch metric {
        case .accuracy: return accuracy
        case .balancedAccuracy: return balancedAccuracy
        case .precision(let average): return try averaged(average) { try? precision(of: $0) }
        case .recall(let average): return try averaged(average) { try? recall(of: $0) }
        case .f1(let average): return try averaged(average) { try? f1(of: $0) }
        default: preconditionFailure("\(metric) does not follow from counts")
        }

        func averaged(
            _ average: EvaluationMetric.Average?, _ measure: (Int) -> Double?
        ) throws(StatisticsError) -> Double {
            guard let average else {
                guard classCount == 2 else {
                    throw .undefined("\(metric) of \(classCount) classes needs an average: \(metric)_macro")
                }
                guard let value = measure(1) else {
                    throw .undefined(
                        rows(of: 1) == 0
                            ? (rows(called: 1) == 0
                                ? "no row is positive and none was called so" : "no row is positive")
                            : "no row was called positive")
                }
                return value
            }
            if average == .micro { return accuracy }
            let present = (0..<classCount).filter { rows(of: $0) > 0 || rows(called: $0) > 0 }
            let weights = present.map { average == .macro ? 1 : Double(rows(of: $0)) }
            return zip(present, weights).reduce(0) { $0 + $1.1 * (measure($1.0) ?? 0) } / weights.reduce(0, +)
        }
    }

    private static func ratio(_ part: Int, _ whole: Int, _ reason: String) throws(StatisticsError) -> Double {
        guard whole > 0 else { throw .undefined(reason) }
        return Double(part) / Double(whole)
    }
}
