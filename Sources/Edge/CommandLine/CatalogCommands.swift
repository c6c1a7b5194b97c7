import ArgumentParser
import Foundation
import PlatformCore

struct CatalogCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catalog", abstract: "Find sources, columns, features and models, and see what they look like.",
        subcommands: [Search.self, Show.self], defaultSubcommand: Search.self)

    struct Search: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Find things by name, description, owner:, kind:, tag:, column:.",
            discussion: "Example: bottega catalog search delay kind:feature owner:ops")
        @Argument(help: "Words and conditions; all must hold.") var words: [String] = []
        @Option(help: "Most hits.") var limit = 25
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get(
                "/api/v1/catalog/search", query: ["q": words.joined(separator: " "), "limit": String(limit)])
            show(answer) { answer in
                let hits = answer["hits"]?.arrayValue ?? []
                guard !hits.isEmpty else { return "nothing matches" }
                let rows = hits.map { hit in
                    [
                        Human.cell(hit["id"]), Human.cell(hit["type"]), Human.cell(hit["owner"]),
                        (hit["tags"]?.arrayValue ?? []).compactMap(\.stringValue).joined(separator: " "),
                        String(Human.cell(hit["description"]).prefix(60)),
                    ]
                }
                return Human.table(["WHAT", "TYPE", "OWNER", "TAGS", "DESCRIPTION"], rows)
                    + "\n\(hits.count) of \(Human.cell(answer["count"]))"
            }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show one thing: schema, statistics, freshness, who uses it.")
        @Argument(help: "Such as feature/carrier_delays.mean_24h, or a name that only one thing has.") var name: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/catalog/items/\(name)")) { item in
                var lines = ["\(Human.cell(item["id"]))  \(Human.cell(item["description"]))"]
                for key in ["owner", "type", "version", "rows", "newest_event_time", "waiting_rows", "basis"] {
                    guard let value = item[key], !value.isNull, value != "" else { continue }
                    lines.append(key.padding(toLength: 20, withPad: " ", startingAt: 0) + Human.cell(value))
                }
                let rows = (item["statistics"]?.arrayValue ?? []).map { column in
                    [
                        Human.cell(column["column"]), Human.cell(column["count"]), Human.cell(column["null_share"]),
                        Human.cell(column["distinct_estimate"]), String(Human.cell(column["min"]).prefix(24)),
                        String(Human.cell(column["max"]).prefix(24)), Human.cell(column["mean"]),
                    ]
                }
                if !rows.isEmpty {
                    lines.append(Human.table(["COLUMN", "ROWS", "NULL", "DIFFERENT", "MIN", "MAX", "MEAN"], rows))
                }
                let users = (item["used_by"]?.arrayValue ?? []).compactMap(\.stringValue)
                if !users.isEmpty { lines.append("used by " + users.joined(separator: ", ")) }
                return lines.joined(separator: "\n")
            }
        }
    }
}

struct LineageCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "lineage", abstract: "Show what something is made from and what is made from it.",
        discussion: """
            Example: bottega lineage feature/carrier_delays.mean_24h --down
            'bottega lineage dataset/HASH --origin' lists tables, versions, files, log offsets and loaded files.
            """)
    @Argument(help: "A node such as column/departures.dep_delay, a dataset's hash, or a name that only one thing has.")
    var node: String
    @Flag(help: "Only what it is made from.") var up = false
    @Flag(help: "Only what is made from it.") var down = false
    @Option(help: "Most steps.") var depth = 20
    @Flag(help: "Print Graphviz's language.") var dot = false
    @Flag(help: "Of a dataset: where every row came from.") var origin = false
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        if origin {
            let hash = node.hasPrefix("dataset/") ? String(node.dropFirst(8)) : node
            return show(try await client.get("/api/v1/lineage/datasets/\(hash)"), Self.describeOrigin)
        }
        let direction = up == down ? "both" : up ? "up" : "down"
        var query = ["node": node, "direction": direction, "depth": String(depth)]
        if dot { query["format"] = "dot" }
        let answer = try await client.get("/api/v1/lineage", query: query)
        if dot {
            print(answer["dot"]?.stringValue ?? "")
        } else {
            show(answer) { Self.tree($0, direction: direction) }
        }
    }

    private static func describeOrigin(_ answer: JSONValue) -> String {
        var lines = [
            "dataset \(Human.cell(answer["dataset"])): \(Human.cell(answer["rows"])) rows of \(Human.cell(answer["training_set"])), known at \(Human.cell(answer["as_of"]))"
        ]
        for table in answer["tables"]?.arrayValue ?? [] {
            lines.append(
                "table \(Human.cell(table["table"])) version \(Human.cell(table["version"])): \(Human.cell(table["rows"])) rows, log \(Human.cell(table["topic"])) offsets \(Human.cell(table["first_offset"])) to \(Human.cell(table["next_offset"]))"
            )
            for file in table["files"]?.arrayValue ?? [] {
                lines.append("  file   \(Human.cell(file["path"]))  \(Human.cell(file["rows"])) rows")
            }
            for load in table["loads"]?.arrayValue ?? [] {
                lines.append("  loaded \(Human.cell(load["file"]))  sha256 \(Human.cell(load["sha256"]))")
            }
        }
        return lines.joined(separator: "\n")
    }

    /// Each thing once below what led to it; what stands elsewhere already is only named.
    private static func tree(_ answer: JSONValue, direction: String) -> String {
        guard let root = answer["root"]?.stringValue else { return "" }
        let details = Dictionary(
            (answer["nodes"]?.arrayValue ?? []).map { ($0["id"]?.stringValue ?? "", $0["detail"]?.stringValue ?? "") },
            uniquingKeysWith: { first, _ in first })
        let edges = answer["edges"]?.arrayValue ?? []
        var lines = ["\(root)  \(details[root] ?? "")"]
        for (way, title, from, to) in [("up", "made from", "to", "from"), ("down", "goes into", "from", "to")]
        where direction == "both" || direction == way {
            var next: [String: [(String, String)]] = [:]
            for edge in edges {
                guard let start = edge[from]?.stringValue, let end = edge[to]?.stringValue else { continue }
                next[start, default: []].append((end, edge["detail"]?.stringValue ?? ""))
            }
            lines.append(title)
            var seen: Set<String> = [root]
            func walk(_ node: String, indent: String) {
                for (other, detail) in (next[node] ?? []).sorted(by: { $0.0 < $1.0 }) {
                    let isNew = seen.insert(other).inserted
                    lines.append("\(indent)\(other)\(detail.isEmpty ? "" : "  (\(detail))")\(isNew ? "" : " …")")
                    if isNew, lines.count < 5000 { walk(other, indent: indent + "  ") }
                }
            }
            walk(root, indent: "  ")
            if next[root] == nil { lines.append("  nothing") }
        }
        if answer["cut"]?.boolValue == true { lines.append("there is more; --depth shows it") }
        return lines.joined(separator: "\n")
    }
}
