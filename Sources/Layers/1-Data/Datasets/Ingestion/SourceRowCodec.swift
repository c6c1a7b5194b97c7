public import Definitions
public import PlatformCore

/// How an accepted row stands in the log: one canonical JSON object.
///
/// `{"b":batch,"e":event ms,"i":ingest ms,"v":{column:value,…}}`, keys sorted, nulls left out of `v`, times in
/// milliseconds. Leaving nulls out is what lets a source gain a nullable column: the rows of before read as null there, and
/// the same row sent again still has the same bytes. A push under an idempotency key adds `k` (the key) and `r` (its
/// report) to its first row.
public struct SourceRowCodec: Sendable {
    /// The source whose rows it reads.
    public let definition: SourceDefinition
    private struct Field: Sendable {
        let index: Int
        let type: ColumnType
        let prefix: [UInt8]  // "name":
    }
    private let fields: [Field]  // in byte order of the name
    private let keyIndexes: [Int]

    /// Prepares for a source.
    public init(_ definition: SourceDefinition) {
        self.definition = definition
        fields = definition.columns.enumerated().sorted { $0.element.name < $1.element.name }.map { index, column in
            var prefix: [UInt8] = []
            JSONValue.write(column.name, to: &prefix)
            return Field(index: index, type: column.type, prefix: prefix + [0x3A])
        }
        keyIndexes = definition.key.compactMap { key in definition.columns.firstIndex { $0.name == key } }
    }

    // MARK: Writing

    /// The cells as the canonical JSON object `v`: what decides whether two rows are the same.
    public func content(of cells: [CellValue]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(32 * cells.count)
        out.append(0x7B)
        for place in fields.indices {
            let index = fields[place].index
            guard index < cells.count, !cells[index].isNull else { continue }
            if out.count > 1 { out.append(0x2C) }
            out.append(contentsOf: fields[place].prefix)
            switch cells[index] {
            case .null: break
            case .integer(let value): JSONValue.write(value, to: &out)
            case .double(let value): JSONValue.write(value, to: &out)
            case .bool(let value): out.append(contentsOf: (value ? "true" : "false").utf8)
            case .text(let value): JSONValue.write(value, to: &out)
            case .list(let numbers): Self.write(numbers, to: &out)
            }
        }
        out.append(0x7D)
        return out
    }

    /// A vector: each number as the shortest decimal of single precision.
    private static func write(_ numbers: [CellValue], to out: inout [UInt8]) {
        out.append(0x5B)
        for (index, number) in numbers.enumerated() {
            if index > 0 { out.append(0x2C) }
            out.append(contentsOf: Float(number.number ?? 0).description.utf8)
        }
        out.append(0x5D)
    }

    /// The log record's key: the row's key columns joined by U+001F; null as empty text.
    public func key(of cells: [CellValue]) -> String {
        if keyIndexes.count == 1 { return cells[keyIndexes[0]].keyText ?? "" }
        return keyIndexes.map { cells[$0].keyText ?? "" }.joined(separator: "\u{1F}")
    }

    /// A row as the value of a log record.
    public func encode(_ row: SourceRow, batch: String) -> [UInt8] {
        Self.envelope(
            batch: batch, eventTime: row.eventTime, ingestTime: row.ingestTime, push: nil,
            content: content(of: row.cells))
    }

    /// The envelope around `content`; `push` is the idempotency key and report of a push.
    static func envelope(
        batch: String, eventTime: EventTime, ingestTime: EventTime, push: (key: String, report: JSONValue)?,
        content: [UInt8]
    ) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(content.count + batch.utf8.count + 64)
        out.append(contentsOf: RowScanner.batchPrefix)
        JSONValue.write(batch, to: &out)
        out.append(contentsOf: RowScanner.eventPrefix)
        JSONValue.write(eventTime.milliseconds, to: &out)
        out.append(contentsOf: RowScanner.ingestPrefix)
        JSONValue.write(ingestTime.milliseconds, to: &out)
        if let push {
            out.append(contentsOf: ",\"k\":".utf8)
            JSONValue.write(push.key, to: &out)
            out.append(contentsOf: ",\"r\":".utf8)
            push.report.write(to: &out)
        }
        out.append(contentsOf: RowScanner.contentPrefix)
        out.append(contentsOf: content)
        out.append(0x7D)
        return out
    }

    // MARK: Reading

    /// Reads a row back.
    ///
    /// A column that the record lacks, or holds in a type that the source no longer has, is null; what the
    /// record has beyond the source's columns is left out.
    /// - Throws: `DecodingFailure` for bytes that are no row at all.
    public func decode(_ bytes: [UInt8]) throws(DecodingFailure) -> SourceRow {
        if let row = decodeCanonical(bytes) { return row }
        let value = try JSONValue.parse(bytes)
        guard let event = value["e"]?.integerValue, let ingest = value["i"]?.integerValue,
            case .object(let members)? = value["v"]
        else { throw DecodingFailure("the record is no source row") }
        let cells = definition.columns.map { column -> CellValue in
            switch (column.type, members[column.name]) {
            case (.string, .some(.string(let text))): .text(text)
            case (.bool, .some(.bool(let flag))): .bool(flag)
            case (.int64, .some(let number)), (.timestamp, .some(let number)):
                number.integerValue.map(CellValue.integer) ?? .null
            case (.float64, .some(let number)): number.doubleValue.map(CellValue.double) ?? .null
            case (.vector, .some(.array(let elements))):
                .list(elements.map { .double(Double(Float($0.doubleValue ?? 0))) })
            default: .null
            }
        }
        return SourceRow(
            eventTime: EventTime(milliseconds: event), ingestTime: EventTime(milliseconds: ingest), cells: cells)
    }

    /// Reads what `encode` writes without building a JSON document; `nil` where anything looks different.
    private func decodeCanonical(_ bytes: [UInt8]) -> SourceRow? {
        bytes.withUnsafeBufferPointer { buffer in
            var scan = RowScanner(bytes: buffer)
            guard let head = scan.envelope(), scan.skip(0x7B) else { return nil }
            var cells = [CellValue](repeating: .null, count: definition.columns.count)
            var next = 0
            if !scan.skip(0x7D) {
                repeat {
                    while next < fields.count, !scan.skip(fields[next].prefix) { next += 1 }
                    guard next < fields.count, let cell = scan.cell(of: fields[next].type) else { return nil }
                    cells[fields[next].index] = cell
                    next += 1
                } while scan.skip(0x2C)
                guard scan.skip(0x7D) else { return nil }
            }
            guard scan.skip(0x7D), scan.isAtEnd else { return nil }
            return SourceRow(eventTime: head.event, ingestTime: head.ingest, cells: cells)
        }
    }

    /// What the ingestion has to remember of a stored row: its content's bytes, and the push it began.
    static func memory(of bytes: [UInt8]) -> (content: ArraySlice<UInt8>, push: (key: String, report: JSONValue)?)? {
        let start: Int? = bytes.withUnsafeBufferPointer { buffer in
            var scan = RowScanner(bytes: buffer)
            return scan.envelope() == nil ? nil : scan.at
        }
        if let start, start < bytes.count { return (bytes[start..<(bytes.count - 1)], nil) }
        guard let value = try? JSONValue.parse(bytes), let content = value["v"] else { return nil }
        var push: (String, JSONValue)?
        if let key = value["k"]?.stringValue, let report = value["r"] { push = (key, report) }
        return (content.canonicalBytes[...], push)
    }
}

/// A cursor over a record in the form that `SourceRowCodec` writes.
private struct RowScanner {
    let bytes: UnsafeBufferPointer<UInt8>
    var at = 0

    init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    var isAtEnd: Bool { at == bytes.count }

    mutating func skip(_ byte: UInt8) -> Bool {
        guard at < bytes.count, bytes[at] == byte else { return false }
        at += 1
        return true
    }

    mutating func skip(_ expected: [UInt8]) -> Bool {
        guard bytes.count - at >= expected.count else { return false }
        for (index, byte) in expected.enumerated() where bytes[at + index] != byte { return false }
        at += expected.count
        return true
    }

    static let eventPrefix = Array(",\"e\":".utf8)
    static let ingestPrefix = Array(",\"i\":".utf8)
    static let contentPrefix = Array(",\"v\":".utf8)
    static let batchPrefix = Array("{\"b\":".utf8)

    /// The times of an envelope without a push; stands before the content's brace afterwards.
    mutating func envelope() -> (event: EventTime, ingest: EventTime)? {
        guard skip(Self.batchPrefix), text() != nil, skip(Self.eventPrefix), let event = integer(),
            skip(Self.ingestPrefix), let ingest = integer(), skip(Self.contentPrefix)
        else { return nil }
        return (EventTime(milliseconds: event), EventTime(milliseconds: ingest))
    }

    mutating func cell(of type: ColumnType) -> CellValue? {
        switch type {
        case .string: return text().map(CellValue.text)
        case .int64, .timestamp: return integer().map(CellValue.integer)
        case .float64: return double().map(CellValue.double)
        case .bool:
            if skip(Array("true".utf8)) { return .bool(true) }
            return skip(Array("false".utf8)) ? .bool(false) : nil
        case .vector: return vector()
        case .list: return nil
        }
    }

    mutating func vector() -> CellValue? {
        guard skip(0x5B) else { return nil }
        var cells: [CellValue] = []
        repeat {
            guard let number = double(), Float(number).isFinite else { return nil }
            cells.append(.double(Double(Float(number))))
        } while skip(0x2C)
        return skip(0x5D) ? .list(cells) : nil
    }

    mutating func text() -> String? {
        guard at < bytes.count, bytes[at] == 0x22 else { return nil }
        var end = at + 1
        while end < bytes.count, bytes[end] != 0x22, bytes[end] != 0x5C, bytes[end] >= 0x20 { end += 1 }
        guard end < bytes.count, bytes[end] == 0x22 else { return nil }
        let text = String(validating: UnsafeBufferPointer(rebasing: bytes[(at + 1)..<end]), as: UTF8.self)
        if text != nil { at = end + 1 }
        return text
    }

    /// Digits up to 18, so that nothing can overflow; longer ones are left to the general reader.
    mutating func integer() -> Int64? {
        let start = at
        let isNegative = skip(0x2D)
        let first = at
        var value: Int64 = 0
        while at < bytes.count, 48...57 ~= bytes[at], at - first < 19 {
            if at - first == 18 {
                at = start
                return nil
            }
            value = value * 10 + Int64(bytes[at] - 48)
            at += 1
        }
        guard at > first else {
            at = start
            return nil
        }
        return isNegative ? -value : value
    }

    mutating func double() -> Double? {
        let start = at
        while at < bytes.count, isNumberByte(bytes[at]) { at += 1 }
        let count = at - start
        guard 1...40 ~= count else { return nil }
        if count > 2, count <= 15, bytes[at - 1] == 48, bytes[at - 2] == 46 {  // 12.0: the usual case
            let end = at
            at = start
            if let whole = integer(), at == end - 2, whole != 0 || bytes[start] != 0x2D {
                at = end
                return Double(whole)
            }
            at = end
        }
        guard let value = Double(String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<at]), as: UTF8.self)),
            value.isFinite
        else { return nil }
        return value
    }

    private func isNumberByte(_ byte: UInt8) -> Bool {
        48...57 ~= byte || byte == 0x2D || byte == 0x2B || byte == 0x2E || byte == 0x65 || byte == 0x45
    }
}
