import RuntimePorts

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
    /// - Throws: `unsupportedModel` where it cannot be said which category is which.
    init?(_ names: [Int: CategoryNames], read: [Int: [String]]) throws(ModelError) {
        var tables: [(feature: Int, table: Table)] = []
        for (feature, known) in names.sorted(by: { $0.key < $1.key }) {
            let table: Table?
            if let read = read[feature], !read.isEmpty {
                table = try Self.table(known, read: read, feature: feature)
            } else {
                table = try Self.table(ofNumbers: known, feature: feature)
            }
            if let table { tables.append((feature, table)) }
        }
        if tables.isEmpty { return nil }
        self.tables = tables
    }

    /// What becomes of the places in a list of values; `nil` if they stay as they are.
    private static func table(_ known: CategoryNames, read: [String], feature: Int) throws(ModelError) -> Table? {
        let words = try known.words(among: read)
        if words.isEmpty { return nil }
        var codes: [String: Float] = [:]
        for (code, word) in words.enumerated() { if let word, codes[word] == nil { codes[word] = Float(code) } }
        let table = read.map { codes[$0] ?? .nan }
        guard table.allSatisfy(\.isNaN) else {
            let isSame = table.enumerated().allSatisfy { Float($0.offset) == $0.element }
            return isSame ? nil : .codes(table)
        }
        // Who made numbers of the values first trained on the places themselves.
        if case .numbers(let numbers) = known, numbers.allSatisfy({ Int($0).map(read.indices.contains) ?? false }) {
            return try self.table(ofNumbers: known, feature: feature)
        }
        func list(_ words: [String]) -> String {
            words.prefix(5).map { printable($0) }.joined(separator: ", ") + (words.count > 5 ? ", …" : "")
        }
        throw ModelError(
            .unsupportedModel,
            "feature \(feature): the model knows the categories \(list(words.compactMap(\.self))), of which none is a value of the "
                + "feature (\(list(read))), so all would be missing to it")
    }

    /// What becomes of numbers that are categories; `nil` if they stay as they are.
    private static func table(ofNumbers known: CategoryNames, feature: Int) throws(ModelError) -> Table? {
        guard case .numbers(let words) = known else { return nil }
        let numbers = words.map { Float($0) ?? .nan }
        guard Set(numbers).count == numbers.count else {
            throw ModelError(
                .unsupportedModel,
                "feature \(feature): its categories are numbers so large that rows, which are float32, cannot tell them apart; make "
                    + "the feature a category whose values are these numbers as texts")
        }
        let isSame = numbers.enumerated().allSatisfy { Float($0.offset) == $0.element }
        return isSame ? nil : .numbers(Dictionary(zip(numbers, (0...).lazy.map(Float.init)), uniquingKeysWith: { $1 }))
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
