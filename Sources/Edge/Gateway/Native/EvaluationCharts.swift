import Foundation
import PlatformCore
import Statistics

/// Charts of an evaluation as inline SVG: no script, no outside file, colours from the page's style.
enum EvaluationCharts {
    private static let size = (width: 340.0, height: 300.0)
    private static let frame = (left: 44.0, top: 12.0, right: 12.0, bottom: 40.0)

    /// One line of a chart; coordinates between 0 and 1.
    struct Line {
        let points: [(x: Double, y: Double)]
        /// Position of the version, which gives the colour.
        let version: Int
        /// Area of a dot for each point, as a share of the largest; none without.
        var dots: [Double] = []
    }

    private static func place(_ x: Double, _ y: Double) -> (x: Double, y: Double) {
        (
            frame.left + x * (size.width - frame.left - frame.right),
            size.height - frame.bottom - y * (size.height - frame.top - frame.bottom)
        )
    }

    private static func text(_ number: Double) -> String { String(format: "%.1f", number) }

    /// A square chart of shares against shares.
    static func shares(
        _ title: String, x: String, y: String, lines: [Line], diagonal: (from: Double, to: Double)? = nil
    ) -> String {
        var svg =
            "<figure><figcaption>\(title)</figcaption><svg viewBox=\"0 0 \(Int(size.width)) \(Int(size.height))\" role=\"img\">"
        for step in 0...5 {
            let share = Double(step) / 5
            let (left, bottom) = place(share, share)
            let (right, top) = place(1, 1)
            let (start, end) = place(0, 0)
            svg +=
                "<line class=\"grid\" x1=\"\(text(start))\" x2=\"\(text(right))\" y1=\"\(text(bottom))\" y2=\"\(text(bottom))\"/>"
            svg +=
                "<line class=\"grid\" x1=\"\(text(left))\" x2=\"\(text(left))\" y1=\"\(text(top))\" y2=\"\(text(end))\"/>"
            svg +=
                "<text class=\"tick\" x=\"\(text(start - 6))\" y=\"\(text(bottom + 3.5))\" text-anchor=\"end\">\(text(share))</text>"
            svg +=
                "<text class=\"tick\" x=\"\(text(left))\" y=\"\(text(end + 15))\" text-anchor=\"middle\">\(text(share))</text>"
        }
        if let diagonal {
            let (start, end) = (place(0, diagonal.from), place(1, diagonal.to))
            svg +=
                "<line class=\"even\" x1=\"\(text(start.x))\" y1=\"\(text(start.y))\" x2=\"\(text(end.x))\" y2=\"\(text(end.y))\"/>"
        }
        for line in lines {
            let points = line.points.map { place($0.x, $0.y) }
            let path = points.map { "\(text($0.x)),\(text($0.y))" }.joined(separator: " ")
            svg += "<polyline class=\"v\(line.version % 5)\" points=\"\(path)\"/>"
            for (point, share) in zip(points, line.dots) {
                svg +=
                    "<circle class=\"v\(line.version % 5)\" cx=\"\(text(point.x))\" cy=\"\(text(point.y))\" r=\"\(text(2 + 5 * share.squareRoot()))\"/>"
            }
        }
        svg +=
            "<text class=\"axis\" x=\"\(text(place(0.5, 0).x))\" y=\"\(text(size.height - 6))\" text-anchor=\"middle\">\(x)</text>"
        svg +=
            "<text class=\"axis\" transform=\"translate(11 \(text(place(0, 0.5).y))) rotate(-90)\" text-anchor=\"middle\">\(y)</text>"
        return svg + "</svg></figure>"
    }

    /// Counts by true class and called class, darker where a class's rows are.
    static func confusion(_ title: String, _ matrix: ConfusionMatrix) -> String {
        guard matrix.classCount <= 12 else { return "" }
        let cell = min(110.0, 240.0 / Double(matrix.classCount))
        let (left, top) = (58.0, 30.0)
        let width = max(200, left + cell * Double(matrix.classCount) + 10)
        let height = top + cell * Double(matrix.classCount) + 30
        var svg =
            "<figure><figcaption>\(title)</figcaption><svg viewBox=\"0 0 \(text(width)) \(text(height))\" role=\"img\">"
        for truth in 0..<matrix.classCount {
            let rows = matrix.rows(of: truth)
            for called in 0..<matrix.classCount {
                let count = matrix[truth: truth, called: called]
                let share = rows == 0 ? 0 : Double(count) / Double(rows)
                let (x, y) = (left + Double(called) * cell, top + Double(truth) * cell)
                svg +=
                    "<rect class=\"\(truth == called ? "right" : "wrong")\" x=\"\(text(x))\" y=\"\(text(y))\" width=\"\(text(cell - 2))\" height=\"\(text(cell - 2))\" fill-opacity=\"\(String(format: "%.3f", 0.06 + 0.8 * share))\"/>"
                if matrix.classCount <= 5 {
                    svg +=
                        "<text class=\"count\(share > 0.6 ? " on" : "")\" x=\"\(text(x + cell / 2 - 1))\" y=\"\(text(y + cell / 2))\" text-anchor=\"middle\">\(count)</text>"
                    svg +=
                        "<text class=\"tick\(share > 0.6 ? " on" : "")\" x=\"\(text(x + cell / 2 - 1))\" y=\"\(text(y + cell / 2 + 14))\" text-anchor=\"middle\">\(String(format: "%.1f", share * 100)) %</text>"
                }
            }
            svg +=
                "<text class=\"tick\" x=\"\(text(left - 8))\" y=\"\(text(top + (Double(truth) + 0.5) * cell + 3))\" text-anchor=\"end\">is \(truth)</text>"
            svg +=
                "<text class=\"tick\" x=\"\(text(left + (Double(truth) + 0.5) * cell))\" y=\"\(text(top - 8))\" text-anchor=\"middle\">called \(truth)</text>"
        }
        return svg + "</svg></figure>"
    }

    /// One value with its interval.
    struct Bar {
        let label: String
        let note: String
        let isSmall: Bool
        /// Value and ends by position of the version.
        let values: [(value: Double, lower: Double, upper: Double)?]
    }

    /// Values with intervals, one below the other; a line where the whole stands.
    static func bars(_ title: String, _ bars: [Bar], whole: Double?) -> String {
        let known = bars.flatMap(\.values).compactMap(\.self)
        let ends = known.flatMap { [$0.lower, $0.upper] } + (whole.map { [$0] } ?? [])
        guard let least = ends.min(), let most = ends.max() else { return "" }
        let margin = most > least ? (most - least) * 0.08 : max(0.01, abs(most) * 0.1)
        let (low, high) = (least - margin, most + margin)
        let (left, width) = (220.0, 1100.0)
        func x(_ value: Double) -> Double { left + (value - low) / (high - low) * (width - left - 20) }
        var (y, body) = (26.0, "")
        for bar in bars {
            let height = 12.0 * Double(max(1, bar.values.count)) + 10
            body +=
                "<text class=\"name\(bar.isSmall ? " small" : "")\" x=\"\(text(left - 66))\" y=\"\(text(y + height / 2))\" text-anchor=\"end\">\(HomePage.escape(String(bar.label.prefix(22))))</text>"
            body +=
                "<text class=\"tick\" x=\"\(text(left - 8))\" y=\"\(text(y + height / 2))\" text-anchor=\"end\">\(HomePage.escape(bar.note))</text>"
            for (place, value) in bar.values.enumerated() {
                guard let value else { continue }
                let middle = y + 6 + 12 * Double(place)
                body +=
                    "<line class=\"v\(place % 5)\(bar.isSmall ? " small" : "")\" x1=\"\(text(x(value.lower)))\" x2=\"\(text(x(value.upper)))\" y1=\"\(text(middle))\" y2=\"\(text(middle))\"/>"
                body +=
                    "<circle class=\"v\(place % 5) dot\(bar.isSmall ? " small" : "")\" cx=\"\(text(x(value.value)))\" cy=\"\(text(middle))\" r=\"4\"><title>\(number(value.value)) [\(number(value.lower)), \(number(value.upper))]</title></circle>"
            }
            y += height
        }
        var svg =
            "<figure class=\"bars\"><figcaption>\(title)</figcaption><svg viewBox=\"0 0 \(Int(width)) \(text(y + 24))\" role=\"img\">"
        for step in 0...4 {
            let value = low + (high - low) * Double(step) / 4
            svg +=
                "<line class=\"grid\" x1=\"\(text(x(value)))\" x2=\"\(text(x(value)))\" y1=\"16\" y2=\"\(text(y))\"/>"
            svg +=
                "<text class=\"tick\" x=\"\(text(x(value)))\" y=\"\(text(y + 15))\" text-anchor=\"middle\">\(number(value))</text>"
        }
        if let whole {
            svg +=
                "<line class=\"even\" x1=\"\(text(x(whole)))\" x2=\"\(text(x(whole)))\" y1=\"16\" y2=\"\(text(y))\"/>"
        }
        return svg + body + "</svg></figure>"
    }

    /// Four digits after the point, fewer for large values.
    static func number(_ value: Double) -> String { String(format: abs(value) >= 1000 ? "%.1f" : "%.4f", value) }
}
