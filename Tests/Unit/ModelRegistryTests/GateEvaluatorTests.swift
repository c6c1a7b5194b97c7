import Definitions
import ModelRegistry
import PlatformCore
import Statistics
import Testing

@Suite struct GateEvaluatorTests {
    private func evidence(
        auc: Double? = 0.7, logLoss: Double? = 0.5, champion: SliceMetrics? = nil, rows: [String: Int] = ["test": 100],
        signature: Bool = true, latency: Double? = 2
    ) -> VersionEvidence {
        var metrics: [MetricName: Double] = [:]
        metrics[.auc] = auc
        metrics[.logLoss] = logLoss
        return VersionEvidence(
            metrics: ["test": metrics], championMetrics: champion, rows: rows, hasSignature: signature,
            latencyP99Milliseconds: latency)
    }

    private func result(_ gate: GateDefinition, _ evidence: VersionEvidence) -> GateResult {
        GateEvaluator.evaluate([gate], on: evidence)[0]
    }

    @Test func boundsAreInclusive() {
        let gate = GateDefinition.metric(.auc, slice: "test", minimum: 0.7, maximum: 0.9)
        #expect(result(gate, evidence(auc: 0.7)).passed)
        #expect(result(gate, evidence(auc: 0.9)).passed)
        let low = result(gate, evidence(auc: 0.7.nextDown))
        #expect(!low.passed)
        #expect(low.detail == "0.7 is below 0.7" || low.detail == "\(0.7.nextDown) is below 0.7")
        #expect(low.observed == 0.7.nextDown)
        #expect(low.gate == "auc on test ≥ 0.7 ≤ 0.9")
        #expect(!result(gate, evidence(auc: 0.9.nextUp)).passed)
    }

    @Test func aReplayKeepsWithinItsBounds() {
        func said(
            _ bounds: ReplayBounds, pairs: Int = 500, failures: Int = 0, disagreement: Double? = 0.04,
            psi: Double? = 0.1, callers: Bool = true
        ) -> GateResult {
            let gate = GateDefinition.replayShadow(bounds)
            var evidence = evidence()
            evidence.hasCallers = callers
            evidence.replays[gate] = ReplayEvidence(
                id: "r-1", report: "abcdef0123", pairs: pairs, failures: failures, disagreement: disagreement,
                meanDifference: 0.01, predictionPSI: psi)
            return result(gate, evidence)
        }
        let bounds = ReplayBounds(
            span: .days(7), pairsMin: 500, disagreementMax: 0.04, meanDifferenceMax: nil, predictionPSIMax: 0.2,
            errorRateMax: 0)
        let good = said(bounds)
        #expect(good.passed && good.isMeasured && good.observed == 0.04)
        #expect(good.detail == "disagreement 0.04, prediction PSI 0.1 on 500 pairs (replay r-1, report abcdef01)")
        #expect(!said(bounds, pairs: 499).passed)
        #expect(!said(bounds, failures: 1).passed)
        #expect(said(bounds, disagreement: 0.041).detail.contains("disagreement 0.041 is above 0.04"))
        #expect(!said(bounds, psi: nil).passed, "what is asked for must be there")
        #expect(!said(bounds, psi: .nan).passed)
        #expect(said(bounds, pairs: 0, callers: false).passed, "a first version has nobody's answers to compare with")
        #expect(
            !result(
                .replayShadow(bounds),
                {
                    var found = evidence(); found.hasCallers = true; return found
                }()
            ).passed)
    }

    @Test func missingEvidenceFails() {
        let missing: [(GateDefinition, VersionEvidence, String)] = [
            (
                .metric(.auc, slice: "test", minimum: 0.1, maximum: nil), evidence(auc: nil),
                "auc on test was not measured"
            ),
            (.metric(.auc, slice: "night", minimum: nil, maximum: 1), evidence(), "auc on night was not measured"),
            (
                .metric(.auc, slice: "test", minimum: nil, maximum: 1), evidence(auc: .nan),
                "auc on test was not measured"
            ),
            (.latency(p99MillisecondsMax: 5), evidence(latency: nil), "the latency of the artifact was not measured"),
            (
                .latency(p99MillisecondsMax: 5), evidence(latency: .infinity),
                "the latency of the artifact was not measured"
            ),
            (.rows(slice: "night", minimum: 0), evidence(), "the rows of night were not counted"),
            (.signaturePresent, evidence(signature: false), "the version has no signature"),
            (
                .notWorseThanChampion(.auc, slice: "test", margin: 1), evidence(champion: ["train": [.auc: 0.5]]),
                "the champion's auc on test was not measured"
            ),
            (.notWorseThanChampion(.auc, slice: "test", margin: 1), evidence(auc: nil), "auc on test was not measured"),
        ]
        for (gate, evidence, detail) in missing {
            let result = result(gate, evidence)
            #expect(!result.passed)
            #expect(result.detail == detail)
        }
    }

    @Test func comparesWithTheChampionInTheMetricsOwnDirection() {
        let champion: SliceMetrics = ["test": [.auc: 0.75, .logLoss: 0.25]]
        let auc = GateDefinition.notWorseThanChampion(.auc, slice: "test", margin: 0.125)
        #expect(result(auc, evidence(auc: 0.625, champion: champion)).passed)
        #expect(!result(auc, evidence(auc: 0.5, champion: champion)).passed)
        #expect(result(auc, evidence(auc: 0.875, champion: champion)).detail.contains("better by 0.125"))
        let loss = GateDefinition.notWorseThanChampion(.logLoss, slice: "test", margin: 0)
        #expect(result(loss, evidence(logLoss: 0.25, champion: champion)).passed)
        #expect(result(loss, evidence(logLoss: 0.125, champion: champion)).passed)
        let worse = result(loss, evidence(logLoss: 0.5, champion: champion))
        #expect(!worse.passed)
        #expect(worse.detail == "0.5 against the champion's 0.25: worse by 0.25, more than 0.0")
    }

    @Test func theFirstVersionNeedsNoChampion() {
        #expect(result(.notWorseThanChampion(.auc, slice: "test", margin: 0), evidence()).passed)
    }

    @Test func keepsOrderAndPassesWhatHolds() {
        let gates: [GateDefinition] = [
            .signaturePresent, .rows(slice: "test", minimum: 100), .latency(p99MillisecondsMax: 2),
        ]
        let results = GateEvaluator.evaluate(gates, on: evidence())
        #expect(results.map(\.gate) == gates.map(\.summary))
        #expect(results.allSatisfy { $0.passed })
        #expect(!result(.rows(slice: "test", minimum: 101), evidence()).passed)
        #expect(!result(.latency(p99MillisecondsMax: 2), evidence(latency: 2.1)).passed)
    }
}
