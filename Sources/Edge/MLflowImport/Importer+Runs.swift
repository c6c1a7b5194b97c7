import ContentHashing
import Foundation
import PlatformCore

extension Importer {
    /// Which logged models a point of a run's metric describes.
    struct Link: Sendable {
        let model: String
        let datasetName: String?
        let datasetDigest: String?
    }

    /// By run, then by metric and point.
    static func links(_ models: [JSONValue]) -> [String: [String: [Link]]] {
        var links: [String: [String: [Link]]] = [:]
        for model in models {
            let id = model["info"]?.text("model_id") ?? ""
            for metric in model["data"]?.list("metrics") ?? [] {
                let point = ImportedPoint(
                    milliseconds: metric.number("timestamp") ?? 0, step: metric.number("step") ?? 0,
                    value: metric["value"]?.metricValue.map { $0.isNaN ? 0 : $0 } ?? 0)
                links[metric.text("run_id"), default: [:]]["\(metric.text("key")) \(point.fingerprint)", default: []]
                    .append(
                        Link(
                            model: id, datasetName: metric["dataset_name"]?.stringValue,
                            datasetDigest: metric["dataset_digest"]?.stringValue))
            }
        }
        return links
    }

    func copy(run: JSONValue, to experiment: String, done: String?, links: [String: [Link]]) async throws {
        guard let info = run["info"], let data = run["data"] else { return }
        let id = info.text("run_id")
        let before = ImportedState(done)
        let described = links.flatMap { key, links in links.map { "\(key) \($0.model)" } }.sorted()
        let state = ContentHasher.hash(
            JSONValue.array([.integer(2), run, .array(described.map(JSONValue.string))]).canonicalBytes
        ).hex
        if before.state == state { return tally.present("runs") }
        let whole = try await source.whole(run)
        let made = try await destination.send(
            "POST", "/api/v1/import/runs",
            Self.stated([
                "run_id": .string(id), "experiment_id": .string(experiment), "name": .string(info.text("run_name")),
                "user": .string(info.text("user_id")), "status": .string(info.text("status")),
                "started_at": info.number("start_time").map(JSONValue.integer) ?? .null,
                "ended_at": info.number("end_time").map(JSONValue.integer) ?? .null,
            ]))
        // First, so that what is refused below does not leave a run of which nobody knows where it is from.
        let origin: JSONValue = [
            "key": .string(Self.sourceTag),
            "value": .string("\(source.name) experiment \(info.text("experiment_id"))"),
        ]
        try await log(run: id, "tags", [origin], portion: 100)
        try await log(
            run: id, "params", data.list("params").map { ["key": $0["key"] ?? .null, "value": $0["value"] ?? .null] },
            portion: 100)
        let tags = data.list("tags").filter { ![Self.doneTag, Self.sourceTag, ""].contains($0.text("key")) }
        try await log(run: id, "tags", tags, portion: 100)
        let wanted = Set(tags.map { $0.text("key") })
        for key in before.names where !wanted.contains(key) {
            do {
                _ = try await destination.send(
                    "POST", "/api/2.0/mlflow/runs/delete-tag", ["run_id": .string(id), "key": .string(key)])
            } catch let error as PlatformError where error.code == .notFound {}
        }
        var histories: [String: [ImportedPoint]] = [:]
        for key in Set(data.list("metrics").map { $0.text("key") }).sorted() {
            let points = try await source.history(run: id, key: key)
            histories[key] = points
            var wires: [JSONValue] = []
            for point in points {
                let plain: [String: JSONValue] = [
                    "key": .string(key), "value": point.value.isNaN ? .string("NaN") : .number(point.value),
                    "timestamp": .integer(point.milliseconds), "step": .integer(point.step),
                ]
                // What is no number is 0 in a source's model.
                let told =
                    point.value.isNaN
                    ? ImportedPoint(milliseconds: point.milliseconds, step: point.step, value: 0) : point
                let describes = links["\(key) \(told.fingerprint)"] ?? []
                if describes.isEmpty { wires.append(.object(plain)) }
                for link in describes {
                    var wire = plain
                    wire["model_id"] = .string(link.model)
                    wire["dataset_name"] = link.datasetName.map(JSONValue.string)
                    wire["dataset_digest"] = link.datasetDigest.map(JSONValue.string)
                    wires.append(.object(wire))
                }
            }
            try await log(run: id, "metrics", wires, portion: 1000)
            tally.found("metric_points", points.count)
            tally.copied("metric_points", points.count)
        }
        let (datasets, models) = (
            whole["inputs"]?.list("dataset_inputs") ?? [], whole["inputs"]?.list("model_inputs") ?? []
        )
        if !datasets.isEmpty || !models.isEmpty {
            _ = try await destination.send(
                "POST", "/api/2.0/mlflow/runs/log-inputs",
                ["run_id": .string(id), "datasets": .array(datasets), "models": .array(models)])
        }
        if let outputs = whole["outputs"]?.list("model_outputs"), !outputs.isEmpty {
            _ = try await destination.send(
                "POST", "/api/2.0/mlflow/runs/outputs", ["run_id": .string(id), "models": .array(outputs)])
        }
        let lost = try await copyFiles(
            below: info.text("artifact_uri"), run: id, to: ServerSource.proxied(made.text("artifact_uri")) ?? "")
        let faults =
            try await self.faults(of: id, whole, histories: histories) + lost.map { "its file '\($0)' differs" }
        guard faults.isEmpty else {
            for fault in faults { tally.problem("run \(id): \(fault)") }
            return
        }
        // Without its files it is not done: the next import sees to them.
        let names = wanted.filter { !$0.hasPrefix("mlflow.") }
        let now = source.hasFiles ? ImportedState(state, names: Array(names)).text : Self.partTag
        try await log(run: id, "tags", [["key": .string(Self.doneTag), "value": .string(now)]], portion: 100)
        if info.text("lifecycle_stage") == "deleted" {
            _ = try await destination.send("POST", "/api/2.0/mlflow/runs/delete", ["run_id": .string(id)])
        }
        tally.copied("runs")
    }

    /// Logs in portions; what of a portion is refused is found and told, and the rest is logged.
    private func log(run: String, _ kind: String, _ all: [JSONValue], portion: Int) async throws {
        func send(_ some: ArraySlice<JSONValue>) async throws {
            do {
                _ = try await destination.send(
                    "POST", "/api/2.0/mlflow/runs/log-batch", ["run_id": .string(run), kind: .array(Array(some))])
            } catch let error as PlatformError where error.code == .invalidInput {
                // All points of a metric have one key.
                guard kind != "metrics", some.count > 1 else {
                    let key = String((some.first?.text("key") ?? "").prefix(100))
                    return tally.problem("run \(run): '\(key)' of its \(kind) is refused: \(error.message)")
                }
                let middle = some.startIndex + some.count / 2
                try await send(some[..<middle])
                try await send(some[middle...])
            }
        }
        var at = 0
        while at < all.count {
            try await send(all[at..<min(at + portion, all.count)])
            at += portion
        }
    }

    /// Copies files that are not there yet, and gives those that are not there as they are in the source afterwards.
    private func copyFiles(below uri: String, run: String?, to root: String) async throws -> [String] {
        guard !uri.isEmpty else { return [] }
        let files = try await source.files(below: uri, run: run)
        tally.found("files", files.count)
        if files.isEmpty {
            if run == nil, source.hasFiles { tally.note("\(uri): a logged model without files in the source") }
            return []
        }
        let known = try await hashes(below: root)
        var wanted: [String: String] = [:]
        let local = "\(scratch)/\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: local) }
        for file in files {
            try await source.fetch(file.path, below: uri, run: run, to: local)
            let (hash, byteCount) = try Self.hash(ofFile: local)
            wanted[file.path] = hash
            if known[file.path] == hash {
                tally.present("files")
                continue
            }
            try await destination.upload(local, to: "/api/2.0/mlflow-artifacts/artifacts/\(root)/\(file.path)")
            tally.add(bytes: byteCount)
            tally.copied("files")
        }
        let stored = try await hashes(below: root)
        return wanted.filter { stored[$0.key] != $0.value }.keys.sorted()
    }

    private func hashes(below root: String) async throws -> [String: String] {
        let files = try await destination.get("/api/v1/import/files", [("below", root)]).list("files")
        return Dictionary(files.map { ($0.text("path"), $0.text("sha256")) }, uniquingKeysWith: { $1 })
    }

    /// In what a copied run differs from the source, read back from the target.
    private func faults(
        of id: String, _ run: JSONValue, histories: [String: [ImportedPoint]]
    ) async throws -> [String] {
        var faults: [String] = []
        let target = ServerSource(destination)
        let data = run["data"] ?? .null
        let copy = try await destination.get("/api/2.0/mlflow/runs/get", [("run_id", id)])["run"] ?? .null
        let there = copy["data"] ?? .null
        for (part, list, what) in [
            ("inputs", "model_inputs", "models that it read"), ("outputs", "model_outputs", "models that it wrote"),
        ] {
            func models(_ run: JSONValue) -> Set<String> {
                Set((run[part]?.list(list) ?? []).map { $0.text("model_id") })
            }
            if !models(run).isSubset(of: models(copy)) { faults.append("the \(what) differ") }
        }
        if there.pairs("params") != data.pairs("params") { faults.append("its parameters differ") }
        let (tags, wanted) = (Self.tags(of: there), Self.tags(of: data))
        for (key, value) in wanted where tags[key] != value { faults.append("its tag '\(key)' differs") }
        for (key, points) in histories {
            let (left, right) = (
                Set(points.map(\.fingerprint)), Set(try await target.history(run: id, key: key).map(\.fingerprint))
            )
            if left != right {
                faults.append(
                    "metric '\(key)': \(left.count) points in the source, \(right.count) here, \(left.intersection(right).count) equal"
                )
            }
        }
        return faults
    }

    // MARK: Logged models

    func copy(model: JSONValue, to experiment: String) async throws {
        guard let info = model["info"] else { return }
        let id = info.text("model_id")
        let state = ContentHasher.hash(model.canonicalBytes).hex
        let made = try await destination.send(
            "POST", "/api/v1/import/logged-models",
            Self.stated([
                "model_id": .string(id), "experiment_id": .string(experiment), "name": .string(info.text("name")),
                "model_type": info["model_type"] ?? .null, "source_run_id": info["source_run_id"] ?? .null,
                "status": .string(info["status"]?.stringValue ?? "LOGGED_MODEL_READY"),
                "created_at": info.number("creation_timestamp_ms").map(JSONValue.integer) ?? .null,
                "updated_at": info.number("last_updated_timestamp_ms").map(JSONValue.integer) ?? .null,
            ]))
        if made["tags"]?[Self.doneTag]?.stringValue == state { return tally.present("logged_models") }
        let path = "/api/2.0/mlflow/logged-models/\(id)"
        let params = model["data"]?.list("params") ?? []
        if !params.isEmpty { _ = try await destination.send("POST", "\(path)/params", ["params": .array(params)]) }
        let root = ServerSource.proxied(made.text("artifact_uri")) ?? ""
        let lost = try await copyFiles(below: info.text("artifact_uri"), run: nil, to: root)
        for path in lost { tally.problem("logged model \(id): its file '\(path)' differs") }
        if !lost.isEmpty { return }
        _ = try await destination.send(
            "PATCH", "\(path)/tags",
            [
                "tags": .array(
                    info.list("tags").filter { $0.text("key") != Self.doneTag } + [
                        ["key": .string(Self.doneTag), "value": .string(source.hasFiles ? state : Self.partTag)]
                    ])
            ])
        tally.copied("logged_models")
    }
}
