import Definitions
import Expressions
import PlatformCore

/// An expression over the inputs of a service, ready for vectors.
struct VectorExpression: Sendable {
    private let expression: Expression
    /// For each cell that the expression may read, its place in the vector; -1 for one that the service does not have.
    private let places: [Int]
    /// Categories by place; the vector holds positions in these lists.
    private let categories: [Int: [CellValue]]

    init(_ expression: Expression, inputs: [ExpressionColumn], of service: FeatureServiceDefinition) {
        let places = Dictionary(uniqueKeysWithValues: service.inputNames.enumerated().map { ($1, $0) })
        self.expression = expression
        self.places = inputs.map { places[$0.name] ?? -1 }
        categories = service.categories.mapValues { $0.map(CellValue.text) }
    }

    func evaluate(_ vector: InputVector) -> CellValue {
        expression.evaluate { index in
            let place = places[index]
            guard place >= 0 else { return .null }
            let number = vector.inputs[place]
            guard !number.isNaN else { return .null }
            guard let values = categories[place] else { return .double(number) }
            guard let code = Int(exactly: number), values.indices.contains(code) else { return .null }
            return values[code]
        }
    }
}

/// The on-demand features of a service, computed from the inputs that stand before them.
struct OnDemandInputs: Sendable {
    /// Statuses of the feature store: a value, and none.
    private static let present: UInt8 = 0
    private static let nullValue: UInt8 = 1

    private let expressions: [VectorExpression]
    private let firstPosition: Int

    init(_ service: FeatureServiceDefinition) {
        expressions = service.onDemand.map { VectorExpression($0.expression, inputs: $0.inputs, of: service) }
        firstPosition = service.request.count + service.features.count
    }

    /// Fills in what the caller did not say itself.
    func compute(into vector: inout InputVector) {
        for (index, expression) in expressions.enumerated()
        where !vector.overridden.contains(firstPosition + index) {
            let value = expression.evaluate(vector)
            vector.inputs[firstPosition + index] = value.number ?? .nan
            vector.statuses[firstPosition + index] = value.isNull ? Self.nullValue : Self.present
        }
    }
}
