import APIContract
import ExperimentTracking
import Foundation
import PlatformCore

extension MLflowRoutes {
    var registryRoutes: [Route] { modelRoutes + versionRoutes + labelRoutes }

    private var modelRoutes: [Route] {
        call("POST", "mlflow/registered-models/create") { fields in
            let model = try await registry.createModel(
                fields.required("name"), description: fields.text("description"), tags: fields.tags("tags"))
            return ["registered_model": model.wire]
        }
            + call("GET", "mlflow/registered-models/get") { fields in
                ["registered_model": try await registry.model(fields.required("name")).wire]
            }
            + call("GET", "mlflow/registered-models/search") { fields in
                let page = try await registry.searchModels(
                    filter: SearchFilter(fields.text("filter") ?? ""),
                    orders: SearchOrder.list(fields.texts("order_by")),
                    offset: fields.offset(), countMax: fields.countMax(default: 100, limit: 1000))
                return object([
                    "registered_models": .array(page.elements.map(\.wire)),
                    "next_page_token": pageToken(offset: page.nextOffset),
                ])
            }
            + call("POST", "mlflow/registered-models/rename") { fields in
                let model = try await registry.renameModel(
                    fields.required("name"), to: fields.required("new_name"))
                return ["registered_model": model.wire]
            }
            + call("PATCH", "mlflow/registered-models/update") { fields in
                let model = try await registry.updateModel(
                    fields.required("name"), description: fields.text("description"))
                return ["registered_model": model.wire]
            }
            + call("DELETE", "mlflow/registered-models/delete") { fields in
                try await registry.deleteModel(fields.required("name"))
                return [:]
            }
            + call("POST", "mlflow/registered-models/get-latest-versions", latestVersions)
            + call("GET", "mlflow/registered-models/get-latest-versions", latestVersions)
    }

    @Sendable private func latestVersions(_ fields: MLflowRequest) async throws -> JSONValue {
        let versions = try await registry.latestVersions(of: fields.required("name"), stages: fields.texts("stages"))
        return ["model_versions": .array(versions.map(\.wire))]
    }

    private var versionRoutes: [Route] {
        call("POST", "mlflow/model-versions/create") { fields in
            let source = try fields.required("source")
            var runID = try fields.text("run_id").flatMap { $0.isEmpty ? nil : $0 }
            let modelID = try fields.text("model_id").flatMap { $0.isEmpty ? nil : $0 }
            // Clients that name a logged model leave its run to the server.
            if runID == nil, let modelID { runID = try await tracking.loggedModel(modelID).sourceRunID }
            let version = try await registry.createVersion(
                of: fields.required("name"),
                ModelVersionRequest(
                    source: source, artifactURI: artifactURI(ofSource: source), runID: runID,
                    runLink: fields.text("run_link"), modelID: modelID,
                    description: fields.text("description"), tags: fields.tags("tags"), userName: fields.request.actor))
            return ["model_version": version.wire]
        }
            + call("GET", "mlflow/model-versions/get") { fields in
                ["model_version": try await registry.version(fields.version(), of: fields.required("name")).wire]
            }
            + call("GET", "mlflow/model-versions/search") { fields in
                let page = try await registry.searchVersions(
                    filter: SearchFilter(fields.text("filter") ?? ""),
                    orders: SearchOrder.list(fields.texts("order_by")),
                    offset: fields.offset(), countMax: fields.countMax(default: 10_000, limit: 200_000))
                return object([
                    "model_versions": .array(page.elements.map(\.wire)),
                    "next_page_token": pageToken(offset: page.nextOffset),
                ])
            }
            + call("GET", "mlflow/model-versions/get-download-uri") { fields in
                let version = try await registry.version(fields.version(), of: fields.required("name"))
                return ["artifact_uri": .string(version.artifactURI)]
            }
            + call("PATCH", "mlflow/model-versions/update") { fields in
                let version = try await registry.updateVersion(
                    fields.version(), of: fields.required("name"), description: fields.text("description"))
                return ["model_version": version.wire]
            }
            + call("POST", "mlflow/model-versions/transition-stage") { fields in
                let version = try await registry.setStage(
                    fields.required("stage"), ofVersion: fields.version(), of: fields.required("name"),
                    archivingOthers: fields.flag("archive_existing_versions") ?? false)
                return ["model_version": version.wire]
            }
            + call("DELETE", "mlflow/model-versions/delete") { fields in
                try await registry.deleteVersion(fields.version(), of: fields.required("name"))
                return [:]
            }
    }

    private var labelRoutes: [Route] {
        call("POST", "mlflow/registered-models/set-tag") { fields in
            let tag = TrackedTag(try fields.required("key"), try fields.text("value") ?? "")
            try await registry.setTag(tag, of: fields.required("name"), version: nil)
            return [:]
        }
            + call("DELETE", "mlflow/registered-models/delete-tag") { fields in
                try await registry.deleteTag(fields.required("key"), of: fields.required("name"), version: nil)
                return [:]
            }
            + call("POST", "mlflow/model-versions/set-tag") { fields in
                let tag = TrackedTag(try fields.required("key"), try fields.text("value") ?? "")
                try await registry.setTag(tag, of: fields.required("name"), version: fields.version())
                return [:]
            }
            + call("DELETE", "mlflow/model-versions/delete-tag") { fields in
                try await registry.deleteTag(
                    fields.required("key"), of: fields.required("name"), version: fields.version())
                return [:]
            }
            + call("POST", "mlflow/registered-models/alias") { fields in
                try await registry.setAlias(
                    fields.required("alias"), of: fields.required("name"), version: fields.version())
                return [:]
            }
            + call("DELETE", "mlflow/registered-models/alias") { fields in
                try await registry.deleteAlias(fields.required("alias"), of: fields.required("name"))
                return [:]
            }
            + call("GET", "mlflow/registered-models/alias") { fields in
                let version = try await registry.version(
                    alias: fields.required("alias"), of: fields.required("name"))
                return ["model_version": version.wire]
            }
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
            return try await registry.version(version, of: parts[0]).artifactURI
        default: return source
        }
    }
}

extension MLflowRequest {
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
