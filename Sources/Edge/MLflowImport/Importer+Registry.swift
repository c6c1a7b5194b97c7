import ContentHashing
import PlatformCore

extension Importer {
    /// Copies models, versions with their numbers, tags, aliases and stages.
    func copyRegistry(_ moved: Moved) async throws {
        let models = try await source.registeredModels()
        tally.found("registered_models", models.count)
        let versions = Dictionary(grouping: try await source.modelVersions()) { $0.text("name") }
        tally.found("versions", versions.values.reduce(0) { $0 + $1.count })
        let there = Dictionary(
            grouping: try await ServerSource(destination).modelVersions()
        ) { $0.text("name") }
        let others = noteOthers(than: models, versions, there)
        for model in models {
            let name = model.text("name")
            if others.contains(name) { continue }
            try await attempt("model \(name)") {
                let change = try await make(model)
                var numbers = Dictionary(
                    (there[name] ?? []).map { ($0.number("version") ?? 0, $0) }, uniquingKeysWith: { $1 })
                for version in (versions[name] ?? []).sorted(by: {
                    ($0.number("version") ?? 0) < ($1.number("version") ?? 0)
                }) {
                    try await attempt("version \(version.text("version")) of \(name)") {
                        try await copy(version: version, moved, &numbers)
                    }
                }
                if let change { try await settle(model, change) }
                // Last, because what was set above is a change of today.
                try await restate(model, name: name, version: nil)
                if change == nil { tally.present("registered_models") } else { tally.copied("registered_models") }
            }
        }
        noteGone(versions, there)
        try await verifyRegistry(
            models.filter { !others.contains($0.text("name")) }, versions.filter { !others.contains($0.key) })
    }

    /// Says which versions came from this source and are in it no more: they are left, since a source may have been emptied.
    private func noteGone(_ versions: [String: [JSONValue]], _ there: [String: [JSONValue]]) {
        for (name, list) in there.sorted(by: { $0.key < $1.key }) {
            let known = Set((versions[name] ?? []).map { $0.text("version") })
            for version in list where !known.contains(version.text("version")) {
                let number = version.text("version")
                guard version.pairs("tags")[Self.sourceTag] == "\(source.name) \(name)/\(number)" else { continue }
                tally.problem(
                    "version \(name)/\(number): it came from the source, which has it no more; delete it here if it is to go"
                )
            }
        }
    }

    /// What is in the source's words to be brought to a thing that is here, and what it had before.
    private struct Change {
        let state: ImportedState
        let before: ImportedState
        let tags: [String: String]
        let aliases: [String: String]
    }

    private static func mark(alias: JSONValue) -> String { "alias \(alias.text("alias")) \(alias.text("version"))" }
    private static func stage(of version: JSONValue) -> String {
        let text = version.text("current_stage")
        return text.isEmpty ? "None" : text
    }

    /// How a model or version differs from what was imported before; `nil` if the source says the same as then.
    ///
    /// What was changed here in the meantime stays then.
    private static func change(of thing: JSONValue, _ members: [String], names: [String], there: JSONValue?) -> Change?
    {
        let said = JSONValue.object(
            Dictionary(uniqueKeysWithValues: members.map { ($0, thing[$0] ?? .null) })
                .merging(["tags": .object(Self.tags(of: thing).mapValues(JSONValue.string))]) { $1 })
        let state = ContentHasher.hash(said.canonicalBytes).hex
        let before = ImportedState(there?.pairs("tags")[Self.doneTag])
        guard before.state != state else { return nil }
        return Change(
            state: ImportedState(state, names: Self.tags(of: thing).keys.map { "tag \($0)" } + names), before: before,
            tags: there?.pairs("tags") ?? [:],
            aliases: Dictionary(
                (there?.list("aliases") ?? []).map { ($0.text("alias"), $0.text("version")) }, uniquingKeysWith: { $1 })
        )
    }

    /// Brings a model's aliases to what the source says, and keeps of which state that was.
    private func settle(_ model: JSONValue, _ change: Change) async throws {
        let name = model.text("name")
        let path = "/api/2.0/mlflow/registered-models"
        let aliases = model.list("aliases")
        // An alias of which the source says nothing new stays where it was led to here.
        for alias in aliases where !change.before.names.contains(Self.mark(alias: alias)) {
            _ = try await destination.send(
                "POST", "\(path)/alias",
                [
                    "name": .string(name), "alias": alias["alias"] ?? .null, "version": .string(alias.text("version")),
                ])
        }
        let kept = Set(aliases.map { $0.text("alias") })
        for gone in change.before.names where gone.hasPrefix("alias ") {
            let parts = gone.split(separator: " ").map(String.init)
            guard parts.count == 3, !kept.contains(parts[1]), change.aliases[parts[1]] == parts[2] else { continue }
            try await forget {
                _ = try await destination.send(
                    "DELETE", "\(path)/alias", ["name": .string(name), "alias": .string(parts[1])])
            }
        }
        _ = try await destination.send(
            "POST", "\(path)/set-tag",
            ["name": .string(name), "key": .string(Self.doneTag), "value": .string(change.state.text)])
    }

    /// Brings the tags of something that is here to what the source says.
    private func bring(tagsOf thing: JSONValue, _ change: Change, to owner: [String: JSONValue], _ path: String)
        async throws
    {
        let tags = Self.tags(of: thing)
        for (key, value) in tags.sorted(by: { $0.key < $1.key }) where change.tags[key] != value {
            _ = try await destination.send(
                "POST", "\(path)/set-tag",
                .object(owner.merging(["key": .string(key), "value": .string(value)]) { $1 }))
        }
        for name in change.before.names where name.hasPrefix("tag ") {
            let key = String(name.dropFirst("tag ".count))
            guard tags[key] == nil, change.tags[key] != nil else { continue }
            try await forget {
                _ = try await destination.send(
                    "DELETE", "\(path)/delete-tag", .object(owner.merging(["key": .string(key)]) { $1 }))
            }
        }
    }

    /// Takes something away that may be gone already.
    private func forget(_ step: () async throws -> Void) async throws {
        do { try await step() } catch let error as PlatformError where error.code == .notFound {}
    }

    /// What keeps models from being copied, without copying any.
    func rehearseRegistry() async throws {
        let models = try await source.registeredModels()
        tally.found("registered_models", models.count)
        let versions = try await source.modelVersions()
        tally.found("versions", versions.count)
        let there: [JSONValue]
        do { there = try await ServerSource(destination).modelVersions() } catch let error as PlatformError
            where error.code == .unavailable
        { return tally.note("whether models of these names are here already was not looked at: \(error.message)") }
        _ = noteOthers(
            than: models, Dictionary(grouping: versions) { $0.text("name") },
            Dictionary(grouping: there) { $0.text("name") })
        for (name, list) in Dictionary(grouping: versions, by: { $0.text("name") }).sorted(by: { $0.key < $1.key }) {
            let live = list.filter { $0.text("current_stage") == "Production" }.compactMap { $0.number("version") }
            if live.count > 1 {
                tally.problem(
                    "model \(name): versions \(live.sorted().map(String.init).joined(separator: ", ")) are all in Production; here one at a time is, so the "
                        + "last stays and the others are archived")
            }
        }
    }

    /// Names of models that are others here, each told as a problem.
    private func noteOthers(
        than models: [JSONValue], _ versions: [String: [JSONValue]], _ there: [String: [JSONValue]]
    ) -> Set<String> {
        var others: Set<String> = []
        for name in models.map({ $0.text("name") }) {
            guard let number = Self.other(than: versions[name] ?? [], among: there[name] ?? []) else { continue }
            others.insert(name)
            tally.problem(
                "model \(name): another one has this name here (version \(number) is of another run); nothing of it is "
                    + "copied or changed, its aliases and tags neither: rename one of the two")
        }
        return others
    }

    /// The least number that two models' versions share and that is of another run in each; `nil` if they may be one model.
    private static func other(than versions: [JSONValue], among there: [JSONValue]) -> Int64? {
        let runs = Dictionary(
            there.map { ($0.number("version") ?? 0, $0.text("run_id")) }, uniquingKeysWith: { first, _ in first })
        return versions.filter { version in
            runs[version.number("version") ?? 0].map { $0 != version.text("run_id") } ?? false
        }.compactMap { $0.number("version") }.min()
    }

    /// Makes a model unless it is there; gives what is to be settled of it, `nil` if the source says what it said before.
    private func make(_ model: JSONValue) async throws -> Change? {
        let name = model.text("name")
        let path = "/api/2.0/mlflow/registered-models"
        let known = try await destination.find("\(path)/get", [("name", name)])?["registered_model"]
        let aliases = model.list("aliases").map(Self.mark(alias:))
        guard
            let change = Self.change(of: model, ["description", "aliases"], names: aliases, there: known)
        else { return nil }
        let description = model["description"]?.stringValue ?? ""
        guard let known else {
            _ = try await destination.send(
                "POST", "\(path)/create",
                [
                    "name": .string(name), "description": .string(description),
                    "tags": .array(
                        Self.tags(of: model).sorted { $0.key < $1.key }.map {
                            ["key": .string($0.key), "value": .string($0.value)]
                        }),
                ])
            return change
        }
        if known["description"]?.stringValue ?? "" != description, !description.isEmpty || !change.before.state.isEmpty
        {
            _ = try await destination.send(
                "PATCH", "\(path)/update", ["name": .string(name), "description": .string(description)])
        }
        try await bring(tagsOf: model, change, to: ["name": .string(name)], path)
        return change
    }

    /// Gives a model or version the times and the author that it had in the source.
    private func restate(_ thing: JSONValue, name: String, version: Int64?) async throws {
        _ = try await destination.send(
            "POST", "/api/v1/import/registry",
            Self.stated([
                "name": .string(name), "version": version.map(JSONValue.integer) ?? .null,
                "created_at": thing.number("creation_timestamp").map(JSONValue.integer) ?? .null,
                "updated_at": thing.number("last_updated_timestamp").map(JSONValue.integer) ?? .null,
                "user": thing["user_id"]?.stringValue.flatMap { $0.isEmpty ? nil : .string($0) } ?? .null,
            ]))
    }

    private func copy(version: JSONValue, _ moved: Moved, _ there: inout [Int64: JSONValue]) async throws {
        let (name, number) = (version.text("name"), version.number("version") ?? 0)
        let change = Self.change(
            of: version, ["description", "current_stage"], names: ["stage \(Self.stage(of: version))"],
            there: there[number])
        if let known = there[number] {
            // An import that was killed may have made it and not come to its times.
            if let change {
                try await bring(version, to: known, change)
            } else if known.number("creation_timestamp") != version.number("creation_timestamp") {
                try await restate(version, name: name, version: number)
            }
            return change == nil ? tally.present("versions") : tally.copied("versions")
        }
        let origin = Self.rewritten(try await files(of: version), moved)
        var tags = Self.tags(of: version)
        tags[Self.sourceTag] = "\(source.name) \(name)/\(number)"
        var body: [String: JSONValue] = [
            "name": .string(name), "source": .string(origin),
            "tags": .array(
                tags.sorted { $0.key < $1.key }.map { ["key": .string($0.key), "value": .string($0.value)] }),
            "description": .string(version["description"]?.stringValue ?? ""),
        ]
        for key in ["run_id", "run_link"] where version[key]?.stringValue?.isEmpty == false { body[key] = version[key] }
        if origin.hasPrefix("models:/m-"), !origin.dropFirst("models:/".count).contains("/") {
            body["model_id"] = .string(String(origin.dropFirst("models:/".count)))
        }
        // Numbers are given in order: those that were deleted in the source are made and deleted here as well.
        while true {
            let made = try await destination.send("POST", "/api/2.0/mlflow/model-versions/create", .object(body))
            let got = made["model_version"]?.number("version") ?? 0
            if got == number { break }
            _ = try await destination.send(
                "DELETE", "/api/2.0/mlflow/model-versions/delete",
                ["name": .string(name), "version": .string(String(got))])
            guard got < number else {
                throw PlatformError(
                    .conflict, "\(name)/\(number)", "this number was used here before; the next one is \(got)")
            }
        }
        there[number] = version
        if let change { try await finish(version, from: "None", change) }
        tally.copied("versions")
    }

    /// Brings a version that is here to what the source says of it now.
    private func bring(_ version: JSONValue, to known: JSONValue, _ change: Change) async throws {
        let owner: [String: JSONValue] = [
            "name": .string(version.text("name")), "version": .string(version.text("version")),
        ]
        let path = "/api/2.0/mlflow/model-versions"
        let description = version["description"]?.stringValue ?? ""
        if known["description"]?.stringValue ?? "" != description, !description.isEmpty || !change.before.state.isEmpty
        {
            _ = try await destination.send(
                "PATCH", "\(path)/update", .object(owner.merging(["description": .string(description)]) { $1 }))
        }
        try await bring(tagsOf: version, change, to: owner, path)
        try await finish(version, from: Self.stage(of: known), change)
    }

    /// Takes a version to its stage, and keeps of which state of the source it is.
    private func finish(_ version: JSONValue, from: String, _ change: Change) async throws {
        let (name, number) = (version.text("name"), version.text("version"))
        let owner: [String: JSONValue] = ["name": .string(name), "version": .string(number)]
        let path = "/api/2.0/mlflow/model-versions"
        let wanted = Self.stage(of: version)
        // A stage of which the source says nothing new stays where it was taken to here.
        let isNew =
            change.before.state.isEmpty ? wanted != "None" : !change.before.names.contains("stage \(wanted)")
        var isThere = !isNew || wanted == from
        if !isThere {
            try await attempt("stage \(wanted) of version \(number) of \(name)") {
                _ = try await destination.send(
                    "POST", "\(path)/transition-stage",
                    .object(owner.merging(["stage": .string(wanted), "archive_existing_versions": false]) { $1 }))
                isThere = true
            }
        }
        // What a gate refuses is asked for again by the next import.
        if isThere {
            _ = try await destination.send(
                "POST", "\(path)/set-tag",
                .object(owner.merging(["key": .string(Self.doneTag), "value": .string(change.state.text)]) { $1 }))
        }
        try await restate(version, name: name, version: version.number("version"))
    }

    /// A version's source, or its files if the source names a version.
    ///
    /// That version's model may come later, or have another name by now.
    private func files(of version: JSONValue) async throws -> String {
        let uri = version.text("source")
        guard uri.hasPrefix("models:/"), !uri.hasPrefix("models:/m-") else { return uri }
        let location = try await source.location(of: version)
        return location.isEmpty ? uri : location
    }

    /// A version's source in terms that hold here.
    static func rewritten(_ source: String, _ moved: Moved) -> String {
        for root in moved.roots where !root.from.isEmpty {
            if source == root.from { return root.to }
            if source.hasPrefix("\(root.from)/") { return root.to + source.dropFirst(root.from.count) }
        }
        return source
    }

    private func verifyRegistry(_ models: [JSONValue], _ versions: [String: [JSONValue]]) async throws {
        let target = ServerSource(destination)
        let there = Dictionary(
            try await target.modelVersions().map { ("\($0.text("name"))/\($0.text("version"))", $0) },
            uniquingKeysWith: { $1 })
        for version in versions.values.joined() {
            let name = "\(version.text("name"))/\(version.text("version"))"
            guard let copy = there[name] else {
                tally.problem("version \(name): it is not here")
                continue
            }
            if copy.text("run_id") != version.text("run_id") { tally.problem("version \(name): its run differs") }
            if copy.text("creation_timestamp") != version.text("creation_timestamp") {
                tally.problem("version \(name): the time of its creation differs")
            }
            let (here, wanted) = (Self.stage(of: copy), Self.stage(of: version))
            if here != wanted {
                tally.problem("version \(name): its stage is \(here) here, \(wanted) in the source")
            }
            let tags = copy.pairs("tags")
            for (key, value) in Self.tags(of: version) where tags[key] != value {
                tally.problem("version \(name): its tag '\(key)' differs")
            }
        }
        for model in models {
            let copy = try await destination.find(
                "/api/2.0/mlflow/registered-models/get", [("name", model.text("name"))])
            func aliases(_ model: JSONValue?) -> [String: String] {
                Dictionary(
                    (model?.list("aliases") ?? []).map { ($0.text("alias"), $0.text("version")) },
                    uniquingKeysWith: { $1 })
            }
            let here = aliases(copy?["registered_model"])
            for (alias, version) in aliases(model) where here[alias] != version {
                tally.problem("model \(model.text("name")): its alias '\(alias)' differs")
            }
        }
    }
}
