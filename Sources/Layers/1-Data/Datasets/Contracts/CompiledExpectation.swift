import Definitions
import PlatformCore
import Synchronization

/// One expectation with its column positions resolved and its pattern compiled.
struct CompiledExpectation: Sendable {
    private enum Check: Sendable {
        case range(minimum: Double, maximum: Double)
        case among(Set<String>)
        case matches(PatternCheck)
        case notBefore(other: Int)
        case notNull
        case unusable
    }
    let severity: ExpectationSeverity
    private let index: Int
    private let check: Check
    let rule: String
    private let what: String
    private let column: String

    init(_ expectation: ExpectationDefinition, at index: Int, positions: [String: Int]) {
        self.index = index
        severity = expectation.severity
        column = expectation.column
        switch expectation.check {
        case .range(let minimum, let maximum):
            check = .range(minimum: minimum ?? -.infinity, maximum: maximum ?? .infinity)
            switch (minimum, maximum) {
            case (.some(let low), .some(let high)): what = "is outside of \(low.description) to \(high.description)"
            case (.some(let low), .none): what = "is below \(low.description)"
            case (.none, .some(let high)): what = "is above \(high.description)"
            case (.none, .none): what = "is out of range"
            }
        case .among(let values):
            check = .among(Set(values))
            what = "is none of the accepted values"
        case .matches(let pattern):
            check = PatternCheck(pattern).map(Check.matches) ?? .unusable
            what = "does not match \(pattern)"
        case .notBefore(let other):
            check = positions[other].map { .notBefore(other: $0) } ?? .unusable
            what = "is before \(other)"
        case .notNull:
            check = .notNull
            what = "is null"
        case .unique:
            check = .unusable  // checked against the log
            what = "is there already"
        }
        rule = "\(column): \(what) (\(expectation.name))"
    }

    /// The breach of a row; `nil` if it satisfies the expectation.
    ///
    /// A null satisfies everything but `not_null`.
    func breach(in cells: [CellValue]) -> ContractBreach? {
        let cell = cells[index]
        if case .notNull = check {
            return cell.isNull ? ContractBreach(rule: rule, message: "\(column): is null") : nil
        }
        guard !cell.isNull, !holds(cell, cells) else { return nil }
        return ContractBreach(
            rule: rule, message: "\(column): \(CellReader.shown(cell.keyText ?? "null")) \(what)")
    }

    private func holds(_ cell: CellValue, _ cells: [CellValue]) -> Bool {
        switch check {
        case .range(let minimum, let maximum):
            guard let number = cell.number else { return true }
            return number >= minimum && number <= maximum
        case .among(let values):
            if case .double(let number) = cell, let whole = Int64(exactly: number), values.contains(String(whole)) {
                return true
            }
            return cell.keyText.map(values.contains) ?? true
        case .matches(let pattern):
            guard case .text(let text) = cell else { return true }
            return pattern.matches(text)
        case .notBefore(let other):
            switch (cell, cells[other]) {
            case (.integer(let left), .integer(let right)): return left >= right
            case (let left, let right):
                guard let left = left.number, let right = right.number else { return true }
                return left >= right
            }
        case .notNull, .unusable: return true
        }
    }
}

/// A compiled regular expression with the answers for the texts seen last: columns repeat their values.
///
/// `Regex` cannot be shared between tasks, hence the lock; it is held for one lookup, or one match of a new text.
final class PatternCheck: Sendable {
    private struct State {
        let pattern: Regex<AnyRegexOutput>
        var answers: [String: Bool] = [:]
    }
    private let state: Mutex<State>
    private static let answerCountMax = 8192

    /// Compiles a pattern; `nil` if it is none.
    ///
    /// Definitions are checked for that when they are read.
    init?(_ pattern: String) {
        guard let compiled = try? Regex(pattern) else { return nil }
        state = Mutex(State(pattern: compiled))
    }

    /// Whether the pattern matches the whole text.
    func matches(_ text: String) -> Bool {
        state.withLock { state in
            if let known = state.answers[text] { return known }
            let answer = (try? state.pattern.wholeMatch(in: text)) != nil
            if state.answers.count >= Self.answerCountMax { state.answers.removeAll(keepingCapacity: true) }
            if text.utf8.count <= 256 { state.answers[text] = answer }
            return answer
        }
    }
}
