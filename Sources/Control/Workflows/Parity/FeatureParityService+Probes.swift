import Datasets
import Definitions
import FeatureStore
import PlatformCore
import Statistics
import StoragePorts

extension FeatureParityService {
    /// How far back the online path still answers exactly, with room for a slow comparison.
    private static let pastMilliseconds: Int64 = 23 * 3_600_000

    /// Asks the online path about entities of the view's table, and about one that nobody knows.
    func probe(_ view: FeatureViewDefinition, _ set: DefinitionSet, _ request: Request) async throws
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

    /// Remembers which entities a view was asked about: what it answers together with other views is asked next.
    static func collect(
        _ observations: [ParityObservation], of view: FeatureViewDefinition, into asked: inout [[String: String]]
    ) {
        for (index, observation) in observations.enumerated() {
            if index == asked.count { asked.append([:]) }
            for (key, value) in zip(view.joinKeys, observation.keys) where asked[index][key] == nil {
                asked[index][key] = value
            }
        }
    }

    /// Compares the features that services in scope compute on demand: those of logged predictions, and of probes with
    /// requests drawn at random from what each service takes.
    func compareOnDemand(
        _ request: Request, _ set: DefinitionSet, _ sample: inout Sample, entities: [[String: String]]
    ) async throws -> (findings: [ParityChecker.Finding], probes: Int) {
        let checker = ParityChecker(engine: engine, limits: limits)
        var findings: [ParityChecker.Finding] = []
        var probes = 0
        for service in Self.services(of: request.scope, in: set) where !service.onDemand.isEmpty {
            var observations = sample.services.removeValue(forKey: service.version.hex)?.observations ?? []
            if request.probeCount > 0 {
                let probed = try probe(service, entities: entities, seed: request.seed)
                probes += probed.count
                observations += probed
            }
            findings.append(try await checker.check(service, observations: observations))
        }
        for (_, older) in sample.services.sorted(by: { $0.key < $1.key }) {
            findings.append(try await checker.check(older.service, observations: older.observations))
        }
        return (findings, probes)
    }

    private func probe(_ service: FeatureServiceDefinition, entities: [[String: String]], seed: UInt64) throws
        -> [OnDemandObservation]
    {
        guard !entities.isEmpty else { return [] }
        var random = SeededGenerator(seed: seed)
        let keys = Set(service.joinKeys)
        let question = OnlineRequest(
            entities: entities.map { $0.filter { keys.contains($0.key) } },
            request: entities.map { _ in Self.randomRequest(service.request, &random) })
        let answer = try stream.online(service.name, question)
        return answer.entities.enumerated().map { index, found in
            var inputs = question.request[index]
            var values: [ParityObservation.Value] = []
            let computed = Set(service.onDemand.map(\.name))
            for (name, value) in zip(answer.names, found.values) {
                if computed.contains(name) {
                    values.append(ParityObservation.Value(feature: name, value: value))
                } else {
                    inputs[name] = value
                }
            }
            return OnDemandObservation(
                origin: "probe", keys: question.entities[index], time: answer.time, inputs: inputs, values: values)
        }
    }

    /// Request features as somebody might send them: within their bounds, the bounds themselves, one in eight left out.
    private static func randomRequest(_ features: [RequestFeatureDefinition], _ random: inout SeededGenerator)
        -> [String: CellValue]
    {
        var request: [String: CellValue] = [:]
        for feature in features where random.index(below: 8) > 0 {
            switch feature.kind {
            case .category(let values): request[feature.name] = .text(values[random.index(below: values.count)])
            case .number(let minimum, let maximum):
                let low = minimum ?? maximum.map { $0 - 1000 } ?? -1000
                let high = max(low, maximum ?? low + 2000)
                let share = Double(random.index(below: 1_000_001)) / 1_000_000
                let value = low + (high - low) * share
                request[feature.name] = .double(
                    random.index(below: 2) == 0 ? value : min(high, max(low, value.rounded())))
            }
        }
        return request
    }
}
