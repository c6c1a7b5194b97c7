import ContentHashing
import Definitions
public import PlatformCore
import StoragePorts

/// What registered models and their labels may be called.
enum RegistryLimits {
    static let nameLengthMax = 256
    static let tagKeyLengthMax = 250
    static let tagValueLengthMax = 100_000
    static let aliasLengthMax = 255
    static let descriptionByteCountMax = 100_000

    static func check(name: String) throws(PlatformError) {
        guard name.contains(where: { !$0.isWhitespace }), isAtMost(nameLengthMax, name), !name.contains("/"),
            !name.contains(":"), PathKey.namesItself(name),
            !name.unicodeScalars.contains(where: { $0.value < 0x20 })
        else {
            throw PlatformError(
                .invalidInput, "registered model",
                "Invalid name for a registered model: '\(name.prefix(64))'. It is at most \(nameLengthMax) characters "
                    + "long, more than blanks, holds neither '/' nor ':' and is neither '.' nor begins with '..'.")
        }
    }

    static func check(tag key: String, _ value: String) throws(PlatformError) {
        guard !key.isEmpty, isAtMost(tagKeyLengthMax, key), isAtMost(tagValueLengthMax, value) else {
            throw PlatformError(
                .invalidInput, "tag '\(key.prefix(64))'",
                "a key has 1 to \(tagKeyLengthMax) characters, a value at most \(tagValueLengthMax)")
        }
        if let fault = PathKey.fault(in: key) {
            throw PlatformError(.invalidInput, "tag", "the name '\(key.prefix(64))' \(fault)")
        }
    }

    private static func isAtMost(_ limit: Int, _ text: String) -> Bool {
        text.utf8.count <= limit || text.unicodeScalars.count <= limit
    }

    static func check(description: String?) throws(PlatformError) {
        guard description?.utf8.count ?? 0 <= descriptionByteCountMax else {
            throw PlatformError(.tooLarge, "description", "it has more than \(descriptionByteCountMax) bytes")
        }
    }

    static func check(alias: String) throws(PlatformError) {
        let letters = alias.unicodeScalars
        let isVersion =
            letters.count > 1 && (letters.first == "v" || letters.first == "V")
            && letters.dropFirst().allSatisfy { $0.properties.numericType == .decimal }
        guard !alias.isEmpty, isAtMost(aliasLengthMax, alias), !isVersion, alias.lowercased() != "latest",
            letters.allSatisfy({ PathKey.isWord($0) || $0 == "-" || $0 == "." })
        else {
            throw PlatformError(
                .invalidInput, "alias",
                "'\(alias.prefix(64))' is no alias: letters, digits, _, . and - are accepted, at most \(aliasLengthMax), and neither "
                    + "'latest' nor a version such as 'v1'")
        }
    }

    /// A semantic version such as `1.3.2` or `v2.0.0-rc.1`, without the `v`.
    static func semanticVersion(_ text: String) throws(PlatformError) -> String {
        let label = text.hasPrefix("v") ? String(text.dropFirst()) : text
        let core = label.prefix { $0 != "-" && $0 != "+" }
        let parts = core.split(separator: ".", omittingEmptySubsequences: false)
        let rest = label.dropFirst(core.count)
        let isCore =
            parts.count == 3
            && parts.allSatisfy {
                1...9 ~= $0.utf8.count && $0.utf8.allSatisfy { 48...57 ~= $0 } && ($0 == "0" || $0.first != "0")
            }
        let isRest =
            rest.isEmpty
            || rest.count > 1
                && rest.utf8.dropFirst().allSatisfy {
                    48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == 45 || $0 == 46 || $0 == 43
                }
        guard isCore, isRest, label.utf8.count <= 64 else {
            throw PlatformError(
                .invalidInput, "label", "'\(text.prefix(64))' is no semantic version such as 1.3.2 or 2.0.0-rc.1")
        }
        return label
    }
}

extension ModelVersionRegistry {
    // MARK: Models

    /// Makes a model without versions.
    /// - Throws: `conflict` for a taken name, `invalidInput`.
    @discardableResult
    public func createModel(
        _ name: String, description: String? = nil, tags: [String: String] = [:], actor: String
    ) async throws -> RegisteredModel {
        try RegistryLimits.check(name: name)
        try RegistryLimits.check(description: description)
        for (key, value) in tags { try RegistryLimits.check(tag: key, value) }
        let now = clock.now()
        let model = try await store.write { transaction in
            guard try Self.find(name, in: transaction) == nil else {
                throw PlatformError(
                    .conflict, "model/\(name)", "Registered Model (name=\(name)) already exists.")
            }
            let id = try Self.freeIdentity(for: name, in: transaction)
            let model = try self.insertModel(
                id, named: name, description: description, at: now, actor: actor, in: transaction)
            for (key, value) in tags { try Self.put(key, value, model.id, 0, in: transaction) }
            return model
        }
        await publish(event("model.created", "model/\(model.id)", now, actor, ["name": .string(name)]))
        return model
    }

    /// The model of a name.
    /// - Throws: `notFound`.
    public func model(named name: String) async throws -> RegisteredModel {
        try await store.read { try Self.model(named: name, in: $0) }
    }

    /// The identity behind a name; text that is no registered name stands for itself if it could be an identity.
    public func identity(of name: String) async throws -> Name? {
        try await store.read { try Self.find(name, in: $0)?.id } ?? Name(name)
    }

    /// The model of an identity, deleted or not.
    /// - Throws: `notFound`.
    public func model(id: Name) async throws -> RegisteredModel {
        try await store.read { try Self.model(id: id, in: $0) }
    }

    /// The semantic version of a version; `nil` if it has none.
    public func label(of model: Name, _ number: Int) async throws -> String? {
        try await store.read {
            try $0.query(
                "SELECT label FROM model_versions WHERE model = ? AND number = ?",
                [.text(model.text), .integer(Int64(number))]
            ).first?["label"].textValue
        }
    }

    /// Tags of a model.
    public func tags(of model: Name) async throws -> [String: String] {
        try await store.read { try Self.tags(model, 0, in: $0) }
    }

    /// Whether a model of this identity is registered.
    public func isKnown(_ model: Name) async throws -> Bool {
        try await store.read {
            !(try $0.query("SELECT 1 FROM models WHERE model_id = ?", [.text(model.text)]).isEmpty)
        }
    }

    /// Gives a model another name; its identity, versions and history stay.
    /// - Throws: `conflict` for a taken name, `notFound`.
    public func renameModel(_ name: String, to newName: String, actor: String) async throws -> RegisteredModel {
        try RegistryLimits.check(name: newName)
        return try await change(name, kind: "renamed", actor: actor) { model, transaction in
            if newName == model.name { return (nil, nil, nil) }
            guard try Self.find(newName, in: transaction) == nil else {
                throw PlatformError(
                    .conflict, "model/\(newName)", "Registered Model (name=\(newName)) already exists.")
            }
            try transaction.execute(
                "UPDATE models SET name = ? WHERE model_id = ?", [.text(newName), .text(model.id.text)])
            return (nil, model.name, newName)
        }
    }

    /// Changes a model's description.
    public func describeModel(_ name: String, _ description: String?, actor: String) async throws -> RegisteredModel {
        try RegistryLimits.check(description: description)
        return try await change(name, kind: "described", actor: actor) { model, transaction in
            try transaction.execute(
                "UPDATE models SET description = ? WHERE model_id = ?",
                [MetadataValue(description), .text(model.id.text)])
            return (nil, model.description, description)
        }
    }

    /// Removes a model and its versions from every list; its history and its identity's numbers stay.
    /// - Parameter isHeld: whether a policy in force that names a version keeps it.
    /// - Throws: `refused` while a version answers requests, `notFound`.
    public func deleteModel(
        _ name: String, actor: String, isHeld: @escaping @Sendable (PolicyRevision) -> Bool = { _ in true }
    ) async throws {
        let now = clock.now()
        let (model, steps) = try await store.write { transaction -> (RegisteredModel, [StageTransition]) in
            let model = try Self.model(named: name, in: transaction)
            var steps: [StageTransition] = []
            for number in try StageTransition.stages(model.id, in: transaction).keys.sorted() {
                steps += try self.remove(model.id, number, at: now, actor: actor, isHeld: isHeld, in: transaction)
            }
            try transaction.execute(
                "UPDATE models SET deleted_at = ?, updated_at = ? WHERE model_id = ?",
                [MetadataValue(now), MetadataValue(now), .text(model.id.text)])
            try transaction.execute(
                "DELETE FROM model_tags WHERE model_id = ? AND number = 0", [.text(model.id.text)])
            try self.log(
                ModelEdit(model: model.id, number: 0, kind: "deleted", key: nil, before: name, after: nil),
                at: now, actor: actor, in: transaction)
            return (model, steps)
        }
        await announce(steps)
        await publish(event("model.deleted", "model/\(model.id)", now, actor, ["name": .string(name)]))
    }

    // MARK: Tags, descriptions, labels

    /// Sets a tag of a model, or of a version of it.
    public func setTag(_ key: String, to value: String, of name: String, version: Int?, actor: String) async throws {
        try RegistryLimits.check(tag: key, value)
        _ = try await change(name, version: version, kind: "tag.set", actor: actor) { model, transaction in
            let before = try Self.tags(model.id, version ?? 0, in: transaction)[key]
            try Self.put(key, value, model.id, version ?? 0, in: transaction)
            return (key, before, value)
        }
    }

    /// Removes a tag of a model, or of a version of it; nothing happens if there is none.
    public func deleteTag(_ key: String, of name: String, version: Int?, actor: String) async throws {
        _ = try await change(name, version: version, kind: "tag.deleted", actor: actor) { model, transaction in
            let before = try Self.tags(model.id, version ?? 0, in: transaction)[key]
            try transaction.execute(
                "DELETE FROM model_tags WHERE model_id = ? AND number = ? AND key = ?",
                [.text(model.id.text), .integer(Int64(version ?? 0)), .text(key)])
            return (key, before, nil)
        }
    }

    /// Changes what is said of a version.
    public func describeVersion(_ number: Int, of name: String, _ description: String?, actor: String) async throws {
        try RegistryLimits.check(description: description)
        _ = try await change(name, version: number, kind: "described", actor: actor) { model, transaction in
            let before = try Self.row(model.id, number, in: transaction)["note"].textValue
            try transaction.execute(
                "UPDATE model_versions SET note = ? WHERE model = ? AND number = ?",
                [MetadataValue(description), .text(model.id.text), .integer(Int64(number))])
            return (nil, before, description)
        }
    }

    /// Gives a version a semantic version, `1.3.2`; no two versions of a model have the same.
    /// - Throws: `invalidInput`, `conflict` if another version has it.
    public func labelVersion(_ number: Int, of name: String, _ label: String, actor: String) async throws {
        let label = try RegistryLimits.semanticVersion(label)
        _ = try await change(name, version: number, kind: "labelled", actor: actor) { model, transaction in
            let holder = try transaction.query(
                "SELECT number FROM model_versions WHERE model = ? AND label = ? AND number <> ?",
                [.text(model.id.text), .text(label), .integer(Int64(number))]
            ).first?.integer("number")
            if let holder {
                throw PlatformError(
                    .conflict, ModelVersion.subject(model.id, number), "version \(holder) is called \(label) already")
            }
            let before = try Self.row(model.id, number, in: transaction)["label"].textValue
            try transaction.execute(
                "UPDATE model_versions SET label = ? WHERE model = ? AND number = ?",
                [.text(label), .text(model.id.text), .integer(Int64(number))])
            return (nil, before, label)
        }
    }

    /// Removes a version from every list; its number is not given again and its history stays.
    /// - Parameter isHeld: whether a policy in force that names it keeps it.
    /// - Throws: `refused` while it answers requests, `notFound`.
    public func deleteVersion(
        _ number: Int, of name: String, actor: String,
        isHeld: @escaping @Sendable (PolicyRevision) -> Bool = { _ in true }
    ) async throws {
        let now = clock.now()
        let (model, steps) = try await store.write { transaction -> (RegisteredModel, [StageTransition]) in
            let model = try Self.model(named: name, in: transaction)
            return (
                model, try self.remove(model.id, number, at: now, actor: actor, isHeld: isHeld, in: transaction)
            )
        }
        await announce(steps)
        await publish(event("model.version.deleted", ModelVersion.subject(model.id, number), now, actor, [:]))
    }

    /// Names, descriptions, tags and labels of a model as they came and went, oldest first.
    public func changes(of model: Name) async throws -> [ModelChange] {
        try await store.read {
            try $0.query(
                "SELECT * FROM model_changes WHERE model_id = ? ORDER BY position", [.text(model.text)]
            ).map { row in
                ModelChange(
                    position: row.integer("position"), number: Int(row.integer("number")), kind: row.text("kind"),
                    key: row["key"].textValue, before: row["before_text"].textValue, after: row["after_text"].textValue,
                    time: EventTime(milliseconds: row.integer("time")), actor: row.text("actor"))
            }
        }
    }

    // MARK: Inside a transaction

    /// An entry of `model_changes` on its way.
    struct ModelEdit {
        let model: Name
        let number: Int
        let kind: String
        let key: String?
        let before: String?
        let after: String?
    }

    func log(_ edit: ModelEdit, at now: EventTime, actor: String, in transaction: any MetadataTransaction) throws {
        let last = try transaction.query("SELECT position, time FROM model_changes ORDER BY position DESC LIMIT 1")
            .first
        let time = max(now, EventTime(milliseconds: last?.integer("time") ?? .min))
        try transaction.execute(
            """
            INSERT INTO model_changes (position, model_id, number, kind, key, before_text, after_text, time, actor) \
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .integer((last?.integer("position") ?? 0) + 1), .text(edit.model.text), .integer(Int64(edit.number)),
                .text(edit.kind), MetadataValue(edit.key), MetadataValue(edit.before), MetadataValue(edit.after),
                MetadataValue(time), .text(actor),
            ])
        func value(_ text: String?) -> JSONValue {
            guard let text else { return .null }
            // An audit entry is short; the whole text is in `model_changes`.
            let short = JSONValue.string(String(text.prefix(4000)))
            return edit.key.map { .object([$0: short]) } ?? short
        }
        try journal.record(
            RecordedChange(
                actor: actor, action: edit.number == 0 ? "model.\(edit.kind)" : "model.version.\(edit.kind)",
                subject: edit.number == 0 ? "model/\(edit.model)" : ModelVersion.subject(edit.model, edit.number),
                before: value(edit.before), after: value(edit.after), time: time), in: transaction)
    }

    private func change(
        _ name: String, version: Int? = nil, kind: String, actor: String,
        _ body:
            @escaping @Sendable (RegisteredModel, any MetadataTransaction) throws -> (
                key: String?, before: String?, after: String?
            )
    ) async throws -> RegisteredModel {
        let now = clock.now()
        let (model, changed) = try await store.write { transaction -> (RegisteredModel, Bool) in
            let model = try Self.model(named: name, in: transaction)
            if let version { _ = try Self.row(model.id, version, in: transaction) }
            let (key, before, after) = try body(model, transaction)
            if before == after { return (model, false) }
            try self.log(
                ModelEdit(model: model.id, number: version ?? 0, kind: kind, key: key, before: before, after: after),
                at: now, actor: actor, in: transaction)
            // As MLflow counts it: a tag is no change of the thing that it is at.
            if kind.hasPrefix("tag.") { return (try Self.model(id: model.id, in: transaction), true) }
            if let version {
                try transaction.execute(
                    "UPDATE model_versions SET updated_at = ? WHERE model = ? AND number = ?",
                    [MetadataValue(now), .text(model.id.text), .integer(Int64(version))])
            } else {
                try transaction.execute(
                    "UPDATE models SET updated_at = ? WHERE model_id = ?", [MetadataValue(now), .text(model.id.text)])
            }
            return (try Self.model(id: model.id, in: transaction), true)
        }
        if changed {
            await publish(
                event(
                    version == nil ? "model.\(kind)" : "model.version.\(kind)",
                    version.map { ModelVersion.subject(model.id, $0) } ?? "model/\(model.id)", now, actor, [:]))
        }
        return model
    }

    /// Archives and hides a version, and takes the aliases off it.
    private func remove(
        _ model: Name, _ number: Int, at now: EventTime, actor: String, isHeld: (PolicyRevision) -> Bool,
        in transaction: any MetadataTransaction
    ) throws -> [StageTransition] {
        let subject = ModelVersion.subject(model, number)
        guard let stage = try StageTransition.stage(model, number, in: transaction) else {
            throw Self.unknown(model, number)
        }
        for revision in try Self.currentRevisions(of: model, in: transaction)
        where revision.names(number) && isHeld(revision) {
            throw PlatformError(
                .refused, subject,
                "the deployment '\(revision.deployment)' sends traffic to it; deploy another version first")
        }
        var steps: [StageTransition] = []
        if stage != .archived {
            steps.append(
                try append(
                    model, number, from: stage, to: .archived, at: now, actor: actor, reason: "deleted", evidence: nil,
                    in: transaction))
        }
        for row in try transaction.query(
            "SELECT alias FROM model_aliases WHERE model_id = ? AND number = ?",
            [.text(model.text), .integer(Int64(number))])
        {
            try setAlias(row.text("alias"), of: model, to: nil, at: now, actor: actor, in: transaction)
        }
        try transaction.execute(
            "UPDATE model_versions SET deleted_at = ?, updated_at = ? WHERE model = ? AND number = ?",
            [MetadataValue(now), MetadataValue(now), .text(model.text), .integer(Int64(number))])
        try log(
            ModelEdit(model: model, number: number, kind: "deleted", key: nil, before: stage.rawValue, after: nil),
            at: now, actor: actor, in: transaction)
        return steps
    }

    /// Makes the model's row, or brings a deleted one of the same identity back.
    @discardableResult
    func insertModel(
        _ id: Name, named name: String, description: String?, at now: EventTime, actor: String,
        in transaction: any MetadataTransaction
    ) throws -> RegisteredModel {
        try transaction.execute(
            """
            INSERT INTO models (model_id, name, created_at, created_by, updated_at, description) \
            VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model_id) DO UPDATE SET name = excluded.name, \
            created_at = excluded.created_at, created_by = excluded.created_by, updated_at = excluded.updated_at, \
            description = excluded.description, deleted_at = NULL
            """,
            [
                .text(id.text), .text(name), MetadataValue(now), .text(actor), MetadataValue(now),
                MetadataValue(description),
            ])
        try log(
            ModelEdit(model: id, number: 0, kind: "created", key: nil, before: nil, after: name), at: now, actor: actor,
            in: transaction)
        return try Self.model(id: id, in: transaction)
    }

    static func find(_ name: String, in transaction: any MetadataTransaction) throws -> RegisteredModel? {
        try transaction.query("SELECT * FROM models WHERE name = ? AND deleted_at IS NULL", [.text(name)]).first.map {
            try RegisteredModel(row: $0)
        }
    }

    static func model(named name: String, in transaction: any MetadataTransaction) throws -> RegisteredModel {
        if let model = try find(name, in: transaction) { return model }
        throw PlatformError(
            .notFound, "model/\(name.prefix(64))", "Registered Model with name=\(name.prefix(64)) not found")
    }

    static func model(id: Name, in transaction: any MetadataTransaction) throws -> RegisteredModel {
        guard let row = try transaction.query("SELECT * FROM models WHERE model_id = ?", [.text(id.text)]).first else {
            throw PlatformError(.notFound, "model/\(id)", "no such model is registered")
        }
        return try RegisteredModel(row: row)
    }

    static func row(_ model: Name, _ number: Int, in transaction: any MetadataTransaction) throws -> MetadataRow {
        let rows = try transaction.query(
            "SELECT * FROM model_versions WHERE model = ? AND number = ? AND deleted_at IS NULL",
            [.text(model.text), .integer(Int64(number))])
        guard let row = rows.first else { throw unknown(model, number) }
        return row
    }

    static func tags(_ model: Name, _ number: Int, in transaction: any MetadataTransaction) throws -> [String: String] {
        Dictionary(
            try transaction.query(
                "SELECT key, value FROM model_tags WHERE model_id = ? AND number = ?",
                [.text(model.text), .integer(Int64(number))]
            ).map { ($0.text("key"), $0.text("value")) }, uniquingKeysWith: { $1 })
    }

    static func put(
        _ key: String, _ value: String, _ model: Name, _ number: Int, in transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO model_tags (model_id, number, key, value) VALUES (?, ?, ?, ?) \
            ON CONFLICT (model_id, number, key) DO UPDATE SET value = excluded.value
            """, [.text(model.text), .integer(Int64(number)), .text(key), .text(value)])
    }

    /// The name itself where it can be an identity and is free, else something like it.
    private static func freeIdentity(for name: String, in transaction: any MetadataTransaction) throws -> Name {
        var base = name
        if Name(name) == nil {
            let plain = String(
                name.unicodeScalars.map { scalar -> Character in
                    let isPlain = scalar.isASCII && (scalar.properties.isAlphabetic || 48...57 ~= scalar.value)
                    return isPlain ? Character(scalar) : "_"
                })
            base = "m_\(plain.prefix(80))-\(ContentHasher.hash(Array(name.utf8)).hex.prefix(12))"
        }
        for attempt in 1...10_000 {
            guard let id = Name(attempt == 1 ? base : "\(base.prefix(120)).\(attempt)") else { break }
            let holder = try transaction.query("SELECT deleted_at FROM models WHERE model_id = ?", [.text(id.text)])
            if holder.first.map({ !$0["deleted_at"].isNull }) ?? true { return id }
        }
        throw PlatformError(.conflict, "model/\(name.prefix(64))", "no identity is free for this name")
    }

    func event(_ kind: String, _ subject: String, _ time: EventTime, _ actor: String, _ details: JSONValue)
        -> PlatformEvent
    {
        PlatformEvent(kind: kind, subject: subject, time: time, actor: actor, details: details)
    }
}

extension MetadataValue {
    var isNull: Bool { self == .null }
}
