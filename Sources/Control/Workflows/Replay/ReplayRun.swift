import Definitions
import ModelServing
import PlatformCore
import RuntimePorts
import Statistics

/// What a replay has counted so far.
struct ReplayRun {
    private static let bucketCount = 60
    private static let exampleCountMax = 600
    private static let rankedCountMax = 20_000
    /// One row in so many is also scored by itself, to measure the time.
    private static let timedEvery = 32

    private let candidate: ServedVersion
    private let since: Int64
    private let bucketSpan: Int64
    private let measure: OnlineMeasure
    /// For each version of the feature service, where each input of the candidate is among the logged ones; `nil` where
    /// one is missing.
    private var mappings: [String: [Int]?] = [:]
    private(set) var report: ShadowReplayReport
    private var distributions = AnswerDistributions()
    private var pairs = PairTally()
    private var latency = LatencyHistogram()
    private var championLatency = LatencyHistogram()
    private var matcher = LabelMatcher()
    private var champion = RunningMoments()
    private var challenger = RunningMoments()
    private var difference = RunningMoments()
    private var ranked: (first: [Double], second: [Double], outcomes: [Double]) = ([], [], [])
    private var scored = 0
    private var exampleEvery = 1

    init(
        candidate: ServedVersion, since: EventTime, until: EventTime, metric: OnlineMeasure?,
        report: ShadowReplayReport
    ) {
        self.candidate = candidate
        self.report = report
        self.since = since.milliseconds
        bucketSpan = max(1, (until.milliseconds - since.milliseconds) / Int64(Self.bucketCount) + 1)
        let output = candidate.loaded.description.output
        let isProbability = output == .probability || output == .classProbabilities
        // A label by itself says nothing of pairs: it is the same for both.
        measure =
            metric.flatMap { $0 == .label || $0 == .cost ? nil : $0 } ?? (isProbability ? .logLoss : .squaredError)
        for bucket in 0..<Self.bucketCount {
            self.report.buckets.append(
                .init(from: EventTime(milliseconds: since.milliseconds + Int64(bucket) * bucketSpan)))
        }
    }

    /// Whether a record is an answer to compare with.
    mutating func wants(_ record: PredictionRecord) -> Bool {
        guard record.choice != .shadow else { return false }
        report.read += 1
        if record.choice == .fallback { return skip("answered by the fallback") }
        if record.version == candidate.number { return skip("answered by the version itself") }
        return true
    }

    @discardableResult
    private mutating func skip(_ reason: String) -> Bool {
        report.skipped[reason, default: 0] += 1
        return false
    }

    func needsMapping(of service: String) -> Bool { mappings[service] == nil }

    /// Finds the candidate's inputs among those of a version of the feature service.
    mutating func map(_ version: String, _ service: FeatureServiceDefinition?) {
        let own = candidate.binding.definition
        if version == own.version.hex {
            mappings[version] = .some(Array(0..<candidate.binding.inputCount))
            return
        }
        guard let service, service.categories == own.categories || own.categories.isEmpty else {
            mappings[version] = .some(nil)
            return
        }
        let places = Dictionary(
            service.inputNames.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        let found = own.inputNames.compactMap { places[$0] }
        mappings[version] = .some(found.count == own.inputNames.count ? found : nil)
    }

    // MARK: Scoring

    mutating func score(_ batch: [PredictionRecord]) async {
        var rows: [Float] = []
        var kept: [PredictionRecord] = []
        for record in batch {
            guard let mapping = mappings[record.serviceVersion] ?? nil,
                mapping.allSatisfy({ record.inputs.indices.contains($0) })
            else {
                skip("made with features that the version does not read")
                continue
            }
            for place in mapping { rows.append(Float(record.inputs[place])) }
            kept.append(record)
        }
        guard !kept.isEmpty else { return }
        let model = candidate.loaded
        let (width, outputs) = (model.description.featureCount, model.description.outputCount)
        let whole = try? await model.prediction(of: rows, rowCount: kept.count)
        for (index, record) in kept.enumerated() {
            var output = whole.map { Array($0[index * outputs..<(index + 1) * outputs]) }
            let isTimed = scored % Self.timedEvery == 0
            scored += 1
            if isTimed || output == nil {
                let row = Array(rows[index * width..<(index + 1) * width])
                let start = ContinuousClock.now
                output = try? await model.prediction(of: row, rowCount: 1)
                let span = ContinuousClock.now - start
                if output != nil { latency.add(microseconds: UInt32(clamping: Int64(span / .microseconds(1)))) }
            }
            add(record, output)
        }
    }

    private mutating func add(_ record: PredictionRecord, _ output: [Float]?) {
        guard let output, output.allSatisfy({ !$0.isNaN }), let second = PairTally.value(output),
            let first = PairTally.value(record.output), output.count == record.output.count
        else {
            if let output, output.count != record.output.count {
                skip("answered with another number of outputs")
            } else {
                report.failures += 1
            }
            return
        }
        report.pairs += 1
        report.champions[record.version, default: 0] += 1
        pairs.add(record.output, output)
        distributions.addChampion(first)
        distributions.addChallenger(second)
        championLatency.add(microseconds: record.latency.score)
        let place = min(Self.bucketCount - 1, max(0, Int((record.time.milliseconds - since) / bucketSpan)))
        report.buckets[place].pairs += 1
        report.buckets[place].sums[0] += Double(first)
        report.buckets[place].sums[1] += Double(second)
        report.buckets[place].distance += Double(abs(first - second))
        if report.pairs % exampleEvery == 0 {
            report.examples.append([first, second])
            if report.examples.count > Self.exampleCountMax {  // every other one stays, and the next come half as often
                report.examples = report.examples.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
                exampleEvery *= 2
            }
        }
        compare(
            matcher.add(record.id) {
                $0.champion = record.output
                $0.challenger = output
            })
    }

    mutating func label(_ label: LabelRecord) { compare(matcher.label(label.predictionID, label.value)) }

    private mutating func compare(_ found: (answer: LabelMatcher.Answer, label: Double)?) {
        guard let found, let first = found.answer.champion, let second = found.answer.challenger,
            let left = measure.value(output: first, label: found.label),
            let right = measure.value(output: second, label: found.label)
        else { return }
        champion.add(left)
        challenger.add(right)
        difference.add(right - left)
        if first.count == 1, found.label == 0 || found.label == 1, ranked.outcomes.count < Self.rankedCountMax {
            ranked.first.append(Double(first[0]))
            ranked.second.append(Double(second[0]))
            ranked.outcomes.append(found.label)
        }
    }

    // MARK: The end

    func finished() -> ShadowReplayReport {
        var report = report
        report.predictionPSI = distributions.populationStabilityIndex
        report.disagreement = pairs.disagreement
        report.meanDifference = pairs.meanDifference
        if latency.count > 0 {
            report.scoreP50Milliseconds = latency.quantile(0.5) / 1000
            report.scoreP99Milliseconds = latency.quantile(0.99) / 1000
        }
        if championLatency.count > 0 { report.championScoreP99Milliseconds = championLatency.quantile(0.99) / 1000 }
        report.edges = distributions.edges
        report.championBins = distributions.champion
        report.candidateBins = distributions.challenger
        if difference.count > 0 {
            var interval: ConfidenceInterval?
            if difference.count > 1 {
                let reach = 1.959_963_984_540_054 * (difference.variance / Double(difference.count)).squareRoot()
                interval = ConfidenceInterval(
                    estimate: difference.mean, lower: difference.mean - reach, upper: difference.mean + reach,
                    confidence: 0.95)
            }
            let sign = measure.isHigherBetter ? 1.0 : -1.0
            let verdict =
                interval.map { found in
                    let (low, high) = (
                        min(sign * found.lower, sign * found.upper), max(sign * found.lower, sign * found.upper)
                    )
                    return low > 0 ? "better" : high < 0 ? "worse" : "not shown to differ"
                } ?? "not shown to differ"
            report.labels = .init(
                pairs: difference.count, measure: measure, champion: champion.mean, candidate: challenger.mean,
                difference: interval,
                aucDifference: try? ConfidenceInterval.pairedDifference(
                    of: .auc, first: ranked.first, second: ranked.second, outcomes: ranked.outcomes,
                    resampleCount: 200, seed: 0), verdict: verdict)
        }
        return report
    }
}
