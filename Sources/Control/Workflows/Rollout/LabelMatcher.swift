/// Finds the answers that labels belong to, with bounded memory: the oldest answers without a label are forgotten first.
struct LabelMatcher: Sendable {
    struct Answer: Sendable {
        var champion: [Float]?
        var challenger: [Float]?
    }
    static let answerCountMax = 1 << 18
    private static let earlyCountMax = 1 << 14
    private var answers: [String: Answer] = [:]
    private var order: [String] = []
    private var first = 0
    /// Labels that came before their answer was seen here.
    private var early: [String: Double] = [:]

    /// Keeps an answer; gives its label if that was there first.
    mutating func add(_ id: String, _ change: (inout Answer) -> Void) -> (Answer, Double)? {
        if answers[id] == nil {
            order.append(id)
            if order.count - first > Self.answerCountMax {
                answers[order[first]] = nil
                first += 1
                if first > Self.answerCountMax {
                    order.removeFirst(first)
                    first = 0
                }
            }
        }
        change(&answers[id, default: Answer()])
        guard let label = early.removeValue(forKey: id) else { return nil }
        return answers.removeValue(forKey: id).map { ($0, label) }
    }

    /// The answer that a label belongs to; the first label of an answer is taken.
    mutating func label(_ id: String, _ value: Double) -> (Answer, Double)? {
        if let answer = answers.removeValue(forKey: id) { return (answer, value) }
        if early.count < Self.earlyCountMax { early[id] = value }
        return nil
    }
}
