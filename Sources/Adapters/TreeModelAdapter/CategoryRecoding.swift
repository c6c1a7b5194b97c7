import RuntimePorts

/// The categories of a feature in the order of their codes, as a model file names them.
enum CategoryNames: Sendable, Hashable {
    case texts([String])
    case numbers([Float])

    /// The names, if they are texts.
    var texts: [String]? {
        guard case .texts(let texts) = self else { return nil }
        return texts
    }

    /// The names as texts; whole numbers without a fraction.
    fileprivate var words: [String] {
        switch self {
        case .texts(let texts): texts
        case .numbers(let numbers): numbers.map { Int(exactly: $0).map(String.init) ?? "\($0)" }
        }
    }
}

/// What the categories of a row become before a model reads them whose file has them in another order.
///
/// A category that the file does not name is missing to the model: LightGBM takes it so, XGBoost refuses it.
struct CategoryRecoding: Sendable {
    private enum Table: Sendable {
        /// The code in place of each code.
        case codes([Float])
        /// The code of each number.
        case numbers([Float: Float])
    }

    private let tables: [(feature: Int, table: Table)]

    /// - Parameters:
    ///   - names: by feature, what the file says.
    ///   - read: by feature, the texts of the codes in a row; other features hold numbers.
    /// - Returns: `nil` if rows are as the model reads them.
    init?(_ names: [Int: CategoryNames], read: [Int: [String]]) {
        var tables: [(feature: Int, table: Table)] = []
        for (feature, known) in names.sorted(by: { $0.key < $1.key }) {
            if let read = read[feature] {
                let codes = Dictionary(
                    zip(known.words, (0...).lazy.map(Float.init)), uniquingKeysWith: { first, _ in first })
                let table = read.map { codes[$0] ?? .nan }
                let isSame = table.enumerated().allSatisfy { Float($0.offset) == $0.element }
                if !isSame { tables.append((feature, .codes(table))) }
            } else if case .numbers(let numbers) = known {
                let isSame = numbers.enumerated().allSatisfy { Float($0.offset) == $0.element }
                let table = Dictionary(
                    zip(numbers, (0...).lazy.map(Float.init)), uniquingKeysWith: { first, _ in first })
                if !isSame { tables.append((feature, .numbers(table))) }
            }
        }
        if tables.isEmpty { return nil }
        self.tables = tables
    }

    /// Puts the model's codes into rows of `width` values.
    func apply(to rows: UnsafeMutableBufferPointer<Float>, width: Int) {
        for (feature, table) in tables {
            for at in stride(from: feature, to: rows.count, by: width) {
                let value = rows[at]
                switch table {
                case .codes(let codes):
                    rows[at] = value >= 0 && value < Float(codes.count) ? codes[Int(value)] : .nan
                case .numbers(let codes): rows[at] = codes[value] ?? .nan
                }
            }
        }
    }
}

/// A model whose rows have categories in another order than its file.
struct RecodedModel: ExplainingModel {
    let base: any ExplainingModel
    let recoding: CategoryRecoding

    var description: ModelDescription { base.description }
    var explanationFault: String? { base.explanationFault }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        try description.checkShape(rows: rows.count, rowCount: rowCount, output: output.count)
        let recoded = recoded(rows)
        defer { recoded.deallocate() }
        try base.predict(UnsafeBufferPointer(recoded), rowCount: rowCount, into: output)
    }

    func explain(_ rows: UnsafeBufferPointer<Float>, rowCount: Int) throws(ModelError) -> [Explanation] {
        try description.checkShape(rows: rows.count, rowCount: rowCount)
        let recoded = recoded(rows)
        defer { recoded.deallocate() }
        return try base.explain(UnsafeBufferPointer(recoded), rowCount: rowCount)
    }

    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
        try base.reading(categories: categories)
    }

    private func recoded(_ rows: UnsafeBufferPointer<Float>) -> UnsafeMutableBufferPointer<Float> {
        let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: rows.count)
        _ = copy.initialize(from: rows)
        recoding.apply(to: copy, width: description.featureCount)
        return copy
    }
}
