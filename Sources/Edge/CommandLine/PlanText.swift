import Foundation
import PlatformCore

/// What a plan says to people: what changes, who is touched, what is built again, who keeps what was there before.
struct PlanText {
    let answer: JSONValue
    let isApplied: Bool
    /// Colours are for terminals, and only where nobody said `NO_COLOR`.
    private let isColoured =
        isatty(1) == 1 && ProcessInfo.processInfo.environment["NO_COLOR", default: ""].isEmpty
        && ProcessInfo.processInfo.environment["TERM"] != "dumb"

    init(answer: JSONValue, isApplied: Bool) {
        self.answer = answer
        self.isApplied = isApplied
    }

    private enum Colour: String {
        case red = "31"
        case green = "32"
        case yellow = "33"
        case faint = "2"
    }

    private func paint(_ text: String, _ colour: Colour) -> String {
        isColoured ? "\u{1B}[\(colour.rawValue)m\(text)\u{1B}[0m" : text
    }

    var text: String {
        let changes = answer["changes"]?.arrayValue ?? []
        let count = answer["definitions"]?.integerValue ?? 0
        guard !changes.isEmpty else {
            let warnings = (answer["blast_radius"]?["warnings"]?.arrayValue ?? []).compactMap(\.stringValue)
            return
                (["nothing to change: \(count) definitions are as they should be"]
                + warnings.map { paint("warning: \($0)", .yellow) }).joined(separator: "\n")
        }
        var lines = changes.flatMap(lines(of:))
        if let radius = answer["blast_radius"] { lines += self.lines(radius: radius) }
        let noun = changes.count == 1 ? "change" : "changes"
        lines.append(
            "\(changes.count) \(noun) \(isApplied ? "applied" : "would be applied"), "
                + "\(count) \(count == 1 ? "definition" : "definitions")")
        return lines.joined(separator: "\n")
    }

    private func lines(of change: JSONValue) -> [String] {
        let kind = change["kind"]?.stringValue ?? ""
        let identifier = change["identifier"]?.stringValue ?? ""
        var lines: [String]
        switch kind {
        case "create": lines = [paint("+ \(identifier)", .green)]
        case "remove": lines = [paint("- \(identifier)", .red)]
        default: lines = [paint("~ \(identifier)", .yellow)]
        }
        let fields = change["fields"]?.arrayValue ?? []
        for field in fields {
            let path = field["path"]?.stringValue ?? ""
            switch (field["old"]?.stringValue, field["new"]?.stringValue) {
            case (let old?, let new?): lines.append("    \(path): \(shortened(old)) -> \(shortened(new))")
            case (nil, let new): lines.append(paint("    + \(path): \(shortened(new ?? ""))", .green))
            case (let old, nil): lines.append(paint("    - \(path): \(shortened(old ?? ""))", .red))
            }
        }
        if kind == "change", let before = change["before"]?.stringValue, let after = change["after"]?.stringValue {
            let why = fields.isEmpty ? " (by what it leans on)" : ""
            lines.append(paint("    version \(before.prefix(8)) -> \(after.prefix(8))\(why)", .faint))
        }
        let touched = (change["touches"]?.arrayValue ?? []).compactMap(\.stringValue)
        if !touched.isEmpty, kind != "create" { lines.append("    touches \(listed(touched, most: 12))") }
        return lines
    }

    private static let kinds = [
        ("Source", "sources"), ("FeatureView", "views"), ("FeatureService", "services"),
        ("TrainingSet", "training sets"), ("Model", "models"), ("Deployment", "deployments"), ("Monitor", "monitors"),
    ]

    private func lines(radius: JSONValue) -> [String] {
        var lines: [String] = []
        func section(_ title: String, _ rows: [(String, String)]) {
            guard !rows.isEmpty else { return }
            lines.append(title)
            let width = rows.map(\.0.count).max() ?? 0
            for (name, value) in rows {
                lines.append("  \(name.padding(toLength: width, withPad: " ", startingAt: 0))  \(value)")
            }
        }
        func texts(_ value: JSONValue?) -> [String] { (value?.arrayValue ?? []).compactMap(\.stringValue) }
        var touched = Self.kinds.compactMap { kind, title -> (String, String)? in
            let names = texts(radius["touched"]?[kind])
            return names.isEmpty ? nil : (title, listed(names, most: 12))
        }
        let features = radius["features"]?.arrayValue ?? []
        let byKind = Dictionary(grouping: features) { $0["kind"]?.stringValue ?? "" }
        for (kind, title) in [("create", "new"), ("change", "changed"), ("remove", "gone")] {
            guard let list = byKind[kind] else { continue }
            touched.append(("features \(title)", listed(list.compactMap { $0["name"]?.stringValue }, most: 12)))
        }
        if !texts(radius["teams"]).isEmpty { touched.append(("teams", listed(texts(radius["teams"]), most: 12))) }
        section("touched:", touched)
        let backfills = radius["backfills"]?.arrayValue ?? []
        section(
            "\(isApplied ? "built" : "to be built") from history"
                + (radius["rate_measured"] == true || backfills.isEmpty ? ":" : " (speed not measured yet, a guess):"),
            backfills.prefix(20).map(row(ofBackfill:)))
        if backfills.count > 20 { lines.append("  and \(backfills.count - 20) more") }
        section(
            "keep the features they were trained with:",
            (radius["keepers"]?.arrayValue ?? []).map { keeper -> (String, String) in
                let model = keeper["model"]?.stringValue ?? ""
                let use = keeper["use"]?.stringValue ?? ""
                return ("\(model) (\(use))", listed(texts(keeper["views"]), most: 6))
            })
        section(
            isApplied ? "rows that leave their tables:" : "rows that leave their tables (needs --yes):",
            (radius["removals"]?.arrayValue ?? []).map { removal -> (String, String) in
                let held = texts(removal["held"])
                return (
                    removal["source"]?.stringValue ?? "",
                    "\(Human.cell(removal["rows"])) of \(Human.cell(removal["of"])) rows, those before \(Human.cell(removal["before"]))"
                        + (held.isEmpty ? "" : "; still read by \(listed(held, most: 3))")
                )
            })
        lines += texts(radius["warnings"]).map { paint("warning: \($0)", .yellow) }
        if !isApplied {
            lines += texts(radius["refusals"]).map { paint("refused unless --force: \($0)", .red) }
        }
        return lines
    }

    private func row(ofBackfill backfill: JSONValue) -> (String, String) {
        let entities = backfill["entities"]?.integerValue ?? 0
        var text = "\(Human.cell(backfill["rows"])) rows of \(backfill["source"]?.stringValue ?? "")"
        if entities > 0 { text += ", about \(Human.count(Double(entities))) entities" }
        text += ", about \(Human.seconds(backfill["seconds"]?.doubleValue ?? 0))"
        return (backfill["version"]?.stringValue ?? "", text)
    }

    private func listed(_ names: [String], most: Int) -> String {
        names.prefix(most).joined(separator: ", ") + (names.count > most ? " and \(names.count - most) more" : "")
    }

    private func shortened(_ text: String) -> String { text.count > 160 ? text.prefix(157) + "..." : text }
}
