import Foundation
import PlatformCore
import Statistics
import Testing

struct ReferenceProfileTests {
    private func column(_ count: Int, seed: UInt64, _ value: (Double) -> Double) -> [Double] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in value(Double(generator.index(below: 1 << 30)) / Double(1 << 30)) }
    }

    private func edges(_ profile: InputProfile) -> [Double] {
        if case .number(let edges, _) = profile.kind { edges } else { [] }
    }

    @Test func evenNumbersGetEvenBins() throws {
        let profile = InputProfile(name: "x", numbers: column(5000, seed: 1) { $0 })
        #expect(edges(profile).count >= 63)
        let shares = profile.driftBinCounts.dropLast().map { Double($0) / 5000 }
        #expect(shares.count == 10)
        #expect(shares.allSatisfy { abs($0 - 0.1) < 0.005 })
    }

    @Test func aHeavyValueGetsABinOfItsOwn() throws {
        // 85 % zeros, a few early (negative) and late ones, some missing.
        let values = column(20_000, seed: 2) { $0 < 0.05 ? -100 * $0 - 1 : $0 < 0.9 ? 0 : $0 < 0.95 ? 300 * $0 : .nan }
        let profile = InputProfile(name: "delay", numbers: values)
        let edges = edges(profile)
        #expect(zip(edges, edges.dropFirst()).allSatisfy { $0 < $1 })
        #expect(edges.allSatisfy { $0 < profile.maximum })
        let zeros = values.count { $0 == 0 }
        #expect(profile.counts.contains(zeros))
        #expect(profile.driftBinCounts.contains(zeros))
        #expect(profile.nullCount == values.count(where: \.isNaN))
        #expect(profile.rowCount == values.count)
    }

    @Test func aConstantThatMovesIsSeen() throws {
        let profile = InputProfile(name: "constant", numbers: [Double](repeating: 3, count: 1000))
        var same = InputHistogram(profile: profile)
        same.add(contentsOf: [Double](repeating: 3, count: 500), profile: profile)
        var moved = InputHistogram(profile: profile)
        moved.add(contentsOf: [Double](repeating: 4, count: 500), profile: profile)
        #expect(try same.populationStabilityIndex(against: profile) < 0.001)
        #expect(try moved.populationStabilityIndex(against: profile) > 1)
        #expect(try moved.kolmogorovSmirnov(against: profile) == 1)
        #expect(moved.unseenShare == 1)
    }

    @Test func emptyColumnsAndMissingOnesHaveProfiles() throws {
        let empty = InputProfile(name: "empty", numbers: [])
        #expect(empty.rowCount == 0)
        let missing = InputProfile(name: "missing", numbers: [.nan, .nan])
        var histogram = InputHistogram(profile: missing)
        histogram.add(1, profile: missing)
        #expect(try histogram.populationStabilityIndex(against: missing) > 0)
        #expect(throws: StatisticsError.emptyInput) { try histogram.kolmogorovSmirnov(against: missing) }
    }

    /// The histograms of all inputs are counted in one go; each of them by itself is the obvious way.
    @Test(arguments: UInt64(0)..<8) func rowsAreCountedAsEachInputByItself(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        func unit() -> Double { Double(generator.index(below: 1 << 30)) / Double(1 << 30) }
        let shapes: [(Double) -> Double] = [
            { $0 }, { $0 < 0.8 ? 0 : $0 }, { $0 < 0.1 ? .nan : 1e9 * $0 * $0 * $0 * $0 }, { _ in 3 }, { _ in .nan },
            { ($0 * 40).rounded() },
        ]
        var columns = shapes.enumerated().map { index, shape in
            ReferenceProfile.Column(name: "\(index)", numbers: (0..<700).map { _ in shape(unit()) })
        }
        columns.append(.init(name: "code", codes: (0..<700).map { _ in (unit() * 30).rounded(.down) }, codeCount: 40))
        let profile = try ReferenceProfile(columns: columns, predictions: (0..<700).map { _ in unit() })
        var all = InputHistograms(profile: profile)
        var each = profile.inputs.map(InputHistogram.init)
        var prediction = InputHistogram(profile: profile.prediction)
        for row in 0..<2000 {
            var values = shapes.map { $0(unit()) } + [(unit() * 45 - 2).rounded()]
            let edges = profile.inputs.flatMap(edges)
            if row % 3 == 0 { values[row % values.count] = edges[generator.index(below: edges.count)] }
            if row % 17 == 0 { values[row % values.count] = [.infinity, -.infinity, -0.0, 1e300, 0.5][row % 5] }
            if row % 29 == 0 { values.removeLast(row % values.count) }
            if row % 31 == 0 { values += [1, 2, 3] }
            let answer = row % 7 == 0 ? .nan : unit() * 1.2
            all.add(values, prediction: answer)
            for (index, value) in values.prefix(each.count).enumerated() {
                each[index].add(value, profile: profile.inputs[index])
            }
            prediction.add(answer, profile: profile.prediction)
        }
        #expect(all.inputs == each)
        #expect(all.prediction == prediction)
        var (together, apart) = (ByteWriter(), ByteWriter())
        all.encode(to: &together)
        for histogram in each + [prediction] { histogram.encode(to: &apart) }
        #expect(together.bytes == apart.bytes)
        var reader = ByteReader(together.bytes)
        #expect(try InputHistograms(from: &reader, profile: profile) == all)
    }

    @Test func categoriesCountCodesAndUnknownOnes() throws {
        let profile = InputProfile(name: "carrier", codes: [0, 0, 1, 2, .nan], codeCount: 3)
        #expect(profile.counts == [2, 1, 1, 0] && profile.nullCount == 1)
        var histogram = InputHistogram(profile: profile)
        for value in [0, 7, -1, 1.5, .infinity, .nan] { histogram.add(value, profile: profile) }
        #expect(histogram.counts == [1, 0, 0, 4] && histogram.nullCount == 1 && histogram.unseenCount == 4)
        #expect(throws: StatisticsError.undefined("a category has no order")) {
            try histogram.kolmogorovSmirnov(against: profile)
        }
    }

    @Test(arguments: UInt64(0)..<16)
    func binnedDistanceIsNearTheExactOne(seed: UInt64) throws {
        let reference = column(3000, seed: seed) { $0 * $0 }
        let current = column(2000, seed: seed + 100) { $0 * $0 * (1 + 0.02 * Double(seed)) }
        let profile = InputProfile(name: "x", numbers: reference)
        var histogram = InputHistogram(profile: profile)
        histogram.add(contentsOf: current, profile: profile)
        let values = (reference + current).sorted()
        let left = reference.sorted()
        let right = current.sorted()
        var (low, high, exact) = (0, 0, 0.0)
        for value in values {
            while low < left.count, left[low] <= value { low += 1 }
            while high < right.count, right[high] <= value { high += 1 }
            exact = max(exact, abs(Double(low) / Double(left.count) - Double(high) / Double(right.count)))
        }
        let binned = try histogram.kolmogorovSmirnov(against: profile)
        #expect(binned <= exact + 1e-12 && binned >= exact - 1.0 / 60)
    }

    @Test(arguments: UInt64(0)..<16)
    func mergingEqualsCountingTogether(seed: UInt64) throws {
        let values = column(400, seed: seed) { $0 < 0.1 ? .nan : 1e6 + $0 }
        let profile = InputProfile(name: "x", numbers: values)
        var (whole, left, right) = (
            InputHistogram(profile: profile), InputHistogram(profile: profile), InputHistogram(profile: profile)
        )
        whole.add(contentsOf: values, profile: profile)
        left.add(contentsOf: Array(values.prefix(150)), profile: profile)
        right.add(contentsOf: Array(values.dropFirst(150)), profile: profile)
        left.merge(right)
        #expect(left.counts == whole.counts && left.nullCount == whole.nullCount)
        #expect(abs(left.mean - whole.mean) < 1e-6 && abs(left.variance - whole.variance) < 1e-9)
        #expect(whole.counts == profile.counts)
        var writer = ByteWriter()
        whole.encode(to: &writer)
        var reader = ByteReader(writer.bytes)
        #expect(try InputHistogram(from: &reader, profile: profile) == whole)
        for length in 0..<writer.bytes.count {  // cut bytes are refused, not trapped on
            var cut = ByteReader(Array(writer.bytes.prefix(length)))
            #expect(throws: DecodingFailure.self) { try InputHistogram(from: &cut, profile: profile) }
        }
    }

    @Test func profilesSurviveJSONAndRefuseNonsense() throws {
        let predictions = column(1000, seed: 5) { $0 }
        let profile = try ReferenceProfile(
            columns: [
                .init(name: "a", numbers: column(1000, seed: 6) { $0 < 0.3 ? .nan : $0 * 1e-9 }),
                .init(name: "b", codes: column(1000, seed: 7) { ($0 * 40).rounded(.down) }, codeCount: 40),
            ], predictions: predictions)
        let bytes = try JSONEncoder().encode(profile)
        #expect(try JSONDecoder().decode(ReferenceProfile.self, from: bytes) == profile)
        #expect(throws: StatisticsError.shapeMismatch(2, 1000)) {
            try ReferenceProfile(columns: [.init(name: "a", numbers: [1.0, 2])], predictions: predictions)
        }
        let start = "{\"name\":\"x\",\"nullCount\":0,\"mean\":0,\"variance\":0,\"minimum\":0,\"maximum\":0,"
        for rest in [
            "\"edges\":[2,1],\"driftBins\":[0,0,0],\"counts\":[1,1,1]}",
            "\"edges\":[1],\"driftBins\":[0,5],\"counts\":[1,1]}", "\"edges\":[1],\"driftBins\":[0],\"counts\":[1,1]}",
            "\"edges\":[],\"driftBins\":[0],\"counts\":[-1]}", "\"codeCount\":-1,\"counts\":[]}",
            "\"codeCount\":9223372036854775807,\"counts\":[1]}",
        ] {
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(InputProfile.self, from: Data((start + rest).utf8))
            }
        }
    }
}
