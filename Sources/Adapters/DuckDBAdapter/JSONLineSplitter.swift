import PlatformCore
import StoragePorts

/// Cuts a stream of bytes into lines, each at most a stated length.
///
/// Empty lines are left out.
struct JSONLineSplitter {
    private let byteCountMax: Int
    private var pending: [UInt8] = []

    init(byteCountMax: Int) { self.byteCountMax = byteCountMax }

    /// Takes more bytes and hands out the lines that end in them.
    mutating func add(_ bytes: UnsafeRawBufferPointer, _ body: (ArraySlice<UInt8>) throws -> Void) throws {
        var rest = bytes[...]
        while let end = rest.firstIndex(of: 10) {
            try append(rest[..<end])
            if !pending.isEmpty { try body(pending[...]) }
            pending.removeAll(keepingCapacity: true)
            rest = rest[(end + 1)...]
        }
        try append(rest)
    }

    /// Hands out a last line without an end.
    mutating func finish(_ body: (ArraySlice<UInt8>) throws -> Void) throws {
        if !pending.isEmpty { try body(pending[...]) }
        pending = []
    }

    private mutating func append(_ part: Slice<UnsafeRawBufferPointer>) throws {
        guard pending.count + part.count <= byteCountMax else {
            throw StoreError(.limitExceeded, "duckdb", "a row of the answer is longer than \(byteCountMax) bytes")
        }
        pending.append(contentsOf: part)
    }
}

/// Reads one row of DuckDB's `-jsonlines` output.
enum DuckDBRow {
    /// The row as a JSON object.
    ///
    /// NaN and the infinities, which DuckDB prints bare, become `null`.
    static func parse(_ line: ArraySlice<UInt8>, byteCountMax: Int) throws(StoreError) -> JSONValue {
        let limits = JSONLimits(byteCountMax: byteCountMax, depthMax: 64)
        if let value = try? JSONValue.parse(line, limits: limits) { return value }
        do {
            return try JSONValue.parse(withoutBareNumbers(line), limits: limits)
        } catch {
            throw StoreError(.unavailable, "duckdb", "a row of the answer is no JSON: \(error)")
        }
    }

    /// The line with `NaN`, `Infinity`, `-Infinity` outside of texts replaced by `null`.
    static func withoutBareNumbers(_ line: ArraySlice<UInt8>) -> [UInt8] {
        let words = ["NaN", "nan", "-nan", "Infinity", "-Infinity", "inf", "-inf"].map { Array($0.utf8) }
        var out: [UInt8] = []
        out.reserveCapacity(line.count + 16)
        var at = line.startIndex
        var isInText = false
        while at < line.endIndex {
            let byte = line[at]
            if isInText {
                out.append(byte)
                if byte == 0x5C, at + 1 < line.endIndex {
                    at += 1
                    out.append(line[at])
                } else if byte == 0x22 {
                    isInText = false
                }
            } else if byte == 0x22 {
                isInText = true
                out.append(byte)
            } else if let word = words.filter({ line[at...].starts(with: $0) }).max(by: { $0.count < $1.count }) {
                out.append(contentsOf: "null".utf8)
                at += word.count
                continue
            } else {
                out.append(byte)
            }
            at += 1
        }
        return out
    }
}
