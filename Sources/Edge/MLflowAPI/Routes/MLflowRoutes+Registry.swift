import APIContract
import ExperimentTracking
import Foundation
import ModelRegistry
import PlatformCore

extension MLflowRoutes {
    var registryRoutes: [Route] { modelRoutes + versionRoutes + labelRoutes }

    private var modelRoutes: [Route] {
        let store = registry.registry
        return call("POST", "mlflow/registered-models/create") { fields in
            let name = try fields.modelName()
            try await store.createModel(
                name, description: fields.text("description"), tags: Dictionary(tags: fields.tags("tags")),
                actor: fields.request.actor)
            return ["registered_model": try await store.modelState(named: name).wire]
        }
            + call("GET", "mlflow/registered-models/get") { fields in
                ["registered_model": try await store.modelState(named: fields.modelName()).wire]
            }
            + call("GET", "mlflow/registered-models/search") { fields in
                let page = try await store.searchModels(
                    SearchFilter(fields.text("filter") ?? ""), orders: SearchOrder.list(fields.texts("order_by")),
                    after: fields.token(), countMax: fields.countMax(default: 100, limit: 1000))
                return object([
                    "registered_models": .array(page.elements.map(\.wire)), "next_page_token": .text(page.next),
                ])
            }
            + call("POST", "mlflow/registered-models/rename") { fields in
                let name = try fields.modelName("new_name")
                _ = try await store.renameModel(fields.modelName(), to: name, actor: fields.request.actor)
                return ["registered_model": try await store.modelState(named: name).wire]
            }
            + call("PATCH", "mlflow/registered-models/update") { fields in
                let name = try fields.modelName()
                _ = try await store.describeModel(name, fields.text("description"), actor: fields.request.actor)
                return ["registered_model": try await store.modelState(named: name).wire]
            }
            + call("DELETE", "mlflow/registered-models/delete") { fields in
                try await store.deleteModel(
                    fields.modelName(), actor: fields.request.actor, isHeld: registry.isServed)
                return [:]
            }
            + call("POST", "mlflow/registered-models/get-latest-versions", latestVersions)
            + call("GET", "mlflow/registered-models/get-latest-versions", latestVersions)
    }

    @Sendable private func latestVersions(_ fields: MLflowRequest) async throws -> JSONValue {
        let versions = try await registry.latestVersions(of: fields.modelName(), stages: fields.texts("stages"))
        return ["model_versions": .array(versions.map(\.wire))]
    }

    private var versionRoutes: [Route] {
        let store = registry.registry
        return call("POST", "mlflow/model-versions/create") { fields in
            let uri = try fields.required("source")
            var runID = try fields.text("run_id").flatMap { $0.isEmpty ? nil : $0 }
            let modelID = try fields.text("model_id").flatMap { $0.isEmpty ? nil : $0 }
            // Clients that name a logged model leave its run to the server.
            if runID == nil, let modelID { runID = try await tracking.loggedModel(modelID).sourceRunID }
            // A copy of a version is of that one's run.
            if runID == nil, let copied = try await version(ofSource: uri) {
                let origin = copied.version.candidate.origin.runID
                runID = origin.isEmpty ? nil : origin
            }
            let tags = try Dictionary(tags: fields.tags("tags"))
            // A prompt is a version without files; its text is a tag.
            let isPrompt = uri == "dummy-source" && tags["mlflow.prompt.is_prompt"] == "true"
            let artifactURI = isPrompt ? "" : try await artifactURI(ofSource: uri)
            // Where the files are ours, what they are said to come from is looked up: a version's lineage is no hearsay.
            if let path = TrackingStore.artifactPath(ofURI: artifactURI), try await isOfRun(orFiles: path) {
                do {
                    if let runID { _ = try await tracking.runInfo(runID) }
                    if let modelID { _ = try await tracking.loggedModel(modelID) }
                } catch let error as PlatformError where error.code == .notFound {
                    throw MLflowError.invalid(
                        "Invalid model version source: '\(uri.prefix(200))'. \(error.message) The run_id or model_id must "
                            + "name what the source belongs to.")
                }
            }
            let source = VersionSource(
                uri: uri, artifactURI: artifactURI, loggedModel: modelID,
                runLink: try fields.text("run_link"))
            let version = try await registry.createVersion(
                of: fields.modelName(), source: source, runID: runID, description: fields.text("description"),
                tags: tags, actor: fields.request.actor)
            return ["model_version": version.wire]
        }
            + call("GET", "mlflow/model-versions/get") { fields in
                ["model_version": try await store.versionState(fields.version(), of: fields.modelName()).wire]
            }
            + call("GET", "mlflow/model-versions/search") { fields in
                let page = try await store.searchVersions(
                    SearchFilter(fields.text("filter") ?? ""), orders: SearchOrder.list(fields.texts("order_by")),
                    after: fields.token(), countMax: fields.countMax(default: 10_000, limit: 200_000))
                return object([
                    "model_versions": .array(page.elements.map(\.wire)), "next_page_token": .text(page.next),
                ])
            }
            + call("GET", "mlflow/model-versions/get-download-uri") { fields in
                let state = try await store.versionState(fields.version(), of: fields.modelName())
                return ["artifact_uri": .string(try await artifactURI(of: state))]
            }
            + call("PATCH", "mlflow/model-versions/update") { fields in
                let (name, version) = (try fields.modelName(), try fields.version())
                try await store.describeVersion(
                    version, of: name, fields.text("description"), actor: fields.request.actor)
                return ["model_version": try await store.versionState(version, of: name).wire]
            }
            + call("POST", "mlflow/model-versions/transition-stage") { fields in
                let version = try await registry.setStage(
                    fields.required("stage"), ofVersion: fields.version(), of: fields.modelName(),
                    archivingOthers: fields.flag("archive_existing_versions") ?? false, actor: fields.request.actor)
                return ["model_version": version.wire]
            }
            + call("DELETE", "mlflow/model-versions/delete") { fields in
                try await store.deleteVersion(
                    fields.version(), of: fields.modelName(), actor: fields.request.actor, isHeld: registry.isServed)
                return [:]
            }
    }

    private var labelRoutes: [Route] {
        let store = registry.registry
        return call("POST", "mlflow/registered-models/set-tag") { fields in
            try await store.setTag(
                fields.required("key"), to: fields.text("value") ?? "", of: fields.modelName(), version: nil,
                actor: fields.request.actor)
            return [:]
        }
            + call("DELETE", "mlflow/registered-models/delete-tag") { fields in
                try await store.deleteTag(
                    fields.tagKey(), of: fields.modelName(), version: nil, actor: fields.request.actor)
                return [:]
            }
            + call("POST", "mlflow/model-versions/set-tag") { fields in
                try await store.setTag(
                    fields.required("key"), to: fields.text("value") ?? "", of: fields.modelName(),
                    version: fields.version(), actor: fields.request.actor)
                return [:]
            }
            + call("DELETE", "mlflow/model-versions/delete-tag") { fields in
                try await store.deleteTag(
                    fields.tagKey(), of: fields.modelName(), version: fields.version(),
                    actor: fields.request.actor)
                return [:]
            }
            + call("POST", "mlflow/registered-models/alias") { fields in
                let model = try await store.model(named: fields.modelName())
                try await store.setAlias(
                    fields.alias(), of: model.id, to: fields.version(), actor: fields.request.actor)
                return [:]
            }
            + call("DELETE", "mlflow/registered-models/alias") { fields in
                let model = try await store.model(named: fields.modelName())
                try await store.setAlias(fields.alias(), of: model.id, to: nil, actor: fields.request.actor)
                return [:]
            }
            + call("GET", "mlflow/registered-models/alias") { fields in
                let version = try await registry.version(
                    alias: fields.alias(), of: fields.modelName())
                return ["model_version": version.wire]
            }
    }

    /// Where a version's files are; for one that a training job made, where its run put them.
    func artifactURI(of state: VersionState) async throws -> String {
        if let source = state.version.candidate.source { return source.artifactURI }
        let run = state.version.candidate.origin.runID
        guard !run.isEmpty else {
            throw MLflowError.notFound("\(state.version.subject) has no files that a client could download")
        }
        if let logged = try await tracking.loggedModels(ofRun: run).first { return logged.artifactURI }
        return try await tracking.runInfo(run).artifactURI
    }

    /// The version that a source names, `models:/NAME/NUMBER`; `nil` for any other source.
    private func version(ofSource source: String) async throws -> VersionState? {
        guard source.hasPrefix("models:/"), !source.hasPrefix("models:/m-") else { return nil }
        let parts = source.dropFirst("models:/".count).split(separator: "/").map(String.init)
        guard parts.count == 2, let number = Int(parts[1]) else { return nil }
        return try await registry.registry.versionState(number, of: parts[0])
    }

    /// Whether a path is of a run that there is, `7/<run>/artifacts/model`, or has files.
    ///
    /// A version whose run was removed for good, files and all, has nothing that its lineage could deceive about.
    private func isOfRun(orFiles path: String) async throws -> Bool {
        let parts = path.split(separator: "/", maxSplits: 2)
        if parts.count == 3, (try? await tracking.runInfo(String(parts[1]))) != nil { return true }
        return try await tracking.hasArtifact(at: path)
    }

    /// Where the files of a source are.
    ///
    /// A source on some machine's disk is refused: nobody else could read it, and it could name a file of this server.
    private func artifactURI(ofSource source: String) async throws -> String {
        let refusal = MLflowError.invalid(
            "Invalid model version source: '\(source.prefix(200))'. Name a logged model (models:/m-…), a run's artifact "
                + "(runs:/…, mlflow-artifacts:/…) or a URI of an object store.")
        var form = source
        for _ in 0..<4 {
            let parts = form.split(separator: "/")
            if parts.contains("..") || form.unicodeScalars.contains(where: { $0.value < 0x20 }) { throw refusal }
            guard let decoded = form.removingPercentEncoding, decoded != form else { break }
            form = decoded
        }
        guard let colon = source.firstIndex(of: ":") else { throw refusal }
        let scheme = source[..<colon].lowercased()
        let rest = String(source[source.index(after: colon)...].drop { $0 == "/" })
        switch scheme {
        case "file", "", "dbfs": throw refusal
        case "runs":
            let parts = rest.split(separator: "/", maxSplits: 1).map(String.init)
            guard let id = parts.first else { throw refusal }
            return try await tracking.runInfo(id).artifactURI + (parts.count > 1 ? "/\(parts[1])" : "")
        case "models":
            if rest.hasPrefix("m-") {
                let parts = rest.split(separator: "/", maxSplits: 1).map(String.init)
                guard let id = parts.first else { throw refusal }
                return try await tracking.loggedModel(id).artifactURI + (parts.count > 1 ? "/\(parts[1])" : "")
            }
            let parts = rest.split(separator: "/").map(String.init)
            guard parts.count == 2, let version = Int(parts[1]) else { throw refusal }
            return try await artifactURI(of: registry.registry.versionState(version, of: parts[0]))
        default: return source
        }
    }
}

extension MLflowRequest {
    /// Where a page begins; `nil` for the first.
    func token() throws(MLflowError) -> String? { try text("page_token").flatMap { $0.isEmpty ? nil : $0 } }

    /// The name of a registered model.
    func modelName(_ field: String = "name") throws(MLflowError) -> String {
        let name = try required(field)
        guard name.contains(where: { !$0.isWhitespace }) else { throw missing(field) }
        guard !name.contains("/"), !name.contains(":"), PathKey.namesItself(name) else {
            throw .invalid(
                "Invalid model name '\(name.prefix(200))'. Names cannot contain '/' or ':', be '.' or begin with '..'.")
        }
        return name
    }

    /// The key of a tag.
    func tagKey() throws(MLflowError) -> String {
        let key = try required("key")
        if let fault = PathKey.fault(in: key) { throw .invalid("the name '\(key.prefix(64))' \(fault)") }
        return key
    }

    /// An alias in the characters of MLflow's clients; a dot, which the platform accepts besides, is none.
    func alias() throws(MLflowError) -> String {
        let alias = try required("alias")
        guard alias.unicodeScalars.allSatisfy({ PathKey.isWord($0) || $0 == "-" }) else {
            throw .invalid(
                "Invalid alias name: '\(alias.prefix(200))'. Names may only contain alphanumerics, underscores (_), and "
                    + "dashes (-).")
        }
        guard alias.unicodeScalars.count <= 255 else {
            throw .invalid("'Registered model alias name' exceeds the maximum length of 255 characters")
        }
        return alias
    }

    /// The field `version`, a decimal number sent as text.
    func version() throws(MLflowError) -> Int {
        if let version = self["version"]?.integerValue, version >= 0 { return Int(version) }
        let text = try required("version")
        guard let version = Int(text), version >= 0 else {
            throw .invalid("Model version must be an integer, got: '\(text.prefix(64))'")
        }
        return version
    }
}
