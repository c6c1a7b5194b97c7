import Aggregation
import ColumnFiles
import Definitions
import Expressions
import PlatformCore

/// What a row group's cells are, stored or computed.
extension ViewRun {
    /// A stored column with words as the kernel keeps them; `nil` where the file does not have it.
    func vector(_ name: String, _ type: ColumnType, _ reader: ParquetReader, _ group: Int, _ path: String)
        throws(ColumnFileError) -> ColumnVector?
    {
        guard let position = reader.position(of: name) else { return nil }
        var vector = try reader.column(position, ofRowGroup: group)
        switch (type, reader.columns[position].kind) {
        case (.float64, .real), (.int64, .integer), (.bool, .bool), (.string, .text): break
        case (.float64, .integer): vector.words = vector.words.map { Int64(bitPattern: Double($0).bitPattern) }
        case (.timestamp, .timestamp(let perSecond)):
            let unit = perSecond / 1000
            if unit != 1 { vector.words = vector.words.map { $0 / unit } }
        default:
            throw ColumnFileError(.unsupported, "column '\(name)' of '\(path)' is not stored as \(type.rawValue)")
        }
        return vector
    }

    /// The derived columns that the plan reads, of the rows that have an entity; row by row, as the stream computes them.
    func derivedColumns(_ reader: ParquetReader, _ group: Int, _ path: String, _ entities: [UInt32])
        throws(ColumnFileError) -> [String: ColumnVector]
    {
        let wanted = view.plan.derivedColumns
        guard !wanted.isEmpty else { return [:] }
        let stored = view.plan.sourceColumns(of: wanted.flatMap(\.expression.columns))
        var inputs: [(position: Int, type: ColumnType, vector: ColumnVector)] = []
        for name in stored {
            guard let position = view.columns.firstIndex(where: { $0.name == name }) else {
                preconditionFailure("a checked expression reads columns of the source")
            }
            let type = view.columns[position].type
            if let vector = try vector(name, type, reader, group, path) { inputs.append((position, type, vector)) }
        }
        var row = [CellValue](repeating: .null, count: (wanted.map(\.position).max() ?? 0) + 1)
        var made = wanted.map { CellColumn($0.column.type, count: entities.count) }
        for index in entities.indices where entities[index] != EntityNumbers.none {
            for input in inputs { row[input.position] = Self.cell(input.vector, index, input.type) }
            for (place, derived) in wanted.enumerated() {
                let value = derived.expression.evaluate(row)
                row[derived.position] = value
                made[place].set(value, at: index)
            }
        }
        return Dictionary(
            zip(wanted.map(\.name), made.map(\.vector)), uniquingKeysWith: { first, _ in first })
    }

    private static func cell(_ vector: ColumnVector, _ row: Int, _ type: ColumnType) -> CellValue {
        guard vector.hasValue(row) else { return .null }
        switch type {
        case .float64: return .double(Double(bitPattern: UInt64(bitPattern: vector.words[row])))
        case .bool: return .bool(vector.words[row] != 0)
        case .string: return .text(vector.text(row))
        default: return .integer(vector.words[row])
        }
    }
}

/// A column in the making.
private struct CellColumn {
    private var words: [Int64] = []
    private var present: [UInt8]
    private var texts: [String?] = []
    private let isText: Bool

    init(_ type: ColumnType, count: Int) {
        isText = type == .string
        present = [UInt8](repeating: 0, count: count)
        if isText {
            texts = [String?](repeating: nil, count: count)
        } else {
            words = [Int64](repeating: 0, count: count)
        }
    }

    mutating func set(_ value: CellValue, at row: Int) {
        switch value {
        case .null, .list: return
        case .integer(let value): words[row] = value
        case .bool(let value): words[row] = value ? 1 : 0
        case .double(let value): words[row] = Int64(bitPattern: value.bitPattern)
        case .text(let value): texts[row] = value
        }
        present[row] = 1
    }

    var vector: ColumnVector { isText ? ColumnVector(texts: texts) : ColumnVector(words: words, present: present) }
}
