import PlatformCore
import Statistics
import Yams

/// Reads the fields of one YAML mapping: knows the place of each, and at the end names those nobody asked for.
final class FieldReader {
    let file: String
    private let place: String
    private let line: Int
    private var fields: [String: Node] = [:]
    private var lines: [String: Int] = [:]
    private var asked: Set<String> = []

    /// - Throws: `PlatformError` if `node` is no mapping or names a key twice.
    init(_ node: Node, file: String, place: String) throws(PlatformError) {
        self.file = file
        self.place = place
        line = node.mark?.line ?? 1
        guard let mapping = node.mapping else {
            throw PlatformError(.invalidInput, "\(file):\(line)", "\(place) must be a mapping of 'key: value' lines")
        }
        for (key, value) in mapping {
            guard let name = key.string else {
                throw PlatformError(
                    .invalidInput, "\(file):\(key.mark?.line ?? line)", "a key of \(place) must be text")
            }
            guard fields.updateValue(value, forKey: name) == nil else {
                throw PlatformError(
                    .invalidInput, "\(file):\(key.mark?.line ?? line)", "'\(name)' appears twice in \(place)")
            }
            lines[name] = key.mark?.line ?? line
        }
    }

    func error(_ key: String? = nil, _ message: String) -> PlatformError {
        // What is missing may stand there misspelt; then that is the fault to name.
        if key == nil, let (unknown, meant) = misspelt {
            return error(unknown, "unknown key '\(unknown)'; did you mean '\(meant)'?")
        }
        return PlatformError(.invalidInput, "\(file):\(key.flatMap { lines[$0] } ?? line)", "\(place): \(message)")
    }

    /// A key nobody asked for that is nearly one that was asked for and is not there.
    private var misspelt: (unknown: String, meant: String)? {
        let absent = asked.subtracting(fields.keys)
        for unknown in fields.keys.sorted() where !asked.contains(unknown) {
            if let meant = Self.meant(by: unknown, among: absent) { return (unknown, meant) }
        }
        return nil
    }

    /// The known key that is nearly `unknown`, or its beginning: `min` for `minimum`.
    private static func meant(by unknown: String, among known: Set<String>) -> String? {
        nearestName(to: unknown, among: known)
            ?? known.filter { $0.utf8.count >= 3 && unknown.hasPrefix($0) }.max {
                ($0.utf8.count, $1) < ($1.utf8.count, $0)
            }
    }

    /// Where the value of a key stands: file and line.
    func location(of key: String) -> String { "\(file):\(lines[key] ?? line)" }

    /// Call last: refuses keys that nobody asked for, all of them at once.
    func finish() throws(PlatformError) {
        let unknown = fields.keys.filter { !asked.contains($0) }.sorted { (lines[$0] ?? 0, $0) < (lines[$1] ?? 0, $1) }
        guard let first = unknown.first else { return }
        func named(_ key: String) -> String {
            "'\(key.prefix(60))'" + (Self.meant(by: key, among: asked).map { "; did you mean '\($0)'?" } ?? "")
        }
        let known =
            Self.meant(by: first, among: asked) == nil ? "; known: \(asked.sorted().joined(separator: ", "))" : ""
        let others = unknown.dropFirst().prefix(10).map { "; line \(lines[$0] ?? line): unknown key \(named($0))" }
        throw error(first, "unknown key \(named(first))\(known)\(others.joined())")
    }

    func has(_ key: String) -> Bool {
        asked.insert(key)
        return fields[key].map { !$0.isNullScalar } ?? false
    }

    private func node(_ key: String) -> Node? { has(key) ? fields[key] : nil }

    func required<Value>(_ key: String, _ value: Value?) throws(PlatformError) -> Value {
        guard let value else { throw error(nil, "'\(key)' is missing") }
        return value
    }

    // MARK: Scalars

    func optionalText(_ key: String) throws(PlatformError) -> String? {
        guard let node = node(key) else { return nil }
        guard let text = node.scalar?.string, text.utf8.count <= 10_000 else {
            throw error(key, "'\(key)' must be text")
        }
        return text
    }
    func text(_ key: String) throws(PlatformError) -> String { try required(key, try optionalText(key)) }
    func text(_ key: String, default value: String) throws(PlatformError) -> String { try optionalText(key) ?? value }

    func optionalName(_ key: String) throws(PlatformError) -> Name? {
        guard let text = try optionalText(key) else { return nil }
        guard let name = Name(text), text.utf8.count <= 100, !text.contains(".") else {
            throw error(
                key, "'\(key)' must be a name (letters, digits, '_' or '-', at most 100), not '\(text.prefix(60))'")
        }
        return name
    }
    func name(_ key: String) throws(PlatformError) -> Name { try required(key, try optionalName(key)) }

    func optionalNumber(_ key: String) throws(PlatformError) -> Double? {
        guard let text = try optionalText(key) else { return nil }
        let isShare = text.hasSuffix("%")
        guard let number = Double(isShare ? String(text.dropLast()) : text), number.isFinite else {
            throw error(key, "'\(key)' must be a number, not '\(text.prefix(60))'")
        }
        return isShare ? number / 100 : number
    }
    func number(_ key: String) throws(PlatformError) -> Double { try required(key, try optionalNumber(key)) }

    func integer(_ key: String, default value: Int, in range: ClosedRange<Int>) throws(PlatformError) -> Int {
        guard let text = try optionalText(key) else { return value }
        guard let number = Int(text), range.contains(number) else {
            throw error(
                key,
                "'\(key)' must be a whole number from \(range.lowerBound) to \(range.upperBound), not '\(text.prefix(60))'"
            )
        }
        return number
    }

    func flag(_ key: String, default value: Bool) throws(PlatformError) -> Bool {
        guard let text = try optionalText(key) else { return value }
        switch text {
        case "true": return true
        case "false": return false
        default: throw error(key, "'\(key)' must be true or false, not '\(text.prefix(60))'")
        }
    }

    func optionalSpan(_ key: String) throws(PlatformError) -> TimeSpan? {
        guard let text = try optionalText(key) else { return nil }
        let given = TimeSpan(text: text)
        if given?.milliseconds == 0 { throw error(key, "'\(key)' must be longer than 0, not '\(text.prefix(60))'") }
        guard let span = given, span.milliseconds > 0 else {
            throw error(key, "'\(key)' must be a span of time such as 30s, 5m, 1h, 7d, not '\(text.prefix(60))'")
        }
        return span
    }
    func span(_ key: String) throws(PlatformError) -> TimeSpan { try required(key, try optionalSpan(key)) }

    /// - Parameter hidden: choices that only say why they are none here, and are not listed.
    func optionalChoice<Choice: RawRepresentable & CaseIterable>(
        _ key: String, _: Choice.Type = Choice.self, hidden: [Choice] = []
    )
        throws(PlatformError) -> Choice? where Choice.RawValue == String
    {
        guard let text = try optionalText(key) else { return nil }
        guard let choice = Choice(rawValue: text) else {
            let known = Choice.allCases.map(\.rawValue).filter { name in !hidden.contains { $0.rawValue == name } }
            let near = nearestName(to: text, among: known)
            throw error(
                key,
                "'\(key)' cannot be '\(text.prefix(60))'; it is one of \(known.joined(separator: ", "))"
                    + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        return choice
    }
    func choice<Choice: RawRepresentable & CaseIterable>(
        _ key: String, _ type: Choice.Type = Choice.self, hidden: [Choice] = []
    )
        throws(PlatformError) -> Choice where Choice.RawValue == String
    { try required(key, try optionalChoice(key, type, hidden: hidden)) }

    /// A metric's name, `auc` or `ndcg@10`; one of `allowed` if given.
    func optionalMetric(_ key: String, among allowed: [EvaluationMetric]? = nil) throws(PlatformError)
        -> EvaluationMetric?
    { try optionalText(key).map { text throws(PlatformError) in try metric(text, key, among: allowed) } }

    /// A metric by its name.
    func metric(_ text: String, _ key: String, among allowed: [EvaluationMetric]? = nil) throws(PlatformError)
        -> EvaluationMetric
    {
        if let metric = EvaluationMetric(rawValue: text), allowed?.contains(metric) ?? true { return metric }
        let known = allowed?.map(\.rawValue) ?? EvaluationMetric.knownNames
        throw error(
            key,
            "'\(key)' cannot be '\(text.prefix(60))'; it is one of \(known.joined(separator: ", "))"
                + (nearestName(to: text, among: known).map { "; did you mean '\($0)'?" } ?? ""))
    }

    /// Memory such as `512MiB` or `4GiB`.
    func byteCount(_ key: String, default value: Int) throws(PlatformError) -> Int {
        guard let text = try optionalText(key) else { return value }
        for (suffix, unit) in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)] where text.hasSuffix(suffix) {
            if let count = Int(text.dropLast(3)), count > 0, count < 1 << 30 { return count * unit }
        }
        throw error(key, "'\(key)' must be an amount of memory such as 512MiB or 4GiB, not '\(text.prefix(60))'")
    }

    // MARK: Lists and mappings

    /// Whether the key holds a list.
    func isList(_ key: String) -> Bool { node(key)?.sequence != nil }

    /// Whether the key holds a mapping.
    func isMapping(_ key: String) -> Bool { node(key)?.mapping != nil }

    func optionalTexts(_ key: String) throws(PlatformError) -> [String]? {
        guard let node = node(key) else { return nil }
        guard let sequence = node.sequence else { throw error(key, "'\(key)' must be a list") }
        var texts: [String] = []
        for element in sequence {
            guard let text = element.scalar?.string else { throw error(key, "'\(key)' must be a list of texts") }
            texts.append(text)
        }
        return texts
    }
    func texts(_ key: String) throws(PlatformError) -> [String] { try required(key, try optionalTexts(key)) }

    func names(_ key: String) throws(PlatformError) -> [Name] {
        var names: [Name] = []
        for text in try texts(key) {
            guard let name = Name(text) else { throw error(key, "'\(text.prefix(60))' in '\(key)' is not a name") }
            names.append(name)
        }
        return names
    }

    /// Elements of a list that are mappings, or texts given as `(nil, text)`.
    func elements(_ key: String, of what: String) throws(PlatformError) -> [(fields: FieldReader?, text: String)] {
        guard let node = node(key) else { return [] }
        guard let sequence = node.sequence else { throw error(key, "'\(key)' must be a list") }
        var result: [(FieldReader?, String)] = []
        for (index, element) in sequence.enumerated() {
            if let text = element.scalar?.string {
                result.append((nil, text))
            } else {
                result.append((try FieldReader(element, file: file, place: "\(place), \(what) \(index + 1)"), ""))
            }
        }
        return result
    }

    func mappings(_ key: String, of what: String) throws(PlatformError) -> [FieldReader] {
        var result: [FieldReader] = []
        for element in try elements(key, of: what) {
            guard let fields = element.fields else {
                throw error(
                    key,
                    "each \(what) in '\(key)' must be a mapping such as {name: …}, not '\(element.text.prefix(60))'")
            }
            result.append(fields)
        }
        return result
    }

    func mapping(_ key: String) throws(PlatformError) -> FieldReader? {
        guard let node = node(key) else { return nil }
        return try FieldReader(node, file: file, place: "\(place), \(key)")
    }

    /// All keys with their scalar values, for free-form mappings.
    func allTexts() throws(PlatformError) -> [String: String] {
        var result: [String: String] = [:]
        for (key, node) in fields {
            asked.insert(key)
            guard let text = node.scalar?.string else { throw error(key, "'\(key)' must be text or a number") }
            result[key] = text
        }
        return result
    }

    var keys: [String] { fields.keys.sorted() }
}

extension Node {
    /// `null`, `~` or nothing, unquoted.
    var isNullScalar: Bool {
        guard let scalar, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }
}
