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
    /// How the message about a reference to a definition that has errors of its own ends.
    private static let brokenElsewhere = "which has errors of its own"

    /// Most documents in one set.
    public static let documentCountMax = 20_000

    static let kinds = [
        "Entity", "Source", "FeatureView", "FeatureService", "TrainingSet", "Model", "Deployment", "Monitor",
    ]

    var set = DefinitionSet()
    var errors: [PlatformError] = []
    var documents: [(kind: String, fields: FieldReader, folder: String)] = []
    /// `Kind/name` of every document, the broken ones too.
    private var declared: Set<String> = []
    /// Whether a file could not be read to its end.
    private var isCutShort = false
    /// Includes of feature services that are not resolved yet.
    var services: [Name: (fields: FieldReader, folder: String)] = [:]
    var servicesInProgress: [Name] = []

    /// Compiles files.
    /// - Throws: `DefinitionErrors` with every fault found.
    public static func compile(_ files: [DefinitionFile]) throws(DefinitionErrors) -> DefinitionSet {
        var compiler = DefinitionCompiler()
        for file in files { compiler.collect(file) }
        // Where a file cannot be read to its end, everything that refers to what it holds would look broken too.
        if compiler.isCutShort { throw DefinitionErrors(errors: compiler.errors) }
        compiler.build()
        // A definition that leans on a broken one has no fault of its own.
        let causes = compiler.errors.filter { !$0.message.hasSuffix(Self.brokenElsewhere) }
        if !causes.isEmpty { compiler.errors = causes }
        if !compiler.errors.isEmpty { throw DefinitionErrors(errors: compiler.errors) }
        return compiler.set
    }

    private mutating func collect(_ file: DefinitionFile) {
        guard file.text.utf8.count <= Self.fileByteCountMax else {
            errors.append(PlatformError(.tooLarge, file.path, "the file is larger than \(Self.fileByteCountMax) bytes"))
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
                    $0.declared.insert("\(kind)/\(try fields.text("name"))")
                    $0.documents.append((kind, named, file.folder))
                }
            }
            // The sequence ends early where the text is broken: what came before must not pass for the whole.
            if let error = nodes.error { throw error }
        } catch let error as YamlError {
            isCutShort = true
            errors.append(PlatformError(.invalidInput, Self.place(of: error, in: file.path), Self.reason(error)))
        } catch {
            errors.append(error as? PlatformError ?? PlatformError(.invalidInput, file.path, String(describing: error)))
        }
    }

    private static func place(of error: YamlError, in path: String) -> String {
        switch error {
        case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _):
            "\(path):\(mark.line)"
        default: path
        }
    }

    private static func reason(_ error: YamlError) -> String {
        switch error {
        case .scanner(_, let problem, _, _), .parser(_, let problem, _, _), .composer(_, let problem, _, _):
            "the YAML is malformed: \(problem)"
        default: "the YAML is malformed: \(String(describing: error).prefix(200))"
        }
    }

    /// Runs one step; what it throws becomes one of the errors.
    mutating func note(_ step: (inout DefinitionCompiler) throws -> Void) {
        do { try step(&self) } catch {
            errors.append(
                error as? PlatformError ?? PlatformError(.invalidInput, "definitions", String(describing: error)))
        }
    }

    private mutating func build() {
        for kind in Self.kinds {
            for document in documents where document.kind == kind {
                note { try $0.add(kind, document.fields, folder: document.folder) }
            }
            if kind == "FeatureService" {
                for name in services.keys.sorted() { note { _ = try $0.resolveService(name) } }
            }
        }
    }

    private mutating func add(_ kind: String, _ fields: FieldReader, folder: String) throws {
        let name = try fields.name("name")
        guard set.meanings["\(kind)/\(name)"] == nil, kind != "FeatureService" || services[name] == nil else {
            throw fields.error("name", "another \(kind) has this name")
        }
        switch kind {
        case "Entity": set.entities[name] = try entity(name, fields)
        case "Source": set.sources[name] = try source(name, fields)
        case "FeatureView": set.featureViews[name] = try featureView(name, fields)
        case "FeatureService":
            services[name] = (fields, folder)
            return
        case "TrainingSet": set.trainingSets[name] = try trainingSet(name, fields)
        case "Model": set.models[name] = try model(name, fields, folder: folder)
        case "Deployment": set.deployments[name] = try deployment(name, fields)
        default: set.monitors[name] = try monitor(name, fields)
        }
        try fields.finish()
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
        if declared.contains("\(kind)/\(name)") {
            throw fields.error(key, "needs the \(kind) '\(name)', \(Self.brokenElsewhere)")
        }
        let near = nearestName(to: name.text, among: known.keys.map(\.text))
        throw fields.error(key, "no \(kind) is called '\(name)'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }
}
