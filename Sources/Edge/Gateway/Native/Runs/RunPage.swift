import ExperimentTracking
import Foundation
import PlatformCore
import TrainingJobs
import Workflows

/// The pages about runs.
enum RunPage {
    static func escape(_ text: String) -> String { HomePage.escape(text) }

    // MARK: One run

    static func run(_ id: String, _ services: PlatformServices) async throws -> String {
        let report = try await services.runs.report(id)
        let info = report.run.info
        let experiment = try await services.tracking.experiment(info.experimentID)
        var body = head([("/experiments", "Experiments"), ("/experiments/\(experiment.id)", experiment.name)])
        body +=
            "<h1>\(escape(info.name)) <span id=\"state\" class=\"state \(info.status.rawValue.lowercased())\">\(info.status.rawValue.lowercased())</span></h1>"
        var facts: [(String, String)] = [("Run", "<code>\(escape(info.id))</code>"), ("Started", time(info.startedAt))]
        if let ended = info.endedAt {
            facts.append(("Took", duration(Double(ended.milliseconds - info.startedAt.milliseconds) / 1000)))
        }
        if !info.userName.isEmpty { facts.append(("By", escape(info.userName))) }
        if let job = report.job { facts.append(("Job", "<code>\(escape(job.id))</code>")) }
        if let parent = try await RunRelations(report.run, services).parent() { facts.append(("Part of", parent)) }
        if let original = report.run.tag("bottega.reproduces") {
            facts.append(
                (
                    "Makes again",
                    "<a href=\"/run-comparison?run=\(escape(original))&amp;run=\(info.id)\">\(escape(original))</a>"
                ))
        }
        body += "<dl>" + facts.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" }.joined() + "</dl>"
        body += """
            <form id="note"><textarea name="text" rows="2" maxlength="8000" placeholder="A note on this run" aria-label="Note">\
            \(escape(report.run.tag("mlflow.note.content") ?? ""))</textarea><button>Keep</button><output></output></form>
            <h2>Metrics</h2>\(controls)<div id="curves" class="curves"></div>
            """
        let metrics = report.run.metrics.count
        if metrics > RunEvents.metricCountMax {
            body +=
                "<p>Curves of the first \(RunEvents.metricCountMax) of \(metrics) metrics by name; the latest values of all are below.</p>"
        }
        let sections: [(RunReport.Section, String, Bool)] = [
            (.metrics, "Latest values", metrics <= 12 || metrics > RunEvents.metricCountMax),
            (.parameters, "Parameters", true), (.data, "Data", true), (.features, "Features", true),
            (.seed, "Seed", true), (.code, "Code", true), (.environment, "Environment", false),
            (.hardware, "Machine", false),
        ]
        body += "<div class=\"facts\">"
        for (section, title, isOpen) in sections {
            let members = (report.sections[section] ?? [:]).sorted { $0.key < $1.key }
            guard !members.isEmpty else { continue }
            let lines = members.map { "<tr><th>\(escape($0.key))</th><td>\(escape(text($0.value)))</td></tr>" }.joined()
            body +=
                "<details\(isOpen ? " open" : "")><summary>\(title) <i>\(members.count)</i></summary><table>\(lines)</table></details>"
        }
        let relations = RunRelations(report.run, services)
        body += tags(report.run) + "</div>"
        body += try await relations.models() + relations.datasets() + relations.children()
        body += RunFiles.html(report.files)
        body += "<h2 hidden>What it takes</h2><div id=\"system\" class=\"curves\"></div>"
        if report.record == nil {
            body += "<p>No record of code, environment and machine was taken of this run.</p>"
        }
        return page("\(info.name) · \(experiment.name)", body, data: ["run": .string(info.id)])
    }

    /// Tags that the page does not show elsewhere; long ones that MLflow keeps for itself are left out.
    private static func tags(_ run: TrackedRun) -> String {
        let elsewhere = ["mlflow.note.content", "mlflow.runName", "mlflow.parentRunId", "bottega.imported"]
        let shown = run.tags.filter { tag in
            !elsewhere.contains(tag.key) && !(tag.key.hasPrefix("mlflow.") && tag.value.utf8.count > 200)
        }.sorted { $0.key < $1.key }
        guard !shown.isEmpty else { return "" }
        let lines = shown.map { tag in
            let value = tag.value.count > 2000 ? tag.value.prefix(2000) + "…" : tag.value
            return "<tr><th>\(escape(tag.key))</th><td>\(escape(value))</td></tr>"
        }.joined()
        return "<details open><summary>Tags <i>\(shown.count)</i></summary><table>\(lines)</table></details>"
    }

    // MARK: Several runs

    static func comparison(_ ids: [String], _ services: PlatformServices) async throws -> String {
        let comparison = try await services.runs.compare(ids)
        let reports = comparison.reports
        let names = reports.map { "\($0.run.info.name) \($0.run.info.id.suffix(4))" }
        var body = head([("/experiments", "Experiments")]) + "<h1>\(reports.count) runs</h1>"
        body +=
            "<nav>"
            + zip(reports, names).enumerated().map { index, pair in
                "<a class=\"chip run\(index % 10)\" href=\"/runs/\(pair.0.run.info.id)\">\(escape(pair.1))</a>"
            }.joined() + "</nav>\(controls)<div id=\"curves\" class=\"curves\"></div>"
        body +=
            "<div class=\"wide\"><svg id=\"parallel\" class=\"chart\" role=\"img\" aria-label=\"parallel coordinates\"></svg></div>"
        body += "<h2>Where they differ</h2><div class=\"wide\"><table class=\"differences\">"
        for (section, rows) in comparison.differences {
            body +=
                "<tr class=\"section\"><th>\(section.rawValue)</th>" + names.map { "<th>\(escape($0))</th>" }.joined()
                + "</tr>"
            for row in rows.prefix(300) {
                let usual = row.values.filter { $0 == row.values[0] }.count > 1 ? row.values[0] : nil
                body += "<tr><th>\(escape(row.name))</th>"
                for (value, text) in zip(row.values, beside(row.values)) {
                    let isOdd = section != .metrics && usual != nil && value != usual
                    body += "<td\(isOdd ? " class=\"odd\"" : "")>\(escape(text))</td>"
                }
                body += "</tr>"
            }
        }
        body += "</table></div>"
        if comparison.differences.isEmpty { body += "<p>In nothing that is known.</p>" }

        var keys: [String] = []
        for key in columns(.metrics, reports, countMax: 24) { keys.append(key) }
        var curves: [JSONValue] = []
        for key in keys {
            var series: [JSONValue] = []
            for (index, report) in reports.enumerated() where report.run.metric(key) != nil {
                let points = try await services.tracking.sampledHistory(
                    run: report.run.info.id, key: key, pointCountMax: 500)
                series.append([
                    "run": .integer(Int64(index)),
                    "points": .array(
                        points.map { [.integer($0.step), .integer($0.milliseconds), RunReport.json($0.value)] }),
                ])
            }
            curves.append(["key": .string(key), "series": .array(series)])
        }
        let axes = columns(.parameters, reports, countMax: 8) + columns(.metrics, reports, countMax: 8)
        var data = parallel(reports, axes).objectValue ?? [:]
        data["curves"] = .array(curves)
        data["names"] = .array(names.map(JSONValue.string))
        return page("Comparison", body, data: .object(data))
    }

    // MARK: Parts

    /// Names of a section that say most: those that differ first, then those that most runs have.
    static func columns(_ section: RunReport.Section, _ reports: [RunReport], countMax: Int) -> [String] {
        var values: [String: Set<JSONValue>] = [:]
        var counts: [String: Int] = [:]
        for report in reports {
            for (name, value) in report.sections[section] ?? [:] {
                values[name, default: []].insert(value)
                counts[name, default: 0] += 1
            }
        }
        return counts.keys.sorted {
            let left = ((values[$0]?.count ?? 0) > 1 ? 0 : 1, -(counts[$0] ?? 0), $0)
            let right = ((values[$1]?.count ?? 0) > 1 ? 0 : 1, -(counts[$1] ?? 0), $1)
            return left < right
        }.prefix(countMax).map { $0 }
    }

    static func parallel(_ reports: [RunReport], _ names: [String]) -> JSONValue {
        func number(_ value: JSONValue?) -> Double? {
            let number = value?.doubleValue ?? value?.stringValue.flatMap { Double($0) }
            return number?.isFinite == true ? number : nil
        }
        func value(_ report: RunReport, _ name: String) -> Double? {
            number(report.sections[.metrics]?[name]) ?? number(report.sections[.parameters]?[name])
        }
        let axes = names.filter { name in Set(reports.compactMap { value($0, name) }).count > 1 }.prefix(12)
        return [
            "axes": .array(axes.map(JSONValue.string)),
            "rows": .array(
                reports.map { report in
                    [
                        "name": .string(report.run.info.name), "link": .string("/runs/\(report.run.info.id)"),
                        "values": .object(
                            Dictionary(
                                uniqueKeysWithValues: axes.compactMap { name in
                                    value(report, name).map { (name, .number($0)) }
                                })),
                    ]
                }),
        ]
    }

    private static let controls = """
        <p class="controls"><label>against <select data-option="axis"><option value="step">steps</option><option value="time">seconds</option></select></label>\
        <label><input type="checkbox" data-option="log"> logarithmic</label></p>
        """
    static func head(_ path: [(link: String, name: String)]) -> String {
        "<header><a href=\"/\">Bottega</a>"
            + path.map { " / <a href=\"\(escape($0.link))\">\(escape($0.name))</a>" }.joined() + "</header>"
    }
    static func state(_ status: RunStatus) -> String {
        "<span class=\"state \(status.rawValue.lowercased())\">\(status.rawValue.lowercased())</span>"
    }
    static func time(_ time: EventTime) -> String {
        String(time.description.prefix(16)).replacing("T", with: " ")
    }
    static func duration(_ seconds: Double) -> String {
        seconds < 120
            ? String(format: "%.1f s", seconds)
            : seconds < 7200 ? String(format: "%.0f min", seconds / 60) : String(format: "%.1f h", seconds / 3600)
    }
    private static func text(_ value: JSONValue) -> String {
        if case .number(let number) = value { return NumberText.text(number) }
        return value.stringValue ?? value.text
    }
    /// Values beside each other: numbers with as many digits as tell them apart.
    private static func beside(_ values: [JSONValue?]) -> [String] {
        let numbers = values.compactMap { value in if case .number(let number)? = value { number } else { Double?.none }
        }
        if numbers.count == values.count { return NumberText.texts(numbers) }
        return values.map { $0.map(short) ?? "–" }
    }
    static func short(_ value: JSONValue) -> String {
        let text = text(value)
        return text.count > 44 ? text.prefix(43) + "…" : text
    }
    static func cell(_ value: JSONValue?) -> String {
        guard let value else { return "<td></td>" }
        return "<td data-value=\"\(escape(text(value)))\">\(escape(short(value)))</td>"
    }

    static func page(_ title: String, _ body: String, data: JSONValue = [:]) -> String {
        // Inside a script element only `<` could end it.
        let json = data.text.replacing("<", with: "\\u003c")
        return """
            <!doctype html><html lang="en"><head><meta charset="utf-8"><title>\(escape(title))</title>
            <meta name="viewport" content="width=device-width, initial-scale=1"><style>\(style)</style></head><body>\(body)
            <script type="application/json" id="data">\(json)</script><script>\(RunScript.text)</script></body></html>
            """
    }

    private static let style = """
        :root{color-scheme:light dark;--line:#8883;--dim:#777;--mark:#2563eb;--fill:#2563eb14;--page:#fff;--ink:#111}
        @media(prefers-color-scheme:dark){:root{--dim:#999;--mark:#7aa7ff;--fill:#7aa7ff1f;--page:#111418;--ink:#e8e8e8}}
        *{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:1.2rem auto 4rem;padding:0 1rem;background:var(--page);color:var(--ink)}
        a{color:var(--mark);text-decoration:none}a:hover{text-decoration:underline}header{color:var(--dim)}header a:first-child{font-weight:600;color:var(--ink)}
        h1{font-size:1.35rem;margin:.8rem 0 .4rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:1.6rem 0 .4rem}p{color:var(--dim);margin:.3rem 0}.fault{color:#d33}code{font-size:.9em}
        .state{font-size:.78rem;font-weight:500;border-radius:1rem;padding:.1rem .6rem;background:var(--fill);color:var(--mark);vertical-align:middle}.state.finished{background:#2b8a3e1a;color:#2b8a3e}.state.failed,.state.killed{background:#d3333322;color:#d33}.state.running::before{content:"● ";animation:blink 1.2s infinite}@keyframes blink{50%{opacity:.2}}
        dl{display:flex;flex-wrap:wrap;gap:.4rem 2rem;margin:.6rem 0}dt{color:var(--dim);font-size:.82em}dd{margin:0}
        .wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92em}
        th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}th{color:var(--dim);font-weight:500}.sorts th{cursor:pointer}.sorts th[data-down=yes]::after{content:" ↓"}.sorts th[data-down=no]::after{content:" ↑"}
        .curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(24rem,100%),1fr));gap:.8rem}figure{margin:0;border:1px solid var(--line);border-radius:.5rem;padding:.5rem .6rem .2rem}figcaption{font-size:.87em;display:flex;justify-content:space-between;gap:1rem;overflow-wrap:anywhere}figcaption b{font-weight:600}
        svg{display:block;width:100%;overflow:visible}.grid{stroke:var(--line);stroke-width:.7}.axis{fill:var(--dim);font-size:9.5px}.head{fill:var(--ink);font-size:11px}.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}.cursor{stroke:var(--dim);stroke-width:.7}.tip{fill:var(--ink);font-size:10.5px;paint-order:stroke;stroke:var(--page);stroke-width:3px}
        .strand,.gap{fill:none;stroke-width:1.6;stroke-linecap:round;opacity:.65}.gap{stroke-dasharray:2 5}a:hover>.strand,a:hover>.gap{stroke-width:3.5;opacity:1}.rail{stroke:var(--dim)}
        .facts{columns:2 28rem;column-gap:2rem;margin-top:1.4rem}details{break-inside:avoid;margin-bottom:1rem}summary{font-weight:600;cursor:pointer}summary i{color:var(--dim);font-weight:400;font-style:normal;font-size:.87em}details td{white-space:normal;overflow-wrap:anywhere}details th{white-space:normal;width:38%;overflow-wrap:anywhere}
        form.line,#note{display:flex;gap:.6rem;align-items:center;margin:.6rem 0}input:not([type]),textarea{flex:1;min-width:0;font:inherit;padding:.35rem .6rem;border:1px solid var(--line);border-radius:.4rem;background:transparent;color:inherit}input[name=order_by]{max-width:14rem}button,select{font:inherit;padding:.3rem .8rem;border:1px solid var(--line);border-radius:.4rem;background:var(--fill);color:inherit;cursor:pointer}
        .controls{display:flex;gap:1.2rem;font-size:.87em;align-items:center}.controls select{padding:.1rem .4rem}nav{display:flex;flex-wrap:wrap;gap:.4rem;margin:.4rem 0}.chip{border:1px solid var(--line);border-left:4px solid var(--run);border-radius:.4rem;padding:.1rem .7rem;font-size:.87em}
        .run0{--run:#2563eb}.run1{--run:#e8590c}.run2{--run:#2b8a3e}.run3{--run:#9c36b5}.run4{--run:#c2255c}.run5{--run:#0c8599}.run6{--run:#a67c00}.run7{--run:#495057}.run8{--run:#5f3dc4}.run9{--run:#d9480f}
        .dim{color:var(--dim)}h2 i,h2 small{color:var(--dim);font-weight:400;font-style:normal;font-size:.87em}td.text{white-space:normal;min-width:8rem;overflow-wrap:anywhere}tr:target{background:var(--fill)}
        .files ul{list-style:none;margin:0;padding-left:1.2rem}.files>ul{padding:0}.files li{margin:.15rem 0;overflow-wrap:anywhere}.files details{margin:0}.files summary{font-weight:500}.files pre{max-height:24rem;overflow:auto;margin:.3rem 0;padding:.6rem .8rem;background:var(--fill);border-radius:.4rem;font-size:.85em}.files img{display:block;max-width:100%;max-height:30rem;margin:.4rem 0;background:#fff}
        .files .look>summary{font-weight:400;font-size:.87em;color:var(--dim)}.child{padding-left:calc(var(--depth,1)*1.1rem)}form.names{display:block}.names div{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.3rem 0}.names summary{font-weight:500}
        .differences .section th{padding-top:1.1rem;color:var(--ink);font-weight:600}.differences td.odd{background:var(--fill)}
        """
}
