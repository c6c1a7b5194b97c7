import Definitions
import Expressions
import PlatformCore

/// The on-demand features of a service, computed from the inputs that stand before them.
struct OnDemandInputs: Sendable {
    /// Statuses of the feature store: a value, and none.
    private static let present: UInt8 = 0
    private static let nullValue: UInt8 = 1

    private struct Input: Sendable {
        let expression: Expression
        /// For each cell that the expression may read, its place in the vector.
        let places: [Int]
    }
    private let inputs: [Input]
    /// Categories by place; the vector holds positions in these lists.
    private let categories: [Int: [CellValue]]
    private let firstPosition: Int

    init(_ service: FeatureServiceDefinition) {
        let places = Dictionary(uniqueKeysWithValues: service.inputNames.enumerated().map { ($1, $0) })
        inputs = service.onDemand.map { feature in
            Input(expression: feature.expression, places: feature.inputs.map { places[$0.name] ?? 0 })
        }
        var categories: [Int: [CellValue]] = [:]
        for (place, feature) in service.request.enumerated() {
            if case .category(let values) = feature.kind { categories[place] = values.map(CellValue.text) }
        }
        self.categories = categories
        firstPosition = service.request.count + service.features.count
    }

    /// Fills in what the caller did not say itself.
    func compute(into vector: inout InputVector) {
        for (index, input) in inputs.enumerated() where !vector.overridden.contains(firstPosition + index) {
            let value = input.expression.evaluate { cell($0, input, vector) }
            vector.inputs[firstPosition + index] = Self.number(value)
            vector.statuses[firstPosition + index] = value.isNull ? Self.nullValue : Self.present
        }
    }

    private static func number(_ value: CellValue) -> Double { value.number ?? .nan }

    private func cell(_ index: Int, _ input: Input, _ vector: InputVector) -> CellValue {
        let place = input.places[index]
        let number = vector.inputs[place]
        guard !number.isNaN else { return .null }
        guard let values = categories[place] else { return .double(number) }
        guard let code = Int(exactly: number), values.indices.contains(code) else { return .null }
        return values[code]
    }
}
