/// The champion's newest answers, which those of a shadow are paired with: a shadow that is waited for answers a while later.
struct RecentAnswers: Sendable {
    static let countMax = 1 << 16
    private var last: (id: String, output: [Float])?
    private var outputs: [String: [Float]] = [:]
    /// Identifiers in a ring, the oldest at `oldest`.
    private var order: [String] = []
    private var oldest = 0

    /// Keeps an answer; the oldest beyond `countMax` are forgotten.
    mutating func add(_ id: String, _ output: [Float]) {
        // Most shadows stand right behind their answer, and then nothing is looked up.
        if let last { keep(last.id, last.output) }
        last = (id, output)
    }

    /// Gives the answer with this identifier, once.
    mutating func take(_ id: String) -> [Float]? {
        guard let last, last.id == id else { return outputs.removeValue(forKey: id) }
        self.last = nil
        return last.output
    }

    private mutating func keep(_ id: String, _ output: [Float]) {
        if order.count < Self.countMax {
            order.append(id)
        } else {
            outputs[order[oldest]] = nil
            order[oldest] = id
            oldest = (oldest + 1) % Self.countMax
        }
        outputs[id] = output
    }
}
