import ContentHashing
public import Definitions
public import FeatureStore
import Foundation
public import PlatformCore
public import StoragePorts
import Synchronization

/// The definitions in force, and every revision before them.
///
/// A revision is the set of files of one `apply`; it is compiled again at start, so what is stored is what people wrote.
/// Changes come one after another: whoever applies second sees what the first one did.
public actor DefinitionCatalog {
    /// What an `apply` would do or did.
    public struct Outcome: Sendable {
        /// The changes.
        public let changes: [DefinitionChange]
        /// Definitions in the new set.
        public let definitionCount: Int
        /// Number of the revision in force afterwards.
        public let revision: Int
        /// The set that was compared with.
        public let before: DefinitionSet
        /// The new set.
        public let after: DefinitionSet
    }

    /// A version of a definition and when it came into force.
    public struct Version: Sendable, Hashable {
        /// `FeatureView/paid`.
        public let identifier: String
        /// Hash of its meaning; `nil` where the definition was removed.
        public let version: ContentHash?
        /// The revision that brought it.
        public let revision: Int
        /// When.
        public let time: EventTime
        /// Who.
        public let actor: String

        init(row: MetadataRow) {
            identifier = row.text("identifier")
            version = ContentHash(hex: row.text("version"))
            revision = Int(row.integer("revision"))
            time = EventTime(milliseconds: row.integer("time"))
            actor = row.text("actor")
        }
    }

    private let store: any MetadataStore
    private let clock: any PlatformClock
    private let journal: any ChangeJournal
    private let snapshot = Mutex((set: DefinitionSet(), revision: 0))
    private let gate = AsyncGate()
    private var listeners: [@Sendable (DefinitionSet) async throws -> Void] = []
    private var followers: [@Sendable () async -> Void] = []
    private var compiled: [Int: DefinitionSet] = [:]
    /// Old sets kept compiled.
    private static let compiledCountMax = 16

    /// Schema of the catalogue.
    public static let migrations = [
        MetadataMigration(
            name: "definitions-1",
            statements: [
                """
                CREATE TABLE definition_revisions (
                    revision BIGINT PRIMARY KEY, time BIGINT NOT NULL, actor TEXT NOT NULL, files TEXT NOT NULL)
                """
            ]),
        // One row for each definition that a revision changed, and one with an empty identifier for each revision.
        MetadataMigration(
            name: "definitions-2",
            statements: [
                """
                CREATE TABLE definition_versions (
                    identifier TEXT NOT NULL, revision BIGINT NOT NULL, version TEXT NOT NULL,
                    PRIMARY KEY (identifier, revision))
                """,
                "CREATE INDEX definition_versions_by_version ON definition_versions (version)",
            ]),
    ]

    /// Makes a catalogue without definitions; `load` reads the stored ones.
    /// - Parameter journal: keeps every apply in the transaction that makes it.
    public init(
        store: any MetadataStore, clock: any PlatformClock, journal: any ChangeJournal = SilentJournal()
    ) {
        self.store = store
        self.clock = clock
        self.journal = journal
    }

    /// The definitions in force.
    public nonisolated var current: DefinitionSet { snapshot.withLock { $0.set } }
    /// The revision in force; 0 before the first.
    public nonisolated var revision: Int { snapshot.withLock { $0.revision } }

    /// Adds somebody who prepares for a new set before it is in force; a failure refuses the `apply`.
    ///
    /// What it prepares must do no harm if the set never comes into force.
    public func addListener(_ listener: @escaping @Sendable (DefinitionSet) async throws -> Void) {
        listeners.append(listener)
    }

    /// Adds somebody who is told after a new set came into force, before the next one can.
    public func addFollower(_ follower: @escaping @Sendable () async -> Void) { followers.append(follower) }

    /// Reads the newest revision and tells the listeners.
    public func load() async throws {
        try await gate.pass {
            let rows = try await store.read { transaction in
                try transaction.query("SELECT revision, files FROM definition_revisions ORDER BY revision DESC LIMIT 1")
            }
            guard let row = rows.first else { return }
            let set = try Self.compile(row.text("files"))
            for listener in listeners { try await listener(set) }
            snapshot.withLock { $0 = (set, Int(row.integer("revision"))) }
            try await fillIndex()
        }
    }

    /// Compiles `files` and, unless this is a rehearsal, makes them the definitions in force, in one transaction.
    /// - Parameters:
    ///   - files: the whole set.
    ///   - isRehearsal: whether only to say what would change.
    ///   - actor: who applies.
    ///   - expectedRevision: the revision that the caller saw; `nil` takes any.
    ///   - check: looks at what would change, and may refuse it; a rehearsal asks it too.
    /// - Throws: `PlatformError` (`invalidInput`) with a line for each fault; `conflict` if another revision is in force.
    public func apply(
        _ files: [DefinitionFile], isRehearsal: Bool, actor: String, expectedRevision: Int? = nil,
        check: @Sendable (Outcome) async throws -> Void = { _ in }
    ) async throws -> Outcome {
        let set: DefinitionSet
        do { set = try DefinitionCompiler.compile(files) } catch {
            throw PlatformError(.invalidInput, "", error.description)
        }
        return try await gate.pass {
            let (before, number) = snapshot.withLock { $0 }
            if let expectedRevision, expectedRevision != number {
                throw PlatformError(
                    .conflict, "definitions", "revision \(number) is in force, not \(expectedRevision); plan again")
            }
            let changes = set.changes(from: before)
            func outcome(_ revision: Int) -> Outcome {
                Outcome(
                    changes: changes, definitionCount: set.meanings.count, revision: revision, before: before,
                    after: set)
            }
            if changes.isEmpty && set == before { return outcome(number) }
            try await check(outcome(number))
            if isRehearsal { return outcome(number) }
            for listener in listeners { try await listener(set) }
            let text = try JSONValue.of(files).text
            let now = clock.now()
            let next = number + 1
            let change = RecordedChange(
                actor: actor, action: "definitions.applied", subject: "definitions/\(next)",
                after: Self.recorded(changes), time: now)
            _ = try await store.write { [journal] transaction in
                try journal.record(change, in: transaction)
                try transaction.execute(
                    "INSERT INTO definition_revisions (revision, time, actor, files) VALUES (?, ?, ?, ?)",
                    [.integer(Int64(next)), .integer(now.milliseconds), .text(actor), .text(text)])
                return try Self.index(set, after: before, as: next, in: transaction)
            }
            snapshot.withLock { $0 = (set, next) }
            for follower in followers { await follower() }
            return outcome(next)
        }
    }

    /// What the journal keeps of an apply: each definition with its versions; the revision itself keeps the files.
    private static func recorded(_ changes: [DefinitionChange]) -> JSONValue {
        let countMax = 1000  // an entry has room for about 250 bytes of each
        var members: [String: JSONValue] = [
            "changes": .array(
                changes.prefix(countMax).map {
                    [
                        "kind": .string($0.kind.rawValue), "identifier": .string($0.identifier),
                        "before": $0.before.map { .string($0.short) } ?? .null,
                        "after": $0.after.map { .string($0.short) } ?? .null,
                    ]
                })
        ]
        if changes.count > countMax { members["more"] = .integer(Int64(changes.count - countMax)) }
        return .object(members)
    }

    // MARK: History

    /// The set of one revision.
    /// - Throws: `notFound`.
    public func set(revision: Int) async throws -> DefinitionSet {
        let (current, number) = snapshot.withLock { $0 }
        if revision == number { return current }
        if let known = compiled[revision] { return known }
        let rows = try await store.read {
            try $0.query("SELECT files FROM definition_revisions WHERE revision = ?", [.integer(Int64(revision))])
        }
        guard let row = rows.first else {
            throw PlatformError(.notFound, "definitions/\(revision)", "there is no such revision")
        }
        let set = try Self.compile(row.text("files"))
        if compiled.count >= Self.compiledCountMax { compiled.removeAll() }
        compiled[revision] = set
        return set
    }

    /// Every version that definitions of a kind ever had, newest first; of one definition where `name` is given.
    public func versions(of kind: String, _ name: Name? = nil) async throws -> [Version] {
        let (low, high) = name.map { ("\(kind)/\($0)", "\(kind)/\($0)") } ?? ("\(kind)/", "\(kind)0")
        let rows = try await store.read {
            try $0.query(
                """
                SELECT v.identifier AS identifier, v.version AS version, v.revision AS revision, r.time AS time, \
                r.actor AS actor FROM definition_versions v JOIN definition_revisions r ON r.revision = v.revision \
                WHERE v.identifier >= ? AND v.identifier <= ? ORDER BY v.revision DESC, v.identifier
                """, [.text(low), .text(high)])
        }
        return rows.map(Version.init(row:))
    }

    /// How a definition was removed that was not there at a moment; `nil` if it was, or never had been.
    public func removal(of identifier: String, at moment: EventTime) async throws -> Version? {
        let newest = try await store.read {
            try $0.query(
                """
                SELECT v.identifier AS identifier, v.version AS version, v.revision AS revision, r.time AS time, \
                r.actor AS actor FROM definition_versions v JOIN definition_revisions r ON r.revision = v.revision \
                WHERE v.identifier = ? AND r.time <= ? ORDER BY v.revision DESC LIMIT 1
                """, [.text(identifier), .integer(moment.milliseconds)])
        }.first.map(Version.init(row:))
        return newest?.version == nil ? newest : nil
    }

    /// A set in which a definition has this version; `nil` if it never had it.
    public func set(with identifier: String, at version: ContentHash) async throws -> DefinitionSet? {
        if current.meanings[identifier] == version { return current }
        let rows = try await store.read {
            try $0.query(
                "SELECT MAX(revision) AS revision FROM definition_versions WHERE identifier = ? AND version = ?",
                [.text(identifier), .text(version.hex)])
        }
        guard let revision = rows.first?["revision"].integerValue else { return nil }
        let set = try await set(revision: Int(revision))
        return set.meanings[identifier] == version ? set : nil
    }

    /// A feature service as it was when it had this version; `nil` if none ever had it.
    public func service(_ version: ContentHash) async throws -> ServiceVersion? {
        let set = current
        if let service = set.featureServices.values.first(where: { $0.version == version }) {
            return ServiceVersion(service: service, definitions: set)
        }
        let rows = try await store.read {
            try $0.query(
                """
                SELECT identifier FROM definition_versions WHERE version = ? AND identifier LIKE 'FeatureService/%' \
                ORDER BY revision DESC
                """, [.text(version.hex)])
        }
        for row in rows {
            let identifier = row.text("identifier")
            guard let old = try await self.set(with: identifier, at: version),
                let service = Name(identifier.dropFirst("FeatureService/".count)).flatMap({ old.featureServices[$0] })
            else { continue }
            return ServiceVersion(service: service, definitions: old)
        }
        return nil
    }

    private static func compile(_ text: String) throws -> DefinitionSet {
        try DefinitionCompiler.compileAgain(
            try JSONValue.parse(text, limits: JSONLimits(byteCountMax: 1 << 30, depthMax: 128)).decoded(
                as: [DefinitionFile].self))
    }

    @discardableResult
    private static func index(
        _ set: DefinitionSet, after before: DefinitionSet, as revision: Int, in transaction: any MetadataTransaction
    ) throws -> Int {
        var rows: [(String, String)] = [("", "")]
        for (identifier, version) in set.meanings where before.meanings[identifier] != version {
            rows.append((identifier, version.hex))
        }
        for identifier in before.meanings.keys where set.meanings[identifier] == nil { rows.append((identifier, "")) }
        for (identifier, version) in rows {
            try transaction.execute(
                "INSERT INTO definition_versions (identifier, revision, version) VALUES (?, ?, ?)",
                [.text(identifier), .integer(Int64(revision)), .text(version)])
        }
        return rows.count
    }

    /// Indexes revisions that were stored before there was an index.
    private func fillIndex() async throws {
        let missing = try await store.read {
            try $0.query(
                """
                SELECT revision FROM definition_revisions WHERE revision NOT IN \
                (SELECT revision FROM definition_versions WHERE identifier = '') ORDER BY revision
                """)
        }.map { Int($0.integer("revision")) }
        for revision in missing {
            // What an earlier program took may be more than this one takes; such a revision stays out of the index.
            guard let set = try? await set(revision: revision) else { continue }
            let before =
                revision > 1 ? (try? await self.set(revision: revision - 1)) ?? DefinitionSet() : DefinitionSet()
            _ = try await store.write { try Self.index(set, after: before, as: revision, in: $0) }
        }
    }
}

/// A feature service with the set that it was defined in.
public struct ServiceVersion: Sendable {
    /// The service.
    public let service: FeatureServiceDefinition
    /// Its views and their sources are in here.
    public let definitions: DefinitionSet

    /// The versions of the views that it reads.
    public var views: [HeldView] {
        Set(service.features.map(\.view)).sorted().compactMap { HeldView($0, in: definitions) }
    }
}
