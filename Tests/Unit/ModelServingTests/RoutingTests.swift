import Definitions
import PlatformCore
import Testing

@testable import ModelServing

/// The same keys always get the same variant, and a share of 10 % is 10 % of the keys.
struct RoutingTests {
    private func route(_ share: Double, sticky: String = "tailnum") throws -> DeploymentRoute {
        let binding = try ServingFixture.binding()
        return try ServingFixture.route(
            [
                (ServingFixture.version(1, binding: binding), 1 - share),
                (ServingFixture.version(2, binding: binding), share),
            ], sticky: sticky)
    }

    private func canaries(_ route: DeploymentRoute, _ count: Int = 100_000) -> [Bool] {
        (0..<count).map { route.choose(["EWR", "N\($0)"], inputs: [1, 2, 3, 4, 5]).choice == .canary }
    }

    @Test(arguments: [0.01, 0.1, 0.5, 0.9]) func theShareOfKeysIsTheShareOfTraffic(share: Double) throws {
        let hits = canaries(try route(share)).count { $0 }
        let deviation = (share * (1 - share) / 100_000).squareRoot()
        #expect(abs(Double(hits) / 100_000 - share) < 4 * deviation, "\(hits)")
    }

    @Test func raisingAShareOnlyAddsKeys() throws {
        var last = canaries(try route(0), 20_000)
        #expect(!last.contains(true))
        for share in [0.01, 0.1, 0.25, 0.5, 1] {
            let next = canaries(try route(share), 20_000)
            #expect(zip(last, next).allSatisfy { !$0 || $1 }, "\(share)")
            last = next
        }
        #expect(!last.contains(false))
    }

    @Test func onlyTheStickyKeysDecide() throws {
        let route = try route(0.5)
        for index in 0..<500 {
            let first = route.choose(["EWR", "N\(index)"], inputs: [0, 1, 2, 3, 4])
            for (origin, hour) in [("JFK", 5.0), (nil, .nan)] {
                let again = route.choose([origin, "N\(index)"], inputs: [1, 9, hour, 3, 4])
                #expect(again.choice == first.choice && again.variant.version.number == first.variant.version.number)
            }
        }
        #expect(route.choose([nil, nil], inputs: []).choice == route.choose(["EWR", nil], inputs: []).choice)
    }

    @Test func severalStickyKeysAreToldApart() throws {
        let route = try route(0.5, sticky: "tailnum, origin")
        let choices = (0..<1000).map { route.choose(["O\($0)", "N1"], inputs: []).choice }
        #expect(400...600 ~= choices.count { $0 == .canary })
        // The separator keeps "ab" + "c" apart from "a" + "bc".
        let pairs = (0..<200).filter { index in
            route.choose(["\(index)", "N1"], inputs: []).choice != route.choose(["", "N1\(index)"], inputs: []).choice
        }
        #expect(pairs.count > 50)
    }

    @Test func aRequestFeatureMayBeSticky() throws {
        let route = try route(0.5, sticky: "distance")
        let choices = (0..<2000).map { route.choose(["EWR", "N1"], inputs: [0, Double($0), 9, 1, 1]).choice }
        #expect(900...1100 ~= choices.count { $0 == .canary })
        for index in 0..<100 {
            let other = route.choose(["JFK", "N\(index)"], inputs: [2, Double(index), .nan, 5, 5]).choice
            #expect(other == choices[index])
        }
    }

    @Test func oneVariantTakesAll() throws {
        let route = try ServingFixture.route([(ServingFixture.version(7), 1)])
        #expect(route.choose(["EWR", nil], inputs: []).variant.version.number == 7)
    }

    @Test func aPublishedRouteReplacesTheLast() throws {
        let table = RouteTable()
        #expect(table.route("delay") == nil)
        table.publish(try ServingFixture.route([(ServingFixture.version(1), 1)]), for: ServingFixture.model)
        table.publish(try ServingFixture.route([(ServingFixture.version(2), 1)]), for: ServingFixture.model)
        #expect(table.route("delay")?.variants[0].version.number == 2)
        #expect(table.routes().count == 1)
        table.publish(nil, for: ServingFixture.model)
        #expect(table.route("delay") == nil)
    }
}
