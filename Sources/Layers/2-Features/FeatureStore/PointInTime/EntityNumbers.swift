import ColumnFiles
import PlatformCore

/// Numbers the entities that are asked for; every engine compares keys by the bytes of their text.
struct EntityNumbers: Sendable {
    /// Key columns of some rows.
    struct Keys {
        let vectors: [ColumnVector]
        let kinds: [ColumnKind]
        var count: Int { vectors.first?.count ?? 0 }
    }

    /// Numbers of integer keys, where both sides have one integer column; else of texts.
    private enum Table {
        case words(WordTable)
        case texts(TextTable)
    }
    private var table: Table

    init(isInteger: Bool) { table = isInteger ? .words(WordTable()) : .texts(TextTable(capacity: 1024)) }

    static let none = WordTable.none

    var count: Int {
        switch table {
        case .words(let table): table.count
        case .texts(let table): table.count
        }
    }

    /// Numbers for rows of questions, new ones for new entities; `none` where there is no key.
    mutating func insert(_ keys: Keys) -> [UInt32] {
        var out = [UInt32](repeating: Self.none, count: keys.count)
        switch table {
        case .words(var words):
            table = .words(WordTable(capacity: 0))
            for row in 0..<keys.count where keys.vectors[0].hasValue(row) {
                out[row] = words.insert(keys.vectors[0].words[row])
            }
            table = .words(words)
        case .texts(var texts):
            table = .texts(TextTable(capacity: 0))
            var scratch: [UInt8] = []
            for row in 0..<keys.count where Self.write(keys, row, into: &scratch) {
                out[row] = texts.insert(scratch, 0..<scratch.count)
            }
            table = .texts(texts)
        }
        return out
    }

    /// Numbers for rows of events; `none` for entities nobody asks for.
    func find(_ keys: Keys) -> [UInt32] {
        switch table {
        case .words(let words):
            var out = words.find(keys.vectors[0].words)
            if let present = keys.vectors[0].present {
                for row in out.indices where present[row] == 0 { out[row] = Self.none }
            }
            return out
        case .texts(let texts):
            var out = [UInt32](repeating: Self.none, count: keys.count)
            var scratch: [UInt8] = []
            for row in 0..<keys.count where Self.write(keys, row, into: &scratch) {
                out[row] = scratch.withUnsafeBytes { texts.find($0) }
            }
            return out
        }
    }

    /// The key's bytes as `EntityKey` joins them; `false` where a part is null or cannot be part of a key.
    private static func write(_ keys: Keys, _ row: Int, into out: inout [UInt8]) -> Bool {
        out.removeAll(keepingCapacity: true)
        for (index, vector) in keys.vectors.enumerated() {
            guard vector.hasValue(row) else { return false }
            if index > 0 { out.append(0x1F) }
            switch keys.kinds[index] {
            case .text:
                let (from, to) = (vector.offsets[row], vector.offsets[row + 1])
                guard 1...EntityKey.valueByteCountMax ~= to - from else { return false }
                for place in from..<to {
                    let byte = vector.bytes[place]
                    guard byte >= 0x20, byte != 0x7F else { return false }
                    out.append(byte)
                }
            case .bool: out.append(contentsOf: vector.words[row] != 0 ? "true".utf8 : "false".utf8)
            case .timestamp(let perSecond): decimal(vector.words[row] / max(1, perSecond / 1000), into: &out)
            default: decimal(vector.words[row], into: &out)
            }
        }
        return true
    }

    private static func decimal(_ value: Int64, into out: inout [UInt8]) {
        if value < 0 { out.append(0x2D) }
        var rest = value.magnitude
        let start = out.count
        repeat {
            out.append(UInt8(0x30 + rest % 10))
            rest /= 10
        } while rest > 0
        out[start...].reverse()
    }
}
