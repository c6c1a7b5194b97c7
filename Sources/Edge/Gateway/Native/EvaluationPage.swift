import Foundation
import PlatformCore
import Statistics
import Workflows

/// An evaluation as a page that stands alone: tables, curves, slices, fairness.
enum EvaluationPage {
    private static func escape(_ text: String) -> String { HomePage.escape(text) }
    private static func number(_ value: Double?) -> String { value.map(EvaluationCharts.number) ?? "–" }

    static func html(_ hash: ContentHash, _ found: ModelEvaluation) -> String {
        let reports = found.versions.map(\.report)
        guard let judged = found.versions.first, let first = reports.first else { return "" }
        let data =
            found.data.dataset.map { "the \(escape(found.data.part ?? "")) part of dataset <code>\($0.short)</code>" }
            ?? escape(found.data.name ?? "a file")
        var body = """
            <header><h1>\(escape(found.model.text)) <span class="dim">version \(judged.version)</span></h1>
            <p>Evaluated on \(data): \(found.data.rowCount) rows, label <code>\(escape(found.data.label))</code> with mean \
            \(number(first.outcomeMean))\(found.data.rowCountWithoutLabel > 0 ? "; \(found.data.rowCountWithoutLabel) rows without a label are left out" : ""). \
            \(found.createdAt.description), by \(escape(found.actor)).</p>
            \((found.data.warnings ?? []).map { "<p><span class=\"verdict worse\">\(escape($0))</span></p>" }.joined())
            <p class="legend">\(found.versions.enumerated().map { "<span class=\"v\($0 % 5)\">●</span> version \($1.version)" }.joined(separator: " &nbsp; "))</p></header>
            """
        body += metrics(found)
        let charts = charts(reports, versions: found.versions.map(\.version))
        body += charts.isEmpty ? "" : "<h2>Curves</h2>\(charts)"
        body += slices(found)
        body += fairness(found)
        body += """
            <footer><p>Intervals hold \(percent(first.plan.bootstrap.confidence)) of \(first.plan.bootstrap.replicateCount) bootstrap \
            draws, seed \(first.plan.bootstrap.seed)\(first.family == .classification ? "; called positive from \(first.plan.threshold)" : ""). \
            Evaluation <code>\(hash.hex)</code>; artifacts \(found.versions.map { "<code>\($0.artifact.short)</code>" }.joined(separator: ", ")).</p></footer>
            """
        return page("\(found.model) version \(judged.version)", body)
    }

    private static func percent(_ share: Double) -> String { String(format: "%g %%", share * 100) }

    private static func ends(_ interval: ConfidenceInterval?) -> String {
        interval.map { "<small>\(number($0.lower)) … \(number($0.upper))</small>" } ?? ""
    }

    private static func metrics(_ found: ModelEvaluation) -> String {
        var head = "<th>Metric</th>" + found.versions.map { "<th>Version \($0.version)</th>" }.joined()
        head += found.comparisons.map { "<th>\($0.version) less \($0.against)</th>" }.joined()
        var rows = ""
        for (place, result) in (found.versions.first?.report.metrics ?? []).enumerated() {
            rows +=
                "<tr><td>\(escape(result.metric.rawValue)) <span class=\"dim\">\(result.metric.higherIsBetter ? "↑" : "↓")</span></td>"
            for version in found.versions {
                let result = version.report.metrics[place]
                rows +=
                    "<td>\(number(result.value)) \(ends(result.interval))\(result.value == nil ? "<small>\(escape(result.reason ?? ""))</small>" : "")</td>"
            }
            for comparison in found.comparisons {
                let difference = comparison.differences[place]
                guard let interval = difference.difference else {
                    rows += "<td><small>\(escape(difference.reason ?? "–"))</small></td>"
                    continue
                }
                let sign = interval.estimate > 0 ? "+" : ""
                rows +=
                    "<td><span class=\"verdict \(difference.verdict.rawValue)\">\(difference.verdict.rawValue)</span> \(sign)\(number(interval.estimate)) \(ends(interval))</td>"
            }
            rows += "</tr>"
        }
        return
            "<h2>Metrics</h2><div class=\"wide\"><table><thead><tr>\(head)</tr></thead><tbody>\(rows)</tbody></table></div>"
    }

    /// Curves and decisions of versions; empty unless they call classes.
    static func charts(_ reports: [EvaluationReport], versions: [Int]) -> String {
        guard reports.contains(where: { $0.confusion != nil }) else { return "" }
        var charts = ""
        if reports.contains(where: { !$0.roc.isEmpty }) {
            charts += EvaluationCharts.shares(
                "ROC", x: "false positive rate", y: "true positive rate",
                lines: reports.enumerated().map { place, report in
                    .init(points: report.roc.map { ($0.falsePositiveRate, $0.truePositiveRate) }, version: place)
                }, diagonal: (0, 1))
        }
        if reports.contains(where: { !$0.precisionRecall.isEmpty }) {
            let share = reports.first?.outcomeMean ?? 0
            charts += EvaluationCharts.shares(
                "Precision and recall", x: "recall", y: "precision",
                lines: reports.enumerated().map { place, report in
                    .init(points: report.precisionRecall.map { ($0.recall, $0.precision) }, version: place)
                }, diagonal: (share, share))
        }
        if reports.contains(where: { !$0.calibration.isEmpty }) {
            charts += EvaluationCharts.shares(
                "Reliability", x: reports[0].classCount == 2 ? "predicted probability" : "confidence",
                y: reports[0].classCount == 2 ? "share of positives" : "share called rightly",
                lines: reports.enumerated().map { place, report in
                    let most = Double(report.calibration.map(\.rowCount).max() ?? 1)
                    return .init(
                        points: report.calibration.map { ($0.meanPrediction, $0.positiveShare) }, version: place,
                        dots: report.calibration.map { Double($0.rowCount) / most })
                }, diagonal: (0, 1))
        }
        for (report, version) in zip(reports, versions) {
            guard let matrix = report.confusion else { continue }
            let of = versions.count > 1 ? " of version \(version)" : ""
            charts += EvaluationCharts.confusion("Decisions\(of)", matrix)
        }
        return "<div class=\"charts\">\(charts)</div>"
    }

    private static func slices(_ found: ModelEvaluation) -> String {
        guard let first = found.versions.first?.report, !first.slices.isEmpty, let metric = first.plan.metrics.first
        else {
            return ""
        }
        var body = "<h2>Slices</h2>"
        var columns: [String] = []
        for slice in first.slices where !columns.contains(slice.column) { columns.append(slice.column) }
        for column in columns {
            let parts = first.slices.filter { $0.column == column }
            let bars = parts.map { part in
                EvaluationCharts.Bar(
                    label: part.value, note: "\(part.rowCount)", isSmall: part.isSmall,
                    values: found.versions.map { version in
                        let slice = version.report.slices.first { $0.column == column && $0.value == part.value }
                        guard let interval = slice?[metric]?.interval else { return nil }
                        return (interval.estimate, interval.lower, interval.upper)
                    })
            }
            body += EvaluationCharts.bars(
                "\(escape(metric.rawValue)) by \(escape(column)) <span class=\"dim\">(the line is all rows; pale: few rows)</span>",
                bars, whole: first.metrics.first?.value)
            body += "<div class=\"wide\"><table><thead><tr><th>\(escape(column))</th><th>rows</th><th>label</th>"
            body += first.plan.metrics.map { "<th>\(escape($0.rawValue))</th>" }.joined() + "</tr></thead><tbody>"
            for part in parts {
                body +=
                    "<tr\(part.isSmall ? " class=\"small\"" : "")><td>\(escape(part.value))</td><td>\(part.rowCount)</td><td>\(number(part.outcomeMean))</td>"
                body += part.metrics.map { "<td>\(number($0.value))</td>" }.joined() + "</tr>"
            }
            body += "</tbody></table></div>"
        }
        return body
    }

    private static func fairness(_ found: ModelEvaluation) -> String {
        var body = ""
        for version in found.versions {
            for report in version.report.fairness {
                let of = found.versions.count > 1 ? ", version \(version.version)" : ""
                body +=
                    "<h3>\(escape(report.attribute))\(of)</h3><div class=\"wide\"><table><thead><tr><th>group</th><th>rows</th><th>called positive</th><th>true positive rate</th><th>false positive rate</th></tr></thead><tbody>"
                for group in report.groups {
                    let rates = [group.selectionRate, group.truePositiveRate, group.falsePositiveRate]
                    body +=
                        "<tr\(group.isSmall ? " class=\"small\"" : "")><td>\(escape(group.value))</td><td>\(group.rowCount)</td>"
                    body += rates.map { "<td>\(number($0?.estimate)) \(ends($0))</td>" }.joined() + "</tr>"
                }
                body += "</tbody></table></div><dl>"
                for measure in FairnessReport.Measure.allCases {
                    guard let interval = report[measure] else { continue }
                    body +=
                        "<div><dt>\(measure.rawValue.replacing("_", with: " "))</dt><dd>\(number(interval.estimate)) \(ends(interval))</dd></div>"
                }
                body += "</dl>"
                for (name, reason) in report.undefined.sorted(by: { $0.key < $1.key }) {
                    body += "<p>\(escape(name.replacing("_", with: " "))): \(escape(reason))</p>"
                }
            }
        }
        return body.isEmpty ? "" : "<h2>Fairness</h2>" + body
    }

    static func page(_ title: String, _ body: String) -> String {
        """
        <!doctype html><html lang="en"><head><meta charset="utf-8"><title>\(escape(title))</title>
        <meta name="viewport" content="width=device-width, initial-scale=1"><style>
        :root{color-scheme:light dark;--line:#8883;--dim:#6b7280;--page:#fff;--ink:#111827;--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#9333ea;--c4:#dc2626}
        @media(prefers-color-scheme:dark){:root{--dim:#9ca3af;--page:#111418;--ink:#e5e7eb;--c0:#7aa7ff;--c1:#fbbf24;--c2:#34d399;--c3:#c084fc;--c4:#f87171}}
        *{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:1.5rem auto 4rem;padding:0 1.2rem;background:var(--page);color:var(--ink)}
        h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}
        p,footer{color:var(--dim);margin:.2rem 0}.dim{color:var(--dim);font-weight:400}.legend span{font-size:1.1em}code{font-size:.92em}
        .wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93em}
        th,td{text-align:left;padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--dim);font-weight:500}
        small{color:var(--dim);margin-left:.35rem}tr.small td{color:var(--dim);font-style:italic}
        .verdict{border-radius:.3rem;padding:0 .4rem;font-size:.85em}.better{background:#05966922;color:var(--c2)}.worse{background:#dc262622;color:var(--c4)}.unclear,.undefined{background:#8882;color:var(--dim)}
        .charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1rem 1.5rem}figure{margin:0}.bars{margin:.8rem 0}figcaption{font-weight:500;margin-bottom:.3rem}
        svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:var(--ink)}svg .tick,svg .axis{fill:var(--dim)}svg .grid{stroke:var(--line)}svg .even{stroke:var(--dim);stroke-dasharray:4 4}
        svg .name{font-size:12px}svg .small{opacity:.4}svg .count{font-size:15px}svg .on{fill:#fff}svg rect.right{fill:var(--c0)}svg rect.wrong{fill:var(--c4)}
        polyline{fill:none;stroke-width:2;stroke-linejoin:round}line.v0,line.v1,line.v2,line.v3,line.v4{stroke-width:3;stroke-opacity:.45;stroke-linecap:round}
        polyline.v0,line.v0{stroke:var(--c0)}polyline.v1,line.v1{stroke:var(--c1)}polyline.v2,line.v2{stroke:var(--c2)}polyline.v3,line.v3{stroke:var(--c3)}polyline.v4,line.v4{stroke:var(--c4)}
        circle.v0{fill:var(--c0)}circle.v1{fill:var(--c1)}circle.v2{fill:var(--c2)}circle.v3{fill:var(--c3)}circle.v4{fill:var(--c4)}circle{fill-opacity:.75}
        span.v0{color:var(--c0)}span.v1{color:var(--c1)}span.v2{color:var(--c2)}span.v3{color:var(--c3)}span.v4{color:var(--c4)}
        dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:.8rem 0}dt{color:var(--dim);font-size:.85em}dd{margin:0}footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.6rem;font-size:.9em;overflow-wrap:anywhere}
        .card p{color:var(--ink)}.card table{width:auto;max-width:100%}.card td{white-space:normal;overflow-wrap:break-word}.card .charts{margin-top:1.2rem}
        </style></head><body>\(body)</body></html>
        """
    }
}
