import APIContract
import ExperimentTracking
import Foundation
import ModelRegistry
import PlatformCore

extension MLflowRoutes {
    var artifactRoutes: [Route] {
        call("GET", "mlflow/artifacts/list") { fields in
            try await list(root: tracking.runInfo(fields.runID()).artifactURI, folder: fields.text("path") ?? "")
        }
            + call("GET", "mlflow-artifacts/artifacts") { fields in
                let folder = try fields.text("path") ?? ""
                if folder.isEmpty { return [:] }
                let checked = try TrackingStore.checkedArtifactPath(Self.trimmed(folder))
                let files = try await tracking.entries(below: checked)
                return files.isEmpty ? [:] : ["files": .array(files.map(\.wire))]
            }
            + call("POST", "mlflow-artifacts/mpu/{step}/{path...}") { _ in
                throw MLflowError(
                    "NOT_IMPLEMENTED", 501, "Uploads in parts are not offered; upload the file with one PUT")
            }
            + call("DELETE", "mlflow-artifacts/artifacts/{path...}") { fields in
                try await tracking.deleteArtifacts(at: Self.trimmed(fields.required("path")))
                return [:]
            }
            + proxyRoutes + olderDownloadRoutes
    }

    private var proxyRoutes: [Route] {
        ["/api", "/ajax-api"].flatMap { prefix in
            [
                Route(
                    "PUT", "\(prefix)/2.0/mlflow-artifacts/artifacts/{path...}",
                    body: .spool(byteCountMax: artifactByteCountMax)
                ) { request in
                    await answer(request) { request in
                        let path = request.parameters["path"] ?? ""
                        if let file = request.bodyFile {
                            try await tracking.putArtifact(fileAt: file, at: path)
                        } else {
                            try await tracking.putArtifact(request.body, at: path)
                        }
                        return .json([:])
                    }
                },
                Route("GET", "\(prefix)/2.0/mlflow-artifacts/artifacts/{path...}") { request in
                    await answer(request) { try await download($0.parameters["path"] ?? "") }
                },
            ]
        }
    }

    // What the browser's pages and old clients ask for.
    private var olderDownloadRoutes: [Route] {
        [
            Route("GET", "/get-artifact") { request in
                await answer(request) { request in
                    let fields = try MLflowRequest(request)
                    let root = try await tracking.runInfo(fields.runID()).artifactURI
                    return try await download(root: root, path: fields.required("path"))
                }
            },
            Route("GET", "/model-versions/get-artifact") { request in
                await answer(request) { request in
                    let fields = try MLflowRequest(request)
                    let version = try await registry.registry.versionState(
                        fields.version(), of: fields.required("name"))
                    return try await download(root: artifactURI(of: version), path: fields.required("path"))
                }
            },
        ]
    }

    /// A folder's files as `artifacts/list` says them; paths begin at the root.
    func list(root uri: String, folder: String) async throws -> JSONValue {
        guard let root = TrackingStore.artifactPath(ofURI: uri) else {
            throw MLflowError.invalid("The artifacts at '\(uri)' are not kept by this server; list them there")
        }
        let folder = Self.trimmed(folder)
        if !folder.isEmpty { _ = try TrackingStore.checkedArtifactPath(folder) }
        let files = try await tracking.entries(below: root, path: folder)
        return object([
            "root_uri": .string(uri), "files": files.isEmpty ? Optional.none : .array(files.map(\.wire)),
        ])
    }

    private func download(root uri: String, path: String) async throws -> APIResponse {
        guard let root = TrackingStore.artifactPath(ofURI: uri) else {
            throw MLflowError.invalid("The artifacts at '\(uri)' are not kept by this server")
        }
        return try await download("\(root)/\(TrackingStore.checkedArtifactPath(path))")
    }

    private func download(_ path: String) async throws -> APIResponse {
        let artifact = try await tracking.artifact(at: path)
        let fileName = artifact.path.split(separator: "/").last.map(String.init) ?? "artifact"
        let plainName = String(
            fileName.unicodeScalars.map { 0x20..<0x7F ~= $0.value && $0 != "\"" ? Character($0) : "_" })
        return APIResponse(
            headers: [
                ("Content-Type", Self.contentType(of: fileName)),
                ("Content-Disposition", "attachment; filename=\"\(plainName)\""),
                ("X-Content-Type-Options", "nosniff"), ("ETag", "\"\(artifact.hash.hex)\""),
            ],
            body: .file(try await tracking.localPath(of: artifact)))
    }

    /// Without the slashes at its end, which some clients send for folders.
    private static func trimmed(_ path: String) -> String {
        var path = Substring(path)
        while path.hasSuffix("/") { path = path.dropLast() }
        return path == "." ? "" : String(path)
    }

    static func contentType(of fileName: String) -> String {
        switch fileName.split(separator: ".").last.map({ $0.lowercased() }) {
        case "txt", "log", "md", "py", "yaml", "yml", "cfg", "ini", "toml": "text/plain; charset=utf-8"
        case _ where fileName == "MLmodel": "text/plain; charset=utf-8"
        case "json": "application/json"
        case "csv": "text/csv; charset=utf-8"
        case "html", "htm": "text/html; charset=utf-8"
        case "png": "image/png"
        case "jpg", "jpeg": "image/jpeg"
        case "gif": "image/gif"
        case "svg": "image/svg+xml"
        case "pdf": "application/pdf"
        default: "application/octet-stream"
        }
    }
}
