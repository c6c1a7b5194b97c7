import PlatformCore

/// What `rollout` of a deployment says of its steps.
struct RolloutSteps {
    var shadowAtLeast = TimeSpan.days(1)
    var shadowPairsMin = 1000
    var shadowShare = 1.0
    var canary = [0.01, 0.05, 0.1, 0.25, 0.5].map { CanaryStep(share: $0, atLeast: .days(1)) }
    var experiment: ExperimentStep?
    var metric: OnlineMetric?

    init() {}

    init(_ rollout: FieldReader?) throws(PlatformError) {
        guard let rollout else { return }
        if let reader = try rollout.mapping("shadow") {
            shadowAtLeast = try reader.span("at_least")
            shadowPairsMin = try reader.integer("pairs_min", default: 1000, in: 1...1_000_000_000)
            shadowShare = try reader.share("share", default: 1)
            guard shadowShare > 0 else { throw reader.error("share", "'share' must be above 0") }
            try reader.finish()
        }
        if rollout.has("canary") {
            canary = []
            for reader in try rollout.mappings("canary", of: "step") {
                let share = try reader.share("share")
                guard share > canary.last?.share ?? 0 else { throw reader.error("share", "canary shares must rise") }
                canary.append(CanaryStep(share: share, atLeast: try reader.span("at_least")))
                try reader.finish()
            }
        }
        if let reader = try rollout.mapping("metric") {
            let alpha = try reader.share("alpha", default: 0.05)
            let effect = try reader.optionalNumber("effect") ?? 0.1
            guard alpha > 0, alpha < 1 else { throw reader.error("alpha", "'alpha' must be above 0 and below 100%") }
            guard effect > 0 else { throw reader.error("effect", "'effect' must be above 0") }
            metric = OnlineMetric(
                measure: try reader.choice("measure", OnlineMeasure.self), alpha: alpha, effect: effect,
                labelsMin: try reader.integer("labels_min", default: 200, in: 2...1_000_000_000))
            try reader.finish()
        }
        if let reader = try rollout.mapping("experiment") {
            let share = try reader.share("share", default: 0.5)
            guard share > 0, share < 1 else {
                throw reader.error("share", "an experiment's share must be above 0 and below 100%")
            }
            guard metric != nil else {
                throw reader.error(nil, "an experiment decides by labels: 'rollout.metric' says by which measure")
            }
            let (least, most) = (try reader.span("at_least"), try reader.span("at_most"))
            guard most > least else { throw reader.error("at_most", "'at_most' must be longer than 'at_least'") }
            let margin = try reader.optionalNumber("margin") ?? 0
            guard margin >= 0 else { throw reader.error("margin", "the margin must be 0 or more") }
            let goal = try reader.optionalChoice("goal", ExperimentStep.Goal.self) ?? .better
            guard goal == .better || margin > 0 else {
                throw reader.error("margin", "'not_worse' needs a margin above 0: nothing is ever shown to be equal")
            }
            experiment = ExperimentStep(share: share, atLeast: least, atMost: most, goal: goal, margin: margin)
            try reader.finish()
        }
        try rollout.finish()
    }
}

/// What `guardrails` of a deployment says.
struct Guardrails {
    var predictionPSIMax = 0.25
    var errorRateMax = 0.01
    var latencyP99MillisecondsMax = 50.0
    var disagreementMax: Double?
    var meanDifferenceMax: Double?
    var sampleRatioAlpha = 0.001

    init() {}

    init(_ reader: FieldReader?) throws(PlatformError) {
        guard let reader else { return }
        predictionPSIMax = try reader.optionalBound("prediction_psi_max") ?? predictionPSIMax
        errorRateMax = try reader.share("error_rate_max", default: errorRateMax)
        latencyP99MillisecondsMax =
            try reader.optionalSpan("latency_p99_max").map { Double($0.milliseconds) } ?? latencyP99MillisecondsMax
        disagreementMax = try reader.optionalShare("disagreement_max")
        meanDifferenceMax = try reader.optionalBound("mean_difference_max")
        sampleRatioAlpha = try reader.share("sample_ratio_alpha", default: sampleRatioAlpha)
        guard sampleRatioAlpha > 0, sampleRatioAlpha < 1 else {
            throw reader.error("sample_ratio_alpha", "'sample_ratio_alpha' must be above 0 and below 100%")
        }
        try reader.finish()
    }
}

extension FieldReader {
    /// A number from 0 to 1, also written as `5%`.
    func optionalShare(_ key: String) throws(PlatformError) -> Double? {
        guard let share = try optionalNumber(key) else { return nil }
        guard 0...1 ~= share || DefinitionCompiler.isReadingAgain else {
            let isPercent = try optionalText(key)?.hasSuffix("%") ?? false
            let meant =
                !isPercent && 1...100 ~= share ? "; write \(Self.digits(share))% or \(Self.digits(share / 100))" : ""
            throw error(key, "'\(key)' must be between 0 and 100%, which is 1, and not \(Self.digits(share))\(meant)")
        }
        return share
    }
    func share(_ key: String, default value: Double) throws(PlatformError) -> Double {
        try optionalShare(key) ?? value
    }
    func share(_ key: String) throws(PlatformError) -> Double { try required(key, try optionalShare(key)) }

    /// A number that is not negative.
    func optionalBound(_ key: String) throws(PlatformError) -> Double? {
        guard let bound = try optionalNumber(key) else { return nil }
        guard bound >= 0 || DefinitionCompiler.isReadingAgain else { throw error(key, "'\(key)' must be 0 or more") }
        return bound
    }
    func bound(_ key: String) throws(PlatformError) -> Double { try required(key, try optionalBound(key)) }

    /// A number without a needless fraction.
    private static func digits(_ value: Double) -> String {
        Int(exactly: value).map(String.init) ?? String(value)
    }
}
