import Definitions
import PlatformCore

extension SourceContract {
    /// Checks a line that is a plain JSON object of the schema's columns, without building a JSON document.
    ///
    /// - Returns: what `check` says of the same row; `nil` where anything looks unusual (escapes, unknown or repeated
    ///   members, values of another type), which the general reader then decides.
    func check(line: UnsafeBufferPointer<UInt8>) -> RowVerdict? {
        var scan = LineScanner(bytes: line)
        scan.skipBlanks()
        guard scan.skip(0x7B) else { return nil }
        var check = RowCheck(columnCount: definition.columns.count)
        var seen = 0
        var expected = 0
        scan.skipBlanks()
        if !scan.skip(0x7D) {
            repeat {
                scan.skipBlanks()
                guard let index = scan.column(among: names, expecting: expected) else { return nil }
                guard index < 63, seen >> index & 1 == 0 else { return nil }
                seen |= 1 << index
                expected = index + 1
                scan.skipBlanks()
                guard scan.skip(0x3A) else { return nil }
                scan.skipBlanks()
                guard let cell = scan.cell(as: types[index], at: index, of: definition) else { return nil }
                take(cell, at: index, isPresent: true, &check)
                scan.skipBlanks()
            } while scan.skip(0x2C)
            guard scan.skip(0x7D) else { return nil }
        }
        scan.skipBlanks()
        guard scan.isAtEnd, check.breaches.isEmpty else { return nil }
        for index in definition.columns.indices where index >= 63 || seen >> index & 1 == 0 {
            take(.null, at: index, isPresent: false, &check)
        }
        return verdict(check)
    }
}

/// A cursor over one line of JSON; every method leaves what it does not know to the general reader.
private struct LineScanner {
    let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0

    init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    var isAtEnd: Bool { at == bytes.count }

    mutating func skipBlanks() {
        while at < bytes.count, bytes[at] == 32 || bytes[at] == 13 || bytes[at] == 9 { at += 1 }
    }

    mutating func skip(_ byte: UInt8) -> Bool {
        guard at < bytes.count, bytes[at] == byte else { return false }
        at += 1
        return true
    }

    private mutating func skip(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard bytes.count - at >= count else { return false }
        for index in 0..<count where bytes[at + index] != word.utf8Start[index] { return false }
        at += count
        return true
    }

    /// The column whose name stands here in quotes; the one after the last is looked at first.
    mutating func column(among names: [[UInt8]], expecting expected: Int) -> Int? {
        guard skip(0x22) else { return nil }
        for step in 0..<names.count {
            let index = (expected + step) % names.count
            let name = names[index]
            guard bytes.count - at > name.count, bytes[at + name.count] == 0x22 else { continue }
            var isEqual = true
            for place in 0..<name.count where bytes[at + place] != name[place] {
                isEqual = false
                break
            }
            if isEqual {
                at += name.count + 1
                return index
            }
        }
        return nil
    }

    /// A value of the type of the column at `index`, or null.
    mutating func cell(as type: ColumnType, at index: Int, of source: SourceDefinition) -> CellValue? {
        guard at < bytes.count else { return nil }
        if bytes[at] == 0x6E { return skip("null") ? .null : nil }
        switch type {
        case .string: return text().flatMap { $0.utf8.count <= SourceContract.textByteCountMax ? .text($0) : nil }
        case .bool:
            if skip("true") { return .bool(true) }
            return skip("false") ? .bool(false) : nil
        case .int64: return integer().map(CellValue.integer)
        case .timestamp:
            if bytes[at] == 0x22 {
                var breaches: [ContractBreach] = []
                return text().flatMap { CellReader.cell(.string($0), as: source.columns[index], &breaches) }
            }
            return integer().flatMap { EventTime(milliseconds: $0).isAccepted ? .integer($0) : nil }
        case .float64: return number().map(CellValue.double)
        case .vector, .list: return nil  // left to the general reader
        }
    }

    private mutating func text() -> String? {
        guard skip(0x22) else { return nil }
        var end = at
        while end < bytes.count, bytes[end] != 0x22 {
            if bytes[end] == 0x5C || bytes[end] < 0x20 { return nil }
            end += 1
        }
        guard end < bytes.count else { return nil }
        let text = String(validating: UnsafeBufferPointer(rebasing: bytes[at..<end]), as: UTF8.self)
        at = end + 1
        return text
    }

    /// At most 18 digits, as JSON writes them, with how many there are.
    private mutating func digits() -> (value: Int64, count: Int)? {
        let start = at
        var value: Int64 = 0
        while at < bytes.count, 48...57 ~= bytes[at] {
            if at - start == 18 { return nil }
            value = value * 10 + Int64(bytes[at] - 48)
            at += 1
        }
        return at > start ? (value, at - start) : nil
    }

    private var isAtNumberEnd: Bool {
        at == bytes.count || bytes[at] == 0x2C || bytes[at] == 0x7D || bytes[at] == 32 || bytes[at] == 13
    }

    private mutating func integer() -> Int64? {
        let isNegative = skip(0x2D)
        let start = at
        guard let (value, count) = digits(), count == 1 || bytes[start] != 48, isAtNumberEnd else { return nil }
        if isNegative && value == 0 { return nil }
        return isNegative ? -value : value
    }

    private static let powers: [Double] = [
        1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ]

    /// A decimal number of at most 15 digits: both parts of the one division are exact, so it rounds as reading does.
    private mutating func number() -> Double? {
        let isNegative = skip(0x2D)
        let start = at
        guard let (whole, count) = digits(), count == 1 || bytes[start] != 48 else { return nil }
        var value = Double(whole)
        if skip(0x2E) {
            guard let (fraction, places) = digits(), count + places <= 15 else { return nil }
            let power = Self.powers[places]
            value = Double(whole * Int64(power) + fraction) / power
        } else if count > 15 {
            return nil
        }
        guard isAtNumberEnd else { return nil }
        return value == 0 ? 0 : isNegative ? -value : value
    }
}
