import Definitions
import Foundation
import PlatformCore
import Statistics
import Workflows

/// A replay as a page that stands alone: what a candidate would have said, beside what was said.
enum ShadowReplayPage {
    private static let (width, height) = (520.0, 260.0)
    private static let (left, bottom, top) = (48.0, 30.0, 12.0)

    private static func escape(_ text: String) -> String { HomePage.escape(text) }
    private static func number(_ value: Double?) -> String { value.map(EvaluationCharts.number) ?? "–" }
    private static func text(_ value: Double) -> String { String(format: "%.1f", value) }

    static func html(_ report: ShadowReplayReport) -> String {
        var body = """
            <header><h1>\(escape(report.model.text)) <span class="dim">version \(report.version) over logged traffic</span></h1>
            <p>\(report.pairs) answers from \(report.from.description) to \(report.to.description), given by version \
            \(report.champions.keys.sorted().map(String.init).joined(separator: ", ")), with the features as they were. \
            \(text(report.seconds)) s, by \(escape(report.actor)).\(report.gap.map { " There are \(escape($0))." } ?? "")</p>
            <p class="legend"><span class="v0">●</span> as answered &nbsp; <span class="v1">●</span> the candidate</p></header>
            <h2>\(report.isPassed ? "No guardrail is broken" : "A guardrail is broken")</h2>
            """
        body +=
            "<div class=\"wide\"><table><thead><tr><th>Check</th><th>Seen</th><th>Bound</th><th></th></tr></thead><tbody>"
        for check in report.checks {
            body +=
                "<tr><td>\(escape(check.name))</td><td>\(number(check.value))</td><td>\(number(check.bound))</td>"
                + "<td><span class=\"verdict \(check.verdict == .failed ? "worse" : "better")\">\(check.verdict.rawValue)</span> "
                + "<small>\(escape(check.detail))</small></td></tr>"
        }
        body += "</tbody></table></div><dl>"
        for (name, value) in [
            ("prediction PSI", number(report.predictionPSI)), ("decide otherwise", number(report.disagreement)),
            ("mean distance", number(report.meanDifference)), ("failed", String(report.failures)),
            ("scoring, median ms", number(report.scoreP50Milliseconds)),
            ("scoring, p99 ms", number(report.scoreP99Milliseconds)),
            ("p99 as answered, ms", number(report.championScoreP99Milliseconds)),
        ] { body += "<div><dt>\(name)</dt><dd>\(value)</dd></div>" }
        for (reason, count) in report.skipped.sorted(by: { $0.key < $1.key }) {
            body += "<div><dt>\(escape(reason))</dt><dd>\(count)</dd></div>"
        }
        body += "</dl>" + labels(report)
        body +=
            "<h2>Answers</h2><div class=\"charts\">" + histogram(report) + scatter(report) + overTime(report) + "</div>"
        body += "<footer><p>Replay <code>\(escape(report.id))</code></p></footer>"
        return EvaluationPage.page("\(report.model) version \(report.version), replayed", body)
    }

    private static func labels(_ report: ShadowReplayReport) -> String {
        guard let labels = report.labels else { return "<p>No answer in the span has a label yet.</p>" }
        var body =
            "<h2>With labels</h2><dl><div><dt>\(labels.measure.rawValue.replacing("_", with: " ")) as answered</dt>"
            + "<dd>\(number(labels.champion))</dd></div><div><dt>the candidate</dt><dd>\(number(labels.candidate))</dd></div>"
        for (name, interval) in [("difference", labels.difference), ("difference of AUC", labels.aucDifference)] {
            guard let interval else { continue }
            body +=
                "<div><dt>\(name)</dt><dd>\(number(interval.estimate)) <small>\(number(interval.lower)) … "
                + "\(number(interval.upper))</small></dd></div>"
        }
        return body + "<div><dt>\(labels.pairs) pairs</dt><dd>\(escape(labels.verdict))</dd></div></dl>"
    }

    // MARK: Charts

    private static func frame(_ title: String, _ marks: String, low: Double, high: Double, x: String) -> String {
        var svg =
            "<figure><figcaption>\(title)</figcaption><svg viewBox=\"0 0 \(Int(width)) \(Int(height))\" role=\"img\">"
        for step in 0...4 {
            let value = low + (high - low) * Double(step) / 4
            let y = self.y(value, low, high)
            svg +=
                "<line class=\"grid\" x1=\"\(text(left))\" x2=\"\(text(width))\" y1=\"\(text(y))\" y2=\"\(text(y))\"/>"
            svg +=
                "<text class=\"tick\" x=\"\(text(left - 6))\" y=\"\(text(y + 3.5))\" text-anchor=\"end\">\(String(format: value != 0 && abs(value) < 0.001 ? "%.1e" : "%.3g", value))</text>"
        }
        svg +=
            "<text class=\"axis\" x=\"\(text((left + width) / 2))\" y=\"\(text(height - 8))\" text-anchor=\"middle\">\(x)</text>"
        return svg + marks + "</svg></figure>"
    }

    private static func y(_ value: Double, _ low: Double, _ high: Double) -> Double {
        height - bottom - (value - low) / (high > low ? high - low : 1) * (height - bottom - top)
    }

    private static func histogram(_ report: ShadowReplayReport) -> String {
        let sides = [report.championBins, report.candidateBins].map { bins in
            bins.map { Double($0) / Double(max(1, bins.reduce(0, +))) }
        }
        guard let most = sides.joined().max(), most > 0 else { return "" }
        let step = (width - left) / Double(max(1, sides[0].count))
        var marks = ""
        for (side, shares) in sides.enumerated() {
            for (bin, share) in shares.enumerated() where share > 0 {
                let x = left + (Double(bin) + 0.3 + 0.4 * Double(side)) * step
                marks +=
                    "<line class=\"v\(side)\" style=\"stroke-width:\(text(step * 0.35));stroke-opacity:.7;stroke-linecap:butt\" x1=\"\(text(x))\" x2=\"\(text(x))\" "
                    + "y1=\"\(text(y(0, 0, most)))\" y2=\"\(text(y(share, 0, most)))\"/>"
            }
        }
        return frame("Shares of answers", marks, low: 0, high: most, x: "bins of equal share as answered")
    }

    private static func scatter(_ report: ShadowReplayReport) -> String {
        let pairs = report.examples.filter { $0.count == 2 && $0[0].isFinite && $0[1].isFinite }
        let values = pairs.joined().map(Double.init)
        guard let low = values.min(), let high = values.max() else { return "" }
        let span = high > low ? high - low : 1
        func x(_ value: Double) -> Double { left + (value - low) / span * (width - left - 8) }
        var marks =
            "<line class=\"even\" x1=\"\(text(x(low)))\" y1=\"\(text(y(low, low, high)))\" x2=\"\(text(x(high)))\" y2=\"\(text(y(high, low, high)))\"/>"
        for pair in pairs {
            marks +=
                "<circle class=\"v1\" style=\"fill-opacity:.35\" cx=\"\(text(x(Double(pair[0]))))\" cy=\"\(text(y(Double(pair[1]), low, high)))\" r=\"2.5\"/>"
        }
        return frame(
            "\(pairs.count) pairs: the candidate over what was answered", marks, low: low, high: high, x: "as answered")
    }

    private static func overTime(_ report: ShadowReplayReport) -> String {
        let known = report.buckets.enumerated().filter { $0.element.pairs > 0 }
        let values = known.flatMap { [$0.element.championMean, $0.element.candidateMean] }
        guard let low = values.min(), let high = values.max() else { return "" }
        let step = (width - left) / Double(max(1, report.buckets.count))
        var marks = ""
        for side in 0...1 {
            let points = known.map { place, bucket in
                (
                    text(left + (Double(place) + 0.5) * step),
                    text(y(side == 0 ? bucket.championMean : bucket.candidateMean, low, high))
                )
            }
            let line = points.map { "\($0.0),\($0.1)" }.joined(separator: " ")
            marks += "<polyline class=\"v\(side)\" points=\"\(line)\"/>"
            for point in points {
                marks += "<circle class=\"v\(side)\" cx=\"\(point.0)\" cy=\"\(point.1)\" r=\"2.5\"/>"
            }
        }
        return frame("Mean answer over the span", marks, low: low, high: high, x: "time")
    }
}
