/// Predictions and what came of them: the rows that metrics are computed on.
public struct EvaluationRows: Sendable {
    /// Outcome of each row: 0 or 1, a class's number, a relevance, a value.
    public let outcomes: [Double]
    /// Outputs row by row, shape `[rowCount, outputCount]`.
    public let predictions: [Double]
    /// Outputs of a row: 1, or one probability for each of three or more classes.
    public let outputCount: Int
    /// The query of each row, numbered from 0 in order of appearance; `nil` when rows belong to none.
    public let queries: [Int]?
    /// Queries; 0 without any.
    public let queryCount: Int

    /// Rows.
    public var rowCount: Int { outcomes.count }

    /// What is drawn anew in a bootstrap: queries if there are any, as their rows depend on each other, else rows.
    public var unitCount: Int { queries == nil ? rowCount : queryCount }

    /// Checks rows.
    /// - Parameters:
    ///   - predictions: shape `[rowCount, outputCount]`.
    ///   - outcomes: shape `[rowCount]`.
    ///   - outputCount: at least 1.
    ///   - queries: any number for each row, equal for rows of one query.
    /// - Throws: `shapeMismatch`, `emptyInput`, `notFinite`.
    public init(
        predictions: [Double], outcomes: [Double], outputCount: Int = 1, queries: [Int]? = nil
    ) throws(StatisticsError) {
        precondition(outputCount >= 1, "a model has an output")
        guard predictions.count == outcomes.count * outputCount else {
            throw .shapeMismatch(predictions.count, outcomes.count * outputCount)
        }
        guard !outcomes.isEmpty else { throw .emptyInput }
        guard predictions.allSatisfy(\.isFinite), outcomes.allSatisfy(\.isFinite) else { throw .notFinite }
        if let queries, queries.count != outcomes.count { throw .shapeMismatch(queries.count, outcomes.count) }
        self.predictions = predictions
        self.outcomes = outcomes
        self.outputCount = outputCount
        if let queries {
            var numbers: [Int: Int] = [:]
            self.queries = queries.map { query in
                if let known = numbers[query] { return known }
                let number = numbers.count
                numbers[query] = number
                return number
            }
            queryCount = numbers.count
        } else {
            self.queries = nil
            queryCount = 0
        }
    }

    /// Some of the rows, in the given order.
    /// - Throws: `emptyInput`.
    public func rows(at places: [Int]) throws(StatisticsError) -> EvaluationRows {
        var chosen: [Double] = []
        chosen.reserveCapacity(places.count * outputCount)
        for place in places { chosen += predictions[(place * outputCount)..<((place + 1) * outputCount)] }
        return try EvaluationRows(
            predictions: chosen, outcomes: places.map { outcomes[$0] }, outputCount: outputCount,
            queries: queries.map { queries in places.map { queries[$0] } })
    }

    /// Classes that outcomes and outputs speak of: 2 for one output.
    public var classCount: Int { outputCount == 1 ? 2 : outputCount }

    /// The class of each row.
    /// - Throws: `outcomeNotBinary`; `unknownClass` with several outputs.
    func classes() throws(StatisticsError) -> [Int32] {
        let limit = Double(classCount)
        if let other = outcomes.first(where: { !($0 >= 0 && $0 < limit) || $0 != $0.rounded() }) {
            throw outputCount == 1 ? .outcomeNotBinary(other) : .unknownClass(other, classCount: classCount)
        }
        return outcomes.map { Int32($0) }
    }

    /// The class that each row is called: by the threshold, or that of the highest output, the first of equal ones.
    public func calledClasses(threshold: Double) -> [Int32] {
        if outputCount == 1 { return predictions.map { $0 >= threshold ? 1 : 0 } }
        return (0..<rowCount).map { row in
            var best = 0
            for output in 1..<outputCount
            where predictions[row * outputCount + output] > predictions[row * outputCount + best] { best = output }
            return Int32(best)
        }
    }

    /// One output of every row.
    public func output(_ number: Int) -> [Double] {
        outputCount == 1
            ? predictions : (0..<rowCount).map { predictions[$0 * outputCount + number] }
    }

    /// Weights of rows from those of units.
    func rowWeights(_ units: [UInt16]) -> [UInt16] {
        guard let queries else { return units }
        return queries.map { units[$0] }
    }
}

func checkRows(_ predictions: [Double], _ outcomes: [Double]) throws(StatisticsError) {
    guard predictions.count == outcomes.count else { throw .shapeMismatch(predictions.count, outcomes.count) }
    guard !predictions.isEmpty else { throw .emptyInput }
    guard predictions.allSatisfy(\.isFinite), outcomes.allSatisfy(\.isFinite) else { throw .notFinite }
}

func checkBinary(_ outcomes: [Double]) throws(StatisticsError) {
    if let other = outcomes.first(where: { $0 != 0 && $0 != 1 }) { throw .outcomeNotBinary(other) }
}

func checkProbabilities(_ predictions: [Double]) throws(StatisticsError) {
    if let other = predictions.first(where: { !(0...1 ~= $0) }) { throw .notAProbability(other) }
}
