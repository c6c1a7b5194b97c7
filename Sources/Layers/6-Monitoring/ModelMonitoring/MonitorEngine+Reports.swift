import Definitions
import ModelServing
import PlatformCore
import Statistics

extension MonitorEngine {
    /// The reports of a window whose inputs are final, and what the rules on inputs say.
    mutating func close(_ window: OpenWindow, monitor: Int) -> [MonitorEffect] {
        var effects: [MonitorEffect] = []
        var reports: [WindowReport] = []
        for group in Self.ordered(window.groups) where group.rows > 0 {
            let reference = reference(monitor, group.version)
            var inputs: [InputReport] = []
            var prediction: InputReport?
            if let histograms = group.histograms, let profile = reference?.profile {
                inputs = zip(histograms.inputs, profile.inputs).compactMap { InputReport($0, $1) }
                prediction = InputReport(histograms.prediction, profile.prediction)
            }
            reports.append(
                WindowReport(
                    kind: .inputs, scope: scope(of: group, window, monitor), rows: group.rows,
                    hasReference: group.histograms != nil, inputs: inputs, prediction: prediction, performance: nil))
        }
        counters.windowsClosed += reports.count
        effects += reports.map(MonitorEffect.windowClosed)
        effects += pairs(in: window, monitor: monitor, kind: .inputs)
        return effects + judge(reports, kind: .inputs, to: window.to, monitor: monitor)
    }

    /// The reports of a window whose labels are final, and what the rules on metrics say.
    mutating func measure(_ window: OpenWindow, monitor: Int) -> [MonitorEffect] {
        let reports = Self.ordered(window.groups).filter { !$0.keys.isEmpty }.map { group in
            let rows = group.labels.indices.filter { !group.labels[$0].isNaN }
            return WindowReport(
                kind: .performance, scope: scope(of: group, window, monitor), rows: group.rows,
                hasReference: reference(monitor, group.version) != nil, inputs: [], prediction: nil,
                performance: PerformanceReport(
                    predictions: rows.map { Double(group.predictions[$0]) }, outcomes: rows.map { group.labels[$0] },
                    unlabelled: group.keys.count - rows.count))
        }
        var effects = reports.map(MonitorEffect.performanceMeasured)
        effects += pairs(in: window, monitor: monitor, kind: .performance)
        return effects + judge(reports, kind: .performance, to: window.labelsUntil, monitor: monitor)
    }

    private static func ordered(_ groups: [VersionRows]) -> [VersionRows] {
        groups.sorted { ($0.choice, $0.version) < ($1.choice, $1.version) }
    }

    private func reference(_ monitor: Int, _ version: Int) -> MonitorReference? {
        references[VersionKey(model: monitors[monitor].definition.model.text, version: version)]
    }

    private func scope(of group: VersionRows, _ window: OpenWindow, _ monitor: Int) -> WindowScope {
        WindowScope(
            monitor: monitors[monitor].definition.name.text, model: monitors[monitor].definition.model.text,
            version: group.version,
            choice: PredictionRecord.Choice(rawValue: group.choice)?.word ?? "unknown",
            from: EventTime(milliseconds: window.from), to: EventTime(milliseconds: window.to))
    }

    // MARK: Pairs

    private func pairs(in window: OpenWindow, monitor: Int, kind: WindowReport.Kind) -> [MonitorEffect] {
        let shadow = PredictionRecord.Choice.shadow.rawValue
        let fallback = PredictionRecord.Choice.fallback.rawValue
        var effects: [MonitorEffect] = []
        for answers in Self.ordered(window.groups) where answers.choice != shadow && answers.choice != fallback {
            for shadows in Self.ordered(window.groups) where shadows.choice == shadow {
                let rows = answers.keys.indices.compactMap { row in
                    shadows.place(of: answers.keys[row]).map { (row, $0) }
                }
                if let report = pair(
                    answers, shadows, rows, scope: scope(of: answers, window, monitor), kind: kind)
                {
                    effects.append(.pairCompared(report))
                }
            }
        }
        return effects
    }

    private func pair(
        _ answers: VersionRows, _ shadows: VersionRows, _ rows: [(Int, Int)], scope: WindowScope,
        kind: WindowReport.Kind
    ) -> PairReport? {
        guard !rows.isEmpty else { return nil }
        let first = rows.map { Double(answers.predictions[$0.0]) }
        let second = rows.map { Double(shadows.predictions[$0.1]) }
        let profile = InputProfile(
            name: "prediction", numbers: first, driftBinCount: ReferenceProfile.predictionDriftBinCount)
        var histogram = InputHistogram(profile: profile)
        histogram.add(contentsOf: second, profile: profile)
        let labelled = rows.indices.filter { !answers.labels[rows[$0].0].isNaN }
        var difference: ConfidenceInterval?
        var undefined: String?
        if kind == .performance {
            do throws(StatisticsError) {
                difference = try ConfidenceInterval.pairedDifference(
                    of: .auc, first: labelled.map { first[$0] }, second: labelled.map { second[$0] },
                    outcomes: labelled.map { answers.labels[rows[$0].0] },
                    // About twenty million row visits at most, below a second.
                    resampleCount: min(1000, max(100, 20_000_000 / max(1, labelled.count))),
                    seed: UInt64(bitPattern: scope.from.milliseconds))
            } catch { undefined = error.description }
        }
        return PairReport(
            kind: kind, scope: scope, shadowVersion: shadows.version, pairs: rows.count,
            disagreementShare: Double(zip(first, second).count { ($0 >= 0.5) != ($1 >= 0.5) }) / Double(rows.count),
            meanAbsoluteDifference: zip(first, second).reduce(0) { $0 + abs($1.0 - $1.1) } / Double(rows.count),
            predictionPSI: (try? histogram.populationStabilityIndex(against: profile)) ?? 0,
            labelledPairs: labelled.count, aucDifference: difference, undefined: undefined)
    }

    // MARK: Rules

    private struct Finding {
        var observations: [Alert.Observation] = []
        var threshold = 0.0
        var message = ""
        var isOfInputs = true
        var fires: Bool { !observations.isEmpty }
    }

    private mutating func judge(
        _ reports: [WindowReport], kind: WindowReport.Kind, to end: Int64, monitor: Int
    ) -> [MonitorEffect] {
        let answered = reports.filter { $0.scope.choice == PredictionRecord.Choice.primary.word }
        guard !answered.isEmpty else { return [] }
        let moment = EventTime(milliseconds: end)
        var effects: [MonitorEffect] = []
        for rule in monitors[monitor].definition.rules where rule.condition.kind == kind {
            for report in answered {
                guard let finding = finding(of: rule, in: report, monitor: monitor) else { continue }
                let known = monitors[monitor].incidents.firstIndex {
                    $0.rule == rule.name && $0.scope.version == report.scope.version
                }
                switch (finding.fires, known) {
                case (true, nil):
                    let alert = Self.alert(rule, report, finding)
                    monitors[monitor].incidents.append(alert)
                    counters.alertsRaised += 1
                    effects.append(.alertRaised(alert))
                case (true, .some(let place)):
                    var alert = monitors[monitor].incidents[place]
                    let newer = Self.alert(rule, report, finding)
                    (alert.observed, alert.feature, alert.features) = (newer.observed, newer.feature, newer.features)
                    (alert.message, alert.lastSeen) = (newer.message, newer.lastSeen)
                    alert.count += 1
                    monitors[monitor].incidents[place] = alert
                    effects.append(.alertContinued(alert))
                case (false, .some(let place)):
                    effects.append(resolve(place, monitor, at: moment, "the next window was quiet"))
                case (false, nil): break
                }
            }
        }
        // An incident of a version that no longer answers, or of a rule that is gone, would never see a quiet window.
        for place in monitors[monitor].incidents.indices.reversed() {
            let incident = monitors[monitor].incidents[place]
            let rule = monitors[monitor].definition.rules.first { $0.name == incident.rule }
            if rule == nil {
                effects.append(resolve(place, monitor, at: moment, "the rule is gone"))
            } else if rule?.condition.kind == kind,
                !answered.contains(where: { $0.scope.version == incident.scope.version })
            {
                effects.append(resolve(place, monitor, at: moment, "the version no longer answers"))
            }
        }
        return effects
    }

    private mutating func resolve(
        _ place: Int, _ monitor: Int, at moment: EventTime, _ reason: String
    ) -> MonitorEffect {
        var alert = monitors[monitor].incidents.remove(at: place)
        alert.resolvedAt = moment
        alert.resolution = reason
        return .alertResolved(alert)
    }

    /// What a rule finds in a report; `nil` if it cannot say: too few rows, no reference, an undefined metric.
    private func finding(of rule: MonitorRule, in report: WindowReport, monitor: Int) -> Finding? {
        func observe(
            _ name: String?, above bound: Double, _ measure: String, _ value: (InputReport) -> Double?
        ) -> Finding? {
            guard report.rows >= rule.rowsMin, report.hasReference else { return nil }
            let watched = name.map { name in report.inputs.filter { $0.name == name } } ?? report.inputs
            let measured = watched.compactMap { input in
                value(input).map { Alert.Observation(name: input.name, observed: $0) }
            }
            guard !measured.isEmpty else { return nil }
            let over = measured.filter { $0.observed > bound }
                .sorted { ($1.observed, $0.name) < ($0.observed, $1.name) }
            guard let worst = over.first else { return Finding() }
            let others = over.count == 1 ? "" : "; \(over.count) inputs are beyond the bound"
            return Finding(
                observations: over, threshold: bound,
                message: "\(measure) of \(worst.name) is \(Self.text(worst.observed)), above \(Self.text(bound)), "
                    + "\(Self.place(report.scope))\(others).")
        }
        switch rule.condition {
        case .psi(let name, let bound):
            return observe(name, above: bound, "PSI") { $0.psi }
        case .ks(let name, let bound):
            return observe(name, above: bound, "The Kolmogorov–Smirnov distance") { $0.ks }
        case .nullRate(let name, let bound):
            return observe(name, above: bound, "The rise of the share of missing values") {
                $0.nullRate - $0.referenceNullRate
            }
        case .predictionPSI(let bound):
            guard report.rows >= rule.rowsMin, let prediction = report.prediction else { return nil }
            guard prediction.psi > bound else { return Finding() }
            return Finding(
                observations: [Alert.Observation(name: prediction.name, observed: prediction.psi)], threshold: bound,
                message: "PSI of the predictions is \(Self.text(prediction.psi)), above \(Self.text(bound)), "
                    + "\(Self.place(report.scope)).")
        case .metricWorseThanReference(let metric, let margin):
            guard let performance = report.performance, performance.labelled >= rule.rowsMin,
                let observed = performance.metrics[metric.rawValue],
                let expected = reference(monitor, report.scope.version)?.metrics[metric.rawValue]
            else { return nil }
            let threshold = metric.higherIsBetter ? expected - margin : expected + margin
            guard metric.higherIsBetter ? observed < threshold : observed > threshold else { return Finding() }
            return Finding(
                observations: [Alert.Observation(name: metric.rawValue, observed: observed)], threshold: threshold,
                message: "\(metric.rawValue) on \(performance.labelled) labelled rows is \(Self.text(observed)), worse "
                    + "than the \(Self.text(expected)) of the test slice by more than \(Self.text(margin)), "
                    + "\(Self.place(report.scope)).", isOfInputs: false)
        }
    }

    private static func alert(_ rule: MonitorRule, _ report: WindowReport, _ finding: Finding) -> Alert {
        let scope = report.scope
        return Alert(
            id: "\(scope.monitor).\(rule.name).v\(scope.version).\(scope.from.milliseconds)", rule: rule.name,
            severity: rule.severity, scope: scope, observed: finding.observations.first?.observed ?? 0,
            threshold: finding.threshold, feature: finding.isOfInputs ? finding.observations.first?.name : nil,
            features: finding.observations, message: finding.message, count: 1, lastSeen: scope.to)
    }

    private static func place(_ scope: WindowScope) -> String {
        let isOfDays = scope.to.since(scope.from).milliseconds % TimeSpan.days(1).milliseconds == 0
        let (from, to) =
            isOfDays ? (scope.from.dateText, scope.to.dateText) : (scope.from.description, scope.to.description)
        return "for \(scope.model) version \(scope.version) from \(from) to \(to)"
    }

    /// A number for people, with four digits after the point.
    private static func text(_ value: Double) -> String {
        String(((value * 10_000).rounded() / 10_000))
    }
}

extension MonitorRule.Condition {
    /// The report that a condition reads.
    var kind: WindowReport.Kind {
        if case .metricWorseThanReference = self { .performance } else { .inputs }
    }
}
