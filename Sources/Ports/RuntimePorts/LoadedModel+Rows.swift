extension LoadedModel {
    /// Predicts rows of which some may be refused: each row's outputs, or why it has none.
    ///
    /// Rows that are refused together are computed again by halves, the largest parts first, so that one row's error costs
    /// the others nothing but time. At most `RowRefusals.furtherCallCountMax` further calls are made, and none after one that
    /// ends otherwise than with an answer or a refusal (a passed deadline, a process that died): what is still refused
    /// together then fails.
    public func predictions(of rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant? = nil) async
        -> [Result<[Float], ModelError>]
    {
        let refusal: ModelError
        do throws(ModelError) {
            return RowRefusals.split(
                try await prediction(of: rows, rowCount: rowCount, deadline: deadline), rowCount: rowCount)
        } catch {
            guard error.code == .shapeMismatch, rowCount > 1, rows.count.isMultiple(of: rowCount) else {
                return Array(repeating: .failure(error), count: rowCount)
            }
            refusal = error
        }
        let width = rows.count / rowCount
        var outcomes = [Result<[Float], ModelError>](repeating: .failure(refusal), count: rowCount)
        var parts = RowRefusals.halves(0..<rowCount)
        var next = 0
        while next < parts.count {
            let part = parts[next]
            guard next < RowRefusals.furtherCallCountMax else {
                for row in part { outcomes[row] = RowRefusals.together(outcomes[row], part.count) }
                next += 1
                continue
            }
            next += 1
            do throws(ModelError) {
                let outputs = try await prediction(
                    of: Array(rows[(part.lowerBound * width)..<(part.upperBound * width)]), rowCount: part.count,
                    deadline: deadline)
                outcomes.replaceSubrange(part, with: RowRefusals.split(outputs, rowCount: part.count))
            } catch {
                for row in part { outcomes[row] = .failure(error) }
                guard error.code == .shapeMismatch else {
                    for row in parts[next...].joined() { outcomes[row] = .failure(error) }
                    break
                }
                if part.count > 1 { parts += RowRefusals.halves(part) }
            }
        }
        return outcomes
    }
}

/// How rows that a model refused together are told apart.
public enum RowRefusals {
    /// Calls beyond the first; enough for any number of bad rows among 64.
    public static let furtherCallCountMax = 128

    fileprivate static func halves(_ part: Range<Int>) -> [Range<Int>] {
        let middle = part.lowerBound + part.count / 2
        return [part.lowerBound..<middle, middle..<part.upperBound]
    }

    fileprivate static func split(_ outputs: [Float], rowCount: Int) -> [Result<[Float], ModelError>] {
        guard rowCount > 0 else { return [] }
        let width = outputs.count / rowCount
        return (0..<rowCount).map { .success(Array(outputs[($0 * width)..<(($0 + 1) * width)])) }
    }

    /// A refusal that says that it may be another row's.
    fileprivate static func together(_ outcome: Result<[Float], ModelError>, _ count: Int) -> Result<
        [Float], ModelError
    > {
        guard case .failure(let error) = outcome, count > 1 else { return outcome }
        return .failure(
            ModelError(error.code, "\(error.message) (some row of \(count); too many are refused to tell them apart)"))
    }
}
