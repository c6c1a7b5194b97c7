public import PlatformCore

/// What rows that leave their table leave behind: definitions that need them are refused.
extension DefinitionCompiler {
    /// How long rows stay; `nil` for ever, which a zero says too.
    func retention(_ fields: FieldReader) throws(PlatformError) -> TimeSpan? {
        guard let text = try fields.optionalText("retention") else { return nil }
        guard let span = TimeSpan(text: text), span.milliseconds == 0 || span >= .hours(1) else {
            throw fields.error(
                "retention",
                "'retention' must be a span of at least an hour such as 90d, or 0d for ever, not '\(text.prefix(60))'")
        }
        return span.milliseconds == 0 ? nil : span
    }

    /// Refuses a view whose values the source's table could not give again once rows have left it.
    func check(_ view: FeatureViewDefinition, against source: SourceDefinition, _ fields: FieldReader)
        throws(PlatformError)
    {
        guard let retention = source.retention else { return }
        let place = "the source '\(source.name)' keeps rows for \(retention) ('retention')"
        guard let reach = view.reach else {
            let feature = view.features.first { $0.window == nil && $0.ratio == nil }?.name ?? ""
            throw fields.error(
                "features",
                "'\(feature)' looks at all history, and \(place); give it a window or the view a 'ttl', or leave out 'retention'"
            )
        }
        let needed = TimeSpan(milliseconds: reach.milliseconds + SourceDefinition.pastQuestions.milliseconds)
        guard needed <= retention else {
            let feature = view.features.first { $0.window == reach }.map { "'\($0.name)'" } ?? "'ttl'"
            let room = TimeSpan(
                milliseconds: max(0, retention.milliseconds - SourceDefinition.pastQuestions.milliseconds))
            throw fields.error(
                "features",
                "\(feature) looks back \(reach), and \(place); with \(SourceDefinition.pastQuestions) for questions about the past it must keep at least \(needed), or windows and 'ttl' be at most \(room)"
            )
        }
        if view.timeToLive != nil, let count = view.features.first(where: { $0.aggregate.countsNothingAsZero }) {
            throw fields.error(
                "ttl",
                "\(place), and a view with 'ttl' then cannot tell an entity whose rows have gone ('\(count.name)' is null) from one that never had any (0); leave out 'ttl', '\(count.name)' or 'retention'"
            )
        }
    }

    /// Refuses a training set that could never be built: by the time its labels are known, rows that it needs have left.
    func check(_ definition: TrainingSetDefinition, _ service: FeatureServiceDefinition, _ fields: FieldReader)
        throws(PlatformError)
    {
        func need(_ source: Name, _ span: TimeSpan, _ why: String) throws(PlatformError) {
            guard let retention = set.sources[source]?.retention, retention <= span else { return }
            throw fields.error(
                nil,
                "the source '\(source)' keeps rows for \(retention) ('retention'), and \(why) needs them for more than \(span)"
            )
        }
        let horizon = definition.labelHorizon
        for source in definition.ownSources.sorted() {
            try need(source, horizon, "a label that is known after \(horizon) ('horizon')")
        }
        for name in Set(service.features.map(\.view)).sorted() {
            guard let view = set.featureViews[name], let reach = view.reach else { continue }
            let span = TimeSpan(milliseconds: reach.milliseconds + horizon.milliseconds)
            try need(
                view.source, span,
                "the view '\(name)', which looks back \(reach), with the label's horizon of \(horizon)")
        }
    }
}

extension SourceDefinition {
    /// How far before the present questions are still answered from online state, and compared with the table.
    public static let pastQuestions = TimeSpan.days(1)
}
