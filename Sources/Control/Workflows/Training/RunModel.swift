import ExperimentTracking
import ModelRegistry
import PlatformCore

/// The one model that a run logged: what is kept as its version's artifact.
struct RunModel {
    /// The file, or the list of the files of a folder.
    let bytes: [UInt8]
    let fileName: String
    /// Whether the `MLmodel` beside it states a signature, or the file itself what the model takes.
    let hasSignature: Bool

    /// Finds it: a file that a runtime of ours loads, else a folder that MLflow's Python flavor loads, else a pickle.
    /// - Throws: `PlatformError` (`notFound`) with what can be logged.
    static func find(ofRun run: String, in tracking: TrackingStore) async throws -> RunModel {
        let info = try await tracking.run(run).info
        let roots = try await tracking.loggedModels(ofRun: run).map(\.artifactURI) + [info.artifactURI]
        for uri in roots {
            guard let root = TrackingStore.artifactPath(ofURI: uri) else { continue }
            let files = try await tracking.allArtifacts(below: root)
            if let found = try await file(among: files, in: tracking) { return found }
            if let found = try await folder(among: files, in: tracking) { return found }
            if let found = try await pickle(among: files, in: tracking) { return found }
        }
        throw PlatformError(
            .notFound, "run/\(run)",
            "it logged no model file (model.ubj, model.json, model.lgb, model.onnx, model.v2 or model.pkl) and no model of "
                + "MLflow; log one with mlflow.xgboost.log_model(booster, name=\"model\"), "
                + "mlflow.sklearn.log_model(pipeline, name=\"model\") or mlflow.pyfunc.log_model(...)")
    }

    private static func name(of file: StoredArtifact) -> String {
        file.path.split(separator: "/").last.map(String.init) ?? ""
    }

    private static func file(among files: [StoredArtifact], in tracking: TrackingStore) async throws -> RunModel? {
        let suffixes = [".ubj", ".json", ".xgb", ".lgb", ".txt", ".onnx", ".v2"]
        let found = files.first { file in
            name(of: file).hasPrefix("model.") && suffixes.contains { name(of: file).hasSuffix($0) }
        }
        guard let found else { return nil }
        let folder = found.path.split(separator: "/").dropLast().joined(separator: "/")
        // A remote server, a graph and a linear model say what they take.
        var hasSignature = [".v2", ".onnx", ".linear.json"].contains { name(of: found).hasSuffix($0) }
        for description in files
        where !hasSignature && description.path.hasSuffix("/MLmodel")
            && folder.hasPrefix(description.path.dropLast(8))
        {
            hasSignature = try await self.hasSignature(description, tracking)
        }
        return RunModel(
            bytes: try await tracking.artifactBytes(at: found.path), fileName: name(of: found),
            hasSignature: hasSignature)
    }

    private static func hasSignature(_ description: StoredArtifact, _ tracking: TrackingStore) async throws -> Bool {
        let bytes = try await tracking.artifactBytes(at: description.path, byteCountMax: MLmodelFile.byteCountMax)
        return String(decoding: bytes, as: UTF8.self).contains("\nsignature:")
    }

    private static func folder(among files: [StoredArtifact], in tracking: TrackingStore) async throws -> RunModel? {
        for description in files where name(of: description) == "MLmodel" {
            let bytes = try await tracking.artifactBytes(at: description.path, byteCountMax: MLmodelFile.byteCountMax)
            guard (try? MLmodelFile(bytes))?.flavors["python_function"] != nil else { continue }
            let root = String(description.path.dropLast(8))
            return RunModel(
                bytes: ModelIntake.list(files.filter { $0.path.hasPrefix(root + "/") }, below: root).canonicalBytes,
                fileName: "MLmodel", hasSignature: try await hasSignature(description, tracking))
        }
        return nil
    }

    private static func pickle(among files: [StoredArtifact], in tracking: TrackingStore) async throws -> RunModel? {
        let found = files.first { file in [".pkl", ".pickle", ".joblib"].contains { name(of: file).hasSuffix($0) } }
        guard let found else { return nil }
        return RunModel(
            bytes: try await tracking.artifactBytes(at: found.path), fileName: name(of: found), hasSignature: false)
    }
}
