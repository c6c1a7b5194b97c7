import Datasets
import Definitions
import FeatureStore
import Foundation
public import PlatformCore
import StoragePorts

/// A training set made again from what made it, compared with what was kept.
public struct DatasetRebuild: Sendable, Codable {
    /// One thing that is not as it was.
    public struct Difference: Sendable, Hashable, Codable {
        /// `engine`, `slice train`, `table payments`.
        public let what: String
        /// What the manifest says.
        public let before: String
        /// What it is now.
        public let after: String
    }
    /// The training set that was asked for.
    public let dataset: ContentHash
    /// The one that came out: the same hash where everything is equal.
    public let rebuilt: ContentHash
    /// Whether hash and bytes are equal.
    public let isEqual: Bool
    /// Whether the files have the same bytes, whatever else the manifest says.
    public let hasEqualFiles: Bool
    /// The revision of the definitions that made it.
    public let revision: Int
    /// Rows that came out.
    public let rows: Int
    /// Why it is not equal; empty if it is.
    public let differences: [Difference]

    enum CodingKeys: String, CodingKey {
        case dataset, rebuilt, revision, rows, differences
        case isEqual = "equal"
        case hasEqualFiles = "equal_files"
    }
}

extension TrainingPipeline {
    /// Most revisions of a definition that are tried.
    private static let attemptCountMax = 3

    /// Builds an old training set again: with the definitions, view versions, table versions, moments and questions that its
    /// manifest names.
    ///
    /// Nothing is registered; files with other bytes belong to nothing and go with the next collection.
    /// - Throws: `notFound` for an unknown training set; `conflict` where something that made it is gone: the definition, a
    ///   table version that another program removed, the questions.
    public func rebuildDataset(_ hash: ContentHash, progress: ProgressReporter) async throws -> DatasetRebuild {
        let manifest = try await manifest(hash)
        let revisions = try await revisions(of: manifest, hash)
        var first: DatasetRebuild?
        for (revision, set, definition) in revisions.prefix(Self.attemptCountMax) {
            progress.report("building with the definitions of revision \(revision)")
            let build = try await rebuild(manifest, hash, definition, set, progress)
            let found = try await compare(manifest, hash, with: build, revision: revision)
            if found.isEqual { return found }
            first = first ?? found
        }
        guard let first else {
            throw PlatformError(
                .conflict, "dataset/\(hash.short)",
                "no revision of the definitions has '\(manifest.trainingSet)' with its feature service of version \(manifest.serviceVersion.short)"
            )
        }
        return first
    }

    /// Revisions that may have made it, that which was in force when it was built first.
    private func revisions(of manifest: DatasetManifest, _ hash: ContentHash) async throws -> [(
        Int, DefinitionSet, TrainingSetDefinition
    )] {
        let builtAt = try await datasets.all().first { $0.hash == hash }?.builtAt
        let versions = try await catalog.versions(of: "TrainingSet", manifest.trainingSet)
            .filter { $0.version != nil }
        // Newest first; what came into force after the build is only tried where clocks were set back.
        let ordered =
            versions.filter { version in builtAt.map { version.time <= $0 } ?? true }
            + versions.filter { version in builtAt.map { version.time > $0 } ?? false }
        var found: [(Int, DefinitionSet, TrainingSetDefinition)] = []
        for version in ordered {
            let set = try await catalog.set(revision: version.revision)
            guard let definition = set.trainingSets[manifest.trainingSet],
                set.featureServices[definition.service]?.version == manifest.serviceVersion
            else { continue }
            found.append((version.revision, set, definition))
        }
        return found
    }

    private func rebuild(
        _ manifest: DatasetManifest, _ hash: ContentHash, _ definition: TrainingSetDefinition, _ set: DefinitionSet,
        _ progress: ProgressReporter
    ) async throws -> DatasetBuild {
        func gone(_ message: String) -> PlatformError {
            PlatformError(.conflict, "dataset/\(hash.short)", "it cannot be built again: \(message)")
        }
        if definition.outsideSpine != nil {
            guard let spine = manifest.spine, try await content.contains(spine.part) else {
                throw gone("its questions came from outside and are not kept any more")
            }
        }
        let tables = tables
        do {
            return try await builder.build(
                definition, in: set, from: manifest.from, to: manifest.to, asOf: manifest.asOf, spine: manifest.spine,
                scans: { source in
                    guard let known = set.sources[source], let version = manifest.tableVersions[source.text] else {
                        throw gone("its manifest names no version of table '\(source)'")
                    }
                    return try await tables.scan(known, version: version)
                },
                progress: { progress.report($0.message, done: Double($0.done), total: Double($0.total), unit: "steps") }
            )
        } catch let error as StoreError {
            guard error.code == .notFound else { throw error }
            throw gone("\(error.subject): \(error.message)")
        }
    }

    private func compare(
        _ manifest: DatasetManifest, _ hash: ContentHash, with build: DatasetBuild, revision: Int
    ) async throws -> DatasetRebuild {
        let other = build.manifest
        var differences: [DatasetRebuild.Difference] = []
        func note(_ what: String, _ before: String, _ after: String) {
            if before != after { differences.append(.init(what: what, before: before, after: after)) }
        }
        note("engine", manifest.engine, other.engine)
        note("questions", "\(manifest.questions)", "\(other.questions)")
        note("questions without a label", "\(manifest.questionsWithoutLabel)", "\(other.questionsWithoutLabel)")
        note(
            "columns", manifest.columns.map(\.name).joined(separator: ", "),
            other.columns.map(\.name).joined(separator: ", "))
        for view in Set(manifest.viewVersions.keys).union(other.viewVersions.keys).sorted() {
            note(
                "view \(view)", manifest.viewVersions[view]?.short ?? "none", other.viewVersions[view]?.short ?? "none")
        }
        for slice in manifest.slices {
            guard let again = other.slice(slice.name) else {
                note("slice \(slice.name)", "\(slice.rows) rows", "none")
                continue
            }
            guard slice.part != again.part else { continue }
            let cells = try await differentRows(slice, again)
            note(
                "slice \(slice.name)", "\(slice.rows) rows, \(slice.byteCount) bytes, \(slice.part.short)",
                "\(again.rows) rows, \(again.byteCount) bytes, \(again.part.short); "
                    + (cells == 0 ? "the same rows, laid out differently" : "\(cells) rows differ"))
        }
        if differences.isEmpty, build.hash != hash { note("manifest", hash.short, build.hash.short) }
        return DatasetRebuild(
            dataset: hash, rebuilt: build.hash, isEqual: build.hash == hash,
            hasEqualFiles: manifest.slices.map(\.part) == other.slices.map(\.part), revision: revision,
            rows: other.rows,
            differences: differences)
    }

    /// Rows of either file that the other one does not have.
    private func differentRows(_ one: DatasetManifest.Slice, _ other: DatasetManifest.Slice) async throws -> Int64 {
        let paths = [try await content.localPath(of: one.part), try await content.localPath(of: other.part)]
        return try await builder.differentRows(between: paths[0], and: paths[1])
    }

    /// The local file of one slice of a training set.
    /// - Throws: `notFound` for a training set or slice that does not exist.
    public func slicePath(_ slice: String, of hash: ContentHash) async throws -> String {
        let manifest = try await manifest(hash)
        guard let found = manifest.slice(slice) else {
            let near = nearestName(to: slice, among: manifest.slices.map(\.name))
            throw PlatformError(
                .notFound, "dataset/\(hash.short)",
                "it has no slice '\(slice.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        return try await content.localPath(of: found.part)
    }
}
