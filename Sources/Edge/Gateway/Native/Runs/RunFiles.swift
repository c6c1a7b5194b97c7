import ExperimentTracking
import PlatformCore

/// A run's files as a tree: each is a link that downloads it, small pictures and texts are shown in place.
///
/// Files are foreign content. The page's script shows them as pictures or as plain text; the route that gives them never
/// lets a browser show them as a page.
enum RunFiles {
    private static let countMax = 500
    private static let imageByteCountMax = 4 << 20
    private static let textByteCountMax = 128 << 10
    /// Pictures that are shown without being asked for.
    private static let openImageCountMax = 12

    private typealias File = (path: ArraySlice<Substring>, name: String, file: StoredArtifact)

    static func html(_ files: [String: StoredArtifact]) -> String {
        guard !files.isEmpty else { return "" }
        let shown = files.sorted { $0.key < $1.key }.prefix(countMax)
        let images = Set(shown.map(\.key).filter { look($0) == "image" }.prefix(openImageCountMax))
        let more = files.count > shown.count ? "<p>The first \(shown.count) of \(files.count).</p>" : ""
        let tree = folder(
            shown.map { ($0.key.split(separator: "/")[...], $0.key, $0.value) }, isOpen: shown.count <= 40,
            images: images)
        return "<h2>Files <i>\(files.count)</i></h2>\(more)<div class=\"files\">\(tree)</div>"
    }

    /// Files that begin with the same folder stand behind each other.
    private static func folder(_ files: [File], isOpen: Bool, images: Set<String>) -> String {
        var html = "<ul>"
        var rest = files[...]
        while let first = rest.first {
            guard first.path.count > 1, let name = first.path.first else {
                html += item(first, isOpen: images.contains(first.name))
                rest.removeFirst()
                continue
            }
            let inside = rest.prefix { $0.path.count > 1 && $0.path.first == name }
            rest = rest.dropFirst(inside.count)
            let below = folder(
                inside.map { ($0.path.dropFirst(), $0.name, $0.file) }, isOpen: isOpen, images: images)
            html += """
                <li><details\(isOpen ? " open" : "")><summary>\(HomePage.escape(String(name)))/ <i>\(inside.count)</i></summary>\
                \(below)</details></li>
                """
        }
        return html + "</ul>"
    }

    private static func item(_ file: File, isOpen: Bool) -> String {
        let link = "/api/2.0/mlflow-artifacts/artifacts/" + CataloguePage.encode(file.file.path, keeping: "/")
        var html = """
            <li><a href="\(link)">\(HomePage.escape(file.path.last.map(String.init) ?? ""))</a> \
            <span class="dim">\(size(file.file.byteCount)) <code>\(file.file.hash.hex.prefix(12))</code></span>
            """
        if let look = look(file.name), file.file.byteCount <= (look == "image" ? imageByteCountMax : textByteCountMax) {
            let name = HomePage.escape(file.name)
            html += """
                <details class="look" data-look="\(look)" data-link="\(link)" data-name="\(name)" id="file/\(name)"\
                \(isOpen ? " open" : "")><summary>look</summary></details>
                """
        }
        return html + "</li>"
    }

    /// How a file is shown: by its name, as its bytes may say anything.
    private static func look(_ path: String) -> String? {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        switch name.split(separator: ".").last.map({ $0.lowercased() }) {
        case "png", "jpg", "jpeg", "gif": return "image"
        case "txt", "log", "md", "json", "csv", "tsv", "yaml", "yml", "toml", "ini", "cfg", "py", "diff", "html", "svg":
            return "text"
        default: return name == "MLmodel" ? "text" : nil
        }
    }

    private static func size(_ byteCount: Int) -> String {
        var (value, unit) = (Double(byteCount), "bytes")
        for next in ["kB", "MB", "GB"] where value >= 1000 { (value, unit) = (value / 1000, next) }
        return unit == "bytes" ? "\(byteCount) bytes" : "\(Double(Int(value * 10)) / 10) \(unit)"
    }
}
