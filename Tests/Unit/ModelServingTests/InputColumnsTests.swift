import Definitions
import PlatformCore
import PlatformTesting
import Testing

@testable import ModelServing

struct InputColumnsTests {
    /// Draws what callers send, right and wrong.
    private struct Draw {
        var generator: SplitMix64
        static let carriers = ["AA", "UA", "DL", "ZZ", ""]

        mutating func number() -> Double {
            switch generator.next() % 12 {
            case 0: .nan
            case 1: -1
            case 2: 1e9
            default: Double(generator.next() % 24)
            }
        }
        mutating func text(_ among: [String]) -> String? { among[Int(generator.next() % UInt64(among.count))] }
    }

    /// The instance as JSON, made apart from the code under test.
    private func instance(_ columns: [(name: String, values: InputColumns.Values)], _ row: Int) -> JSONValue {
        var entities: [String: JSONValue] = [:]
        var features: [String: JSONValue] = [:]
        // A name that says what it is goes before one that does not.
        for (name, values) in columns.filter({ !$0.name.contains(".") }) + columns.filter({ $0.name.contains(".") }) {
            let value: JSONValue =
                switch values {
                case .numbers(let numbers): numbers[row].isNaN ? .null : .number(numbers[row])
                case .integers(let integers): .integer(integers[row])
                case .texts(let texts): texts[row].map(JSONValue.string) ?? .null
                }
            let own = name.split(separator: ".").last.map(String.init) ?? name
            if ["tailnum", "origin"].contains(own) { entities[own] = value } else { features[own] = value }
        }
        return ["entities": .object(entities), "features": .object(features)]
    }

    @Test(arguments: UInt64(0)..<48) func aRowMeansWhatItsJSONMeans(seed: UInt64) throws {
        var draw = Draw(generator: SplitMix64(seed: seed))
        let rows = 8
        var columns: [(name: String, values: InputColumns.Values)] = []
        func flip() -> Bool { draw.generator.next() % 5 > 0 }
        if flip() { columns.append(("tailnum", .texts((0..<rows).map { _ in draw.text(["N1", "N2", "\u{1}"]) }))) }
        if flip() { columns.append(("origin", .integers((0..<rows).map { _ in Int64(draw.generator.next() % 9) }))) }
        if flip() {
            columns.append(
                ("carrier", .texts((0..<rows).map { _ in draw.text(Draw.carriers).flatMap { $0.isEmpty ? nil : $0 } })))
        }
        if flip() { columns.append(("distance", .numbers((0..<rows).map { _ in draw.number() }))) }
        if flip() { columns.append(("hour", .integers((0..<rows).map { _ in Int64(draw.generator.next() % 30) }))) }
        if !flip() { columns.append(("planes__mean", .numbers((0..<rows).map { _ in draw.number() }))) }
        if !flip() { columns.append(("origins__flights", .texts((0..<rows).map { _ in "a" }))) }
        if !flip() { columns.append(("nothing", .numbers((0..<rows).map { _ in 1 }))) }
        for place in columns.indices where !flip() && columns[place].name != "nothing" {
            let kind = ["tailnum", "origin"].contains(columns[place].name) ? "entities" : "features"
            let column = (name: "\(kind).\(columns[place].name)", values: columns[place].values)
            if flip() { columns[place] = column } else { columns.insert(column, at: 0) }
        }
        let binding = try ServingFixture.binding()
        let input = InputColumns(rowCount: rows, columns: columns)
        for row in 0..<rows {
            var (fast, slow) = (InputVector(), InputVector())
            let faults = try binding.assemble(input, row: row, asOf: ServingFixture.start, into: &fast)
            let told = try binding.assemble(instance(columns, row), asOf: ServingFixture.start, into: &slow)
            #expect(faults.map(\.field).sorted() == told.map(\.field).sorted())
            guard told.isEmpty, faults.isEmpty else { continue }
            #expect(fast.keys == slow.keys)
            #expect(fast.inputs.map(\.bitPattern) == slow.inputs.map(\.bitPattern))
            #expect(fast.ages == slow.ages)
            #expect(fast.statuses == slow.statuses)
            #expect(fast.overridden == slow.overridden)
        }
    }

    @Test func aMatrixHoldsWhatNoColumnDoes() throws {
        let binding = try ServingFixture.binding()
        let matrix: [Double] = [1, 733, .nan, 3, 4, 2, 10, 9, 5, .nan]
        let input = InputColumns(
            rowCount: 2, columns: [("distance", .numbers([100, 200])), ("tailnum", .texts(["N1", nil]))], matrix: matrix
        )
        var vector = InputVector()
        #expect(try binding.assemble(input, row: 0, asOf: ServingFixture.start, into: &vector).isEmpty)
        #expect(vector.inputs.map(\.description) == ["1.0", "100.0", "nan", "3.0", "4.0"])
        #expect(vector.keys == [nil, "N1"])  // join keys are sorted: origin, tailnum
        #expect(vector.overridden == [3, 4])
        #expect(try binding.assemble(input, row: 1, asOf: ServingFixture.start, into: &vector).isEmpty)
        #expect(vector.inputs.map(\.description) == ["2.0", "200.0", "9.0", "5.0", "nan"])
        for (bad, field) in [(3.0, "features.carrier"), (0.5, "features.carrier")] {
            let wrong = InputColumns(rowCount: 1, columns: [], matrix: [bad, 1, 1, 1, 1])
            let faults = try binding.assemble(wrong, row: 0, asOf: ServingFixture.start, into: &vector)
            #expect(faults.map(\.field) == [field])
        }
        let infinite = InputColumns(rowCount: 1, columns: [], matrix: [1, 1, 1, .infinity, 1])
        let faults = try binding.assemble(infinite, row: 0, asOf: ServingFixture.start, into: &vector)
        #expect(faults.map(\.field) == ["features.planes__mean"])
        let narrow = InputColumns(rowCount: 1, columns: [], matrix: [1, 1])
        #expect(try !binding.assemble(narrow, row: 0, asOf: ServingFixture.start, into: &vector).isEmpty)
    }
}
