import ContentHashing
public import PlatformCore
import Yams

/// All that is wrong with a set of definition files; never empty.
public struct DefinitionErrors: Error, Sendable, CustomStringConvertible {
    /// The faults, by file and line.
    public let errors: [PlatformError]
    /// One line for each fault.
    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// Turns YAML files into a checked `DefinitionSet`, or names every fault with its file and line.
///
/// A file holds one or more documents separated by `---`; each has a `kind` and a `name`. Unknown keys are errors that
/// name the nearest known key. References, types, cycles and missing things are checked over all files together.
public struct DefinitionCompiler {
    /// Largest accepted file in bytes.
    public static let fileByteCountMax = 1 << 20
    /// Most documents in one set.
    public static let documentCountMax = 20_000

    static let kinds = [
        "Entity", "Source", "FeatureView", "FeatureService", "TrainingSet", "Model", "Deployment", "Monitor",
    ]

    /// Whether what is read was in force before: bounds that were added since are not asked of it.
    @TaskLocal static var isReadingAgain = false

    /// Compiles files that were in force once, be they against a bound that came later: a server starts with them.
    public static func compileAgain(_ files: [DefinitionFile]) throws(DefinitionErrors) -> DefinitionSet {
        let result: Result<DefinitionSet, DefinitionErrors> = $isReadingAgain.withValue(true) {
            do throws(DefinitionErrors) { return .success(try compile(files)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    var set = DefinitionSet()
    var errors: [PlatformError] = []
    var documents: [(kind: String, fields: FieldReader, folder: String)] = []
    /// Includes of feature services that are not resolved yet.
    var services: [Name: (fields: FieldReader, folder: String)] = [:]
    var servicesInProgress: [Name] = []
    /// `Kind/name` of definitions that have a fault: what refers to them says nothing about it.
    var faulty: Set<String> = []
    /// Whether documents could not be read: what is missing may be in them.
    var isIncomplete = false
    /// Thrown where something faulty is referred to.
    static let consequence = PlatformError(.invalidInput, "", "")

    /// Compiles files.
    /// - Throws: `DefinitionErrors` with every fault found.
    public static func compile(_ files: [DefinitionFile]) throws(DefinitionErrors) -> DefinitionSet {
        var compiler = DefinitionCompiler()
        for file in files { compiler.collect(file) }
        compiler.build()
        if !compiler.errors.isEmpty { throw DefinitionErrors(errors: compiler.errors) }
        return compiler.set
    }

    /// Names of the definitions of one kind that a file holds, in its order; none for a file that cannot be read.
    public static func names(of kind: String, in file: DefinitionFile) -> [Name] {
        var compiler = DefinitionCompiler()
        compiler.collect(file)
        return compiler.documents.filter { $0.kind == kind }.compactMap { document in
            (try? document.fields.text("name")).flatMap { Name($0) }
        }
    }

    private mutating func collect(_ file: DefinitionFile) {
        guard file.text.utf8.count <= Self.fileByteCountMax else {
            errors.append(PlatformError(.tooLarge, file.path, "the file is larger than \(Self.fileByteCountMax) bytes"))
            return
        }
        guard YAMLAliases.count(in: file.text.utf8) <= YAMLAliases.countMax else {
            let message = "more than \(YAMLAliases.countMax) YAML aliases (*name); write the values out"
            errors.append(PlatformError(.tooLarge, file.path, message))
            return
        }
        do {
            var nodes = try Yams.compose_all(yaml: file.text)
            while let node = nodes.next() {
                if node.isNullScalar { continue }
                guard documents.count < Self.documentCountMax else {
                    throw PlatformError(.tooLarge, file.path, "more than \(Self.documentCountMax) definitions")
                }
                note {
                    let fields = try FieldReader(node, file: file.path, place: "definition")
                    let kind = try fields.text("kind")
                    guard Self.kinds.contains(kind) else {
                        let near = nearestName(to: kind, among: Self.kinds)
                        throw fields.error(
                            "kind",
                            "unknown kind '\(kind.prefix(60))'"
                                + (near.map { "; did you mean '\($0)'?" }
                                    ?? "; known: \(Self.kinds.joined(separator: ", "))"))
                    }
                    let named = try FieldReader(node, file: file.path, place: "\(kind) '\(try fields.text("name"))'")
                    _ = try named.text("kind")
                    $0.documents.append((kind, named, file.folder))
                }
            }
            if let error = nodes.error { throw error }  // the sequence just ends at malformed text
        } catch let error as YamlError {
            errors.append(PlatformError(.invalidInput, Self.place(of: error, in: file.path), Self.reason(error)))
        } catch {
            errors.append(error as? PlatformError ?? PlatformError(.invalidInput, file.path, String(describing: error)))
        }
    }

    private static func place(of error: YamlError, in path: String) -> String {
        switch error {
        case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _):
            "\(path):\(mark.line)"
        case .duplicatedKeysInMapping(_, let context): "\(path):\(context.mark.line)"
        case .reader(_, let offset?, _, let yaml): "\(path):\(yaml.prefix(offset).count { $0.isNewline } + 1)"
        default: path
        }
    }

    private static func reason(_ error: YamlError) -> String {
        switch error {
        case .scanner(let context, let problem, _, _), .parser(let context, let problem, _, _),
            .composer(let context, let problem, _, _):
            "the YAML is malformed: \(problem)"
                + (context.map { ", \(singleLine($0.text)) from line \($0.mark.line) on" } ?? "")
        case .duplicatedKeysInMapping(let keys, _):
            "the YAML is malformed: '\(keys.first.map { singleLine($0) } ?? "")' appears twice in one mapping"
        case .reader(let problem, _, let value, _): "the YAML is malformed: \(problem) (\(value))"
        default: "the YAML is malformed: \(singleLine(String(describing: error)))"
        }
    }

    private static func singleLine(_ text: String) -> String {
        String(text.prefix(200)).split(whereSeparator: \.isNewline).joined(separator: " ")
    }

    /// Runs one step; what it throws becomes one of the errors, unless it only follows from another one.
    mutating func note(_ step: (inout DefinitionCompiler) throws -> Void) {
        do { try step(&self) } catch {
            if error as? PlatformError == Self.consequence { return }
            errors.append(
                error as? PlatformError ?? PlatformError(.invalidInput, "definitions", String(describing: error)))
        }
    }

    /// Takes elements one by one and names the faults of all of them, where a loop would name the first's alone.
    ///
    /// - Throws: `consequence` after the last if one had a fault.
    mutating func each<Element>(
        _ elements: [Element], _ step: (inout DefinitionCompiler, Element) throws(PlatformError) -> Void
    ) throws(PlatformError) {
        var isFaulty = false
        for element in elements {
            do throws(PlatformError) { try step(&self, element) } catch {
                isFaulty = true
                if error != Self.consequence { errors.append(error) }
            }
        }
        if isFaulty { throw Self.consequence }
    }

    private mutating func build() {
        isIncomplete = !errors.isEmpty
        for kind in Self.kinds {
            for document in documents where document.kind == kind {
                note { compiler in
                    do { try compiler.add(kind, document.fields, folder: document.folder) } catch {
                        if let name = try? document.fields.name("name") { compiler.faulty.insert("\(kind)/\(name)") }
                        throw error
                    }
                }
            }
            if kind == "FeatureService" {
                for name in services.keys.sorted() {
                    note { compiler in
                        do { _ = try compiler.resolveService(name) } catch {
                            compiler.faulty.insert("FeatureService/\(name)")
                            throw error
                        }
                    }
                }
            }
        }
    }

    private mutating func add(_ kind: String, _ fields: FieldReader, folder: String) throws {
        let name = try fields.name("name")
        guard set.meanings["\(kind)/\(name)"] == nil, kind != "FeatureService" || services[name] == nil else {
            throw fields.error("name", "another \(kind) has this name")
        }
        try note(tagsOf: fields, as: "\(kind)/\(name)")
        switch kind {
        case "Entity": set.entities[name] = try entity(name, fields)
        case "Source": set.sources[name] = try source(name, fields, folder: folder)
        case "FeatureView": set.featureViews[name] = try featureView(name, fields)
        case "FeatureService":
            services[name] = (fields, folder)
            return
        case "TrainingSet": set.trainingSets[name] = try trainingSet(name, fields, folder: folder)
        case "Model": set.models[name] = try model(name, fields, folder: folder)
        case "Deployment": set.add(try deployment(name, fields))
        default: set.monitors[name] = try monitor(name, fields)
        }
        try fields.finish()
    }

    /// Most tags of one thing.
    private static let tagCountMax = 50

    /// Keeps the words that a definition, column or feature is to be found by.
    mutating func note(tagsOf fields: FieldReader, as identifier: String) throws(PlatformError) {
        guard let tags = try fields.optionalTexts("tags"), !tags.isEmpty else { return }
        guard tags.count <= Self.tagCountMax, Set(tags).count == tags.count,
            tags.allSatisfy({ 1...100 ~= $0.utf8.count })
        else {
            throw fields.error("tags", "'tags' must be at most \(Self.tagCountMax) different texts of 1 to 100 bytes")
        }
        set.tags[identifier] = tags
    }

    /// Records the meaning and the references of a definition.
    @discardableResult
    mutating func record(_ kind: String, _ name: Name, meaning: JSONValue, uses: [String]) -> ContentHash {
        let hash = ContentHasher.hash(meaning.canonicalBytes)
        set.meanings["\(kind)/\(name)"] = hash
        set.references["\(kind)/\(name)"] = uses
        return hash
    }

    func need<Value>(_ kind: String, _ name: Name, in known: [Name: Value], for key: String, _ fields: FieldReader)
        throws(PlatformError) -> Value
    {
        if let value = known[name] { return value }
        if isIncomplete || faulty.contains("\(kind)/\(name)") { throw Self.consequence }
        let near = nearestName(to: name.text, among: known.keys.map(\.text))
        throw fields.error(key, "no \(kind) is called '\(name)'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }
}
