import ContentHashing
import PlatformCore
import Statistics

extension DefinitionCompiler {
    mutating func model(_ name: Name, _ fields: FieldReader, folder: String) throws -> ModelDefinition {
        let serviceName = try fields.name("service")
        let service = try need("FeatureService", serviceName, in: set.featureServices, for: "service", fields)
        let trainingSetName = try fields.name("training_set")
        let trainingSet = try need("TrainingSet", trainingSetName, in: set.trainingSets, for: "training_set", fields)
        guard trainingSet.service == serviceName else {
            throw fields.error(
                "training_set",
                "'\(trainingSetName)' has the features of '\(trainingSet.service)', not of '\(serviceName)'")
        }
        guard trainingSet.label != nil else {
            throw fields.error("training_set", "'\(trainingSetName)' has no 'label' that a model could learn")
        }
        try checkInputs(of: service, fields)
        guard let training = try fields.mapping("training") else { throw fields.error(nil, "'training' is missing") }
        let command = try training.texts("command")
        guard !command.isEmpty else { throw training.error("command", "'command' must name a program") }
        let parameters = try training.mapping("parameters")?.allTexts() ?? [:]
        let definition = TrainingDefinition(
            command: command, folder: folder, parameters: parameters,
            seed: Int64(try training.integer("seed", default: 0, in: 0...Int(Int32.max))),
            timeout: try training.optionalSpan("timeout") ?? .hours(1),
            memoryByteCountMax: try training.byteCount("memory", default: 0), place: training.location(of: "command"))
        try training.finish()
        // What can stand beside a row of the training set: its inputs, its label, and the columns of its question.
        let columns =
            service.inputNames + [trainingSet.label].compactMap(\.self)
            + set.spine(of: trainingSet).columns.map(\.name)
        var gates: [ModelStage: [GateDefinition]] = [:]
        if let reader = try fields.mapping("gates") {
            for key in reader.keys {
                guard let stage = ModelStage(rawValue: key), stage != .development, stage != .archived else {
                    let near = nearestName(to: key, among: ["staging", "canary", "production"])
                    throw reader.error(
                        key,
                        "gates guard the stages staging, canary and production, not '\(key.prefix(60))'"
                            + (near.map { "; did you mean '\($0)'?" } ?? ""))
                }
                var list: [GateDefinition] = []
                try each(try reader.mappings(key, of: "gate of \(key)")) { compiler, gate throws(PlatformError) in
                    list.append(try compiler.gate(gate, known: columns))
                }
                gates[stage] = list
            }
            try reader.finish()
        }
        let evaluation = try evaluation(fields, known: columns)
        record(
            "Model", name,
            meaning: .object([
                "service": .string(service.version.hex), "trainingSet": .string(trainingSetName.text),
                "command": .array(command.map(JSONValue.string)),
                "parameters": .object(parameters.mapValues(JSONValue.string)), "seed": .integer(definition.seed),
                "gates": .object(
                    Dictionary(
                        uniqueKeysWithValues: gates.map {
                            ($0.key.rawValue, .array($0.value.map { .string($0.summary) }))
                        })),
            ]), uses: ["FeatureService/\(serviceName)", "TrainingSet/\(trainingSetName)"])
        return ModelDefinition(
            name: name, service: serviceName, trainingSet: trainingSetName, training: definition, gates: gates,
            evaluation: evaluation,
            description: try fields.text("description", default: ""), owner: try fields.text("owner", default: ""))
    }

    /// How evaluations are shown: no part of the model's meaning, as no version depends on it.
    private func evaluation(_ fields: FieldReader, known: [String]) throws(PlatformError) -> EvaluationDefinition {
        var evaluation = EvaluationDefinition()
        guard let reader = try fields.mapping("evaluation") else { return evaluation }
        for text in try reader.optionalTexts("metrics") ?? [] {
            evaluation.metrics.append(try reader.metric(text, "metrics"))
        }
        evaluation.slices = try reader.optionalTexts("slices") ?? []
        evaluation.protected = try reader.optionalTexts("protected") ?? []
        evaluation.query = try reader.optionalText("query")
        for (key, columns) in [
            ("slices", evaluation.slices), ("protected", evaluation.protected),
            ("query", evaluation.query.map { [$0] } ?? []),
        ] {
            for column in columns { try checkColumn(column, reader, key, known) }
        }
        evaluation.threshold = try reader.optionalNumber("threshold") ?? 0.5
        evaluation.binCount = try reader.integer("bins", default: 10, in: 1...1000)
        evaluation.smallBelow = try reader.integer("small_below", default: 30, in: 0...Int(Int32.max))
        try reader.finish()
        return evaluation
    }

    /// A model reads numbers: a service of a model has neither texts nor lists nor vectors.
    private func checkInputs(of service: FeatureServiceDefinition, _ fields: FieldReader) throws(PlatformError) {
        for served in service.features {
            guard
                let feature = set.featureViews[served.view]?.features.first(where: { $0.name == served.feature }),
                [.string, .list, .vector].contains(feature.type)
            else { continue }
            throw fields.error(
                "service",
                "the feature '\(served.servedName)' of the service '\(service.name)' is "
                    + (feature.type == .list ? "a list" : feature.type == .vector ? "a vector" : "text")
                    + "; a model reads numbers: leave it out of this service and serve it through another")
        }
    }

    /// - Parameter known: columns by which a gate may cut the rows.
    private func gate(_ reader: FieldReader, known: [String]) throws(PlatformError) -> GateDefinition {
        let gate: GateDefinition
        if let signature = try reader.optionalText("signature") {
            switch signature {
            case "present": gate = .signaturePresent
            case "compatible": gate = .signatureCompatible
            default: throw reader.error("signature", "'signature' must be 'present' or 'compatible'")
            }
        } else if reader.has("memory") {
            gate = .memory(byteCountMax: try reader.byteCount("memory", default: 0))
        } else if let age = try reader.optionalSpan("dataset_age") {
            gate = .datasetAge(max: age)
        } else if let leakage = try reader.optionalText("leakage") {
            guard leakage == "none" else { throw reader.error("leakage", "'leakage' must be 'none'") }
            gate = .noLeakage
        } else if reader.has("approvals") {
            gate = .approvals(count: try reader.integer("approvals", default: 1, in: 1...20))
        } else if let measure = try reader.optionalChoice("fairness", FairnessReport.Measure.self) {
            let (low, high) = try bounds(reader)
            guard low != nil || high != nil else {
                throw reader.error("fairness", "a fairness gate needs 'min' or 'max'")
            }
            gate = .fairness(
                measure.rawValue, slice: try slice(reader), column: try groupColumn(reader, "by", known),
                threshold: try reader.optionalNumber("threshold") ?? 0.5, minimum: low, maximum: high)
        } else if let span = try reader.optionalSpan("latency_p99") {
            gate = .latency(p99MillisecondsMax: Double(span.milliseconds))
        } else if let span = try reader.optionalSpan("replay_shadow") {
            gate = .replayShadow(try ReplayBounds(span: span, reader))
        } else if reader.has("rows") {
            gate = .rows(
                slice: try slice(reader), minimum: try reader.integer("rows", default: 0, in: 0...Int(Int32.max)))
        } else if reader.has("feature_parity") {
            gate = .featureParity(
                comparedMin: try reader.integer("feature_parity", default: 100, in: 1...10_000_000))
        } else if let metric = try reader.optionalMetric("metric") {
            if let margin = try reader.optionalNumber("not_worse_than_champion_by") {
                guard margin >= 0 else {
                    throw reader.error("not_worse_than_champion_by", "the margin must be 0 or more")
                }
                gate = .notWorseThanChampion(metric, slice: try slice(reader), margin: margin)
            } else if let margin = try reader.optionalNumber("better_than_champion_by") {
                let confidence = try reader.optionalNumber("confidence") ?? 0.95
                guard margin >= 0, confidence > 0.5, confidence < 1 else {
                    throw reader.error(
                        "better_than_champion_by", "the margin must be 0 or more, the confidence above 0.5 and below 1")
                }
                gate = .betterThanChampion(
                    metric, slice: try slice(reader), margin: margin, confidence: confidence)
            } else if reader.has("each") {
                let column = try groupColumn(reader, "each", known)
                let (low, high) = try bounds(reader)
                guard low != nil || high != nil else {
                    throw reader.error("each", "a gate over groups needs 'min' or 'max'")
                }
                gate = .perGroup(
                    metric, slice: try slice(reader), column: column,
                    rowsMin: try reader.integer("of_rows", default: 100, in: 1...Int(Int32.max)), minimum: low,
                    maximum: high)
            } else {
                let (low, high) = try bounds(reader)
                guard low != nil || high != nil else {
                    throw reader.error(
                        nil,
                        "a metric gate needs 'min', 'max', 'not_worse_than_champion_by' or 'better_than_champion_by'")
                }
                gate = .metric(metric, slice: try slice(reader), minimum: low, maximum: high)
            }
        } else {
            throw reader.error(
                nil,
                "a gate needs one of 'signature', 'metric', 'latency_p99', 'memory', 'rows', 'feature_parity', "
                    + "'dataset_age', 'leakage', 'fairness', 'replay_shadow', 'approvals'")
        }
        try reader.finish()
        return gate
    }

    /// The ends between which a gate wants a value, of which there may be one alone.
    private func bounds(_ reader: FieldReader) throws(PlatformError) -> (low: Double?, high: Double?) {
        let (low, high) = (try reader.optionalNumber("min"), try reader.optionalNumber("max"))
        if let low, let high, low > high, !DefinitionCompiler.isReadingAgain {
            throw reader.error("min", "'min' is above 'max', so no version could ever pass")
        }
        return (low, high)
    }

    private func groupColumn(_ reader: FieldReader, _ key: String, _ known: [String]) throws(PlatformError) -> String {
        let column = try reader.text(key)
        if !DefinitionCompiler.isReadingAgain { try checkColumn(column, reader, key, known) }
        return column
    }

    private func checkColumn(
        _ column: String, _ reader: FieldReader, _ key: String, _ known: [String]
    ) throws(PlatformError) {
        guard !known.contains(column) else { return }
        throw reader.error(
            key,
            "'\(column.prefix(60))' is no input, no label and no column of the spine"
                + (nearestName(to: column, among: known).map { "; did you mean '\($0)'?" }
                    ?? "; it has \(known.joined(separator: ", "))"))
    }

    private func slice(_ reader: FieldReader) throws(PlatformError) -> String {
        let slice = try reader.text("slice", default: "test")
        guard ["train", "validation", "test"].contains(slice) else {
            throw reader.error("slice", "'slice' must be train, validation or test")
        }
        return slice
    }

    mutating func deployment(_ name: Name, _ fields: FieldReader) throws(PlatformError) -> DeploymentDefinition {
        let modelName = try fields.name("model")
        let model = try need("Model", modelName, in: set.models, for: "model", fields)
        if let other = set.deployment(of: modelName) {
            throw fields.error("model", "the model '\(modelName)' is deployed by '\(other.name)' already")
        }
        let service = set.featureServices[model.service]
        let known = (service?.joinKeys ?? []) + (service?.request.map(\.name) ?? [])
        let stickyBy = try fields.texts("sticky_by")
        guard !stickyBy.isEmpty else { throw fields.error("sticky_by", "'sticky_by' must name at least one key") }
        for key in stickyBy where !known.contains(key) {
            throw fields.error(
                "sticky_by", "'\(key.prefix(60))' is no key or request feature; known: \(known.joined(separator: ", "))"
            )
        }
        let log = try fields.optionalChoice("prediction_log", PredictionLogPolicy.self) ?? .usual
        var uses = ["Model/\(modelName)"]
        let promise = try promise(fields, service: service, uses: &uses)
        let steps = try RolloutSteps(try fields.mapping("rollout"))
        let limits = try Guardrails(try fields.mapping("guardrails"))
        let salt = try fields.optionalText("salt")
        if let salt, salt.isEmpty || salt.utf8.count > 200 {
            throw fields.error("salt", "'salt' must have 1 to 200 bytes")
        }
        let holdout = try fields.share("holdout", default: 0)
        guard holdout < 1 else { throw fields.error("holdout", "'holdout' must be below 100%") }
        var stream: Name?
        if let reader = try fields.mapping("stream") {
            let source = try need("Source", try reader.name("source"), in: set.sources, for: "source", reader)
            for column in known where source.column(column) == nil {
                throw reader.error(
                    "source", "the source '\(source.name)' has no column '\(column)', which the model's service needs")
            }
            stream = source.name
            uses.append("Source/\(source.name)")
            try reader.finish()
        }
        var deployment = DeploymentDefinition(
            name: name, model: modelName, stickyBy: stickyBy, predictionLog: log, promise: promise,
            shadowAtLeast: steps.shadowAtLeast, shadowPairsMin: steps.shadowPairsMin, canary: steps.canary,
            predictionPSIMax: limits.predictionPSIMax, errorRateMax: limits.errorRateMax,
            latencyP99MillisecondsMax: limits.latencyP99MillisecondsMax,
            rollout: RolloutPolicy(
                salt: salt, holdout: holdout, shadowShare: steps.shadowShare, experiment: steps.experiment,
                metric: steps.metric, disagreementMax: limits.disagreementMax,
                meanDifferenceMax: limits.meanDifferenceMax, sampleRatioAlpha: limits.sampleRatioAlpha),
            streamSource: stream)
        deployment.workers = try workers(fields)
        deployment.batching = try batching(fields)
        _ = try fields.optionalText("description")
        _ = try fields.optionalText("owner")
        record("Deployment", name, meaning: deployment.meaning, uses: uses)
        return deployment
    }

    mutating func monitor(_ name: Name, _ fields: FieldReader) throws(PlatformError) -> MonitorDefinition {
        let modelName = try fields.name("model")
        let model = try need("Model", modelName, in: set.models, for: "model", fields)
        let inputs = set.featureServices[model.service]?.inputNames ?? []
        var rules: [MonitorRule] = []
        try each(try fields.mappings("rules", of: "rule")) { compiler, reader throws(PlatformError) in
            let rule = try compiler.rule(reader, inputs: inputs)
            guard !rules.contains(where: { $0.name == rule.name }) else {
                throw reader.error("name", "the rule '\(rule.name)' appears twice")
            }
            rules.append(rule)
        }
        var retrain: RetrainDefinition?
        if let reader = try fields.mapping("retrain") {
            let on = try reader.texts("on")
            for rule in on where !rules.contains(where: { $0.name == rule }) {
                throw reader.error(
                    "on", "no rule is called '\(rule.prefix(60))'; known: \(rules.map(\.name).joined(separator: ", "))")
            }
            retrain = RetrainDefinition(
                on: on, cooldown: try reader.span("cooldown"), trainOn: try reader.span("train_on"))
            try reader.finish()
        }
        let monitor = MonitorDefinition(
            name: name, model: modelName, window: try fields.span("window"),
            labelHorizon: try fields.span("label_horizon"),
            rules: rules, retrain: retrain)
        _ = try fields.optionalText("description")
        _ = try fields.optionalText("owner")
        record("Monitor", name, meaning: monitor.meaning, uses: ["Model/\(modelName)"])
        return monitor
    }

    private func rule(_ reader: FieldReader, inputs: [String]) throws(PlatformError) -> MonitorRule {
        enum Measure: String, CaseIterable {
            case psi, ks
            case nullRate = "null_rate"
            case predictionPSI = "prediction_psi"
            case metric
        }
        func feature() throws(PlatformError) -> String? {
            guard let feature = try reader.optionalText("feature") else { return nil }
            guard inputs.contains(feature) else {
                let near = nearestName(to: feature, among: inputs)
                throw reader.error(
                    "feature",
                    "the model has no input '\(feature.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            return feature
        }
        let ruleName = try reader.text("name")
        let condition: MonitorRule.Condition
        switch try reader.choice("measure", Measure.self) {
        case .psi: condition = .psi(feature: try feature(), above: try reader.bound("above"))
        case .ks: condition = .ks(feature: try feature(), above: try reader.share("above"))
        case .nullRate:
            condition = .nullRate(feature: try feature(), aboveReferenceBy: try reader.share("above_reference_by"))
        case .predictionPSI: condition = .predictionPSI(above: try reader.bound("above"))
        case .metric:
            condition = .metricWorseThanReference(
                try reader.required("metric", try reader.optionalMetric("metric", among: MetricName.basic)),
                by: try reader.bound("worse_than_reference_by"))
        }
        let rule = MonitorRule(
            name: ruleName, condition: condition, severity: try reader.choice("severity", AlertSeverity.self),
            rowsMin: try reader.integer("rows_min", default: MonitorRule.usualRowsMin, in: 1...Int(Int32.max)))
        try reader.finish()
        return rule
    }
}
