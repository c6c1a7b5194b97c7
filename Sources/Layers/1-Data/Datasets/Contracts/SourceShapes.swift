public import Definitions
import Expressions
public import PlatformCore
public import StoragePorts
import Synchronization

/// What sources gained by the policies `add` and `widen`: columns beside those of their definitions, wider types.
///
/// Kept in the metadata store; a definition is never edited. A column that the definition names in the meantime is the
/// definition's.
public final class SourceShapes: Sendable {
    struct Change: Sendable, Hashable {
        let name: String
        /// `nil` where an `int64` column is kept as `float64`.
        let added: ColumnType?
    }
    private let metadata: any MetadataStore
    private let readers: @Sendable (Name, String) -> [String]
    private let changes = Mutex<[Name: [Change]]>([:])  // held for look-ups

    /// Makes the memory.
    ///
    /// - Parameters:
    ///   - metadata: where it is kept.
    ///   - readers: names what reads a column of a source: a column that features read is not widened beneath them.
    public init(metadata: any MetadataStore, readers: @escaping @Sendable (Name, String) -> [String] = { _, _ in [] }) {
        self.metadata = metadata
        self.readers = readers
    }

    /// Reads what is kept.
    public func load() async throws {
        let rows = try await metadata.read { transaction in
            try transaction.query(
                "SELECT source, name, change, type FROM dataset_shape ORDER BY source, since_ms, name")
        }
        changes.withLock { changes in
            changes = [:]
            for row in rows {
                guard let source = Name(row.text("source")) else { continue }
                let type = row.text("change") == "added" ? ColumnType(rawValue: row.text("type")) : nil
                changes[source, default: []].append(Change(name: row.text("name"), added: type))
            }
        }
    }

    /// The definition with what the source gained.
    public func effective(_ source: SourceDefinition) -> SourceDefinition {
        let changes = changes.withLock { $0[source.name] ?? [] }
        guard !changes.isEmpty else { return source }
        return source.changed(
            adding: changes.compactMap { change in
                change.added.map { ColumnDefinition(addedColumn: change.name, type: $0) }
            }, widening: Set(changes.filter { $0.added == nil }.map(\.name)))
    }

    /// What the definition does not say yet, with what to write.
    public func sentences(of source: SourceDefinition) -> [String] {
        let changes = changes.withLock { $0[source.name] ?? [] }
        return changes.compactMap { change in
            let written = source.column(change.name)
            if let type = change.added {
                return written == nil
                    ? "column '\(change.name)' was added as \(type.rawValue); write {name: \(change.name), type: \(type.rawValue)} in the schema"
                    : nil
            }
            return written?.type == .int64
                ? "column '\(change.name)' is kept as float64; write {name: \(change.name), type: float64} in the schema"
                : nil
        }
    }

    /// Keeps new columns and wider types; durable when it returns.
    /// - Throws: `PlatformError` (`invalidInput`) where a column cannot be added or widened; then nothing is changed.
    func change(
        _ source: SourceDefinition, adding added: [String: ColumnType], widening widened: Set<String>, origin: String,
        now: EventTime
    ) async throws {
        let known = Set(effective(source).columns.map(\.name))
        var fresh: [Change] = []
        for (name, type) in added.sorted(by: { $0.key < $1.key }) where !known.contains(name) {
            guard ColumnDefinition.isName(name) else {
                throw PlatformError(
                    .invalidInput, "source/\(source.name)",
                    "the column \(CellReader.shown(name)) cannot be added: that is no column name (letters, digits and '_', at most 63)"
                )
            }
            fresh.append(Change(name: name, added: type))
        }
        guard known.count + fresh.count <= 1000 else {
            throw PlatformError(.invalidInput, "source/\(source.name)", "more than 1000 columns")
        }
        for name in widened.sorted() where effective(source).column(name)?.type == .int64 {
            let isFiltered = source.filter?.columns.contains(name) == true
            let used = readers(source.name, name) + (isFiltered ? ["its filter"] : [])
            guard used.isEmpty else {
                throw PlatformError(
                    .invalidInput, "source/\(source.name)",
                    "the column '\(name)' brings fractions but \(used.prefix(3).joined(separator: ", ")) reads it as int64; set its type to float64 in the schema; nothing was stored"
                )
            }
            fresh.append(Change(name: name, added: nil))
        }
        guard !fresh.isEmpty else { return }
        let kept = fresh
        _ = try await metadata.write { transaction in
            for change in kept {
                try transaction.execute(
                    """
                    INSERT INTO dataset_shape (source, name, change, type, since_ms, origin) VALUES (?, ?, ?, ?, ?, ?)
                    ON CONFLICT (source, name) DO UPDATE SET change = excluded.change, type = excluded.type
                    """,
                    [
                        .text(source.name.text), .text(change.name), .text(change.added == nil ? "widened" : "added"),
                        .text((change.added ?? .float64).rawValue), .integer(now.milliseconds), .text(origin),
                    ])
            }
        }
        changes.withLock { changes in
            for change in kept where !(changes[source.name] ?? []).contains(where: { $0.name == change.name }) {
                changes[source.name, default: []].append(change)
            }
        }
    }
}

/// What rows of a load or push bring beyond the schema.
struct ShapeSurvey: Sendable {
    private(set) var added: [String: ColumnType] = [:]
    private(set) var widened: Set<String> = []
    /// Columns whose values have no common type, or none that a column can have.
    private(set) var unusable: Set<String> = []

    var isEmpty: Bool { added.isEmpty && widened.isEmpty }

    /// Looks at a row; `contract` is that of the source as it is now.
    mutating func look(at row: JSONValue, _ contract: SourceContract, from origin: RowOrigin) {
        guard case .object(let members) = row else { return }
        switch contract.definition.schemaChange {
        case .add:
            for (name, value) in members where contract.position(of: name) == nil {
                let type: ColumnType
                switch value {
                case .null: continue
                case .string: type = .string
                case .integer: type = .int64
                case .number: type = .float64
                case .bool: type = .bool
                case .array, .object:
                    unusable.insert(name)
                    continue
                }
                guard let before = added[name], before != type else {
                    added[name] = type
                    continue
                }
                if [before, type].allSatisfy({ $0 == .int64 || $0 == .float64 }) {
                    added[name] = .float64
                } else {
                    unusable.insert(name)
                }
            }
        case .widen: widened.formUnion(contract.fractions(in: row, from: origin))
        case .refuse, .ignore: break
        }
    }

    mutating func add(_ name: String, _ type: ColumnType) { added[name] = type }

    var wanted: [String: ColumnType] { added.filter { !unusable.contains($0.key) } }
}

extension IngestService {
    /// The source as it must be to hold these rows, after its policy.
    func adapted(_ source: SourceDefinition, to rows: [JSONValue], origin: String, now: EventTime) async throws
        -> SourceDefinition
    {
        guard source.schemaChange == .add || source.schemaChange == .widen else { return source }
        var survey = ShapeSurvey()
        let contract = contract(of: source)
        for row in rows { survey.look(at: row, contract, from: .push) }
        if !survey.isEmpty {
            try await shapes.change(
                source, adding: survey.wanted, widening: survey.widened, origin: origin, now: now)
        }
        return source
    }
}
