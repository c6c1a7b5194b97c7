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
                let isNew = try await make(model)
                var numbers = Dictionary(
                    (there[name] ?? []).map { ($0.number("version") ?? 0, $0) }, uniquingKeysWith: { $1 })
                for version in (versions[name] ?? []).sorted(by: {
                    ($0.number("version") ?? 0) < ($1.number("version") ?? 0)
                }) {
                    try await attempt("version \(version.text("version")) of \(name)") {
                        try await copy(version: version, moved, &numbers)
                    }
                }
                for alias in model.list("aliases") {
                    _ = try await destination.send(
                        "POST", "/api/2.0/mlflow/registered-models/alias",
                        [
                            "name": .string(name), "alias": alias["alias"] ?? .null,
                            "version": .string(alias.text("version")),
                        ])
                }
                // Last, because what was set above is a change of today.
                try await restate(model, name: name, version: nil)
                if isNew { tally.copied("registered_models") } else { tally.present("registered_models") }
            }
        }
        try await verifyRegistry(
            models.filter { !others.contains($0.text("name")) }, versions.filter { !others.contains($0.key) })
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

    /// Makes a model unless it is there; gives whether it was made.
    private func make(_ model: JSONValue) async throws -> Bool {
        let name = model.text("name")
        let known = try await destination.find("/api/2.0/mlflow/registered-models/get", [("name", name)])
        if known == nil {
            _ = try await destination.send(
                "POST", "/api/2.0/mlflow/registered-models/create",
                [
                    "name": .string(name), "description": .string(model["description"]?.stringValue ?? ""),
                    "tags": .array(model.list("tags")),
                ])
            return true
        }
        for tag in model.list("tags") {
            _ = try await destination.send(
                "POST", "/api/2.0/mlflow/registered-models/set-tag",
                ["name": .string(name), "key": tag["key"] ?? .null, "value": tag["value"] ?? .null])
        }
        return false
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
        if let known = there[number] {
            // An import that was killed may have made it and not come to its times.
            if known.number("creation_timestamp") != version.number("creation_timestamp") {
                try await restate(version, name: name, version: number)
            }
            return tally.present("versions")
        }
        let origin = Self.rewritten(try await files(of: version), moved)
        var tags = version.pairs("tags")
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
        let stage = version.text("current_stage")
        if !stage.isEmpty, stage != "None" {
            try await attempt("stage \(stage) of version \(number) of \(name)") {
                _ = try await destination.send(
                    "POST", "/api/2.0/mlflow/model-versions/transition-stage",
                    [
                        "name": .string(name), "version": .string(String(number)), "stage": .string(stage),
                        "archive_existing_versions": false,
                    ])
            }
        }
        try await restate(version, name: name, version: number)
        tally.copied("versions")
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
            let tags = copy.pairs("tags")
            for (key, value) in version.pairs("tags") where tags[key] != value {
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
