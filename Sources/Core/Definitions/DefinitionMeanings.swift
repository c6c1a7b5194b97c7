import Expressions
import PlatformCore
import Statistics

// What parts of definitions mean, for the hash that is a definition's version: said case by case and field by field, so that
// a field that is added later says nothing where it has its default.

/// The fields of a meaning.
struct MeaningFields {
    private var members: [String: JSONValue] = [:]

    /// The fields as one value.
    var value: JSONValue { .object(members) }
    /// Whether every field has its default.
    var isEmpty: Bool { members.isEmpty }

    /// Adds a field, unless it says what its absence says.
    mutating func add(_ key: String, _ value: JSONValue?, unless usual: JSONValue? = nil) {
        if value != usual { members[key] = value }
    }

    /// Adds a group of fields, unless all of them have their defaults.
    mutating func add(_ key: String, _ group: MeaningFields) { if !group.isEmpty { members[key] = group.value } }
}

// MARK: - Deployments

extension DeploymentDefinition {
    /// Everything but its name.
    var meaning: JSONValue {
        var fields = MeaningFields()
        fields.add("model", .string(model.text))
        fields.add("sticky_by", .array(stickyBy.map(JSONValue.string)))
        fields.add(
            "prediction_log", .string(predictionLog.rawValue), unless: .string(PredictionLogPolicy.usual.rawValue))
        promise.add(to: &fields)
        fields.add("rollout", rolloutMeaning)
        fields.add("guardrails", guardrailsMeaning)
        fields.add("salt", rollout.salt.map(JSONValue.string))
        fields.add("holdout", .number(rollout.holdout), unless: .number(0))
        fields.add("stream", streamSource.map { .string($0.text) })
        fields.add("workers", workers.meaning)
        fields.add("batching", batching.map { ["rows": .integer($0.rowCountMax), "wait": .integer($0.waitMax)] })
        return fields.value
    }

    private var rolloutMeaning: MeaningFields {
        let usual = RolloutSteps()
        var fields = MeaningFields()
        fields.add("shadow", .integer(shadowAtLeast), unless: .integer(usual.shadowAtLeast))
        fields.add("pairs_min", .integer(shadowPairsMin), unless: .integer(usual.shadowPairsMin))
        fields.add("shadow_share", .number(rollout.shadowShare), unless: .number(usual.shadowShare))
        fields.add("canary", Self.meaning(of: canary), unless: Self.meaning(of: usual.canary))
        fields.add(
            "metric",
            rollout.metric.map {
                [
                    "measure": .string($0.measure.rawValue), "alpha": .number($0.alpha), "effect": .number($0.effect),
                    "labels_min": .integer($0.labelsMin),
                ]
            })
        fields.add(
            "experiment",
            rollout.experiment.map {
                [
                    "share": .number($0.share), "at_least": .integer($0.atLeast), "at_most": .integer($0.atMost),
                    "goal": .string($0.goal.rawValue), "margin": .number($0.margin),
                ]
            })
        return fields
    }

    private var guardrailsMeaning: MeaningFields {
        let usual = Guardrails()
        var fields = MeaningFields()
        fields.add("prediction_psi_max", .number(predictionPSIMax), unless: .number(usual.predictionPSIMax))
        fields.add("error_rate_max", .number(errorRateMax), unless: .number(usual.errorRateMax))
        fields.add(
            "latency_p99_max", .number(latencyP99MillisecondsMax), unless: .number(usual.latencyP99MillisecondsMax))
        fields.add("disagreement_max", rollout.disagreementMax.map(JSONValue.number))
        fields.add("mean_difference_max", rollout.meanDifferenceMax.map(JSONValue.number))
        fields.add(
            "sample_ratio_alpha", .number(rollout.sampleRatioAlpha), unless: .number(usual.sampleRatioAlpha))
        return fields
    }

    private static func meaning(of steps: [CanaryStep]) -> JSONValue {
        .array(steps.map { ["share": .number($0.share), "at_least": .integer($0.atLeast)] })
    }
}

extension AnswerPromise {
    fileprivate func add(to fields: inout MeaningFields) {
        let usual = AnswerPromise()
        fields.add("fallback", .array(fallback.map(\.meaning)), unless: .array([]))
        fields.add(
            "fallback_on", Self.meaning(of: fallbackOn), unless: Self.meaning(of: AnswerFault.usual(with: fallback)))
        fields.add("required_features", .array(requiredFeatures.map(JSONValue.string)), unless: .array([]))
        fields.add("deadline", deadline.map(JSONValue.integer))
        fields.add("priority", .string(priority.rawValue), unless: .string(usual.priority.rawValue))
        fields.add("concurrency_max", concurrencyMax.map(JSONValue.integer))
        fields.add("cache", cache.map { ["for": .integer($0.keptFor), "entries_max": .integer($0.entryCountMax)] })
        fields.add("precomputed", precomputed.map { .string("\($0.view.text).\($0.feature)") })
    }

    private static func meaning(of faults: [AnswerFault]) -> JSONValue { .array(faults.map { .string($0.rawValue) }) }
}

extension FallbackStep {
    fileprivate var meaning: JSONValue {
        switch self {
        case .version(let number): ["version": .integer(number)]
        case .previousVersion: ["version": "previous"]
        // The inputs are the service's.
        case .expression(let expression, _): ["expression": .string(expression.canonicalText)]
        case .constant(let value): ["constant": .number(value)]
        }
    }
}

extension WorkersDefinition {
    fileprivate var meaning: MeaningFields {
        let usual = WorkersDefinition()
        var fields = MeaningFields()
        fields.add("min", .integer(countMin), unless: .integer(usual.countMin))
        fields.add("max", .integer(countMax), unless: .integer(usual.countMax))
        fields.add("memory", .integer(memoryByteCountMax), unless: .integer(usual.memoryByteCountMax))
        fields.add("timeout", .integer(timeout), unless: .integer(usual.timeout))
        fields.add("environment", environment.map(JSONValue.string))
        fields.add("requirements", .string(requirements.rawValue), unless: .string(usual.requirements.rawValue))
        return fields
    }
}

// MARK: - Monitors

extension MonitorDefinition {
    /// Everything but its name.
    var meaning: JSONValue {
        var fields = MeaningFields()
        fields.add("model", .string(model.text))
        fields.add("window", .integer(window))
        fields.add("label_horizon", .integer(labelHorizon))
        fields.add("rules", .array(rules.map(\.meaning)), unless: .array([]))
        fields.add(
            "retrain",
            retrain.map {
                [
                    "on": .array($0.on.map(JSONValue.string)), "cooldown": .integer($0.cooldown),
                    "train_on": .integer($0.trainOn),
                ]
            })
        return fields.value
    }
}

extension MonitorRule {
    fileprivate var meaning: JSONValue {
        var fields = MeaningFields()
        func add(_ measure: String, _ feature: String?, _ bound: Double) {
            fields.add("measure", .string(measure))
            fields.add("feature", feature.map(JSONValue.string))
            fields.add("bound", .number(bound))
        }
        fields.add("name", .string(name))
        switch condition {
        case .psi(let feature, let bound): add("psi", feature, bound)
        case .ks(let feature, let bound): add("ks", feature, bound)
        case .nullRate(let feature, let bound): add("null_rate", feature, bound)
        case .predictionPSI(let bound): add("prediction_psi", nil, bound)
        case .metricWorseThanReference(let metric, let bound):
            add("metric", nil, bound)
            fields.add("metric", .string(metric.rawValue))
        }
        fields.add("severity", .string(severity.rawValue))
        fields.add("rows_min", .integer(rowsMin), unless: .integer(Self.usualRowsMin))
        return fields.value
    }
}

extension JSONValue {
    fileprivate static func integer(_ value: Int) -> JSONValue { .integer(Int64(value)) }
    fileprivate static func integer(_ span: TimeSpan) -> JSONValue { .integer(span.milliseconds) }
}

// MARK: - Sources, services, training sets

// Their versions are older than this way of saying them, and stored with datasets and models: these texts are what Swift
// printed then, and stay.

/// A text in quotes, a number, or what is optional, as Swift prints a member.
private func member(_ value: some Any) -> String { String(reflecting: value) }

extension ExpectationDefinition {
    var meaning: String { "\(name) \(column) \(check.meaning) \(severity.rawValue)" }
}

extension ExpectationDefinition.Check {
    fileprivate var meaning: String {
        switch self {
        case .range(let low, let high): "range(minimum: \(member(low)), maximum: \(member(high)))"
        case .among(let values): "among(\(member(values)))"
        case .matches(let pattern): "matches(\(member(pattern)))"
        case .notBefore(let column): "notBefore(otherColumn: \(member(column)))"
        case .notNull: "notNull"
        case .unique(let columns): "unique(columns: \(member(columns)))"
        }
    }
}

extension LoadCheckDefinition {
    var meaning: String { "\(name) \(check.meaning) \(severity.rawValue)" }
}

extension LoadCheckDefinition.Check {
    fileprivate var meaning: String {
        switch self {
        case .freshness(let span): "freshness(\(span))"
        case .rowCountChange(let low, let high, let loads):
            "rowCountChange(minimum: \(member(low)), maximum: \(member(high)), loads: \(loads))"
        case .distribution(let column, let bounds):
            "distribution(column: \(member(column)), bounds: [\(bounds.map(\.meaning).joined(separator: ", "))])"
        case .sql(let query): "sql(\(member(query)))"
        }
    }
}

extension LoadCheckDefinition.Bound {
    fileprivate var meaning: String {
        let figure =
            switch statistic {
            case .mean: "mean"
            case .stddev: "stddev"
            case .min: "min"
            case .max: "max"
            case .nullShare: "nullShare"
            case .distinctShare: "distinctShare"
            case .quantile(let share): "quantile(\(share))"
            }
        return "Definitions.LoadCheckDefinition.Bound("
            + "statistic: Definitions.LoadCheckDefinition.Statistic.\(figure), "
            + "minimum: \(member(minimum)), maximum: \(member(maximum)))"
    }
}

extension SourceOrigin {
    var meaning: String {
        switch self {
        case .files(let location, let format): "files(location: \(member(location)), format: \(member(format)))"
        case .postgreSQL(let origin):
            "postgreSQL(Definitions.PostgreSQLOrigin(connection: \(member(origin.connection)), "
                + "query: \(member(origin.query)), cursor: \(member(origin.cursor)), overlap: \(origin.overlap), "
                + "timeout: \(origin.timeout)))"
        }
    }
}

extension RequestFeatureDefinition {
    var meaning: String { "\(name) \(kind.meaning) \(nullable)" }
}

extension RequestFeatureDefinition.Kind {
    fileprivate var meaning: String {
        switch self {
        case .number(let low, let high): "number(minimum: \(member(low)), maximum: \(member(high)))"
        case .category(let values): "category(\(member(values)))"
        }
    }
}

extension LabelExpression {
    var meaning: String {
        switch self {
        case .value: "value"
        case .greaterThan(let bound): "greaterThan(\(bound))"
        }
    }
}

extension SplitDefinition {
    var meaning: String {
        switch self {
        case .time(let validation, let test): "time(validation: \(validation), test: \(test))"
        case .random(let validation, let test, let seed):
            "random(validation: \(validation), test: \(test), seed: \(seed))"
        case .entity(let keys, let validation, let test, let seed):
            "entity(keys: \(member(keys)), validation: \(validation), test: \(test), seed: \(seed))"
        }
    }
}

extension SpineOrigin {
    var meaning: String {
        switch self {
        case .files(let location, let format): "files(location: \(member(location)), format: \(member(format)))"
        case .sql(let query, let sources):
            "sql(query: \(member(query)), sources: [\(sources.map(\.text).joined(separator: ", "))])"
        case .postgreSQL(let connection, let query, let timeout):
            "postgreSQL(connection: \(member(connection)), query: \(member(query)), timeout: \(timeout))"
        }
    }
}
