public import PlatformCore

/// A running MLflow server.
public struct ServerSource: ImportSource {
    /// The source's name in reports and tags, without secrets.
    public let name: String
    let server: HTTPEndpoint
    /// Files come along: the server hands them out.
    public var hasFiles: Bool { true }

    /// Reads from a server.
    public init(_ server: HTTPEndpoint) {
        self.server = server
        name = server.base
    }

    /// Every page of a search.
    func pages(
        _ path: String, list: String, body: JSONValue? = nil, fields: [(String, String)] = [], countMax: Int
    ) async throws -> [JSONValue] {
        var found: [JSONValue] = []
        var token = ""
        var seen: Set<String> = []
        repeat {
            let answer: JSONValue
            if var members = body?.objectValue {
                members["max_results"] = .integer(Int64(countMax))
                if !token.isEmpty { members["page_token"] = .string(token) }
                answer = try await server.send("POST", path, .object(members))
            } else {
                let page = [("max_results", "\(countMax)")] + (token.isEmpty ? [] : [("page_token", token)])
                answer = try await server.get(path, fields + page)
            }
            found += answer.list(list)
            token = answer["next_page_token"]?.stringValue ?? answer["token"]?.stringValue ?? ""
            guard token.isEmpty || seen.insert(token).inserted else { throw repeats(path) }
        } while !token.isEmpty
        return found
    }

    /// What a server does whose pages have no end.
    ///
    /// Not `invalidInput`, which says that the server refused the call: that is nothing to import, and this is not.
    func repeats(_ path: String) -> PlatformError {
        PlatformError(
            .corrupted, "\(server.base)\(path)",
            "the server answers with a page token that it gave before, so its pages have no end; mend the server, or "
                + "import from its database file (mlflow-sqlite://PATH)")
    }

    /// Every experiment, deleted ones too.
    public func experiments() async throws -> [JSONValue] {
        try await pages(
            "/api/2.0/mlflow/experiments/search", list: "experiments", body: ["view_type": "ALL"], countMax: 1000)
    }

    /// Every run of an experiment, deleted ones too.
    public func runs(of experiment: String) async throws -> [JSONValue] {
        try await pages(
            "/api/2.0/mlflow/runs/search", list: "runs",
            body: ["experiment_ids": [.string(experiment)], "run_view_type": "ALL"], countMax: 1000)
    }

    /// A run with its model inputs and outputs, which a search leaves out.
    public func whole(_ run: JSONValue) async throws -> JSONValue {
        guard var members = run.objectValue else { return run }
        let read = try await server.get("/api/2.0/mlflow/runs/get", [("run_id", run["info"]?.text("run_id") ?? "")])
        for part in ["inputs", "outputs"] { members[part] = read["run"]?[part] ?? members[part] }
        return .object(members)
    }

    /// All values of a metric.
    public func history(run: String, key: String) async throws -> [ImportedPoint] {
        try await pages(
            "/api/2.0/mlflow/metrics/get-history", list: "metrics", fields: [("run_id", run), ("metric_key", key)],
            countMax: 25_000
        ).map {
            ImportedPoint(
                milliseconds: $0.number("timestamp") ?? 0, step: $0.number("step") ?? 0,
                value: $0["value"]?.metricValue ?? 0)
        }
    }

    /// Every logged model of an experiment.
    public func loggedModels(of experiment: String) async throws -> [JSONValue] {
        do {
            return try await pages(
                "/api/2.0/mlflow/logged-models/search", list: "models", body: ["experiment_ids": [.string(experiment)]],
                countMax: 100)
        } catch let error as PlatformError {
            if error.code == .notFound { return [] }  // a server before version 3 has none
            throw error
        }
    }

    /// How many traces an experiment has; no more than `countMax` are counted.
    public func traceCount(of experiment: String, countMax: Int) async throws -> Int {
        let place: JSONValue = [
            "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": ["experiment_id": .string(experiment)],
        ]
        do {
            let answer = try await server.send(
                "POST", "/api/3.0/mlflow/traces/search",
                ["locations": [place], "max_results": .integer(Int64(countMax))])
            return answer.list("traces").count
        } catch let error as PlatformError {
            if [.notFound, .invalidInput].contains(error.code) { return 0 }  // a server before version 3
            throw error
        }
    }

    /// Every registered model, prompts too.
    public func registeredModels() async throws -> [JSONValue] {
        try await withPrompts("registered-models", list: "registered_models", countMax: 1000)
    }

    /// Every version of every registered model, prompts' too.
    public func modelVersions() async throws -> [JSONValue] {
        try await withPrompts("model-versions", list: "model_versions", countMax: 10_000)
    }

    /// What a search finds, and the prompts, which it finds only for who asks for them.
    private func withPrompts(_ family: String, list: String, countMax: Int) async throws -> [JSONValue] {
        let path = "/api/2.0/mlflow/\(family)/search"
        let models = try await pages(path, list: list, countMax: countMax)
        do {
            let filter = ("filter", "tags.`mlflow.prompt.is_prompt` = 'true'")
            let prompts = try await pages(path, list: list, fields: [filter], countMax: countMax)
            // A server that knows no prompts finds them among the models.
            let known = Set(models.map { "\($0.text("name"))/\($0.text("version"))" })
            return models + prompts.filter { !known.contains("\($0.text("name"))/\($0.text("version"))") }
        } catch let error as PlatformError {
            if error.code == .invalidInput { return models }  // an old one that has no filter for tags
            throw error
        }
    }

    /// Where a version's files are.
    public func location(of version: JSONValue) async throws -> String {
        try await server.get(
            "/api/2.0/mlflow/model-versions/get-download-uri",
            [("name", version.text("name")), ("version", version.text("version"))]
        ).text("artifact_uri")
    }

    /// Files below an artifact URI, of a run if it belongs to one.
    public func files(below uri: String, run: String?) async throws -> [ImportedFile] {
        let root = Self.proxied(uri)
        guard root != nil || run != nil else {
            throw PlatformError(.unavailable, uri, "the server does not hand out these files")
        }
        var files: [ImportedFile] = []
        var open = [""]
        var seen = Set(open)
        while let folder = open.popLast() {
            let answer: JSONValue
            if let root {
                let path = folder.isEmpty ? root : "\(root)/\(folder)"
                answer = try await server.get("/api/2.0/mlflow-artifacts/artifacts", [("path", path)])
            } else {
                answer = try await server.get(
                    "/api/2.0/mlflow/artifacts/list",
                    [("run_id", run ?? "")] + (folder.isEmpty ? [] : [("path", folder)]))
            }
            for file in answer.list("files") {
                // The proxy says names, the run's list says paths.
                let path = root == nil || folder.isEmpty ? file.text("path") : "\(folder)/\(file.text("path"))"
                guard Self.isBelow(path) else {
                    throw PlatformError(
                        .invalidInput, uri, "the server lists '\(path.prefix(200))', which is no path below it")
                }
                if file["is_dir"]?.boolValue == true {
                    if seen.insert(path).inserted { open.append(path) }
                } else {
                    files.append(
                        ImportedFile(path: path, byteCount: file.number("file_size").map { Int(clamping: $0) }))
                }
            }
        }
        return files.sorted { $0.path < $1.path }
    }

    /// Copies a file into a local one.
    public func fetch(_ path: String, below uri: String, run: String?, to file: String) async throws {
        if let root = Self.proxied(uri) {
            try await server.download("/api/2.0/mlflow-artifacts/artifacts/\(root)/\(path)", to: file)
        } else {
            try await server.download("/get-artifact", [("path", path), ("run_uuid", run ?? "")], to: file)
        }
    }

    /// Whether a listed path leads down, and not deeper than anything real.
    static func isBelow(_ path: String) -> Bool {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count <= 64 && path.utf8.count <= 4096
            && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
    }

    /// The path that the server's proxy knows a URI by.
    static func proxied(_ uri: String) -> String? {
        guard uri.hasPrefix("mlflow-artifacts:") else { return nil }
        var rest = uri.dropFirst("mlflow-artifacts:".count)
        if rest.hasPrefix("//") { rest = rest.dropFirst(2).drop { $0 != "/" } }
        return String(rest.drop { $0 == "/" })
    }
}
