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
            + call("DELETE", "mlflow-artifacts/artifacts/{path...}") { fields in
                try await tracking.deleteArtifacts(at: Self.trimmed(fields.required("path")))
                return [:]
            }
            + proxyRoutes + uploadRoutes + olderDownloadRoutes
    }

    private var proxyRoutes: [Route] {
        ["/api", "/ajax-api"].flatMap { prefix in
            [
                Route(
                    "PUT", "\(prefix)/2.0/mlflow-artifacts/artifacts/{path...}",
                    body: .spool(byteCountMax: artifactByteCountMax, isHashed: true)
                ) { request in
                    await answer(request) { request in
                        let path = request.parameters["path"] ?? ""
                        if let file = request.bodyFile {
                            try await tracking.takeArtifact(fileAt: file, at: path, hash: request.bodyHash)
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

    /// Uploads in parts and downloads in ranges; the addresses that clients are given point back here.
    private var uploadRoutes: [Route] {
        call("POST", "mlflow-artifacts/mpu/create/{folder...}", createUpload)
            + call("POST", "mlflow-artifacts/mpu/complete/{folder...}") { fields in
                var tags: [Int: String] = [:]
                for (index, element) in try fields.elements("parts").enumerated() {
                    let member = MLflowMember(value: element, place: "parts[\(index)]")
                    guard let number = try member.integer("part_number").flatMap({ Int(exactly: $0) }) else {
                        throw MLflowError.invalid("Missing value for required parameter 'parts[\(index)].part_number'")
                    }
                    tags[number] = try member.text("etag")?.replacing("\"", with: "")
                }
                try await tracking.completeUpload(
                    fields.required("upload_id"), at: Self.uploadPath(fields), tags: tags)
                return [:]
            }
            + call("POST", "mlflow-artifacts/mpu/abort/{folder...}") { fields in
                tracking.abortUpload(try fields.required("upload_id"))
                return [:]
            }
            + call("GET", "mlflow-artifacts/presigned/{path...}") { fields in
                let path = try fields.required("path")
                let artifact = try await tracking.artifact(at: path)
                return [
                    "url": .string(
                        Self.address(fields.request, "/api/2.0/mlflow-artifacts/artifacts/" + Self.escaped(path))),
                    "headers": Self.passedOn(fields.request), "file_size": .integer(Int64(artifact.byteCount)),
                ]
            }
            + ["/api", "/ajax-api"].map { prefix in
                Route(
                    "PUT", "\(prefix)/2.0/mlflow-artifacts/mpu/parts/{upload}/{number}",
                    body: .spool(byteCountMax: artifactByteCountMax) { parameters, byteCount in
                        Int(parameters["number"] ?? "").flatMap { number in
                            tracking.room(forPart: number, ofUpload: parameters["upload"] ?? "", byteCount: byteCount)
                        }.map { PartBody(room: $0, tracking: tracking) }
                    }
                ) { request in
                    await answer(request) { request in
                        let upload = request.parameters["upload"] ?? ""
                        guard let number = Int(request.parameters["number"] ?? "") else {
                            throw MLflowError.invalid("Invalid value for parameter 'part_number' supplied.")
                        }
                        let tag: String
                        if let body = request.bodyRoom as? PartBody {
                            tag = try await tracking.takePart(in: body.room)
                        } else if let file = request.bodyFile {
                            tag = try await tracking.putPart(number, ofUpload: upload, fileAt: file)
                        } else {
                            throw MLflowError.invalid("Invalid value for parameter 'part_number' supplied.")
                        }
                        return APIResponse(headers: [("ETag", "\"\(tag)\"")])
                    }
                }
            }
    }

    @Sendable private func createUpload(_ fields: MLflowRequest) async throws -> JSONValue {
        guard let count = try fields.integer("num_parts"), 1...10_000 ~= count else {
            throw MLflowError.invalid("Invalid value for parameter 'num_parts' supplied: 1 to 10000 are accepted.")
        }
        let id = try await tracking.beginUpload(at: Self.uploadPath(fields), partCount: Int(count))
        let headers = Self.passedOn(fields.request)
        return [
            "upload_id": .string(id),
            "credentials": .array(
                (1...count).map { number in
                    [
                        "url": .string(
                            Self.address(fields.request, "/api/2.0/mlflow-artifacts/mpu/parts/\(id)/\(number)")),
                        "part_number": .integer(number), "headers": headers,
                    ]
                }),
        ]
    }

    /// Where an upload goes: a file below the folder in the path, named like the client's local file.
    private static func uploadPath(_ fields: MLflowRequest) throws -> String {
        let folder = trimmed(fields.request.parameters["folder"] ?? "")
        let local = try fields.requiredInBody("path")
        guard let name = local.split(separator: "/", omittingEmptySubsequences: false).last, !name.isEmpty else {
            throw MLflowError.invalid("Invalid value for parameter 'path' supplied: it names no file")
        }
        return try TrackingStore.checkedArtifactPath(folder.isEmpty ? String(name) : "\(folder)/\(name)")
    }

    /// An address of this server as the client knows it.
    private static func address(_ request: APIRequest, _ path: String) -> String {
        let scheme = request.headers["x-forwarded-proto"] == "https" ? "https" : "http"
        return "\(scheme)://\(request.headers["host"] ?? "127.0.0.1")\(path)"
    }

    /// Headers that the client sends to such an address: its own token, which it would not send there by itself.
    private static func passedOn(_ request: APIRequest) -> JSONValue {
        request.headers["authorization"].map { ["Authorization": .string($0)] } ?? [:]
    }

    private static func escaped(_ path: String) -> String {
        path.addingPercentEncoding(
            withAllowedCharacters: .urlPathAllowed.subtracting(CharacterSet(charactersIn: ";?#%")))
            ?? path
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
                ("Accept-Ranges", "bytes"),
                // Foreign content: no browser shows it as a page of ours.
                ("Content-Security-Policy", "sandbox; default-src 'none'"),
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

/// A part of an upload that is written where it belongs as it comes.
private struct PartBody: BodyRoom {
    let room: PartRoom
    let tracking: TrackingStore

    var byteCount: Int { room.byteCount }
    func write(_ bytes: UnsafeRawBufferPointer) throws { try room.write(bytes) }
    func release() { tracking.giveBack(room) }
}
