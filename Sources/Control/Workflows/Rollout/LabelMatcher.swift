/// Finds the answers that labels belong to, with bounded memory: the oldest answers without a label are forgotten first.
struct LabelMatcher: Sendable {
    struct Answer: Sendable {
        var champion: [Float]?
        var challenger: [Float]?
    }
    static let answerCountMax = 1 << 18
    static let earlyCountMax = 1 << 14
    private var answers: [String: Answer] = [:]
    private var order = Arrivals()
    /// Labels that came before their answer was seen here; the first of an answer counts.
    private var early: [String: Double] = [:]
    private var earlyOrder = Arrivals()
    private let needsBoth: Bool

    /// - Parameter needsBoth: whether an answer is one only with both versions' predictions. A label that comes between them waits,
    ///   and an answer that one version alone gave has none.
    init(needsBoth: Bool = false) { self.needsBoth = needsBoth }

    /// Keeps an answer; gives its label if that was there first.
    mutating func add(_ id: String, _ change: (inout Answer) -> Void) -> (Answer, Double)? {
        if answers[id] == nil, let oldest = order.append(id, countMax: Self.answerCountMax) { answers[oldest] = nil }
        change(&answers[id, default: Answer()])
        guard let answer = whole(id), let label = early.removeValue(forKey: id) else { return nil }
        answers[id] = nil
        return (answer, label)
    }

    /// The answer that a label belongs to; the first label of an answer is taken.
    mutating func label(_ id: String, _ value: Double) -> (Answer, Double)? {
        if let answer = whole(id) {
            answers[id] = nil
            return (answer, early.removeValue(forKey: id) ?? value)
        }
        if early[id] == nil {
            if let oldest = earlyOrder.append(id, countMax: Self.earlyCountMax) { early[oldest] = nil }
            early[id] = value
        }
        return nil
    }

    private func whole(_ id: String) -> Answer? {
        guard let answer = answers[id], !needsBoth || (answer.champion != nil && answer.challenger != nil) else {
            return nil
        }
        return answer
    }
}

/// Identifiers in the order in which they came.
private struct Arrivals: Sendable {
    private var ids: [String] = []
    private var first = 0

    /// Keeps one more; gives the oldest if there are more than `countMax` now.
    mutating func append(_ id: String, countMax: Int) -> String? {
        ids.append(id)
        guard ids.count - first > countMax else { return nil }
        defer {
            first += 1
            if first > countMax {
                ids.removeFirst(first)
                first = 0
            }
        }
        return ids[first]
    }
}
