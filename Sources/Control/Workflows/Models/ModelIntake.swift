public import ExperimentTracking
import Foundation
public import ModelRegistry
public import PlatformCore
public import StoragePorts

/// Makes what MLflow's clients register into versions like any other: files by content, signature, lineage, metrics.
public struct ModelIntake: Sendable {
    private let tracking: TrackingStore
    private let content: ContentStore
    private let desk: ModelDesk
    private let serviceVersion: @Sendable (ContentHash) async throws -> ContentHash

    /// Makes an intake.
    /// - Parameters:
    ///   - tracking: runs and their files.
    ///   - content: where lists of files go.
    ///   - desk: loads and judges model files.
    ///   - serviceVersion: the feature service's version that a training set was built with.
    public init(
        tracking: TrackingStore, content: ContentStore, desk: ModelDesk,
        serviceVersion: @escaping @Sendable (ContentHash) async throws -> ContentHash
    ) {
        self.tracking = tracking
        self.content = content
        self.desk = desk
        self.serviceVersion = serviceVersion
    }

    /// Largest model file that is tried with our runtimes.
    private static let loadedByteCountMax = 256 << 20
    private static let recordByteCountMax = 8 << 20

    /// Everything that can be known of a source: its files with their hashes, the signature in its `MLmodel`, and from
    /// its run the training set, the code and the parameters.
    ///
    /// A file of a runtime of ours, trained on a training set of ours for a model that is defined, is scored on its
    /// slices like any registration; what cannot be scored has no metrics, and gates that ask for some refuse it.
    public func candidate(
        for model: Name, source: VersionSource, runID: String?, description: String?, tags: [String: String]
    ) async throws -> VersionCandidate {
        var files: [StoredArtifact] = []
        let root = TrackingStore.artifactPath(ofURI: source.artifactURI)
        if let root, !root.isEmpty { files = try await tracking.allArtifacts(below: root) }
        let list = try await content.put(Self.list(files, below: root ?? "").canonicalBytes)
        var described: MLmodelFile?
        if let root, let file = files.first(where: { $0.path == "\(root)/MLmodel" }) {
            described = try? MLmodelFile(
                try await tracking.artifactBytes(at: file.path, byteCountMax: MLmodelFile.byteCountMax))
        }
        let source = VersionSource(
            uri: source.uri, artifactURI: source.artifactURI, loggedModel: source.loggedModel, runLink: source.runLink,
            files: files.isEmpty ? nil : list)
        let origin = try await origin(ofRun: runID)
        func candidate(_ artifact: ModelArtifact) -> VersionCandidate {
            VersionCandidate(
                artifact: artifact, signature: described?.signature, origin: origin, description: description ?? "",
                tags: tags, source: source)
        }
        let whole = ModelArtifact(
            hash: list, byteCount: files.reduce(0) { $0 + $1.byteCount },
            format: "mlflow-\(described?.framework ?? "files")", fileName: "MLmodel")
        func judged(_ bytes: [UInt8], _ name: String) async -> VersionCandidate? {
            guard origin.dataset != nil, origin.serviceVersion != nil,
                let judged = try? await desk.judge(
                    model, bytes: bytes, fileName: name, origin: origin, hasSignature: described?.signature != nil)
            else { return nil }
            return VersionCandidate(
                artifact: judged.artifact, signature: judged.signature, origin: origin, metrics: judged.metrics,
                rows: judged.rows, referenceProfile: judged.referenceProfile,
                description: description ?? judged.description, tags: tags, source: source,
                requirementDifferences: judged.requirementDifferences)
        }
        guard let file = Self.modelFile(among: files), file.byteCount <= Self.loadedByteCountMax else {
            guard described?.flavors["python_function"] != nil else { return candidate(whole) }
            return await judged(Self.list(files, below: root ?? "").canonicalBytes, "MLmodel") ?? candidate(whole)
        }
        let bytes = try await tracking.artifactBytes(at: file.path, byteCountMax: Self.loadedByteCountMax)
        let name = String(file.path.split(separator: "/").last ?? "model")
        guard let format = await desk.format(of: bytes, fileName: name) else { return candidate(whole) }
        if let judged = await judged(bytes, name) { return judged }
        return candidate(ModelArtifact(hash: file.hash, byteCount: file.byteCount, format: format, fileName: name))
    }

    /// A folder's files as one content: what a version of several files is kept as.
    static func list(_ files: [StoredArtifact], below root: String) -> JSONValue {
        [
            "files": .array(
                files.map {
                    [
                        "path": .string(String($0.path.dropFirst(root.count + 1))), "hash": .string($0.hash.hex),
                        "byte_count": .integer(Int64($0.byteCount)),
                    ]
                })
        ]
    }

    private static func modelFile(among files: [StoredArtifact]) -> StoredArtifact? {
        files.first { file in
            let name = file.path.split(separator: "/").last.map(String.init) ?? ""
            return name.hasPrefix("model.")
                && [".ubj", ".json", ".xgb", ".txt", ".lgb", ".onnx"].contains { name.hasSuffix($0) }
        }
    }

    private func origin(ofRun id: String?) async throws -> VersionOrigin {
        let empty = VersionOrigin(dataset: nil, serviceVersion: nil, runID: id ?? "", jobID: "", seed: 0)
        guard let id, let run = try? await tracking.run(id) else { return empty }
        let tags = Dictionary(run.tags.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
        var dataset = tags["bottega.dataset"].flatMap { ContentHash(hex: $0) }
        var service: ContentHash?
        if let known = dataset {
            service = try? await serviceVersion(known)
            if service == nil { dataset = nil }
        }
        // What the Python package records of any run, in the form in which a job's environment is kept.
        var environment: ContentHash?
        if let bytes = try? await tracking.artifactBytes(
            run: id, path: RunRecorder.recordPath, byteCountMax: Self.recordByteCountMax),
            let record = try? JSONValue.parse(
                bytes, limits: JSONLimits(byteCountMax: Self.recordByteCountMax, depthMax: 16)),
            let found = record["environment"]
        {
            environment = try await content.put(found.canonicalBytes)
        }
        return VersionOrigin(
            dataset: dataset, serviceVersion: service, runID: id, jobID: tags["bottega.job"] ?? "",
            commit: tags["mlflow.source.git.commit"] ?? "", branch: tags["mlflow.source.git.branch"] ?? "",
            isDirty: tags["bottega.dirty"] == "true",
            seed: tags["bottega.seed"].flatMap { Int64($0) } ?? 0,
            environment: environment,
            parameters: Dictionary(run.params.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 }))
    }
}
