import ModelServing
import PlatformCore

/// Reads a tensor's `data` from JSON: flat or nested lists, row after row.
struct JSONTensor {
    private var scanner: JSONScanner
    private let name: String
    private let datatype: TensorDatatype
    private let count: Int

    /// Reads `count` elements that fill `range`.
    static func values(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, datatype: TensorDatatype, count: Int, name: String
    ) throws(PlatformError) -> InputColumns.Values {
        var tensor = JSONTensor(
            scanner: JSONScanner(UnsafeRawBufferPointer(rebasing: bytes[..<range.upperBound]), from: range.lowerBound),
            name: name, datatype: datatype, count: count)
        switch datatype {
        case .bytes:
            var texts: [String?] = []
            try tensor.elements { (scanner) throws(PlatformError) in
                if scanner.takeWord("null") {
                    texts.append(nil)
                } else {
                    let text = try scanner.string()
                    texts.append(text.isEmpty ? nil : text)
                }
            }
            return .texts(texts)
        case .bool, .uint8, .uint16, .uint32, .uint64, .int8, .int16, .int32, .int64:
            var integers: [Int64] = []
            let allowed = datatype.wholeRange
            try tensor.elements { (scanner) throws(PlatformError) in
                if datatype == .bool, scanner.takeWord("true") {
                    integers.append(1)
                } else if datatype == .bool, scanner.takeWord("false") {
                    integers.append(0)
                } else {
                    guard let value = Self.whole(&scanner), allowed.contains(value) else {
                        throw InferenceFault.invalid(
                            "input '\(name)' has an element that is no \(datatype.rawValue)")
                    }
                    integers.append(value)
                }
            }
            return .integers(integers)
        case .fp16, .fp32, .fp64, .bf16:
            var numbers: [Double] = []
            try tensor.elements { (scanner) throws(PlatformError) in
                if let number = DecimalText.number(in: scanner.bytes, at: scanner.at) {
                    scanner.at = number.end
                    numbers.append(datatype.rounded(number.value))
                } else if scanner.takeWord("null") || scanner.takeWord("NaN") {
                    numbers.append(.nan)
                } else if scanner.takeWord("Infinity") {
                    numbers.append(.infinity)
                } else if scanner.takeWord("-Infinity") {
                    numbers.append(-.infinity)
                } else {
                    throw InferenceFault.invalid("input '\(name)' has an element that is no \(datatype.rawValue)")
                }
            }
            return .numbers(numbers)
        }
    }

    private static func whole(_ scanner: inout JSONScanner) -> Int64? {
        guard let number = DecimalText.number(in: scanner.bytes, at: scanner.at) else { return nil }
        defer { scanner.at = number.end }
        guard number.isWhole else { return Int64(exactly: number.value) }
        return Int64(String(decoding: scanner.bytes[scanner.at..<number.end], as: UTF8.self))
    }

    /// Calls `element` for each element, with the scanner at it.
    private mutating func elements(_ element: (inout JSONScanner) throws(PlatformError) -> Void) throws(PlatformError) {
        var depth = 0
        var found = 0
        guard scanner.peek() == 0x5B else { throw scanner.fault("the data of input '\(name)' must be a list") }
        walk: while true {
            // A value or an opening bracket is due here.
            if scanner.take(0x5B) {
                depth += 1
                if scanner.take(0x5D) { depth -= 1 } else { continue walk }
            } else {
                found += 1
                guard found <= count else { throw wrongCount("more than \(count)") }
                try element(&scanner)
            }
            // After a value: closing brackets, then a comma or the end.
            while depth > 0, scanner.take(0x5D) { depth -= 1 }
            guard depth > 0 else { break }
            guard scanner.take(0x2C) else { throw scanner.fault("a comma is expected in the data of input '\(name)'") }
            _ = scanner.peek()
        }
        scanner.skipBlanks()
        guard scanner.at == scanner.bytes.count else { throw scanner.fault("the data of input '\(name)' goes on") }
        guard found == count else { throw wrongCount("\(found)") }
    }

    private func wrongCount(_ found: String) -> PlatformError {
        InferenceFault.invalid("unexpected number of elements for input '\(name)': \(found), expecting \(count)")
    }
}
