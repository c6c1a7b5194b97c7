public import Datasets
public import Definitions
public import FeatureStore
public import ModelRegistry
public import ModelServing
public import PlatformCore
import Statistics
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

    private let definitions: @Sendable () -> DefinitionSet
    private let tables: TableService
    private let engine: any OfflineEngine
    private let stream: StreamEngine
    private let archive: PredictionArchive
    private let content: ContentStore
    private let history: StateHistory<Entry>
    private let clock: any PlatformClock
    private let limits: QueryLimits
    private let changed: @Sendable () -> Void

    /// Makes the service.
    public init(
        definitions: @escaping @Sendable () -> DefinitionSet, tables: TableService, engine: any OfflineEngine,
        stream: StreamEngine, archive: PredictionArchive, content: ContentStore, metadata: any MetadataStore,
        clock: any PlatformClock, limits: QueryLimits, journal: any ChangeJournal,
        changed: @escaping @Sendable () -> Void
    ) {
        self.definitions = definitions
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
    /// - Throws: `notFound` for an unknown scope, `invalidInput` if there is nothing to compare; what the stores throw.
    public func certify(_ request: Request, actor: String, progress: ProgressReporter) async throws -> (
        certificate: ParityCertificate, hash: ContentHash
    ) {
        let set = definitions()
        let views = try Self.views(of: request.scope, in: set)
        var observed: [Name: [ParityObservation]] = [:]
        progress.report("sampling predictions", total: Double(views.count + 1), unit: "views")
        let sampled = try await observePredictions(request, views, set, into: &observed)
        let checker = ParityChecker(engine: engine, limits: limits)
        var probes = 0
        var features: [FeatureParity] = []
        var differences: [ParityDifference] = []
        var tableVersions: [String: Int64] = [:]
        for (index, view) in views.enumerated() {
            progress.report(
                "comparing \(view.name)", done: Double(index + 1), total: Double(views.count + 1), unit: "views")
            let source = set.source(of: view)
            let probed = request.probeCount > 0 ? try await probe(view, set, request) : nil
            probes += probed?.observations.count ?? 0
            try await tables.flush(source)
            let scan = try await tables.scan(source)
            tableVersions[source.name.text] = scan.version
            var found = try await checker.check(
                view, source: source, scan: scan, observations: observed[view.name] ?? [],
                inFlightAllowance: request.inFlightAllowance)
            if let probed {
                // Exactly the rows that the answers knew.
                let known = TableScan(
                    table: scan.table, version: scan.version,
                    sql: "(SELECT * FROM \(scan.sql) WHERE __sequence < \(probed.nextOffset))", rowCount: scan.rowCount)
                found = found.joined(
                    with: try await checker.check(
                        view, source: source, scan: known, observations: probed.observations,
                        inFlightAllowance: .seconds(0)))
            }
            features += found.features
            differences += found.differences.prefix(max(0, ParityChecker.differenceCountMax - differences.count))
        }
        let certificate = ParityCertificate(
            time: clock.now(), scope: request.scope.text,
            viewVersions: Dictionary(uniqueKeysWithValues: views.map { ($0.name.text, $0.version) }),
            tableVersions: tableVersions, engine: try await engine.version(), predictions: sampled.count,
            probes: probes, skipped: sampled.skipped, inFlightAllowance: request.inFlightAllowance,
            features: features, differences: differences)
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

    /// Values of logged predictions, by view.
    private func observePredictions(
        _ request: Request, _ views: [FeatureViewDefinition], _ set: DefinitionSet,
        into observed: inout [Name: [ParityObservation]]
    ) async throws -> (count: Int, skipped: Int) {
        guard request.predictionCount > 0 else { return (0, 0) }
        let wanted = Set(views.map(\.name))
        let services = Dictionary(
            set.featureServices.values.map { ($0.version.hex, $0) }, uniquingKeysWith: { first, _ in first })
        var (count, skipped) = (0, 0)
        for model in set.models.values.sorted(by: { $0.name < $1.name }) {
            if case .model(let name) = request.scope, name != model.name { continue }
            guard let read = set.featureServices[model.service],
                read.features.contains(where: { wanted.contains($0.view) })
            else { continue }
            let records = try await archive.sample(
                model: model.name.text, count: request.predictionCount, seed: request.seed)
            for record in records {
                guard let service = services[record.serviceVersion] else {
                    skipped += 1
                    continue
                }
                count += 1
                for (name, values) in Self.values(of: record, service) where wanted.contains(name) {
                    guard let view = set.featureViews[name] else { continue }
                    let keys = view.joinKeys.map { key in record.entities.first { $0.key == key }?.value }
                    observed[name, default: []].append(
                        ParityObservation(
                            origin: record.id, keys: keys, time: record.time, isNumber: true, values: values))
                }
            }
        }
        return (count, skipped)
    }

    /// What a prediction read from each view; what the caller overrode is no reading.
    private static func values(of record: PredictionRecord, _ service: FeatureServiceDefinition) -> [Name:
        [ParityObservation.Value]]
    {
        var values: [Name: [ParityObservation.Value]] = [:]
        for (index, served) in service.features.enumerated() {
            let position = service.request.count + index
            guard position < record.inputs.count, !record.overridden.contains(position) else { continue }
            let number = record.inputs[position]
            values[served.view, default: []].append(
                ParityObservation.Value(feature: served.feature, value: number.isNaN ? .null : .double(number)))
        }
        return values
    }

    // MARK: Probing

    /// How far back the online path still answers exactly, with room for a slow comparison.
    private static let pastMilliseconds: Int64 = 23 * 3_600_000

    /// Asks the online path about entities of the view's table, and about one that nobody knows.
    private func probe(_ view: FeatureViewDefinition, _ set: DefinitionSet, _ request: Request) async throws
        -> (observations: [ParityObservation], nextOffset: UInt64)
    {
        let source = set.source(of: view)
        try await tables.flush(source)
        let scan = try await tables.scan(source)
        let keys = view.joinKeys.enumerated().compactMap { index, key in
            source.column(key).map { "\(FeatureSQL.keyText($0)) AS k\(index)" }
        }
        let now = clock.now().milliseconds
        let recent = now - Self.pastMilliseconds
        func sample(_ filter: String, _ count: Int) -> String {
            """
            SELECT * FROM (SELECT \(keys.joined(separator: ", ")), __event_time AS happened FROM \(scan.sql)
            WHERE \(filter)) USING SAMPLE reservoir(\(count) ROWS) REPEATABLE (\(request.seed % 1_000_000))
            """
        }
        // Half of them recent, where there are recent rows: old entities have little left to differ in.
        let young = try await engine.rows(
            sample("__event_time >= \(recent)", max(1, request.probeCount / 2)), limits: limits)
        let rows =
            young + (try await engine.rows(sample("true", max(1, request.probeCount - young.count)), limits: limits))
        var random = SeededGenerator(seed: request.seed)
        let windows = Set(view.features.compactMap { $0.window?.milliseconds } + [view.timeToLive?.milliseconds ?? 0])
            .sorted()
        var questions: [OnlineQuestion] = []
        for (index, row) in rows.prefix(request.probeCount).enumerated() {
            var entity: [String: String] = [:]
            for (position, key) in view.joinKeys.enumerated() { entity[key] = row["k\(position)"]?.stringValue }
            let happened = row["happened"]?.integerValue ?? now
            let window = windows[random.index(below: windows.count)]
            let moment =
                switch index % 4 {
                case 0: now
                case 1: now - Int64(random.index(below: Int(Self.pastMilliseconds)))
                case 2: happened &+ window
                default: happened &+ window &+ 1
                }
            questions.append(
                OnlineQuestion(
                    entity: entity,
                    time: EventTime(milliseconds: (recent...now).contains(moment) ? moment : now)))
        }
        let unknown = Dictionary(uniqueKeysWithValues: view.joinKeys.map { ($0, "nobody-\(request.seed)") })
        questions.append(OnlineQuestion(entity: unknown, time: EventTime(milliseconds: now)))
        let (answers, nextOffset) = try await stream.answers(view: view.name, to: questions)
        let observations = zip(questions, answers).map { question, answer in
            ParityObservation(
                origin: "probe", keys: view.joinKeys.map { question.entity[$0] }, time: question.time, isNumber: false,
                values: zip(answer.names, answer.entities.first?.values ?? []).map {
                    ParityObservation.Value(feature: $0, value: $1)
                })
        }
        return (observations, nextOffset)
    }
}
