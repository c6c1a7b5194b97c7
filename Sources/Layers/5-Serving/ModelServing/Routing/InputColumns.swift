import Definitions
import PlatformCore

/// The instances of one request as columns: what callers of tensors send instead of one JSON object for each instance.
///
/// Values are by name, as in JSON, and mean the same; a matrix of all features, in the service's order, may stand under
/// them. Used by one request at a time.
public final class InputColumns {
    /// One value for each instance.
    public enum Values: Sendable, Hashable {
        /// Numbers; NaN is none.
        case numbers([Double])
        /// Whole numbers; keys may be numbers of 64 bits.
        case integers([Int64])
        /// Text; `nil` is none.
        case texts([String?])

        /// Number of values.
        public var count: Int {
            switch self {
            case .numbers(let values): values.count
            case .integers(let values): values.count
            case .texts(let values): values.count
            }
        }
    }

    /// What a column may be called when its name is a key's and a feature's: the fields of a JSON instance.
    static let entityPrefix = "entities."
    static let featurePrefix = "features."

    /// Number of instances.
    public let rowCount: Int
    private let columns: [(name: String, values: Values)]
    /// All inputs of the model, row after row; empty for none.
    private let matrix: [Double]
    private var layout: Layout?

    /// Where a binding finds its values.
    struct Layout {
        fileprivate let binding: ServiceBinding
        /// For each join key, the column that holds it.
        let keys: [Int?]
        /// For each input, the column that holds it.
        let features: [Int?]
        /// Whether some feature of a view is to be read from the store.
        let readsViews: Bool
        /// Columns that the service has no use for.
        let unknown: [String]
    }

    /// Makes columns of `rowCount` values each.
    ///
    /// - Parameter matrix: every input of the model in the order of its service, row after row, categories as their
    ///   codes, NaN for none; empty where only columns come. A column takes the place of the matrix' one.
    public init(rowCount: Int, columns: [(name: String, values: Values)], matrix: [Double] = []) {
        precondition(columns.allSatisfy { $0.values.count == rowCount }, "columns have a value for each instance")
        self.rowCount = rowCount
        self.columns = columns
        self.matrix = matrix
    }

    /// Whether a matrix holds what no column does.
    var hasMatrix: Bool { !matrix.isEmpty }

    /// Finds the columns of a service; remembered, as the next row asks the same.
    func layout(for binding: ServiceBinding) -> Layout {
        if let layout, layout.binding === binding { return layout }
        var keys = [Int?](repeating: nil, count: binding.definition.joinKeys.count)
        var features = [Int?](repeating: nil, count: binding.inputCount)
        var isKnown = [Bool](repeating: false, count: columns.count)
        for (column, (name, _)) in columns.enumerated() {
            if let key = binding.joinKeyPositions[name] { (keys[key], isKnown[column]) = (column, true) }
            if let input = binding.position(of: name) { (features[input], isKnown[column]) = (column, true) }
        }
        // A name that says which of the two it is goes before one that does not.
        for (column, (name, _)) in columns.enumerated() {
            if name.utf8.starts(with: Self.entityPrefix.utf8),
                let key = binding.joinKeyPositions[String(name.dropFirst(Self.entityPrefix.count))]
            {
                (keys[key], isKnown[column]) = (column, true)
            }
            if name.utf8.starts(with: Self.featurePrefix.utf8),
                let input = binding.position(of: String(name.dropFirst(Self.featurePrefix.count)))
            {
                (features[input], isKnown[column]) = (column, true)
            }
        }
        let views = binding.requestFeatures.count..<(binding.requestFeatures.count + binding.definition.features.count)
        let layout = Layout(
            binding: binding, keys: keys, features: features,
            readsViews: !hasMatrix && views.contains { features[$0] == nil },
            unknown: columns.indices.filter { !isKnown[$0] }.map { columns[$0].name })
        self.layout = layout
        return layout
    }

    func values(_ column: Int) -> Values { columns[column].values }

    /// The matrix' value for an input.
    func number(row: Int, position: Int, inputCount: Int) -> Double { matrix[row * inputCount + position] }

    /// Whether the matrix, if there is one, is as wide as a service's inputs.
    func fits(inputCount: Int) -> Bool { matrix.isEmpty || matrix.count == rowCount * inputCount }

    /// One instance as a caller of JSON would have sent it: it means the same, and its faults can be worded.
    func instance(_ row: Int, for binding: ServiceBinding) -> JSONValue {
        let layout = layout(for: binding)
        var entities: [String: JSONValue] = [:]
        for (position, key) in binding.definition.joinKeys.enumerated() {
            if let column = layout.keys[position] {
                entities[key] = json(columns[column].values, row, isKey: true)
            } else if hasMatrix {
                entities[key] = .null
            }
        }
        var features: [String: JSONValue] = [:]
        let categories = binding.definition.categories
        for (position, name) in binding.definition.inputNames.enumerated() {
            if let column = layout.features[position] {
                features[name] = json(columns[column].values, row, isKey: false)
            } else if hasMatrix {
                let value = number(row: row, position: position, inputCount: binding.inputCount)
                if let texts = categories[position], let code = Int(exactly: value), texts.indices.contains(code) {
                    features[name] = .string(texts[code])
                } else {
                    features[name] = value.isNaN ? .null : .number(value)
                }
            }
        }
        for name in layout.unknown { features[name] = .null }
        return ["entities": .object(entities), "features": .object(features)]
    }

    private func json(_ values: Values, _ row: Int, isKey: Bool) -> JSONValue {
        switch values {
        case .numbers(let numbers): numbers[row].isNaN ? .null : .number(numbers[row])
        case .integers(let integers): .integer(integers[row])
        case .texts(let texts): texts[row].map(JSONValue.string) ?? .null
        }
    }
}

extension ServiceBinding {
    /// Turns one row of columns into the model's input: the same meaning, and the same faults, as `assemble` of JSON.
    ///
    /// - Returns: faults, one for each bad field; the vector is of use only when there are none.
    /// - Throws: when the feature store cannot be read.
    func assemble(_ columns: InputColumns, row: Int, asOf: EventTime, into vector: inout InputVector)
        throws(PlatformError) -> [FieldFault]
    {
        guard columns.fits(inputCount: inputCount) else {
            return [FieldFault(field: "features", message: "the matrix needs \(inputCount) columns")]
        }
        let layout = columns.layout(for: self)
        vector.reset(keyCount: definition.joinKeys.count, inputCount: inputCount)
        guard layout.unknown.isEmpty, fillKeys(columns, layout, row, into: &vector) else {
            return try worded(columns, row, asOf: asOf, into: &vector)
        }
        let unreadable = layout.readsViews ? readViews(asOf: asOf, into: &vector) : nil
        guard fillFeatures(columns, layout, row, into: &vector) else {
            return try worded(columns, row, asOf: asOf, into: &vector)
        }
        onDemand.compute(into: &vector)
        if let unreadable { throw unreadable }
        return []
    }

    /// The long way: it takes whatever is right and says what is not.
    private func worded(_ columns: InputColumns, _ row: Int, asOf: EventTime, into vector: inout InputVector)
        throws(PlatformError) -> [FieldFault]
    {
        let instance = columns.instance(row, for: self)
        var faults = try assemble(instance, asOf: asOf, into: &vector)
        for (name, value) in instance["features"]?.objectValue ?? [:] {
            if case .number(let number) = value, number.isInfinite {
                faults.append(FieldFault(field: "features.\(name)", message: "must be a finite number"))
            }
        }
        guard columns.hasMatrix else { return faults }
        // The matrix has codes where JSON has texts.
        let layout = columns.layout(for: self)
        for (position, feature) in requestFeatures.enumerated() where layout.features[position] == nil {
            let value = columns.number(row: row, position: position, inputCount: inputCount)
            guard let codes = feature.codes, value.isFinite,
                let place = faults.firstIndex(where: { $0.field == "features.\(feature.name)" })
            else { continue }
            let text = Int(exactly: value).map(String.init) ?? String(value)
            faults[place] = FieldFault(
                field: "features.\(feature.name)",
                message: "\(text) is none of its \(codes.count) places (0 to \(codes.count - 1))")
        }
        return faults
    }

    private func fillKeys(
        _ columns: InputColumns, _ layout: InputColumns.Layout, _ row: Int, into vector: inout InputVector
    ) -> Bool {
        for (position, column) in layout.keys.enumerated() {
            guard let column else {
                guard columns.hasMatrix else { return false }
                continue
            }
            switch columns.values(column) {
            case .texts(let texts):
                guard let text = texts[row] else { continue }
                guard EntityKey.accepts(text) else { return false }
                vector.keys[position] = text
            case .integers(let integers): vector.keys[position] = String(integers[row])
            case .numbers: return false
            }
        }
        return true
    }

    private func fillFeatures(
        _ columns: InputColumns, _ layout: InputColumns.Layout, _ row: Int, into vector: inout InputVector
    ) -> Bool {
        for position in vector.inputs.indices {
            let isRequested = position < requestFeatures.count
            if isRequested { vector.statuses[position] = Self.requestStatus }
            var value: Double
            if let column = layout.features[position] {
                switch columns.values(column) {
                case .numbers(let numbers): value = numbers[row]
                case .integers(let integers): value = Double(integers[row])
                case .texts(let texts):
                    guard isRequested, let codes = requestFeatures[position].codes else { return false }
                    value = .nan
                    if let text = texts[row] {
                        guard let code = codes[text] else { return false }
                        value = code
                    }
                    guard !value.isNaN || requestFeatures[position].nullable else { return false }
                    vector.inputs[position] = value
                    continue
                }
                guard !isRequested || requestFeatures[position].codes == nil else { return false }
            } else if columns.hasMatrix {
                value = columns.number(row: row, position: position, inputCount: inputCount)
                if isRequested, let codes = requestFeatures[position].codes, !value.isNaN {
                    guard let code = Int(exactly: value), 0..<codes.count ~= code else { return false }
                    vector.inputs[position] = value
                    continue
                }
            } else {
                guard !isRequested || requestFeatures[position].nullable else { return false }
                continue
            }
            guard !value.isInfinite else { return false }
            if isRequested {
                let feature = requestFeatures[position]
                guard value.isNaN ? feature.nullable : value >= feature.minimum && value <= feature.maximum else {
                    return false
                }
                vector.inputs[position] = value
            } else {
                vector.inputs[position] = value
                vector.ages[position] = -1
                vector.statuses[position] = Self.requestStatus
                vector.overridden.append(position)
            }
        }
        return true
    }
}
