public import Definitions
import Foundation
public import PlatformCore
public import StoragePorts
import Synchronization

/// The definitions in force, and every revision before them.
///
/// A revision is the set of files of one `apply`; it is compiled again at start, so what is stored is what people wrote.
public actor DefinitionCatalog {
    /// What an `apply` would do or did.
    public struct Outcome: Sendable {
        /// The changes.
        public let changes: [DefinitionChange]
        /// Definitions in the new set.
        public let definitionCount: Int
        /// Number of the revision in force afterwards.
        public let revision: Int
    }

    private let store: any MetadataStore
    private let clock: any PlatformClock
    private let snapshot = Mutex((set: DefinitionSet(), revision: 0))
    private var listeners: [@Sendable (DefinitionSet) async throws -> Void] = []

    /// Schema of the catalogue.
    public static let migrations = [
        MetadataMigration(
            name: "definitions-1",
            statements: [
                """
                CREATE TABLE definition_revisions (
                    revision BIGINT PRIMARY KEY, time BIGINT NOT NULL, actor TEXT NOT NULL, files TEXT NOT NULL)
                """
            ])
    ]

    /// Makes a catalogue without definitions; `load` reads the stored ones.
    public init(store: any MetadataStore, clock: any PlatformClock) {
        self.store = store
        self.clock = clock
    }

    /// The definitions in force.
    public nonisolated var current: DefinitionSet { snapshot.withLock { $0.set } }
    /// The revision in force; 0 before the first.
    public nonisolated var revision: Int { snapshot.withLock { $0.revision } }

    /// Adds somebody who prepares for a new set before it is in force; a failure refuses the `apply`.
    public func addListener(_ listener: @escaping @Sendable (DefinitionSet) async throws -> Void) {
        listeners.append(listener)
    }

    /// Reads the newest revision and tells the listeners.
    public func load() async throws {
        let rows = try await store.read { transaction in
            try transaction.query("SELECT revision, files FROM definition_revisions ORDER BY revision DESC LIMIT 1")
        }
        guard let row = rows.first else { return }
        let files = try JSONValue.parse(row.text("files")).decoded(as: [DefinitionFile].self)
        let set = try DefinitionCompiler.compile(files)
        for listener in listeners { try await listener(set) }
        snapshot.withLock { $0 = (set, Int(row.integer("revision"))) }
    }

    /// Compiles `files` and, unless this is a rehearsal, makes them the definitions in force, in one transaction.
    /// - Throws: `PlatformError` (`invalidInput`) with a line for each fault.
    public func apply(_ files: [DefinitionFile], isRehearsal: Bool, actor: String) async throws -> Outcome {
        let set: DefinitionSet
        do { set = try DefinitionCompiler.compile(files) } catch {
            throw PlatformError(.invalidInput, "", error.description)
        }
        let before = current
        let changes = set.changes(from: before)
        if isRehearsal || (changes.isEmpty && set == before) {
            return Outcome(changes: changes, definitionCount: set.meanings.count, revision: revision)
        }
        for listener in listeners { try await listener(set) }
        let text = try JSONValue.of(files).text
        let now = clock.now()
        let next = revision + 1
        _ = try await store.write { transaction in
            try transaction.execute(
                "INSERT INTO definition_revisions (revision, time, actor, files) VALUES (?, ?, ?, ?)",
                [.integer(Int64(next)), .integer(now.milliseconds), .text(actor), .text(text)])
        }
        snapshot.withLock { $0 = (set, next) }
        return Outcome(changes: changes, definitionCount: set.meanings.count, revision: next)
    }
}
