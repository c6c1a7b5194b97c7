import PlatformCore
import Yams

/// A configuration file: YAML mappings that lie in each other as the dots of the keys say.
enum SettingsText {
    /// The value of each key in the text of a file.
    ///
    /// - Parameters:
    ///   - text: the file's content.
    ///   - path: where it is, for messages.
    ///   - keys: all that there are, such as `gateway.port`.
    /// - Throws: `PlatformError` (`invalidInput`) with file and line for what is no YAML, no mapping, or an unknown key.
    static func values(of text: String, path: String, keys: [String]) throws -> [String: String] {
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch let error as YamlError {
            var (place, reason) = (path, "\(error)".split(whereSeparator: \.isNewline).joined(separator: " "))
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                (place, reason) = ("\(path):\(mark.line)", problem)
            default: break
            }
            throw PlatformError(.invalidInput, place, "the YAML is malformed: \(reason)")
        }
        var values: [String: String] = [:]
        func walk(_ node: Node, prefix: String) throws {
            guard let mapping = node.mapping else {
                throw PlatformError(
                    .invalidInput, "\(path):\(node.mark?.line ?? 1)", "a mapping of 'key: value' lines is expected")
            }
            for (keyNode, value) in mapping {
                let key = prefix + (keyNode.string ?? "")
                let line = keyNode.mark?.line ?? 1
                if keys.contains(key), let scalar = value.scalar {
                    values[key] = scalar.string
                } else if value.mapping != nil, keys.contains(where: { $0.hasPrefix(key + ".") }) {
                    try walk(value, prefix: key + ".")
                } else {
                    let sections = Set(keys.map { String($0.prefix { $0 != "." }) }).sorted()
                    let near = nearestName(to: key, among: keys) ?? nearestName(to: key, among: sections)
                    throw PlatformError(
                        .invalidInput, "\(path):\(line)",
                        "unknown key '\(key)'"
                            + (near.map { "; did you mean '\($0)'?" }
                                ?? "; keys begin with one of \(sections.joined(separator: ", "))"))
                }
            }
        }
        if let root, root.mapping != nil || root.scalar?.string != "" { try walk(root, prefix: "") }
        return values
    }
}
