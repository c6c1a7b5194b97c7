public import Definitions
public import ModelRegistry
import ModelServing
public import PlatformCore
import RuntimePorts
import Statistics
import StoragePorts

/// What gates ask of parts of the platform that the desk does not know.
public struct GateSources: Sendable {
    /// Compares a model's features as served with the offline engine: the model, its service, how many values at least.
    public let parity: @Sendable (Name, FeatureServiceDefinition, Int) async throws -> ParityEvidence
    /// Looks for leaks in a training set.
    public let leakage: @Sendable (ContentHash) async throws -> LeakEvidence
    /// Memory that a process of its own takes to load an artifact and score with it, in bytes.
    public let memory: @Sendable (ContentHash, String) async throws -> Int
    /// The last moment that a training set knows of.
    public let knownUntil: @Sendable (ContentHash) async throws -> EventTime
    /// The table of a training set's questions, as SQL for DuckDB; `nil` if there is none any more.
    public let questions: @Sendable (ContentHash) async throws -> String?
    /// The time.
    public let now: @Sendable () -> EventTime
    /// Lets a version answer the logged traffic of a span.
    public let replay: @Sendable (Name, Int, TimeSpan) async throws -> ReplayEvidence

    /// Names the sources.
    public init(
        parity: @escaping @Sendable (Name, FeatureServiceDefinition, Int) async throws -> ParityEvidence,
        leakage: @escaping @Sendable (ContentHash) async throws -> LeakEvidence,
        memory: @escaping @Sendable (ContentHash, String) async throws -> Int,
        knownUntil: @escaping @Sendable (ContentHash) async throws -> EventTime,
        questions: @escaping @Sendable (ContentHash) async throws -> String?,
        now: @escaping @Sendable () -> EventTime,
        replay: @escaping @Sendable (Name, Int, TimeSpan) async throws -> ReplayEvidence
    ) {
        self.questions = questions
        self.parity = parity
        self.leakage = leakage
        self.memory = memory
        self.knownUntil = knownUntil
        self.now = now
        self.replay = replay
    }
}

extension ModelDesk {
    /// Asks the gates of a stage and keeps what they said, with the approvals of exactly that.
    ///
    /// Everything is measured on the real artifact and, where a gate compares, the champion is scored on the same rows.
    public func examine(_ model: Name, _ number: Int, for stage: ModelStage, actor: String) async throws
        -> GateExamination
    {
        let gates = definitions().models[model]?.gates[stage] ?? []
        let version = try await registry.version(model, number)
        let champion = try await registry.champion(of: model).flatMap { $0.number == number ? nil : $0 }
        var approvals: [Int] = []
        var asked: [GateDefinition] = []
        for gate in gates {
            if case .approvals(let count) = gate { approvals.append(count) } else { asked.append(gate) }
        }
        let evidence = try await evidence(for: asked, of: version, champion: champion)
        return try await registry.examine(
            model, number, for: stage, gates: GateEvaluator.evaluate(asked, on: evidence), approvalsMin: approvals,
            facts: [
                "champion": champion.map {
                    [
                        "version": .integer(Int64($0.number)), "artifact": .string($0.candidate.artifact.hash.hex),
                    ]
                } ?? .null
            ], actor: actor)
    }

    private func evidence(for gates: [GateDefinition], of version: ModelVersion, champion: ModelVersion?) async throws
        -> VersionEvidence
    {
        let candidate = version.candidate
        var evidence = VersionEvidence(
            metrics: candidate.metrics, championMetrics: nil, rows: candidate.rows, hasSignature: version.isSigned,
            latencyP99Milliseconds: nil)
        if let signature = candidate.signature, let current = champion?.candidate.signature {
            evidence.breaks = signature.breaks(callersOf: current)
        }
        evidence.hasCallers = champion != nil
        for gate in gates where champion != nil {
            guard case .replayShadow(let bounds) = gate else { continue }
            do {
                evidence.replays[gate] = try await sources?.replay(version.model, version.number, bounds.span)
            } catch let error as PlatformError
                where [.notFound, .refused].contains(error.code)
            { evidence.faults[gate] = error.message }
        }
        guard gates.contains(where: \.needsArtifact) else { return evidence }
        guard let trainedOn = candidate.origin.dataset else {
            throw PlatformError(
                .refused, version.subject,
                "its gates ask for what only a training set of this platform can show, and it was trained on none. "
                    + Self.trainingSetHint)
        }
        let ready = try await served(version.model, version.number)
        let parts = try await dataset(trainedOn)
        for gate in gates {
            do { try await measure(gate, ready, version, champion, parts, &evidence) } catch let error
                as StatisticsError
            {
                evidence.faults[gate] = error.description
            } catch let error as PlatformError
                where [.invalidInput, .notFound, .conflict, .refused].contains(error.code)
            {
                evidence.faults[gate] = error.message
            }
        }
        return evidence
    }

    /// Adds what one gate asks for.
    private func measure(
        _ gate: GateDefinition, _ ready: ServedVersion, _ version: ModelVersion, _ champion: ModelVersion?,
        _ parts: DatasetParts, _ evidence: inout VersionEvidence
    ) async throws {
        func ensure(_ metric: MetricName, _ slice: String) async throws {
            guard evidence.metrics[slice]?[metric] == nil else { return }
            evidence.metrics[slice, default: [:]][metric] = try metric.value(
                on: try await scored(version, slice, parts))
        }
        switch gate {
        case .latency:
            guard let path = parts.paths["test"] else { break }
            let rows = try await evaluator.rows(at: path, service: ready.binding.definition, label: parts.label)
            evidence.latencyP99Milliseconds = try await VersionEvaluator.latencyP99Milliseconds(ready.loaded, rows)
        case .memory:
            let artifact = version.candidate.artifact
            if let deferred = ready.deferred {
                evidence.memoryByteCount = await deferred.heldByteCount()
            } else {
                evidence.memoryByteCount = try await sources?.memory(artifact.hash, artifact.fileName)
            }
        case .featureParity(let least):
            evidence.parity = try await sources?.parity(version.model, ready.binding.definition, least)
        case .noLeakage:
            guard let dataset = version.candidate.origin.dataset else { break }
            evidence.leaks = try await sources?.leakage(dataset)
        case .datasetAge:
            guard let sources, let dataset = version.candidate.origin.dataset else { break }
            evidence.datasetAgeMilliseconds = sources.now().since(try await sources.knownUntil(dataset)).milliseconds
        case .metric(let metric, let slice, _, _): try await ensure(metric, slice)
        case .notWorseThanChampion(let metric, let slice, _):
            try await ensure(metric, slice)
            guard let champion else { break }
            var measured = evidence.championMetrics ?? [:]
            if measured[slice]?[metric] == nil {
                measured[slice, default: [:]][metric] = try metric.value(on: try await scored(champion, slice, parts))
            }
            evidence.championMetrics = measured
        case .betterThanChampion(let metric, let slice, _, let confidence):
            guard let champion else { break }
            let first = try await scored(champion, slice, parts)
            let second = try await scored(version, slice, parts)
            evidence.differences[gate] = try Bootstrap(confidence: confidence)
                .pairedDifference(of: metric, first: first, second: second)
        case .perGroup(let metric, let slice, let column, _, _, _):
            let rows = try await scored(version, slice, parts)
            let groups = try await groups(column, slice, parts, of: version)
            evidence.groups[gate] = zip(groups.values, groups.places).map { value, places in
                GroupEvidence(
                    value: value, rows: places.count,
                    observed: (try? rows.rows(at: places)).flatMap { try? metric.value(on: $0) })
            }
        case .fairness(let measure, let slice, let column, let threshold, _, _):
            guard let wanted = FairnessReport.Measure(rawValue: measure) else { break }
            let rows = try await scored(version, slice, parts)
            let report = try FairnessReport(
                attribute: column, rows: rows, groups: try await groups(column, slice, parts, of: version),
                threshold: threshold, bootstrap: .affordable(visitsPerReplicate: rows.rowCount))
            // Rates of 0 in every group, or of 1, are equal and say nothing of how the model treats them.
            if let call = report.onlyCall {
                throw PlatformError(
                    .refused, "threshold",
                    "no row is called \(call ? "negative" : "positive") at the threshold \(threshold), so the groups cannot be "
                        + "compared: choose a threshold among the model's predictions")
            }
            evidence.fairness[gate] = report[wanted]
        case .signaturePresent, .signatureCompatible, .rows, .replayShadow, .approvals: break
        }
    }

    /// What a version's card tells: its definition, history, approvals, gates, and intervals of what can be measured again.
    public func cardFacts(_ version: ModelVersion) async throws -> ModelCardFacts {
        var facts = ModelCardFacts()
        let definition = definitions().models[version.model]
        let model = try await registry.model(id: version.model)
        let state = try? await registry.versionState(version.number, of: model.name)
        facts.name = model.name
        facts.label = state?.label
        facts.purpose = definition?.description ?? model.description ?? ""
        facts.owner = definition?.owner ?? ""
        facts.definition = definition?.gates ?? [:]
        facts.transitions = try await registry.transitions(of: version.model, version: version.number)
        facts.approvals = try await registry.approvals(of: version.model, version.number)
        for step in facts.transitions where step.evidence != nil {
            let gates = try await registry.evidence(of: step)["gates"] ?? .null
            facts.gates[step.to] = try? gates.decoded(as: [GateResult].self)
        }
        let metrics = (version.candidate.metrics["test"] ?? [:]).keys.sorted { $0.rawValue < $1.rawValue }
        if !metrics.isEmpty, let dataset = version.candidate.origin.dataset,
            let parts = try? await self.dataset(dataset), let rows = try? await scored(version, "test", parts)
        {
            let bootstrap = Bootstrap.affordable(visitsPerReplicate: rows.rowCount * metrics.count)
            let found = bootstrap.intervals(of: metrics, on: rows)
            for (metric, interval) in zip(metrics, found) { facts.intervals[metric] = try? interval.get() }
            facts.bootstrap = bootstrap
            var plan = EvaluationPlan()
            // The curves are wanted; what is measured with intervals is above.
            (plan.metrics, plan.bootstrap) = ([metrics[0]], Bootstrap(replicateCount: 2))
            facts.report = try? EvaluationReport(rows, plan: plan)
            let shown = (rows.outputCount > 1 ? [MetricName.accuracy] : [.auc, .logLoss, .rmse]).filter(
                metrics.contains)
            for column in Self.columns(of: definition) {
                guard let groups = try? await groups(column, "test", parts, of: version) else { continue }
                for (value, places) in zip(groups.values, groups.places).prefix(50) {
                    guard let part = try? rows.rows(at: places) else { continue }
                    facts.slices.append(
                        .init(
                            column: column, value: value, rowCount: places.count,
                            metrics: VersionEvaluator.metrics(on: part, shown)))
                }
            }
        }
        return facts
    }

    /// Columns by whose values a model is looked at: what its evaluations show, and what its gates judge.
    private static func columns(of definition: ModelDefinition?) -> [String] {
        var columns = definition?.evaluation.slices ?? []
        for gate in (definition?.gates.values.flatMap(\.self) ?? []) {
            switch gate {
            case .perGroup(_, _, let column, _, _, _), .fairness(_, _, let column, _, _, _): columns.append(column)
            default: break
            }
        }
        return Set(columns).sorted()
    }

    /// A version's predictions on a slice of a training set, which may be another version's: the same rows for both.
    private func scored(_ version: ModelVersion, _ slice: String, _ parts: DatasetParts) async throws -> EvaluationRows
    {
        guard let path = parts.paths[slice] else {
            throw PlatformError(.notFound, version.subject, "the training set has no rows in '\(slice)'")
        }
        let key = "\(version.subject) \(path)"
        if let known = scores.first(where: { $0.key == key }) { return known.rows }
        let ready = try await served(version.model, version.number)
        let rows = try await evaluator.rows(at: path, service: ready.binding.definition, label: parts.label)
        let scored = try await VersionEvaluator.scored(ready.loaded, rows)
        scores = Array(scores.suffix(5)) + [(key: key, rows: scored)]
        return scored
    }

    /// A column of the slice, or of the questions behind its rows: what a gate compares groups by need be no input.
    private func groups(
        _ column: String, _ slice: String, _ parts: DatasetParts, of version: ModelVersion
    ) async throws -> SliceColumn {
        guard let path = parts.paths[slice] else {
            throw PlatformError(.notFound, "slice", "the training set has no rows in '\(slice)'")
        }
        var questions: String?
        if let dataset = version.candidate.origin.dataset { questions = try? await sources?.questions(dataset) }
        return SliceColumn(
            name: column, texts: try await evaluator.texts(of: column, at: path, questions: questions))
    }
}

extension GateDefinition {
    /// The metric that it asks for; `nil` if it asks for none.
    var metric: MetricName? {
        switch self {
        case .metric(let metric, _, _, _), .notWorseThanChampion(let metric, _, _),
            .betterThanChampion(let metric, _, _, _), .perGroup(let metric, _, _, _, _, _):
            metric
        default: nil
        }
    }

    /// Whether the model file, its training set or the champion's file must be looked at.
    var needsArtifact: Bool {
        switch self {
        case .signaturePresent, .signatureCompatible, .approvals, .rows, .replayShadow: false
        default: true
        }
    }
}
