import Definitions
import PlatformCore
import PlatformTesting
import Testing

@testable import ModelServing

/// Who is let in when there are more requests than can be answered.
struct AdmissionTests {
    private func predictor(_ admission: Admission, deployment: String) throws -> Predictor {
        let clock = ManualClock(startingAt: ServingFixture.start)
        let predictor = Predictor(
            routes: RouteTable(), log: ServingFixture.log(), metrics: ServingMetrics(), clock: clock,
            identifiers: IdentifierSource(clock: clock), admission: admission)
        predictor.routes.publish(
            try ServingFixture.route([(ServingFixture.version(4), 1)], deployment: deployment),
            for: ServingFixture.model)
        return predictor
    }

    private func ask(_ predictor: Predictor, _ priority: RequestPriority?, pressure: Int = 0) -> Predictor.Answer {
        ServingFixture.request.canonicalBytes.withUnsafeBytes {
            predictor.answer(
                model: "delay", body: $0, terms: RequestTerms(priority: priority), pressure: pressure,
                scratch: PredictionScratch())
        }
    }

    @Test func placesAreTakenByPriorityAndGivenBack() throws {
        let predictor = try predictor(Admission(), deployment: "concurrency_max: 10")
        var held: [Predictor.Answer] = []
        func fill(_ priority: RequestPriority) -> Int {
            while true {
                let answer = ask(predictor, priority)
                if answer.status == 429 { return held.count }
                held.append(answer)
            }
        }
        #expect(fill(.low) == 5)
        #expect(fill(.normal) == 9)
        #expect(fill(.high) == 10)
        let refused = ask(predictor, .high)
        #expect(refused.status == 429 && refused.retryAfterSeconds == 1 && refused.entries.isEmpty)
        #expect(try JSONValue.parse(refused.body)["error"]?["code"] == "overloaded")
        #expect(predictor.routes.inHand() == ["delay": 10])
        held.removeAll()
        #expect(predictor.routes.inHand() == ["delay": 0])
        #expect(fill(.low) == 5)
        #expect(predictor.metrics.refused()["delay"]?[429] == 5)
        #expect(predictor.metrics.shed()[.init(model: "delay", priority: .low)] == 2)
    }

    @Test func theDeploymentSaysThePriorityOfThoseThatDoNot() throws {
        let predictor = try predictor(Admission(), deployment: "priority: low")
        #expect(ask(predictor, nil, pressure: 1000).status == 429)
        #expect(ask(predictor, .normal, pressure: 1000).status == 200)
    }

    @Test func underPressureTheLowAreRefusedFirst() throws {
        let predictor = try predictor(Admission(), deployment: "")
        func share(_ priority: RequestPriority, _ pressure: Int) -> Double {
            Double((0..<2000).count { _ in ask(predictor, priority, pressure: pressure).status == 429 }) / 2000
        }
        for (pressure, low, normal) in [(0, 0.0, 0.0), (300, 0.3, 0), (1000, 1, 0), (1500, 1, 0.5), (2000, 1, 1)] {
            #expect(abs(share(.low, pressure) - low) < 0.06)
            #expect(abs(share(.normal, pressure) - normal) < 0.06)
            #expect(share(.high, pressure) == 0)
        }
    }

    @Test func thoseThatWaitAreBounded() throws {
        let admission = Admission(waitingMax: 4)
        let predictor = try predictor(admission, deployment: "")
        for _ in 0..<3 { admission.beginWaiting() }
        #expect(ask(predictor, .low).status == 429 && ask(predictor, .normal).status == 200)
        admission.beginWaiting()
        #expect(ask(predictor, .high).status == 429)
        for _ in 0..<4 { admission.endWaiting() }
        #expect(ask(predictor, .low).status == 200 && admission.waiting == 0)
    }

    // MARK: Pressure

    private func observe(_ pressure: inout LoopPressure, milliseconds: UInt64, count: Int) {
        for _ in 0..<count { pressure.observe(delay: milliseconds * 1_000_000) }
    }

    @Test func aDelayThatStaysRaisesThePressureAndOneThatPassesDoesNot() {
        var pressure = LoopPressure(targetNanoseconds: 20_000_000)
        for _ in 0..<50 {  // a pause now and then
            observe(&pressure, milliseconds: 500, count: 1)
            observe(&pressure, milliseconds: 1, count: 9)
        }
        #expect(pressure.pressure == 0)
        observe(&pressure, milliseconds: 40, count: 10)
        #expect(1...1000 ~= pressure.pressure)
        observe(&pressure, milliseconds: 500, count: 100)
        #expect(pressure.pressure == 2000)
        observe(&pressure, milliseconds: 5, count: 10_000)
        #expect(pressure.pressure == 0)
    }

    @Test func withoutATargetNothingIsRefused() {
        var pressure = LoopPressure(targetNanoseconds: 0)
        observe(&pressure, milliseconds: 10_000, count: 1000)
        #expect(pressure.pressure == 0)
    }
}
