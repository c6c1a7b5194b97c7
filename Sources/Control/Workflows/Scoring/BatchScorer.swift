import ColumnFiles
import FeatureStore
import Foundation
public import PlatformCore
public import RuntimePorts

/// What every scored row says of how it came to be.
public struct ScoreStamp: Sendable, Hashable {
    /// The model.
    public let model: String
    /// Its version; `nil` for a file that no registry knows.
    public let version: Int?
    /// When it was scored.
    public let scoredAt: EventTime
    /// Makes a stamp.
    public init(model: String, version: Int?, scoredAt: EventTime) {
        self.model = model
        self.version = version
        self.scoredAt = scoredAt
    }
}

/// An input of a model as a column of a file.
public struct ScoringInput: Sendable, Hashable {
    /// The column's name.
    public let name: String
    /// Texts of the codes 0, 1, … of a category; `nil` for a number.
    public let categories: [String]?
    /// Makes an input.
    public init(name: String, categories: [String]? = nil) {
        self.name = name
        self.categories = categories
    }
}

/// Scores the rows of a Parquet file with a loaded model, one row group at a time and in their order.
///
/// Memory: the inputs of one row group for each caller. A missing cell, and a text that is none of a category's, is a
/// missing value. The columns of the answer are the kept ones, then `prediction` (of several classes the place of the most
/// probable one), `probability_0`, … for several outputs, `model`, `model_version`, `scored_at`.
public struct BatchScorer: Sendable {
    /// One row group of the answer.
    struct Scored: Sendable {
        let group: ParquetWriter.RowGroup
        let rowCount: Int
        /// Rows whose prediction is no number.
        let missingCount: Int
    }

    private struct Input: Sendable {
        let position: Int
        let isReal: Bool
        let codes: [String: Float]?
    }

    /// Rows that are laid out and predicted together: their inputs stay in the processor's cache.
    private static let blockRowCount = 512

    let reader: ParquetReader
    let columns: [FileColumn]
    private let model: any LoadedModel
    private let inputs: [Input]
    private let kept: [Int]
    private let stamp: ScoreStamp
    private let settings = ParquetWriter.Settings()

    /// Rows of the file.
    public var rowCount: Int { reader.rowCount }

    /// Opens a file.
    ///
    /// - Parameters:
    ///   - path: the Parquet file.
    ///   - inputs: the model's inputs in its order; `nil` takes them from the model by name, or all number columns in their
    ///     order if the model knows no names.
    ///   - kept: columns to keep; `nil` keeps what is no input.
    ///   - renamed: other names of columns in the answer.
    /// - Throws: `PlatformError` (`invalidInput`) for a file that cannot be read here, a column that is missing or of another
    ///   kind.
    public init(
        path: String, model: any LoadedModel, inputs given: [ScoringInput]?, kept: [String]? = nil,
        renamed: [String: String] = [:], stamp: ScoreStamp
    ) throws {
        let opened: ParquetReader
        do throws(ColumnFileError) { opened = try ParquetReader(FileBytes(path)) } catch {
            throw PlatformError(.invalidInput, path, "cannot be read as Parquet: \(error.message)")
        }
        reader = opened
        let known = opened.columns
        func position(_ name: String) throws -> Int {
            if let found = opened.position(of: name) { return found }
            let near = nearestName(to: name, among: known.map(\.name)).map { "; did you mean '\($0)'?" } ?? ""
            throw PlatformError(.invalidInput, path, "the file has no column '\(name.prefix(100))'\(near)")
        }
        let wanted = try given ?? Self.inputs(of: model.description, among: known, path)
        guard wanted.count == model.description.featureCount else {
            throw PlatformError(
                .invalidInput, path,
                "the model reads \(model.description.featureCount) inputs, \(wanted.count) are named")
        }
        let inputs: [Input] = try wanted.map { input in
            let place = try position(input.name)
            if let categories = input.categories, known[place].kind == .text {
                let codes = zip(categories, categories.indices).map { ($0, Float($1)) }
                return Input(
                    position: place, isReal: false, codes: Dictionary(codes, uniquingKeysWith: { first, _ in first }))
            }
            guard let kind = known[place].kind, [.integer, .real, .bool].contains(kind) else {
                throw PlatformError(
                    .invalidInput, path,
                    "the column '\(input.name)' must hold \(input.categories == nil ? "numbers" : "texts"), "
                        + "not \(Self.word(known[place]))")
            }
            return Input(position: place, isReal: kind == .real, codes: nil)
        }
        let read = Set(inputs.map(\.position))
        let copied = try kept.map { try $0.map(position) } ?? known.indices.filter { !read.contains($0) }
        let outputCount = model.description.outputCount
        var columns: [FileColumn] = []
        let unreadable = copied.filter { known[$0].kind == nil }
        guard unreadable.isEmpty else {
            let names = unreadable.prefix(5).map { "'\(known[$0].name)' (\(known[$0].typeName))" }
            throw PlatformError(
                .invalidInput, path,
                "cannot be copied beside the scores: \(names.joined(separator: ", "))"
                    + (unreadable.count > 5 ? " and \(unreadable.count - 5) more" : "")
                    + "; name the columns to keep, or write these as numbers, texts or moments")
        }
        for place in copied {
            columns.append(
                FileColumn(
                    name: renamed[known[place].name] ?? known[place].name, kind: known[place].kind,
                    isOptional: known[place].isOptional, isBare: known[place].isBare))
        }
        if model.description.output == .values {
            for place in 0..<outputCount { columns.append(FileColumn(name: "prediction_\(place)", kind: .real)) }
        } else {
            columns.append(FileColumn(name: "prediction", kind: .real))
            if outputCount > 1 {
                for place in 0..<outputCount { columns.append(FileColumn(name: "probability_\(place)", kind: .real)) }
            }
        }
        columns.append(FileColumn(name: "model", kind: .text, isOptional: false))
        columns.append(FileColumn(name: "model_version", kind: .integer))
        columns.append(FileColumn(name: "scored_at", kind: .timestamp(perSecond: 1000), isOptional: false))
        var seen: Set<String> = []
        for column in columns where !seen.insert(column.name).inserted {
            throw PlatformError(
                .invalidInput, path,
                "the column '\(column.name)' would be there twice; name the columns to keep, or rename it in the file")
        }
        (self.columns, self.inputs, self.kept) = (columns, inputs, copied)
        self.model = model
        self.stamp = stamp
    }

    private static func inputs(of model: ModelDescription, among known: [FileColumn], _ path: String) throws
        -> [ScoringInput]
    {
        if !model.featureNames.isEmpty { return model.featureNames.map { ScoringInput(name: $0) } }
        let numbers = known.filter { $0.kind == .real || $0.kind == .integer || $0.kind == .bool }
        guard numbers.count == model.featureCount else {
            throw PlatformError(
                .invalidInput, path,
                "the model knows no names of its \(model.featureCount) features, and the file has \(numbers.count) columns "
                    + "of numbers; leave only the features in the file")
        }
        return numbers.map { ScoringInput(name: $0.name) }
    }

    private static func word(_ column: FileColumn) -> String {
        switch column.kind {
        case .text: "text"
        case .timestamp: "moments"
        case nil: column.typeName
        default: "numbers"
        }
    }

    // MARK: Scoring

    /// Whether the model has to be waited for: `scoreLater` scores with it, `score` does not.
    var isDeferred: Bool { model.deferred != nil }

    /// Scores one row group.
    func score(rowGroup index: Int) throws -> Scored {
        try Self.reading(index) {
            let outputs = try predict(
                try vectors(ofRowGroup: index), rowCount: reader.rowCount(ofRowGroup: index), group: index)
            return try scored(outputs, rowGroup: index)
        }
    }

    /// Scores one row group with any model; as many blocks of rows are on their way as the model computes at once.
    func scoreLater(rowGroup index: Int) async throws -> Scored {
        let rowCount = reader.rowCount(ofRowGroup: index)
        let columns = try Self.reading(index) { try vectors(ofRowGroup: index) }
        let outputCount = model.description.outputCount
        var outputs = [Float](repeating: 0, count: rowCount * outputCount)
        try await withThrowingTaskGroup(of: (start: Int, outputs: [Float]).self) { group in
            var starts = stride(from: 0, to: rowCount, by: Self.blockRowCount).makeIterator()
            func begin() {
                guard let start = starts.next() else { return }
                let count = min(Self.blockRowCount, rowCount - start)
                let rows = block(of: columns, from: start, count: count)
                group.addTask {
                    do throws(ModelError) {
                        return (start, try await model.prediction(of: rows, rowCount: count))
                    } catch { throw Self.failure(error, rows: start..<(start + count), group: index) }
                }
            }
            for _ in 0..<max(1, model.deferred?.parallelism ?? 1) { begin() }
            while let done = try await group.next() {
                outputs.replaceSubrange(
                    (done.start * outputCount)..<(done.start * outputCount + done.outputs.count), with: done.outputs)
                begin()
            }
        }
        return try Self.reading(index) { try scored(outputs, rowGroup: index) }
    }

    private static func reading<Outcome>(_ group: Int, _ body: () throws -> Outcome) throws -> Outcome {
        do { return try body() } catch let error as ColumnFileError {
            throw PlatformError(.invalidInput, "row group \(group)", error.message)
        }
    }

    private static func failure(_ error: ModelError, rows: Range<Int>, group: Int) -> PlatformError {
        PlatformError(
            error.code == .unavailable ? .unavailable : .invalidInput,
            "rows \(rows.lowerBound) to \(rows.upperBound - 1) of row group \(group)", error.message)
    }

    /// The inputs' columns, texts as codes.
    private func vectors(ofRowGroup index: Int) throws -> [ColumnVector] {
        var vectors = try inputs.map { try reader.column($0.position, ofRowGroup: index) }
        for (place, input) in inputs.enumerated() {
            if let codes = input.codes { vectors[place] = Self.coded(vectors[place], codes) }
        }
        return vectors
    }

    /// The answer's row group, from the model's outputs.
    private func scored(_ outputs: [Float], rowGroup index: Int) throws -> Scored {
        let rowCount = reader.rowCount(ofRowGroup: index)
        var answer = try kept.map { try reader.column($0, ofRowGroup: index) }
        let (columns, missing) = Self.columns(
            outputs, rowCount: rowCount, outputCount: outputs.count / max(1, rowCount),
            hasClasses: model.description.output == .classProbabilities)
        answer += columns
        answer += [
            Self.constant(text: stamp.model, rowCount),
            stamp.version.map { ColumnVector(words: [Int64](repeating: Int64($0), count: rowCount)) }
                ?? ColumnVector(
                    words: [Int64](repeating: 0, count: rowCount), present: [UInt8](repeating: 0, count: rowCount)),
            ColumnVector(words: [Int64](repeating: stamp.scoredAt.milliseconds, count: rowCount)),
        ]
        let group = try ParquetWriter.encode(answer, columns: self.columns, settings: settings)
        return Scored(group: group, rowCount: rowCount, missingCount: missing)
    }

    /// Codes in place of texts, as doubles.
    private static func coded(_ column: ColumnVector, _ codes: [String: Float]) -> ColumnVector {
        var words = [Int64](repeating: 0, count: column.count)
        var present = [UInt8](repeating: 1, count: column.count)
        for row in 0..<column.count {
            guard column.hasValue(row), let code = codes[column.text(row)] else {
                present[row] = 0
                continue
            }
            words[row] = Int64(bitPattern: Double(code).bitPattern)
        }
        return ColumnVector(words: words, present: present)
    }

    private func predict(_ vectors: [ColumnVector], rowCount: Int, group: Int) throws -> [Float] {
        let (width, outputCount) = (inputs.count, model.description.outputCount)
        var outputs = [Float](repeating: 0, count: rowCount * outputCount)
        var block = [Float](repeating: 0, count: Self.blockRowCount * width)
        var start = 0
        while start < rowCount {
            let count = min(Self.blockRowCount, rowCount - start)
            lay(vectors, from: start, count: count, into: &block)
            do throws(ModelError) {
                try block.withUnsafeBufferPointer { (source) throws(ModelError) in
                    try outputs.withUnsafeMutableBufferPointer { (target) throws(ModelError) in
                        try model.predict(
                            UnsafeBufferPointer(rebasing: source[..<(count * width)]), rowCount: count,
                            into: UnsafeMutableBufferPointer(
                                rebasing: target[(start * outputCount)..<((start + count) * outputCount)]))
                    }
                }
            } catch { throw Self.failure(error, rows: start..<(start + count), group: group) }
            start += count
        }
        return outputs
    }

    /// Some rows as the model reads them.
    private func block(of vectors: [ColumnVector], from start: Int, count: Int) -> [Float] {
        var block = [Float](repeating: 0, count: count * inputs.count)
        lay(vectors, from: start, count: count, into: &block)
        return block
    }

    @inline(__always)
    private func lay(_ vectors: [ColumnVector], from start: Int, count: Int, into block: inout [Float]) {
        for place in inputs.indices {
            let isReal = inputs[place].isReal || inputs[place].codes != nil
            Self.lay(vectors[place], from: start, count: count, isReal: isReal, into: &block, at: place, inputs.count)
        }
    }

    /// Writes cells of one column into their place of each row of a block.
    @inline(__always)
    private static func lay(
        _ column: ColumnVector, from start: Int, count: Int, isReal: Bool, into block: inout [Float], at place: Int,
        _ width: Int
    ) {
        column.words.withUnsafeBufferPointer { words in
            block.withUnsafeMutableBufferPointer { block in
                var target = place
                if isReal {
                    for row in start..<(start + count) {
                        block[target] = Float(Double(bitPattern: UInt64(bitPattern: words[row])))
                        target += width
                    }
                } else {
                    for row in start..<(start + count) {
                        block[target] = Float(Double(words[row]))
                        target += width
                    }
                }
                guard let present = column.present else { return }
                present.withUnsafeBufferPointer { present in
                    for row in 0..<count where present[start + row] == 0 { block[row * width + place] = .nan }
                }
            }
        }
    }

    /// The prediction's column and those of the outputs, or a column for each of several values; predictions that are no
    /// number are nulls.
    private static func columns(
        _ outputs: [Float], rowCount: Int, outputCount: Int, hasClasses: Bool
    ) -> ([ColumnVector], missing: Int) {
        func vector(_ value: (Int) -> Float) -> ColumnVector {
            var words = [Int64](repeating: 0, count: rowCount)
            var present: [UInt8]?
            for row in 0..<rowCount {
                let found = value(row)
                if found.isNaN {
                    if present == nil { present = [UInt8](repeating: 1, count: rowCount) }
                    present?[row] = 0
                } else {
                    words[row] = Int64(bitPattern: Double(found).bitPattern)
                }
            }
            return ColumnVector(words: words, present: present)
        }
        func missing(_ column: ColumnVector) -> Int { column.present?.reduce(0) { $0 + ($1 == 0 ? 1 : 0) } ?? 0 }
        guard outputCount > 1 else {
            let column = vector { outputs[$0] }
            return ([column], missing(column))
        }
        let parts = (0..<outputCount).map { place in vector { outputs[$0 * outputCount + place] } }
        guard hasClasses else { return (parts, parts.map(missing).max() ?? 0) }
        let prediction = vector { row in
            let values = outputs[(row * outputCount)..<((row + 1) * outputCount)]
            if values.contains(where: \.isNaN) { return .nan }
            var best = values.startIndex
            for place in values.indices where values[place] > values[best] { best = place }
            return Float(best - values.startIndex)
        }
        return ([prediction] + parts, missing(prediction))
    }

    private static func constant(text: String, _ count: Int) -> ColumnVector {
        let bytes = Array(text.utf8)
        var all: [UInt8] = []
        all.reserveCapacity(bytes.count * count)
        for _ in 0..<count { all.append(contentsOf: bytes) }
        return ColumnVector(offsets: (0...count).map { $0 * bytes.count }, bytes: all)
    }
}
