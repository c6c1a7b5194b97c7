import Catalogue
import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import Workflows

/// The pages at `/catalog`: search, and one page for each thing.
enum CataloguePage {
    private static func escape(_ text: String) -> String { HomePage.escape(text) }

    static func search(_ text: String, _ services: PlatformServices) throws -> String {
        let index = services.catalogue.index
        var body = form(text)
        let query: CatalogueQuery
        do { query = try CatalogueQuery(text) } catch {
            return page("Catalogue", body + "<p class=\"fault\">\(escape(error.message))</p>")
        }
        let answer = index.search(query, countMax: 60)
        let kinds = CatalogueItem.Kind.allCases.compactMap { kind -> String? in
            guard let count = answer.kinds[kind] else { return nil }
            let others = text.split(separator: " ").filter { !$0.hasPrefix("kind:") }.joined(separator: " ")
            let isChosen = query.kinds.contains(kind)
            let next = isChosen ? others : "\(others) kind:\(kind.rawValue)"
            return
                "<a class=\"chip\(isChosen ? " on" : "")\" href=\"/catalog?q=\(encode(next))\">\(words(kind)) <b>\(count)</b></a>"
        }
        body += "<nav>\(kinds.joined())</nav>"
        if answer.hits.isEmpty {
            body +=
                index.count == 0
                ? "<p>Nothing is defined yet. <code>bottega apply DIR</code> defines sources, features and models.</p>"
                : "<p>Nothing matches. Conditions are <code>owner:</code> <code>kind:</code> <code>tag:</code> <code>column:</code>.</p>"
        }
        body += "<ol class=\"hits\">"
        for hit in answer.hits {
            let item = hit.item
            body += """
                <li><a href="\(link(item.identifier))"><span class="kind">\(words(item.kind))</span> \(name(item))</a>\
                <span class="dim">\(escape([item.type, item.owner.isEmpty ? nil : item.owner].compactMap { $0 }.joined(separator: " · ")))</span>\
                \(tags(item.tags))\(item.description.isEmpty ? "" : "<p>\(escape(item.description))</p>")</li>
                """
        }
        body += "</ol>"
        if answer.count > answer.hits.count {
            body += "<p>\(answer.count - answer.hits.count) more; say more to narrow it.</p>"
        }
        return page(text.isEmpty ? "Catalogue" : "\(text) · Catalogue", body)
    }

    static func item(_ item: CatalogueItem, _ services: PlatformServices) async throws -> String {
        let details = try await CatalogueDetails(item, services)
        var body = form("")
        body += "<h1><span class=\"kind\">\(words(item.kind))</span> \(name(item))</h1>"
        if !item.description.isEmpty { body += "<p class=\"lead\">\(escape(item.description))</p>" }
        body += tags(item.tags) + facts(details)
        body += schema(details)
        if !details.sample.isEmpty { body += sample(details) }
        let graph = try await services.catalogue.graph()
        if let slice = graph.slice(around: item.identifier, .both, depth: 4, countMax: 400), slice.nodes.count > 1 {
            let svg = slice.svg(
                escape: escape,
                link: { node in services.catalogue.index.item(node.identifier).map { link($0.identifier) } })
            body +=
                "<h2>Lineage</h2><div class=\"wide\">\(svg)</div><p>Left: what it is made from. Right: what is made from it. Dashed: decides which rows count.</p>"
        }
        if !details.users.isEmpty {
            body +=
                "<h2>Used by</h2><p class=\"users\">"
                + details.users.prefix(60).map { user in
                    let parts = user.split(separator: "/", maxSplits: 1).map(String.init)
                    let kind =
                        ["FeatureView": "view", "FeatureService": "service", "TrainingSet": "training_set"][parts[0]]
                        ?? parts[0].lowercased()
                    return
                        "<a class=\"chip\" href=\"\(link("\(kind)/\(parts.count > 1 ? parts[1] : "")"))\">\(escape(user))</a>"
                }.joined() + "</p>"
        }
        return page("\(item.qualifiedName) · Catalogue", body)
    }

    // MARK: Parts

    private static func facts(_ details: CatalogueDetails) -> String {
        let item = details.item
        var facts: [(String, String)] = []
        if !item.owner.isEmpty { facts.append(("Owner", escape(item.owner))) }
        if let type = item.type { facts.append(("Type", escape(type))) }
        if let version = details.version { facts.append(("Version", "<code>\(escape(version))</code>")) }
        if let view = details.view {
            facts.append(("Source", "<a href=\"\(link("source/\(view.source)"))\">\(escape(view.source.text))</a>"))
            facts.append(("Key", escape(view.joinKeys.joined(separator: ", "))))
            if let span = view.timeToLive { facts.append(("Valid for", span.description)) }
            if item.kind == .feature, let feature = view.features.first(where: { $0.name == item.name }) {
                let column = feature.column.map { " of \($0)" } ?? ""
                let window = feature.window.map { " over \($0)" } ?? ""
                facts.append(("Computed as", escape("\(feature.aggregate.rawValue)\(column)\(window)")))
            }
        }
        if details.profile.rowCount > 0 { facts.append(("Rows", count(details.profile.rowCount))) }
        if let time = details.newestEventTime {
            facts.append(("Newest event", String(time.description.prefix(19)) + "Z"))
        }
        if let time = details.newestIngestTime {
            facts.append(("Newest arrival", String(time.description.prefix(19)) + "Z"))
        }
        if details.waiting > 0 { facts.append(("Not in the table yet", "\(count(details.waiting)) rows")) }
        guard !facts.isEmpty else { return "" }
        return "<dl>" + facts.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" }.joined() + "</dl>"
    }

    private static func schema(_ details: CatalogueDetails) -> String {
        var rows: [(name: String, link: String?, type: String, note: String, statistics: ColumnStatistics?)] = []
        var statistics: [String: ColumnStatistics] = [:]
        for found in details.profile.columns { statistics[found.column] = found }
        switch details.item.kind {
        case .source, .column:
            for column in details.source?.columns ?? []
            where details.item.kind == .source || column.name == details.item.name {
                var notes: [String] = []
                if column.name == details.source?.eventTimeColumn { notes.append("event time") }
                if column.name == details.source?.ingestTimeColumn { notes.append("ingest time") }
                if details.source?.key.contains(column.name) ?? false { notes.append("key") }
                if !column.nullable { notes.append("required") }
                if let unit = column.unit { notes.append(unit) }
                if column.isSensitive { notes.append("sensitive") }
                let target = details.source.map { "column/\($0.name).\(column.name)" }
                rows.append(
                    (column.name, target, column.type.rawValue, notes.joined(separator: " · "), statistics[column.name])
                )
            }
        case .view, .feature:
            for feature in details.view?.features ?? []
            where details.item.kind == .view || feature.name == details.item.name {
                let window = feature.window.map { " over \($0)" } ?? ""
                let column = feature.column.map { " of \($0)" } ?? ""
                let view = details.view?.name.text ?? ""
                rows.append(
                    (
                        feature.name, "feature/\(view).\(feature.name)", feature.type.rawValue,
                        "\(feature.aggregate.rawValue)\(column)\(window)", statistics["\(view)__\(feature.name)"]
                    ))
            }
        default: return ""
        }
        guard !rows.isEmpty else { return "" }
        let title = details.view == nil ? "Columns" : "Features"
        var text = "<h2>\(title)</h2>"
        if details.profile.basis.isEmpty {
            text +=
                details.view == nil
                ? "<p>No statistics: nothing was flushed into the table yet.</p>"
                : "<p>No statistics: no training set with these features was built yet.</p>"
        } else {
            text += "<p>Statistics of <code>\(escape(String(details.profile.basis.prefix(40))))</code></p>"
        }
        text +=
            "<div class=\"wide\"><table><thead><tr><th>Name</th><th>Type</th><th>Missing</th><th>Different</th><th>Smallest</th><th>Largest</th><th>Mean</th><th>Values</th></tr></thead><tbody>"
        for row in rows {
            let found = row.statistics
            let named = row.link.map { "<a href=\"\(link($0))\">\(escape(row.name))</a>" } ?? escape(row.name)
            var cells = ["\(named)<span class=\"note\">\(escape(row.note))</span>", escape(row.type)]
            if let found {
                let mean: String = found.mean.map { String(format: "%.4g", $0) } ?? ""
                cells += [
                    share(found.nullShare), count(Int(clamping: found.distinctEstimate)), short(found.minimum),
                    short(found.maximum), mean, picture(found),
                ]
            } else {
                cells += [String](repeating: "", count: 6)
            }
            text += "<tr>" + cells.map { "<td>" + $0 + "</td>" }.joined() + "</tr>"
        }
        return text + "</tbody></table></div>"
    }

    /// A histogram of numbers and times, bars of the most frequent values of the rest.
    private static func picture(_ statistics: ColumnStatistics) -> String {
        if let most = statistics.histogram.max(), most > 0 {
            let bars = statistics.histogram.enumerated().map { index, rows in
                let height = rows == 0 ? 0 : max(1, Int(28 * rows / most))
                return "<rect x=\"\(index * 5)\" y=\"\(28 - height)\" width=\"4\" height=\"\(height)\"/>"
            }.joined()
            return
                "<svg class=\"bars\" width=\"120\" height=\"28\" viewBox=\"0 0 120 28\" role=\"img\" aria-label=\"histogram\">\(bars)</svg>"
        }
        guard statistics.count > 0 else { return "" }
        return statistics.top.prefix(3).map {
            "<span class=\"top\"><i style=\"width:\(Int(60 * $0.count / max(1, statistics.count)))px\"></i>\(escape(String($0.value.prefix(18)))) \(share(Double($0.count) / Double(statistics.count)))</span>"
        }.joined()
    }

    private static func sample(_ details: CatalogueDetails) -> String {
        let columns = (details.source?.columns ?? []).filter { !$0.isSensitive }.map(\.name)
        let head = columns.map { "<th>\(escape($0))</th>" }.joined()
        let rows = details.sample.map { row in
            "<tr>"
                + columns.map { column in
                    let value = row[column] ?? .null
                    return
                        "<td>\(escape(String((value.stringValue ?? (value.isNull ? "–" : value.text)).prefix(40))))</td>"
                }.joined() + "</tr>"
        }.joined()
        return
            "<h2>First rows</h2><div class=\"wide\"><table><thead><tr>\(head)</tr></thead><tbody>\(rows)</tbody></table></div>"
    }

    // MARK: Small things

    private static func form(_ text: String) -> String {
        """
        <form action="/catalog" role="search"><a href="/">Bottega</a><input name="q" type="search" value="\(escape(text))" \
        placeholder="name, owner:team, kind:feature, tag:pii, column:dep_delay" aria-label="Search the catalogue" autocomplete="off"></form>
        """
    }
    private static func name(_ item: CatalogueItem) -> String {
        (item.parent.map { "<span class=\"parent\">\(escape($0)).</span>" } ?? "") + escape(item.name)
    }
    private static func words(_ kind: CatalogueItem.Kind) -> String { kind.rawValue.replacing("_", with: " ") }
    private static func tags(_ tags: [String]) -> String {
        tags.map { "<a class=\"tag\" href=\"/catalog?q=\(encode("tag:\"\($0)\""))\">\(escape($0))</a>" }.joined()
    }
    static func link(_ identifier: String) -> String { "/catalog/" + encode(identifier, keeping: "/") }
    static func encode(_ text: String, keeping kept: String = "") -> String {
        var allowed = CharacterSet(charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
        allowed.insert(charactersIn: kept)
        return text.addingPercentEncoding(withAllowedCharacters: allowed) ?? ""
    }
    private static func share(_ value: Double) -> String {
        value == 0 ? "0" : value < 0.001 ? "&lt; 0.1 %" : String(format: "%.1f %%", value * 100)
    }
    private static func short(_ text: String?) -> String {
        guard let text else { return "" }
        if let number = Double(text), text.contains(".") { return String(format: "%.5g", number) }
        return escape(text.count > 22 ? text.prefix(21) + "…" : text)
    }
    private static func count(_ value: Int) -> String {
        var digits = String(value)
        var groups: [String] = []
        while digits.count > 3 {
            groups.insert(String(digits.suffix(3)), at: 0)
            digits.removeLast(3)
        }
        return ([digits] + groups).joined(separator: ",")
    }

    private static func page(_ title: String, _ body: String) -> String {
        """
        <!doctype html><html lang="en"><head><meta charset="utf-8"><title>\(escape(title))</title>
        <meta name="viewport" content="width=device-width, initial-scale=1"><style>
        :root{color-scheme:light dark;--line:#8883;--dim:#777;--mark:#2563eb;--fill:#2563eb14;--page:#fff;--ink:#111}
        @media(prefers-color-scheme:dark){:root{--dim:#999;--mark:#7aa7ff;--fill:#7aa7ff1f;--page:#111418;--ink:#e8e8e8}}
        *{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:1.2rem auto 4rem;padding:0 1rem;background:var(--page);color:var(--ink)}
        a{color:var(--mark);text-decoration:none}a:hover{text-decoration:underline}
        form{display:flex;gap:1rem;align-items:center;margin-bottom:1rem}form>a{font-weight:600;color:inherit}
        input{flex:1;min-width:0;font:inherit;padding:.5rem .8rem;border:1px solid var(--line);border-radius:.5rem;background:transparent;color:inherit}
        input:focus{outline:2px solid var(--mark);border-color:transparent}h1{font-size:1.35rem;margin:.8rem 0 .2rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:2rem 0 .4rem}
        p{color:var(--dim);margin:.2rem 0}.lead{font-size:1rem}.fault{color:#d33}.kind{color:var(--dim);font-weight:400;font-size:.85em}.parent{color:var(--dim)}.dim{color:var(--dim);margin-left:.6rem;font-size:.87em}
        nav{display:flex;flex-wrap:wrap;gap:.4rem;margin:.4rem 0}.chip{border:1px solid var(--line);border-radius:1rem;padding:.1rem .7rem;font-size:.87em;display:inline-block;margin:0 .3rem .3rem 0}.chip.on{background:var(--fill);border-color:var(--mark)}.chip b{font-weight:500;color:var(--dim)}
        .tag{background:var(--fill);border-radius:.3rem;padding:0 .4rem;margin-left:.4rem;font-size:.82em}h1+.tag,.lead+.tag{margin-left:0}
        .hits{list-style:none;padding:0;margin:.8rem 0}.hits li{padding:.45rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}.hits p{font-size:.9em}
        dl{display:flex;flex-wrap:wrap;gap:.6rem 2rem;margin:1rem 0}dt{color:var(--dim);font-size:.82em}dd{margin:0}
        .wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92em}
        th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}th{color:var(--dim);font-weight:500}
        .note{display:block;color:var(--dim);font-size:.85em;white-space:normal}.bars rect{fill:var(--mark);opacity:.75}.top{display:block;font-size:.82em;color:var(--dim)}.top i{display:inline-block;height:.55em;background:var(--mark);opacity:.6;margin-right:.4rem;border-radius:2px}
        .lineage{font:12px system-ui,sans-serif;margin:.4rem 0}.lineage rect{fill:var(--page);stroke:var(--line)}.lineage text{fill:var(--ink)}.lineage text.kind,.lineage text.more{fill:var(--dim);font-size:9.5px}
        .lineage .root rect{stroke:var(--mark);stroke-width:2;fill:var(--fill)}.lineage path{fill:none;stroke:var(--mark);opacity:.45}.lineage path.condition{stroke-dasharray:3 4;stroke:var(--dim)}.lineage path.part{stroke:var(--dim);opacity:.35}
        </style></head><body>\(body)</body></html>
        """
    }
}
