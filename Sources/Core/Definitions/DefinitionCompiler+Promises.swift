import Expressions
import PlatformCore

/// What a deployment promises its callers.
extension DefinitionCompiler {
    /// Most steps of a fallback chain.
    private static let fallbackStepCountMax = 10
    /// Longest deadline of a request.
    private static let deadlineMax = TimeSpan.days(1)

    /// Reads the promise of a deployment; `service` is `nil` when its definition is at fault itself.
    func promise(_ fields: FieldReader, service: FeatureServiceDefinition?, uses: inout [String])
        throws(PlatformError) -> AnswerPromise
    {
        var promise = AnswerPromise()
        promise.fallback = try fallback(fields, service: service)
        promise.fallbackOn = try faults(fields, with: promise.fallback)
        promise.requiredFeatures = try requiredFeatures(fields, promise, service: service)
        promise.deadline = try fields.optionalSpan("deadline")
        if let deadline = promise.deadline, deadline > Self.deadlineMax {
            throw fields.error("deadline", "'deadline' must be at most 1d")
        }
        promise.priority = try fields.optionalChoice("priority", RequestPriority.self) ?? .normal
        if fields.has("concurrency_max") {
            promise.concurrencyMax = try fields.integer("concurrency_max", default: 1, in: 1...1_000_000)
        }
        if let reader = try fields.mapping("cache") {
            promise.cache = PredictionCacheDefinition(
                keptFor: try reader.span("for"),
                entryCountMax: try reader.integer("entries_max", default: 100_000, in: 1...100_000_000))
            try reader.finish()
        }
        if let text = try fields.optionalText("precomputed") {
            let feature = try precomputed(text, fields, service: service)
            promise.precomputed = feature
            uses.append("FeatureView/\(feature.view)")
        }
        return promise
    }

    // MARK: Fallback

    private func fallback(_ fields: FieldReader, service: FeatureServiceDefinition?) throws(PlatformError)
        -> [FallbackStep]
    {
        guard fields.has("fallback") else { return [] }
        var steps: [FallbackStep] = []
        if fields.isMapping("fallback"), let reader = try fields.mapping("fallback") {
            steps = [try step(reader, service: service)]
        } else {
            for reader in try fields.mappings("fallback", of: "step") {
                steps.append(try step(reader, service: service))
            }
        }
        guard 1...Self.fallbackStepCountMax ~= steps.count else {
            throw fields.error("fallback", "'fallback' must have 1 to \(Self.fallbackStepCountMax) steps")
        }
        for (index, step) in steps.enumerated() {
            let isLast = index == steps.count - 1
            switch step {
            case .constant where !isLast:
                throw fields.error("fallback", "a constant always answers, so the steps after it are never asked")
            case .constant: break
            case .expression(let expression, _) where isLast && !expression.nullable: break
            default:
                if isLast {
                    throw fields.error(
                        "fallback",
                        "the last step must always have an answer: {constant: …}, or an expression that is never null, "
                            + "such as coalesce(…, 0)")
                }
            }
            if steps[..<index].contains(step) {
                throw fields.error("fallback", "the step '\(step.word)' appears twice")
            }
        }
        return steps
    }

    private func step(_ reader: FieldReader, service: FeatureServiceDefinition?) throws(PlatformError)
        -> FallbackStep
    {
        let given = ["version", "expression", "constant"].filter { reader.has($0) }
        guard given.count == 1 else {
            throw reader.error(nil, "a fallback step is one of {version: …}, {expression: …}, {constant: …}")
        }
        let step: FallbackStep
        if given == ["constant"] {
            let value = try reader.number("constant")
            guard Float(value).isFinite else { throw reader.error("constant", "'constant' is too large") }
            step = .constant(value)
        } else if given == ["version"] {
            let text = try reader.text("version")
            if text == "previous" {
                step = .previousVersion
            } else if let number = Int(text), 1...Int(Int32.max) ~= number {
                step = .version(number)
            } else {
                throw reader.error(
                    "version", "'version' must be a version number or 'previous', not '\(text.prefix(60))'")
            }
        } else {
            let columns = service.map { inputs($0.request, $0.features) } ?? []
            guard let expression = try expression("expression", columns, reader) else {
                throw reader.error(nil, "'expression' is missing")
            }
            guard expression.type.isNumeric || expression.type == .bool else {
                throw reader.error(
                    "expression",
                    "a fallback must be a number or a truth value, and this is \(expression.type.rawValue)")
            }
            step = .expression(expression, inputs: columns)
        }
        try reader.finish()
        return step
    }

    private func faults(_ fields: FieldReader, with fallback: [FallbackStep]) throws(PlatformError) -> [AnswerFault] {
        guard let texts = try fields.optionalTexts("fallback_on") else {
            return AnswerFault.usual(with: fallback)
        }
        guard !fallback.isEmpty else { throw fields.error("fallback_on", "'fallback_on' needs a 'fallback'") }
        var faults: Set<AnswerFault> = []
        for text in texts {
            guard let fault = AnswerFault(rawValue: text) else {
                let known = AnswerFault.allCases.map(\.rawValue)
                throw fields.error(
                    "fallback_on",
                    "'fallback_on' cannot have '\(text.prefix(60))'; known: \(known.joined(separator: ", "))"
                        + (nearestName(to: text, among: known).map { "; did you mean '\($0)'?" } ?? ""))
            }
            faults.insert(fault)
        }
        guard !faults.isEmpty || DefinitionCompiler.isReadingAgain else {
            throw fields.error(
                "fallback_on",
                "'fallback_on' names no cause, so the fallback would never answer; leave it out for all causes, or leave "
                    + "'fallback' out")
        }
        return faults.sorted { $0.rawValue < $1.rawValue }
    }

    private func requiredFeatures(
        _ fields: FieldReader, _ promise: AnswerPromise, service: FeatureServiceDefinition?
    ) throws(PlatformError) -> [String] {
        guard let names = try fields.optionalTexts("required_features") else { return [] }
        guard promise.fallbackOn.contains(.missingFeatures) else {
            throw fields.error(
                "required_features", "'required_features' needs a 'fallback' that answers on missing_features")
        }
        for name in names where service.map({ !$0.inputNames.contains(name) }) ?? false {
            let near = nearestName(to: name, among: service?.inputNames ?? [])
            throw fields.error(
                "required_features",
                "the model has no input '\(name.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        return names
    }

    // MARK: Computed before

    private func precomputed(_ text: String, _ fields: FieldReader, service: FeatureServiceDefinition?)
        throws(PlatformError) -> ServedFeature
    {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let name = Name(String(parts[0])) else {
            throw fields.error("precomputed", "'precomputed' must be view.feature, not '\(text.prefix(60))'")
        }
        let view = try need("FeatureView", name, in: set.featureViews, for: "precomputed", fields)
        let wanted = String(parts[1])
        guard let feature = view.features.first(where: { $0.name == wanted }) else {
            let near = nearestName(to: wanted, among: view.features.map(\.name))
            throw fields.error(
                "precomputed",
                "the view '\(name)' has no feature '\(wanted.prefix(60))'"
                    + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        guard feature.type.isNumeric else {
            throw fields.error("precomputed", "a prediction is a number, and '\(text)' is \(feature.type.rawValue)")
        }
        if let service, let key = view.joinKeys.first(where: { !service.joinKeys.contains($0) }) {
            throw fields.error(
                "precomputed",
                "requests do not name '\(key)', which '\(name)' is read by; known: "
                    + service.joinKeys.joined(separator: ", "))
        }
        return ServedFeature(view: name, feature: wanted)
    }
}
