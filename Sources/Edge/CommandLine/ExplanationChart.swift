import Foundation
import PlatformCore

/// Contributions of features as bars of text, the largest first.
struct ExplanationChart {
    private let explanation: JSONValue?
    private let inputs: JSONValue?
    private let categories: JSONValue?
    /// Most bars of one margin; the rest is summed up in one line.
    private static let barCountMax = 20
    private static let barWidth = 30

    init(_ explanation: JSONValue?, inputs: JSONValue? = nil, categories: JSONValue? = nil) {
        self.categories = categories
        self.explanation = explanation
        self.inputs = inputs
    }

    var text: String {
        guard let explanation, let contributions = explanation["contributions"]?.objectValue else {
            return "no model computed it: there is nothing to explain"
        }
        let bases = Self.numbers(explanation["base_value"])
        let margins = Self.numbers(explanation["margin"])
        return bases.indices.map { index in
            let values = contributions.map { ($0.key, Self.numbers($0.value)) }
                .map { (name: $0.0, value: $0.1.indices.contains(index) ? $0.1[index] : 0) }
            let title = bases.count == 1 ? "" : "class \(index)\n"
            return title
                + chart(values, base: bases[index], margin: margins.indices.contains(index) ? margins[index] : 0)
        }.joined(separator: "\n")
    }

    /// What the numbers are: for the base value, and at length for the margin.
    private var scale: (short: String, long: String) {
        switch explanation?["scale"]?.stringValue {
        case "log_odds": (" (log-odds)", " (log-odds of the positive class)")
        case "log": (" (logarithm)", " (logarithm of the prediction)")
        case "value": ("", " (the prediction)")
        default: ("", "")
        }
    }

    private func chart(_ values: [(name: String, value: Double)], base: Double, margin: Double) -> String {
        let sorted = values.sorted { (abs($0.value), $1.name) > (abs($1.value), $0.name) }
        let shown = sorted.prefix(Self.barCountMax).filter { $0.value != 0 }
        let largest = max(shown.first.map { abs($0.value) } ?? 0, .leastNormalMagnitude)
        var rows = [["base value\(scale.short)", "", Self.number(base, signed: false), ""]]
        for (name, value) in shown {
            let width = max(1, Int((abs(value) / largest * Double(Self.barWidth)).rounded()))
            let input = inputs.map { Human.cell(categories?[name] ?? $0[name]) } ?? ""
            rows.append(
                [name, input, Self.number(value, signed: true), String(repeating: value < 0 ? "-" : "+", count: width)])
        }
        let rest = sorted.dropFirst(Self.barCountMax).filter { $0.value != 0 }
        if !rest.isEmpty {
            rows.append(["\(rest.count) more", "", Self.number(rest.reduce(0) { $0 + $1.value }, signed: true), ""])
        }
        rows.append(["margin\(scale.long)", "", Self.number(margin, signed: false), ""])
        return Human.table(["FEATURE", inputs == nil ? "" : "VALUE", "ADDS", ""], rows)
    }

    private static func number(_ value: Double, signed: Bool) -> String {
        String(format: signed ? "%+.4f" : "%.4f", value)
    }

    private static func numbers(_ value: JSONValue?) -> [Double] {
        value?.arrayValue?.map { $0.doubleValue ?? 0 } ?? value?.doubleValue.map { [$0] } ?? []
    }
}
