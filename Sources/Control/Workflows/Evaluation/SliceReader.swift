import ColumnFiles
import Definitions
import FeatureStore
import Foundation
import PlatformCore

/// Reads inputs, label and further columns of a Parquet file without a child process, row groups side by side.
///
/// It reads what training sets are written as. Of a file that holds something else (decimals, texts where a number is
/// wanted, nested columns) it says `nil`, and DuckDB, which casts whatever can be cast, reads it.
enum SliceReader {
    /// What stands for a cell without a value among texts.
    static let missing = "(missing)"

    /// Rows in the file's order.
    struct Read: Sendable {
        /// Shape `[rowCount, inputCount]`; NaN for a missing value.
        var inputs: [Float] = []
        /// NaN for a missing one.
        var labels: [Double] = []
        /// One list for each column that was asked for.
        var columns: [[String]]
        /// How many cells of each category stand in no list, and the least of them.
        var unlisted: [String: Unlisted] = [:]
    }

    struct Unlisted: Sendable {
        var count: Int
        var example: String
    }

    private enum Column: Sendable {
        case number(Int)
        case code(Int, [String: Int], name: String)
    }

    /// Reads a file; `nil` if it cannot be read here.
    /// - Parameter progress: hears how many rows were read.
    @concurrent
    static func read(
        _ path: String, service: FeatureServiceDefinition, label: String, columns: [String],
        progress: @escaping @Sendable (Int) -> Void = { _ in }
    ) async throws -> Read? {
        guard let reader = try? ParquetReader(FileBytes(path)) else { return nil }
        func number(_ name: String) -> Int? {
            guard let position = reader.position(of: name), let kind = reader.columns[position].kind else { return nil }
            return [.integer, .real, .bool].contains(kind) ? position : nil
        }
        var inputs: [Column] = []
        for feature in service.request {
            switch feature.kind {
            case .number:
                guard let position = number(feature.name) else { return nil }
                inputs.append(.number(position))
            case .category(let values):
                guard let position = textPosition(feature.name, in: reader) else { return nil }
                inputs.append(
                    .code(
                        position,
                        Dictionary(values.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first }),
                        name: feature.name))
            }
        }
        for name in service.features.map(\.servedName) + service.onDemand.map(\.name) {
            guard let position = number(name) else { return nil }
            inputs.append(.number(position))
        }
        guard let label = number(label) else { return nil }
        var texts: [Int] = []
        for name in columns {
            guard let position = textPosition(name, in: reader) else { return nil }
            texts.append(position)
        }
        let (wanted, places) = (inputs, texts)
        guard
            let groups = try await eachGroup(
                of: reader, progress: progress,
                { group in try read(reader, group, inputs: wanted, label: label, texts: places) })
        else { return nil }
        var all = Read(columns: Array(repeating: [], count: columns.count))
        all.inputs.reserveCapacity(reader.rowCount * inputs.count)
        all.labels.reserveCapacity(reader.rowCount)
        for group in groups {
            all.inputs += group.inputs
            all.labels += group.labels
            for place in texts.indices { all.columns[place] += group.columns[place] }
            all.unlisted.merge(group.unlisted) {
                Unlisted(count: $0.count + $1.count, example: min($0.example, $1.example))
            }
        }
        return all
    }

    /// One column as texts; `nil` if it cannot be read here.
    @concurrent
    static func texts(of column: String, at path: String) async throws -> [String]? {
        guard let reader = try? ParquetReader(FileBytes(path)), let position = textPosition(column, in: reader) else {
            return nil
        }
        return try await eachGroup(
            of: reader, { texts(try reader.column(position, ofRowGroup: $0), reader, position) })?
            .flatMap { $0 }
    }

    private static func textPosition(_ name: String, in reader: ParquetReader) -> Int? {
        guard let position = reader.position(of: name), let kind = reader.columns[position].kind else { return nil }
        if case .timestamp = kind { return nil }
        return position
    }

    /// What `work` makes of each row group, in order; `nil` if the file holds what is not read here.
    private static func eachGroup<Part: Sendable>(
        of reader: ParquetReader, progress: @escaping @Sendable (Int) -> Void = { _ in },
        _ work: @escaping @Sendable (Int) throws -> Part
    ) async throws -> [Part]? {
        do {
            return try await withThrowingTaskGroup(of: (Int, Part).self) { tasks in
                let workers = min(ProcessInfo.processInfo.activeProcessorCount, reader.rowGroupCount)
                var (next, done) = (0, 0)
                var parts = [Part?](repeating: nil, count: reader.rowGroupCount)
                func start() {
                    guard next < reader.rowGroupCount else { return }
                    let group = next
                    next += 1
                    tasks.addTask { (group, try work(group)) }
                }
                for _ in 0..<workers { start() }
                while let (group, part) = try await tasks.next() {
                    try Task.checkCancellation()
                    parts[group] = part
                    done += reader.rowCount(ofRowGroup: group)
                    progress(done)
                    start()
                }
                return parts.compactMap(\.self)
            }
        } catch is ColumnFileError { return nil }
    }

    private static func read(
        _ reader: ParquetReader, _ group: Int, inputs: [Column], label: Int, texts places: [Int]
    ) throws -> Read {
        let (width, rowCount) = (inputs.count, reader.rowCount(ofRowGroup: group))
        var read = Read(columns: [])
        read.inputs = [Float](repeating: .nan, count: rowCount * width)
        for (place, input) in inputs.enumerated() {
            switch input {
            case .number(let position):
                let column = try reader.column(position, ofRowGroup: group)
                let isReal = reader.columns[position].kind == .real
                read.inputs.withUnsafeMutableBufferPointer { cells in
                    for row in 0..<rowCount where column.hasValue(row) {
                        let word = column.words[row]
                        cells[row * width + place] = isReal ? Float(real(word)) : Float(Double(word))
                    }
                }
            case .code(let position, let codes, let name):
                let cells = Self.texts(try reader.column(position, ofRowGroup: group), reader, position)
                for row in 0..<rowCount {
                    if let code = codes[cells[row]] {
                        read.inputs[row * width + place] = Float(code)
                    } else if cells[row] != missing {
                        let known = read.unlisted[name] ?? Unlisted(count: 0, example: cells[row])
                        read.unlisted[name] = Unlisted(count: known.count + 1, example: min(known.example, cells[row]))
                    }
                }
            }
        }
        let labels = try reader.column(label, ofRowGroup: group)
        let isReal = reader.columns[label].kind == .real
        read.labels = (0..<rowCount).map { row in
            guard labels.hasValue(row) else { return .nan }
            return isReal ? real(labels.words[row]) : Double(labels.words[row])
        }
        for position in places {
            read.columns.append(Self.texts(try reader.column(position, ofRowGroup: group), reader, position))
        }
        return read
    }

    private static func real(_ word: Int64) -> Double { Double(bitPattern: UInt64(bitPattern: word)) }

    /// Cells as DuckDB writes them.
    private static func texts(_ column: ColumnVector, _ reader: ParquetReader, _ position: Int) -> [String] {
        let kind = reader.columns[position].kind
        return (0..<column.count).map { row in
            guard column.hasValue(row) else { return missing }
            return switch kind {
            case .text: column.text(row)
            case .real: real(column.words[row]).description
            case .bool: column.words[row] == 0 ? "false" : "true"
            default: column.words[row].description
            }
        }
    }
}
