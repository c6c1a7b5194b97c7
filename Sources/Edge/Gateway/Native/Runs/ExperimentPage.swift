import APIContract
import ExperimentTracking
import Foundation
import PlatformCore
import Workflows

/// What the page of an experiment is asked to show.
struct ExperimentQuestion {
    let filter: String
    let order: String
    /// Metrics and parameters to show; empty for those that say most.
    let chosen: [RunReport.Section: [String]]
    let token: String?
    /// Place of the first run among all, from 1.
    let first: Int

    init(_ request: APIRequest) {
        filter = request.queryValue("filter") ?? ""
        order = request.queryValue("order_by") ?? ""
        chosen = [.metrics: request.queryValues("metric"), .parameters: request.queryValues("param")]
        token = request.queryValue("page_token")
        first = max(1, request.queryValue("from").flatMap { Int($0) } ?? 1)
    }

    /// The same question about another page.
    func link(token: String?, first: Int) -> String {
        var fields = [("filter", filter), ("order_by", order)].filter { !$0.1.isEmpty }
        fields += (chosen[.metrics] ?? []).map { ("metric", $0) } + (chosen[.parameters] ?? []).map { ("param", $0) }
        if let token { fields += [("page_token", token), ("from", "\(first)")] }
        return "?" + fields.map { "\($0.0)=\(CataloguePage.encode($0.1))" }.joined(separator: "&amp;")
    }
}

/// The pages about experiments.
extension RunPage {
    private static let pageRunCount = 200
    private static let columnCount = 8

    static func experiments(_ services: PlatformServices) async throws -> String {
        let experiments = try await services.tracking.searchExperiments(countMax: 1000).experiments
        var rows = ""
        for experiment in experiments {
            let newest = try await services.tracking.searchRuns(experiments: [experiment.id], countMax: 1).runs.first
            rows += """
                <tr><td><a href="/experiments/\(escape(experiment.id))">\(escape(experiment.name))</a></td>\
                <td>\(newest.map { "<a href=\"/runs/\($0.info.id)\">\(escape($0.info.name))</a> \(state($0.info.status))" } ?? "–")</td>\
                <td>\(newest.map { time($0.info.startedAt) } ?? "")</td><td>\(time(experiment.createdAt))</td></tr>
                """
        }
        return page(
            "Experiments",
            """
            \(head([]))<h1>Experiments</h1><div class="wide"><table class="sorts"><thead><tr><th>Experiment</th><th>Newest run</th>\
            <th>Started</th><th>Made</th></tr></thead><tbody>\(rows)</tbody></table></div>
            """)
    }

    static func experiment(
        _ id: String, _ question: ExperimentQuestion, _ services: PlatformServices
    ) async throws -> String {
        let experiment = try await services.tracking.experiment(id)
        let top = head([("/experiments", "Experiments")]) + "<h1>\(escape(experiment.name))</h1>"
        let fields = """
            <input name="filter" value="\(escape(question.filter))" placeholder="metrics.auc &gt; 0.8 and params.depth = '6'" aria-label="Filter">\
            <input name="order_by" value="\(escape(question.order))" placeholder="metrics.auc DESC" aria-label="Order"><button>Show</button>
            """
        func plain(_ text: String) -> String {
            page(experiment.name, top + "<form class=\"line\" method=\"get\">\(fields)</form>" + text)
        }
        let (runs, next, filter, orders): ([TrackedRun], String?, SearchFilter, [SearchOrder])
        do {
            filter = try SearchFilter(question.filter)
            orders = question.order.isEmpty ? [] : try SearchOrder.list([question.order])
            (runs, next) = try await services.tracking.searchRuns(
                experiments: [id], filter: filter, orders: orders, pageToken: question.token, countMax: pageRunCount)
        } catch let error as PlatformError {
            return plain("<p class=\"fault\">\(escape(error.message))</p>")
        }
        guard !runs.isEmpty else { return plain("<p>No run is like that.</p>") }
        let found = runs.map { RunReport($0) }
        var named: [RunReport.Section: [String]] = [:]
        for (entity, key) in filter.clauses.map({ ($0.entity, $0.key) }) + orders.map({ ($0.entity, $0.key) }) {
            if entity?.hasPrefix("metric") == true { named[.metrics, default: []].append(key) }
            if entity?.hasPrefix("param") == true { named[.parameters, default: []].append(key) }
        }
        var (choice, columns): (String, [RunReport.Section: [String]]) = ("", [:])
        for (section, field, word) in [
            (RunReport.Section.metrics, "metric", "metrics"), (.parameters, "param", "parameters"),
        ] {
            let all = Self.columns(section, found, countMax: .max)
            let chosen = question.chosen[section] ?? []
            let wanted = (named[section] ?? []) + (chosen.isEmpty ? Array(all.prefix(columnCount)) : chosen)
            let shown = wanted.enumerated().filter { wanted.firstIndex(of: $0.element) == $0.offset }.map(\.element)
                .filter(Set(all).contains).prefix(
                    chosen.isEmpty ? max(columnCount, Set(named[section] ?? []).count) : .max)
            columns[section] = Array(shown)
            guard !all.isEmpty else { continue }
            let boxes = all.sorted().map { name in
                """
                <label><input type="checkbox" name="\(field)" value="\(escape(name))"\(shown.contains(name) ? " checked" : "")> \
                \(escape(name))</label>
                """
            }
            // What is not asked for anew stays as it is chosen: an unopened list is part of the form, too.
            choice +=
                "<details><summary>\(shown.count) of \(all.count) \(word)</summary><div>\(boxes.joined())</div></details>"
        }
        var body = """
            \(top)<form class="names" method="get"><div class="line">\(fields)</div>\(choice)</form>
            """
        let last = question.first + runs.count - 1
        var paging = "Runs \(question.first) to \(last)"
        if question.token != nil { paging += " · <a href=\"\(question.link(token: nil, first: 1))\">first page</a>" }
        if let next {
            paging += "; there are more: <a href=\"\(question.link(token: next, first: last + 1))\">next page</a>"
        }
        paging = question.token == nil && next == nil ? "" : "<p class=\"paging\">\(paging)</p>"
        body += paging + (try await table(found, columns, isNested: question.order.isEmpty, services)) + paging
        body +=
            "<div class=\"wide\"><svg id=\"parallel\" class=\"chart\" role=\"img\" aria-label=\"parallel coordinates\"></svg></div>"
        let axes = (columns[.parameters] ?? []) + (columns[.metrics] ?? [])
        return page(experiment.name, body, data: parallel(found, axes))
    }

    /// Runs as a table; children stand beneath their parents where no other order was asked for.
    private static func table(
        _ reports: [RunReport], _ columns: [RunReport.Section: [String]], isNested: Bool, _ services: PlatformServices
    ) async throws -> String {
        let (metrics, parameters) = (columns[.metrics] ?? [], columns[.parameters] ?? [])
        var names = Dictionary(reports.map { ($0.run.info.id, $0.run.info.name) }, uniquingKeysWith: { $1 })
        for case let parent? in Set(reports.map { $0.run.tag(RunRelations.parentTag) }) where names[parent] == nil {
            names[parent] = try? await services.tracking.runInfo(parent).name
        }
        var html =
            "<form class=\"runs\" action=\"/run-comparison\" method=\"get\"><div class=\"wide\"><table class=\"sorts\"><thead><tr><th></th><th>Run</th><th>State</th><th>Started</th><th>Took</th>"
        html += (metrics + parameters).map { "<th>\(escape($0))</th>" }.joined() + "</tr></thead><tbody>"
        for (report, depth) in isNested ? nested(reports) : reports.map({ ($0, 0) }) {
            let info = report.run.info
            let took = info.endedAt.map { Double($0.milliseconds - info.startedAt.milliseconds) / 1000 }
            var name = "<a href=\"/runs/\(info.id)\">\(escape(info.name))</a>"
            if depth > 0 { name = "<span class=\"child\" style=\"--depth:\(depth)\">↳ \(name)</span>" }
            if let parent = report.run.tag(RunRelations.parentTag), let title = names[parent] {
                name += " <small class=\"dim\">in <a href=\"/runs/\(escape(parent))\">\(escape(title))</a></small>"
            }
            html += """
                <tr><td><input type="checkbox" name="run" value="\(info.id)" aria-label="compare"></td>\
                <td>\(name)</td><td>\(state(info.status))</td>\
                <td>\(time(info.startedAt))</td><td data-value="\(took.map { "\($0)" } ?? "")">\(took.map(duration) ?? "")</td>
                """
            for name in metrics { html += cell(report.sections[.metrics]?[name]) }
            for name in parameters { html += cell(report.sections[.parameters]?[name]) }
            html += "</tr>"
        }
        return html + "</tbody></table></div><p><button>Compare the chosen runs</button></p></form>"
    }

    /// Runs with each behind its parent, and how deep it stands; those without a parent among them keep their order.
    static func nested(_ reports: [RunReport]) -> [(report: RunReport, depth: Int)] {
        let ids = Set(reports.map(\.run.info.id))
        var roots: [RunReport] = []
        var children: [String: [RunReport]] = [:]
        for report in reports {
            if let parent = report.run.tag(RunRelations.parentTag), ids.contains(parent) {
                children[parent, default: []].append(report)
            } else {
                roots.append(report)
            }
        }
        var (found, seen): ([(report: RunReport, depth: Int)], Set<String>) = ([], [])
        var waiting = roots.reversed().map { (report: $0, depth: 0) }
        while let next = waiting.popLast() {
            guard seen.insert(next.report.run.info.id).inserted else { continue }
            found.append(next)
            waiting += (children[next.report.run.info.id] ?? []).reversed().map { ($0, min(next.depth + 1, 8)) }
        }
        // Tags may name each other in a ring.
        return found + reports.filter { !seen.contains($0.run.info.id) }.map { ($0, 0) }
    }
}
