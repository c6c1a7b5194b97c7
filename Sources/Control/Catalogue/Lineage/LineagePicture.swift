public import PlatformCore

extension LineageGraph.Slice {
    /// The slice as JSON: `root`, `nodes`, `edges`.
    public var json: JSONValue {
        [
            "root": .string(root), "cut": .bool(isCut),
            "nodes": .array(
                nodes.map {
                    [
                        "id": .string($0.identifier), "kind": .string($0.kind), "label": .string($0.label),
                        "detail": .string($0.detail), "distance": .integer(Int64(distances[$0.identifier] ?? 0)),
                    ]
                }),
            "edges": .array(
                edges.map {
                    [
                        "from": .string($0.from), "to": .string($0.to), "kind": .string($0.kind.rawValue),
                        "detail": .string($0.detail),
                    ]
                }),
        ]
    }

    /// The slice in Graphviz's language.
    public var dot: String {
        func quoted(_ text: String) -> String {
            "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
        }
        var lines = ["digraph lineage {", "  rankdir=LR; node [shape=box, style=rounded, fontname=sans];"]
        for node in nodes {
            let label = quoted(node.kind + "\n" + node.label).replacing("\n", with: "\\n")
            lines.append(
                "  \(quoted(node.identifier)) [label=\(label)\(node.identifier == root ? ", penwidth=2" : "")];")
        }
        for edge in edges {
            let style = edge.kind == .value ? "" : ", style=dashed"
            lines.append("  \(quoted(edge.from)) -> \(quoted(edge.to)) [label=\(quoted(edge.detail))\(style)];")
        }
        return (lines + ["}"]).joined(separator: "\n") + "\n"
    }

    /// The slice as a drawing: what the root is made from on the left, what is made from it on the right.
    ///
    /// - Parameters:
    ///   - rowsMax: most boxes below each other; of more, a last box says how many.
    ///   - escape: makes text safe for HTML.
    ///   - link: where a box leads.
    public func svg(rowsMax: Int = 14, escape: (String) -> String, link: (LineageNode) -> String?) -> String {
        let (width, height, gapX, gapY) = (190, 36, 56, 10)
        let levels = Dictionary(grouping: nodes) { distances[$0.identifier] ?? 0 }.sorted { $0.key < $1.key }
        var places: [String: (x: Int, y: Int)] = [:]
        var boxes = ""
        let tallest = levels.map { min(rowsMax, $0.value.count) }.max() ?? 1
        for (column, level) in levels.enumerated() {
            let shown = level.value.count > rowsMax ? Array(level.value.prefix(rowsMax - 1)) : level.value
            let rows = min(rowsMax, level.value.count)
            let top = (tallest - rows) * (height + gapY) / 2 + 2
            let x = column * (width + gapX) + 2
            for (row, node) in shown.enumerated() {
                let y = top + row * (height + gapY)
                places[node.identifier] = (x, y)
                let box = """
                    <g class="node \(escape(node.kind))\(node.identifier == root ? " root" : "")"><title>\(escape(node.identifier)) · \(escape(node.detail))</title>\
                    <rect x="\(x)" y="\(y)" width="\(width)" height="\(height)" rx="6"/>\
                    <text x="\(x + 9)" y="\(y + 14)" class="kind">\(escape(node.kind))</text>\
                    <text x="\(x + 9)" y="\(y + 29)">\(escape(Self.short(node.label, 27)))</text></g>
                    """
                boxes += link(node).map { "<a href=\"\(escape($0))\">\(box)</a>" } ?? box
            }
            if shown.count < level.value.count {
                let y = top + shown.count * (height + gapY)
                boxes +=
                    "<text class=\"more\" x=\"\(x + 9)\" y=\"\(y + 22)\">and \(level.value.count - shown.count) more</text>"
            }
        }
        var lines = ""
        for edge in edges {
            guard let from = places[edge.from], let to = places[edge.to], from.x < to.x else { continue }
            let (x1, y1, x2, y2) = (from.x + width, from.y + height / 2, to.x, to.y + height / 2)
            let bend = (x2 - x1) / 2
            lines += """
                <path class="\(edge.kind.rawValue)" d="M\(x1) \(y1)C\(x1 + bend) \(y1) \(x2 - bend) \(y2) \(x2) \(y2)"><title>\(escape(edge.detail))</title></path>
                """
        }
        let (totalWidth, totalHeight) = (levels.count * (width + gapX) - gapX + 4, tallest * (height + gapY) - gapY + 4)
        return """
            <svg class="lineage" xmlns="http://www.w3.org/2000/svg" width="\(totalWidth)" height="\(totalHeight)" \
            viewBox="0 0 \(totalWidth) \(totalHeight)" role="img" aria-label="lineage of \(escape(root))">\(lines)\(boxes)</svg>
            """
    }

    private static func short(_ text: String, _ count: Int) -> String {
        text.count <= count ? text : "…" + text.suffix(count - 1)
    }
}
