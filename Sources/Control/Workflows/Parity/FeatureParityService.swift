public import Datasets
public import Definitions
public import FeatureStore
public import ModelRegistry
public import ModelServing
public import PlatformCore
public import StoragePorts

/// Samples served values and lets the offline engine compute them again: makes parity certificates.
///
/// Two kinds of answers are compared: predictions as they were logged, and probes, which ask the online path for entities
/// and moments of the view's own table (the present, random moments, and moments at the edges of windows).
public struct FeatureParityService: Sendable {
    /// What a certificate is about.
    public enum Scope: Sendable, Hashable {
        /// Every view.
        case all
        /// One view.
        case view(Name)
        /// The views of one service.
        case service(Name)
        /// The views that a model reads, and only its predictions.
        case model(Name)

        /// `view/x`, or `all`.
        public var text: String {
            switch self {
            case .all: "all"
            case .view(let name): "view/\(name)"
            case .service(let name): "service/\(name)"
            case .model(let name): "model/\(name)"
            }
        }
    }

    /// How much to compare.
    public struct Request: Sendable, Hashable {
        /// What it is about.
        public var scope: Scope
        /// Most predictions taken from the log for each model.
        public var predictionCount: Int
        /// Probes for each view.
        public var probeCount: Int
        /// Chooses the samples.
        public var seed: UInt64
        /// How long before an answer a row may have been acknowledged and not yet been in it.
        public var inFlightAllowance: TimeSpan

        /// Makes a request.
        public init(
            scope: Scope, predictionCount: Int = 500, probeCount: Int = 200, seed: UInt64 = 0,
            inFlightAllowance: TimeSpan = .seconds(1)
        ) {
            self.scope = scope
            self.predictionCount = predictionCount
            self.probeCount = probeCount
            self.seed = seed
            self.inFlightAllowance = inFlightAllowance
        }
    }

    /// What is remembered of a certificate.
    public struct Entry: Sendable, Codable {
        /// Hash of the certificate in the content store.
        public let hash: ContentHash
        /// When it was made.
        public let time: EventTime
        /// Values compared.
        public let compared: Int
        /// Values that differ.
        public let different: Int
        /// Values explained by rows in flight.
        public let inFlight: Int
        /// Features without a comparison.
        public let uncovered: Int
    }

    let definitions: @Sendable () -> DefinitionSet
    /// A service as it was when it had this version.
    let serviceVersion: @Sendable (ContentHash) async throws -> ServiceVersion?
    let tables: TableService
    let engine: any OfflineEngine
    let stream: StreamEngine
    let archive: PredictionArchive
    private let content: ContentStore
    private let history: StateHistory<Entry>
    let clock: any PlatformClock
    let limits: QueryLimits
    private let changed: @Sendable () -> Void

    /// Makes the service.
    /// - Parameter serviceVersion: finds a service, of any revision, by the hash of its meaning.
    public init(
        definitions: @escaping @Sendable () -> DefinitionSet,
        serviceVersion: @escaping @Sendable (ContentHash) async throws -> ServiceVersion?,
        tables: TableService, engine: any OfflineEngine, stream: StreamEngine, archive: PredictionArchive,
        content: ContentStore, metadata: any MetadataStore,
        clock: any PlatformClock, limits: QueryLimits, journal: any ChangeJournal,
        changed: @escaping @Sendable () -> Void
    ) {
        self.definitions = definitions
        self.serviceVersion = serviceVersion
        self.tables = tables
        self.engine = engine
        self.stream = stream
        self.archive = archive
        self.content = content
        history = StateHistory(store: metadata, kind: "parity", journal: journal)
        self.clock = clock
        self.limits = limits
        self.changed = changed
    }

    /// The newest certificate of each scope.
    public func latest() async throws -> [(scope: String, entry: Entry)] {
        try await history.latest().map { ($0.id, $0.state) }
    }

    /// A certificate by its hash.
    public func certificate(_ hash: ContentHash) async throws -> ParityCertificate {
        do {
            return try JSONValue.parse(try await content.get(hash, byteCountMax: 64 << 20)).decoded(
                as: ParityCertificate.self)
        } catch {
            throw PlatformError(.notFound, "parity/\(hash.short)", "no such parity certificate")
        }
    }

    // MARK: Certifying

    /// Samples, computes again, compares, and keeps the certificate.
    ///
    /// A prediction is computed again by the definitions that it was made with: those of older versions are taken from the
    /// revision that had them.
    /// - Throws: `notFound` for an unknown scope, `invalidInput` if there is nothing to compare; what the stores throw.
    public func certify(_ request: Request, actor: String, progress: ProgressReporter) async throws -> (
        certificate: ParityCertificate, hash: ContentHash
    ) {
        let set = definitions()
        let views = try Self.views(of: request.scope, in: set)
        progress.report("sampling predictions", total: Double(views.count + 2), unit: "views")
        var sample = try await observePredictions(request, views, set)
        var findings: [ParityChecker.Finding] = []
        var tableVersions: [String: Int64] = [:]
        var probes = 0
        var asked: [[String: String]] = []
        for (index, view) in views.enumerated() {
            progress.report(
                "comparing \(view.name)", done: Double(index + 1), total: Double(views.count + 2), unit: "views")
            let held = HeldView(view: view, source: set.source(of: view))
            let observations = sample.views.removeValue(forKey: view.versionName)?.observations ?? []
            let probed = request.probeCount > 0 ? try await probe(view, set, request) : nil
            probes += probed?.observations.count ?? 0
            if let probed { Self.collect(probed.observations, of: view, into: &asked) }
            findings.append(
                try await compare(held, observations, probed, allowance: request.inFlightAllowance, &tableVersions))
        }
        progress.report(
            "comparing older versions", done: Double(views.count + 1), total: Double(views.count + 2), unit: "views")
        for (_, older) in sample.views.sorted(by: { $0.key < $1.key }) {
            findings.append(
                try await compare(
                    older.held, older.observations, nil, allowance: request.inFlightAllowance, &tableVersions))
        }
        let (found, computed) = try await compareOnDemand(request, set, &sample, entities: asked)
        findings += found
        probes += computed
        var certificate = ParityCertificate(
            time: clock.now(), scope: request.scope.text,
            viewVersions: Dictionary(uniqueKeysWithValues: views.map { ($0.name.text, $0.version) }),
            tableVersions: tableVersions, engine: try await engine.version(), predictions: sample.count,
            probes: probes, skipped: sample.skipped.count, leftOut: sample.leftOut,
            inFlightAllowance: request.inFlightAllowance, features: findings.flatMap(\.features),
            differences: Array(findings.flatMap(\.differences).prefix(ParityChecker.differenceCountMax)))
        let beyondRetention = findings.reduce(0) { $0 + $1.beyondRetention }
        if beyondRetention > 0 { certificate.beyondRetention = beyondRetention }
        let hash = try await content.put(try JSONValue.of(certificate).canonicalBytes)
        try await history.append(
            request.scope.text,
            Entry(
                hash: hash, time: certificate.time, compared: certificate.compared, different: certificate.different,
                inFlight: certificate.inFlight, uncovered: certificate.uncovered.count),
            RecordedChange(
                actor: actor, action: "features.parity.certified", subject: request.scope.text,
                after: [
                    "compared": .integer(Int64(certificate.compared)),
                    "different": .integer(Int64(certificate.different)),
                ], evidence: hash, time: certificate.time))
        changed()
        return (certificate, hash)
    }

    /// Compares one version of a view over its table as it is now.
    private func compare(
        _ held: HeldView, _ observations: [ParityObservation],
        _ probed: (observations: [ParityObservation], nextOffset: UInt64)?, allowance: TimeSpan,
        _ tableVersions: inout [String: Int64]
    ) async throws -> ParityChecker.Finding {
        let checker = ParityChecker(engine: engine, limits: limits)
        // The rows are those that the source in force takes; an older one only reads them.
        if let source = definitions().sources[held.source.name] { try await tables.flush(source) }
        let scan = try await tables.scan(held.source)
        tableVersions[held.source.name.text] = scan.version
        let found = try await checker.check(
            held.view, source: held.source, scan: scan, observations: observations, inFlightAllowance: allowance)
        guard let probed else { return found }
        // Exactly the rows that the answers knew.
        let known = TableScan(
            table: scan.table, version: scan.version,
            sql: "(SELECT * FROM \(scan.sql) WHERE __sequence < \(probed.nextOffset))", rowCount: scan.rowCount,
            retainedFrom: scan.retainedFrom)
        return found.joined(
            with: try await checker.check(
                held.view, source: held.source, scan: known, observations: probed.observations,
                inFlightAllowance: .seconds(0)))
    }

    /// Compares a model's features for a gate: its own predictions and probes of its service's views.
    public func evidence(model: Name, service: FeatureServiceDefinition, comparedMin: Int) async throws
        -> ParityEvidence
    {
        let perView = max(1, service.features.count)
        let request = Request(
            scope: .service(service.name), predictionCount: 500,
            probeCount: min(10_000, max(50, comparedMin / perView + 1)))
        let (certificate, hash) = try await certify(request, actor: "gate of \(model)", progress: ProgressReporter())
        let example = certificate.differences.first.map {
            "\($0.view)__\($0.feature) was served as \($0.served), offline it is \($0.offline)"
        }
        return ParityEvidence(
            compared: certificate.compared, different: certificate.different, certificate: hash.hex, example: example)
    }

    private static func views(of scope: Scope, in set: DefinitionSet) throws -> [FeatureViewDefinition] {
        func unknown(_ kind: String, _ name: Name, _ known: some Sequence<Name>) -> PlatformError {
            let near = nearestName(to: name.text, among: known.map(\.text))
            return PlatformError(
                .notFound, "\(kind)/\(name)", "not defined" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        let names: [Name]
        switch scope {
        case .all: names = Array(set.featureViews.keys)
        case .view(let name):
            guard set.featureViews[name] != nil else { throw unknown("feature_view", name, set.featureViews.keys) }
            names = [name]
        case .service(let name):
            guard let service = set.featureServices[name] else {
                throw unknown("feature_service", name, set.featureServices.keys)
            }
            names = service.features.map(\.view)
        case .model(let name):
            guard let model = set.models[name], let service = set.featureServices[model.service] else {
                throw unknown("model", name, set.models.keys)
            }
            names = service.features.map(\.view)
        }
        let views = Set(names).sorted().compactMap { set.featureViews[$0] }
        guard !views.isEmpty else {
            throw PlatformError(.invalidInput, scope.text, "has no feature views, so there is nothing to compare")
        }
        return views
    }
}
