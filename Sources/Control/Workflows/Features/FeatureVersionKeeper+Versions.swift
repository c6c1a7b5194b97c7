import Definitions
public import FeatureStore
import Foundation
public import PlatformCore
import StoragePorts

/// What is known of one version of a feature view.
public struct FeatureVersionReport: Sendable {
    /// The view.
    public let view: Name
    /// Hash of the version's meaning.
    public let version: ContentHash
    /// Its name in the online store, `paid.v1a2b3c4d`.
    public let versionName: Name
    /// `READY`, `BACKFILLING`, `PARKED`, `RETIRED`; `NONE` if nothing was ever kept of it.
    public let state: String
    /// Whether it is the version in force.
    public let isCurrent: Bool
    /// Who uses it; empty for one that may be retired.
    public let users: [FeatureVersionUser]
    /// When it came into force first.
    public let createdAt: EventTime
    /// Who applied it then.
    public let createdBy: String
    /// Since when nobody uses it.
    public let unusedSince: EventTime?
    /// When it was retired.
    public let retiredAt: EventTime?
    /// Where the engine stands with it; `nil` if it keeps nothing.
    public let status: ViewVersionStatus?
    /// Entities in the online store as of the last checkpoint; `nil` if that was not asked.
    public var entities: Int?
    /// Bytes in the online store; `nil` if that was not asked.
    public var byteCount: Int?
    /// When it was last read, online or for a training set, to some seconds.
    public var lastRead: EventTime?
}

extension FeatureVersionKeeper {
    /// Every version that views ever had, by view, the newest first, with size and last read.
    public func measuredVersions(of view: Name? = nil) async throws -> [FeatureVersionReport] {
        let use = try await versionUse()
        var reports = try await versions(of: view)
        for index in reports.indices {
            let report = reports[index]
            reports[index].lastRead = use[report.versionName]?.lastRead
            guard let status = report.status else { continue }
            let size = try await storedSize(of: status)
            reports[index].entities = size.rows
            reports[index].byteCount = size.byteCount
        }
        return reports
    }

    /// Every version that views ever had, by view, the newest first.
    public func versions(of view: Name? = nil) async throws -> [FeatureVersionReport] {
        let usage = try await usage()
        let marks = try await marks()
        let current = catalog.current
        let statuses = Dictionary(
            stream.versions.map { ($0.versionName, $0) }, uniquingKeysWith: { $1 })
        var order: [Name] = []
        var first: [Name: (view: Name, hash: ContentHash, entry: DefinitionCatalog.Version)] = [:]
        for entry in try await catalog.versions(of: "FeatureView", view) {
            guard let hash = entry.version, let name = Name(entry.identifier.dropFirst("FeatureView/".count)) else {
                continue
            }
            let version = FeatureViewDefinition.versionName(name, hash)
            if first[version] == nil { order.append(version) }
            first[version] = (name, hash, entry)  // the last one seen is the oldest
        }
        let reports = order.compactMap { version -> FeatureVersionReport? in
            guard let (view, hash, entry) = first[version] else { return nil }
            let mark = marks[version]
            let status = statuses[version]
            return FeatureVersionReport(
                view: view, version: hash, versionName: version,
                state: status?.state.rawValue ?? (mark?.retiredAt == nil ? "NONE" : "RETIRED"),
                isCurrent: current.featureViews[view]?.version == hash, users: usage.users[version] ?? [],
                createdAt: entry.time, createdBy: entry.actor, unusedSince: mark?.unusedSince,
                retiredAt: mark?.retiredAt, status: status)
        }
        let positions = Dictionary(
            order.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        return reports.sorted {
            ($0.view.text, positions[$0.versionName] ?? 0) < ($1.view.text, positions[$1.versionName] ?? 0)
        }
    }

    /// The version that `text` names: `paid@1a2b3c4d`, with as many digits as make it clear, or `paid.v1a2b3c4d`.
    public func version(_ text: String) async throws -> FeatureVersionReport {
        let subject = "feature_view/\(text.prefix(160))"
        let parts = text.split(separator: "@", maxSplits: 1).map(String.init)
        let all = try await versions()
        let found: [FeatureVersionReport]
        if parts.count == 2 {
            guard parts[1].count >= 4 else {
                throw PlatformError(.invalidInput, subject, "give at least 4 digits of the version")
            }
            found = all.filter { $0.view.text == parts[0] && $0.version.hex.hasPrefix(parts[1].lowercased()) }
        } else {
            found = all.filter { $0.versionName.text == text }
        }
        guard let only = found.first, found.count == 1 else {
            let names = all.map { "\($0.view)@\($0.version.hex.prefix(8))" }
            throw PlatformError(
                found.isEmpty ? .notFound : .invalidInput, subject,
                found.isEmpty
                    ? "no feature view ever had this version"
                        + (nearestName(to: text, among: names).map { "; did you mean '\($0)'?" } ?? "")
                    : "\(found.count) versions begin like this")
        }
        return only
    }

    /// Removes what is kept of versions that nobody uses.
    /// - Parameters:
    ///   - names: as `version` takes them; `nil` for every unused one.
    ///   - isRehearsal: whether only to say which.
    /// - Returns: the versions that were, or would be, removed.
    /// - Throws: `refused` if one is in use, naming its users.
    public func retire(_ names: [String]?, isRehearsal: Bool, actor: String) async throws -> [FeatureVersionReport] {
        try await reconcile()
        var chosen: [FeatureVersionReport] = []
        if let names {
            for name in names {
                let report = try await version(name)
                guard report.users.isEmpty else {
                    throw PlatformError(
                        .refused, "feature_view/\(report.versionName)",
                        "it is in use by " + report.users.map(\.text).sorted().joined(separator: "; "))
                }
                guard report.status != nil else {
                    throw PlatformError(
                        .refused, "feature_view/\(report.versionName)",
                        report.retiredAt.map { "it was retired at \($0)" } ?? "nothing is kept of it")
                }
                chosen.append(report)
            }
        } else {
            chosen = try await versions().filter { $0.users.isEmpty && $0.status != nil }
        }
        for index in chosen.indices {
            guard let status = chosen[index].status else { continue }
            chosen[index].byteCount = try await storedSize(of: status).byteCount
        }
        if isRehearsal { return chosen }
        for report in chosen {
            try await stream.retire(report.versionName)
            let now = clock.now().milliseconds
            _ = try await store.write {
                try $0.execute(
                    """
                    INSERT INTO feature_version_marks (version, retired_at, retired_by) VALUES (?, ?, ?) \
                    ON CONFLICT (version) DO UPDATE SET retired_at = excluded.retired_at, \
                    retired_by = excluded.retired_by, unused_since = NULL
                    """, [.text(report.versionName.text), .integer(now), .text(actor)])
            }
        }
        return chosen
    }

    /// Keeps a version in use, or lets it go.
    /// - Parameter reason: why it is kept; `nil` lets it go.
    public func pin(_ name: String, reason: String?, actor: String) async throws -> FeatureVersionReport {
        let report = try await version(name)
        let now = clock.now().milliseconds
        _ = try await store.write {
            try $0.execute(
                """
                INSERT INTO feature_version_marks (version, pinned_at, pinned_by, pin_reason) VALUES (?, ?, ?, ?) \
                ON CONFLICT (version) DO UPDATE SET pinned_at = excluded.pinned_at, pinned_by = excluded.pinned_by, \
                pin_reason = excluded.pin_reason
                """,
                [
                    .text(report.versionName.text), reason == nil ? .null : .integer(now),
                    reason == nil ? .null : .text(actor), MetadataValue(reason),
                ])
        }
        try await reconcile()
        return try await version(name)
    }
}
