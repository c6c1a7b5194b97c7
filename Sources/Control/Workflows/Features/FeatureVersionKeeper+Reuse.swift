import Definitions
public import FeatureStore
import Foundation
import ModelRegistry
public import PlatformCore
import StoragePorts

/// How far one feature is reused, and what it costs.
public struct FeatureReuse: Sendable, Codable {
    /// `view__feature`.
    public let name: String
    /// Team that owns the view.
    public let owner: String
    /// Services in force that serve it.
    public let services: [String]
    /// Models in force that read it, through their service.
    public let models: [String]
    /// Versions of models in use that were trained with it.
    public let modelVersions: [String]
    /// Owners of the services and models that read it, and of the view.
    public let teams: [String]
    /// Entities for which it was read online, all versions of the view together.
    public var reads: Int64 = 0
    /// Rows of training sets that it was computed for.
    public var trainingRows: Int64 = 0
    /// When it was last read.
    public var lastRead: EventTime?
    /// Its share of the view's bytes in the online store, versions in use together.
    public var bytes: Double = 0
    /// Rows applied to the view's versions.
    public var rowsApplied: Int64 = 0
    /// Its share of the time that took, in seconds on one core.
    public var computeSeconds: Double = 0

    enum CodingKeys: String, CodingKey {
        case name, owner, services, models, teams, reads, bytes
        case modelVersions = "model_versions"
        case trainingRows = "training_rows"
        case lastRead = "last_read"
        case rowsApplied = "rows_applied"
        case computeSeconds = "compute_seconds"
    }
}

/// Reuse over all features.
public struct ReuseReport: Sendable, Codable {
    /// Features in force.
    public var registered = 0
    /// Features that at least one model in force reads.
    public var used = 0
    /// `Σ over models of the features they read / features read by at least one model`: in how many models a used feature
    /// is, on average.
    public var reuseFactor: Double = 0
    /// Models in force that read features.
    public var models = 0
    /// Features that had to be made for each model: `used / models`, times the weeks one takes.
    public var weeksPerModel: Double = 0
    /// Weeks not spent making features again: `Σ over used features of (models that read it − 1)`, times the weeks.
    public var weeksSaved: Double = 0
    /// `weeks saved / 52 · cost of an engineer in a year`.
    public var savings: Double = 0
    /// Median time from a model's first definition to its first version in production, in days; `nil` before there is one.
    public var deliveryDays: Double?
    /// Assumption: weeks of one engineer to make one feature.
    public var weeksPerFeature: Double
    /// Assumption: cost of an engineer in a year.
    public var engineerCost: Double
    /// The features by name.
    public var features: [FeatureReuse] = []

    enum CodingKeys: String, CodingKey {
        case registered, used, models, savings, features
        case reuseFactor = "reuse_factor"
        case weeksPerModel = "weeks_per_model"
        case weeksSaved = "weeks_saved"
        case deliveryDays = "delivery_days"
        case weeksPerFeature = "weeks_per_feature"
        case engineerCost = "engineer_cost"
    }
}

extension FeatureVersionKeeper {
    /// What is remembered of one version.
    struct VersionUse: Sendable {
        var reads: Int64 = 0
        var lastRead: EventTime?
        var rowsApplied: Int64 = 0
        var nanoseconds: Int64 = 0
    }

    /// Adds what was read and applied since the last call to what is remembered.
    public func flushUsage() async throws {
        let (reads, costs) = stream.takeUsage()
        guard !reads.isEmpty || !costs.isEmpty else { return }
        let now = clock.now().milliseconds
        _ = try await store.write { transaction in
            for read in reads { try Self.add(read, at: now, in: transaction) }
            for (version, cost) in costs {
                try transaction.execute(
                    """
                    INSERT INTO feature_costs (version, rows_applied, nanoseconds) VALUES (?, ?, ?) \
                    ON CONFLICT (version) DO UPDATE SET rows_applied = feature_costs.rows_applied + \
                    excluded.rows_applied, nanoseconds = feature_costs.nanoseconds + excluded.nanoseconds
                    """,
                    [
                        .text(version.text), .integer(Int64(clamping: cost.rows)),
                        .integer(Int64(clamping: cost.nanoseconds)),
                    ])
            }
            return reads.count
        }
    }

    private static func add(_ read: FeatureReads, at now: Int64, in transaction: any MetadataTransaction) throws {
        try transaction.execute(
            """
            INSERT INTO feature_reads (version, feature, consumer, reads, last_read) VALUES (?, ?, ?, ?, ?) \
            ON CONFLICT (version, feature, consumer) DO UPDATE SET reads = feature_reads.reads + excluded.reads, \
            last_read = excluded.last_read
            """,
            [
                .text(read.version.text), .text(read.feature), .text(read.consumer),
                .integer(Int64(clamping: read.count)), .integer(now),
            ])
    }

    /// Remembers that a training set was built.
    public func builtTrainingSet(_ manifest: DatasetManifest) async throws {
        var reads: [FeatureReads] = []
        for column in manifest.columns where column.role == .feature {
            guard let separator = column.name.range(of: "__"), let view = Name(column.name[..<separator.lowerBound]),
                let version = manifest.viewVersions[view.text]
            else { continue }
            reads.append(
                FeatureReads(
                    version: FeatureViewDefinition.versionName(view, version),
                    feature: String(column.name[separator.upperBound...]),
                    consumer: "training_set/\(manifest.trainingSet)", count: UInt64(manifest.questions)))
        }
        let list = reads
        let now = clock.now().milliseconds
        _ = try await store.write { transaction in
            for read in list { try Self.add(read, at: now, in: transaction) }
            return list.count
        }
    }

    /// Reads and costs of each version.
    func versionUse() async throws -> [Name: VersionUse] {
        try await flushUsage()
        let (reads, costs) = try await store.read { transaction in
            (
                // A read of a version reads some of its features: the most read one says how often.
                try transaction.query(
                    """
                    SELECT version, MAX(reads) AS reads, MAX(last_read) AS last_read FROM feature_reads GROUP BY version
                    """),
                try transaction.query("SELECT * FROM feature_costs")
            )
        }
        var use: [Name: VersionUse] = [:]
        for row in reads {
            guard let version = Name(row.text("version")) else { continue }
            use[version, default: VersionUse()].reads = row.integer("reads")
            use[version, default: VersionUse()].lastRead = EventTime(milliseconds: row.integer("last_read"))
        }
        for row in costs {
            guard let version = Name(row.text("version")) else { continue }
            use[version, default: VersionUse()].rowsApplied = row.integer("rows_applied")
            use[version, default: VersionUse()].nanoseconds = row.integer("nanoseconds")
        }
        return use
    }

    /// How far features are reused, and what they cost.
    /// - Parameters:
    ///   - weeksPerFeature: weeks of one engineer to make one feature.
    ///   - engineerCost: cost of an engineer in a year.
    public func reuse(weeksPerFeature: Double, engineerCost: Double) async throws -> ReuseReport {
        let set = catalog.current
        let use = try await versionUse()
        let reads = try await readsByFeature()
        var services: [String: Set<String>] = [:]
        var models: [String: Set<String>] = [:]
        var teams: [String: Set<String>] = [:]
        for service in set.featureServices.values {
            for feature in service.features {
                services[feature.servedName, default: []].insert(service.name.text)
                if !service.owner.isEmpty { teams[feature.servedName, default: []].insert(service.owner) }
            }
        }
        for model in set.models.values {
            for feature in set.featureServices[model.service]?.features ?? [] {
                models[feature.servedName, default: []].insert(model.name.text)
                if !model.owner.isEmpty { teams[feature.servedName, default: []].insert(model.owner) }
            }
        }
        var bound: [String: [String]] = [:]
        for (version, _) in try await modelVersionsInUse() {
            guard let hash = version.candidate.origin.serviceVersion, let service = try await catalog.service(hash)
            else {
                continue
            }
            for feature in service.service.features { bound[feature.servedName, default: []].append(version.subject) }
        }
        var report = ReuseReport(weeksPerFeature: weeksPerFeature, engineerCost: engineerCost)
        let held = Dictionary(grouping: stream.versions) { status -> String in
            let name = status.versionName.text
            return name.range(of: ".v", options: .backwards).map { String(name[..<$0.lowerBound]) } ?? name
        }
        for view in set.featureViews.values.sorted(by: { $0.name < $1.name }) {
            var (bytes, rows, nanoseconds) = (0.0, Int64(0), Int64(0))
            for status in held[view.name.text] ?? [] {
                bytes += Double(try await storedSize(of: status).byteCount)
                rows += use[status.versionName]?.rowsApplied ?? 0
                nanoseconds += use[status.versionName]?.nanoseconds ?? 0
            }
            for feature in view.features {
                let name = "\(view.name)__\(feature.name)"
                let read = reads[name]
                report.features.append(
                    FeatureReuse(
                        name: name, owner: view.owner, services: services[name, default: []].sorted(),
                        models: models[name, default: []].sorted(), modelVersions: bound[name, default: []].sorted(),
                        teams: teams[name, default: []].union(view.owner.isEmpty ? [] : [view.owner]).sorted(),
                        reads: read?.online ?? 0, trainingRows: read?.training ?? 0, lastRead: read?.last,
                        bytes: (bytes / Double(view.features.count)).rounded(), rowsApplied: rows,
                        computeSeconds: Double(nanoseconds) / 1e9 / Double(view.features.count)))
            }
        }
        report.registered = report.features.count
        let readings = report.features.map(\.models.count).filter { $0 > 0 }
        report.used = readings.count
        report.models = Set(report.features.flatMap(\.models)).count
        if report.used > 0 {
            report.reuseFactor = Double(readings.reduce(0, +)) / Double(report.used)
            report.weeksPerModel = Double(report.used) / Double(report.models) * weeksPerFeature
            report.weeksSaved = Double(readings.reduce(0) { $0 + $1 - 1 }) * weeksPerFeature
            report.savings = report.weeksSaved / 52 * engineerCost
        }
        report.deliveryDays = try await deliveryDays()
        return report
    }

    private func readsByFeature() async throws -> [String: (online: Int64, training: Int64, last: EventTime)] {
        let rows = try await store.read { try $0.query("SELECT * FROM feature_reads") }
        var reads: [String: (online: Int64, training: Int64, last: EventTime)] = [:]
        for row in rows {
            let version = row.text("version")
            guard let end = version.range(of: ".v", options: .backwards) else { continue }
            let name = "\(version[..<end.lowerBound])__\(row.text("feature"))"
            let isTraining = row.text("consumer").hasPrefix("training_set/")
            let count = row.integer("reads")
            var entry = reads[name] ?? (0, 0, EventTime(milliseconds: .min))
            if isTraining { entry.training += count } else { entry.online += count }
            entry.last = max(entry.last, EventTime(milliseconds: row.integer("last_read")))
            reads[name] = entry
        }
        return reads
    }

    private func deliveryDays() async throws -> Double? {
        var first: [String: EventTime] = [:]
        for version in try await catalog.versions(of: "Model") { first[version.identifier] = version.time }
        var days: [Double] = []
        for model in try await registry.models() {
            guard let defined = first["Model/\(model)"],
                let live = try await registry.transitions(of: model).first(where: { $0.to == .production })?.time
            else { continue }
            days.append(Double(max(0, live.since(defined).milliseconds)) / 86_400_000)
        }
        guard !days.isEmpty else { return nil }
        days.sort()
        let middle = days.count / 2
        return days.count.isMultiple(of: 2) ? (days[middle - 1] + days[middle]) / 2 : days[middle]
    }

    /// Rows and bytes of a version in the online store; what was measured for the same place in the log is not measured
    /// again.
    func storedSize(of status: ViewVersionStatus) async throws -> (rows: Int, byteCount: Int) {
        if let known = sizes[status.versionName], known.offset == status.nextOffset {
            return (known.rows, known.byteCount)
        }
        let size = try await stream.storedSize(of: status.versionName)
        sizes[status.versionName] = (status.nextOffset, size.rows, size.byteCount)
        return size
    }
}
