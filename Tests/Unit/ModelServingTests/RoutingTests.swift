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

    @Test func aVersionIsFoundAsLongAsSomebodyKeepsIt() throws {
        weak var residence: ServedVersion.Residence?
        do {
            let version = try ServingFixture.version(1, binding: try ServingFixture.binding())
            residence = version.residence
            let found = try #require(residence.map(ServedVersion.init))
            #expect(found.number == version.number && found.artifact == version.artifact)
            #expect(found.binding === version.binding && found.residence === version.residence)
        }
        #expect(residence == nil)
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

    /// Values that must never change: a restart, another node and another version of the program deal alike.
    @Test func theHashIsTheDocumentedOne() throws {
        let definition = try #require(try ServingFixture.definitions().deployments[ServingFixture.model])
        let sticky = StickyHash(definition, service: try ServingFixture.service())
        func documented(_ bytes: [UInt8]) -> UInt64 {
            var hash = bytes.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
            hash = (hash ^ (hash >> 30)) &* 0xBF58_476D_1CE4_E5B9
            hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
            return hash ^ (hash >> 31)
        }
        for key in ["N1", "", "Ölflugzeug"] {
            #expect(
                sticky.unit(keys: ["EWR", key], inputs: [])
                    == documented(
                        Array("delay".utf8) + [0x1F] + Array(key.utf8)))
        }
        #expect(sticky.unit(keys: ["EWR", nil], inputs: []) == documented(Array("delay".utf8) + [0x1F]))
        #expect(StickyHash.point(of: .max) == 999_999 && StickyHash.point(of: 0) == 0)
    }

    @Test func anotherSaltDealsAnew() throws {
        func variants(_ salt: String) throws -> [Bool] {
            let route = try ServingFixture.route(
                [(ServingFixture.version(1), 0.5), (ServingFixture.version(2), 0.5)],
                deployment: "salt: \(salt)")
            return (0..<4000).map { route.choose(["EWR", "N\($0)"], inputs: []).choice == .canary }
        }
        let same = zip(try variants("spring"), try variants("autumn")).count { $0 == $1 }
        #expect(1850...2150 ~= same)
        #expect(try variants("spring") == variants("spring"))
    }

    @Test func severalVariantsGetTheirShares() throws {
        let versions = try (1...4).map { try ServingFixture.version($0) }
        let route = try ServingFixture.route(zip(versions, [0.4, 0.3, 0.2, 0.1]).map { ($0, $1) })
        var counts: [Int: Int] = [:]
        for index in 0..<40_000 {
            counts[route.choose(["EWR", "N\(index)"], inputs: []).variant.version.number, default: 0] += 1
        }
        for (version, share) in [(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1)] {
            #expect(abs(Double(counts[version] ?? 0) / 40_000 - share) < 0.01)
        }
    }

    @Test func aHoldoutStaysWithThePrimaryWhateverIsRampedUp() throws {
        func route(_ share: Double) throws -> DeploymentRoute {
            try ServingFixture.route(
                [(ServingFixture.version(1), 1 - share), (ServingFixture.version(2), share)],
                deployment: "holdout: 10%")
        }
        let (low, high) = (try route(0.05), try route(0.9))
        var held = 0
        for index in 0..<20_000 {
            let keys: [String?] = ["EWR", "N\(index)"]
            let first = low.choose(keys, inputs: [])
            let second = high.choose(keys, inputs: [])
            #expect((first.choice == .holdout) == (second.choice == .holdout))
            if first.choice == .holdout {
                held += 1
                #expect(first.variant.version.number == 1 && second.variant.version.number == 1)
            }
        }
        #expect(1850...2150 ~= held)
        // With a single variant the holdout is marked all the same.
        let one = try ServingFixture.route([(ServingFixture.version(1), 1)], deployment: "holdout: 10%")
        #expect((0..<2000).contains { one.choose(["EWR", "N\($0)"], inputs: []).choice == .holdout })
    }

    @Test func shadowsDrawTheirShareEachForItself() throws {
        let base = try ServingFixture.route([(ServingFixture.version(1), 1)])
        let shadows = try (2...4).map { try ServingFixture.version($0) }
        let route = DeploymentRoute(
            definition: base.definition, revision: 1, variants: base.variants, shadows: shadows,
            shadowShares: [1, 0.1, 0.1])
        var counts: [Int: Int] = [:]
        var both = 0
        for index in 0..<20_000 {
            let seen = route.shadows(of: "id-\(index)").map(\.number)
            for number in seen { counts[number, default: 0] += 1 }
            if seen.count == 3 { both += 1 }
        }
        #expect(counts[2] == 20_000)
        #expect(1850...2150 ~= counts[3] ?? 0 && 1850...2150 ~= counts[4] ?? 0)
        #expect(140...260 ~= both, "two shares of 10 % meet in 1 %")
        #expect(base.shadows(of: "id").isEmpty)
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
