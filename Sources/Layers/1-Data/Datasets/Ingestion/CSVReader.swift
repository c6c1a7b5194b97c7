import PlatformCore

/// Reads a CSV file (RFC 4180): fields separated by commas, quoted where needed, `""` for a quote inside quotes, lines that
/// end in LF or CR LF; UTF-8, with or without a byte order mark.
///
/// Empty lines are left out.
///
/// A quote that does not close within the record limit, or text behind a closing quote, costs one line: it is reported with
/// its number, and reading goes on behind it.
struct CSVReader: ~Copyable {
    private var window: FileWindow
    private let recordByteCountMax: Int
    private var line = 1

    static let fieldCountMax = 4096

    init(path: String, subject: String, recordByteCountMax: Int) throws {
        var window = try FileWindow(path: path, subject: subject)
        try window.fill()
        if window.bytes.starts(with: [0xEF, 0xBB, 0xBF]) { window.consume(3) }
        self.window = window
        self.recordByteCountMax = recordByteCountMax
    }

    var consumedByteCount: Int { window.consumedByteCount }
    /// The number of the next line.
    var nextLine: Int { line }

    /// Goes on where a reader of the same file stood.
    mutating func move(to position: Int, line: Int) throws {
        try window.move(to: position)
        self.line = line
    }

    private enum Outcome {
        case record(fields: [String], byteCount: Int, lineCount: Int)
        case blank(byteCount: Int)
        case broken(String)
        case incomplete
    }

    /// The next record or malformed line; `nil` at the end.
    mutating func next() throws -> FileItem? {
        while true {
            if window.availableCount == 0 {
                if window.isAtEnd { return nil }
                try window.fill()
                continue
            }
            let isAtEnd = window.isAtEnd
            let start = window.start
            let limit = recordByteCountMax
            let outcome = window.bytes.withUnsafeBufferPointer {
                Self.parse(UnsafeBufferPointer(rebasing: $0[start...]), isAtEnd: isAtEnd, recordByteCountMax: limit)
            }
            switch outcome {
            case .record(let fields, let byteCount, let lineCount):
                window.consume(byteCount)
                defer { line += lineCount }
                return .record(line: line, fields: fields)
            case .blank(let byteCount):
                window.consume(byteCount)
                line += 1
            case .broken(let reason): return try skipLine(reason)
            case .incomplete: try window.fill()
            }
        }
    }

    /// Leaves out one physical line, however long it is.
    private mutating func skipLine(_ reason: String) throws -> FileItem {
        var text: [UInt8] = []
        while true {
            let available = window.bytes[window.start...]
            if let end = available.firstIndex(of: 10) {
                text += available[..<end].prefix(QuarantinedRow.rowByteCountMax - text.count)
                window.consume(end - window.start + 1)
                break
            }
            text += available.prefix(QuarantinedRow.rowByteCountMax - text.count)
            window.consume(available.count)
            if window.isAtEnd { break }
            try window.fill()
        }
        defer { line += 1 }
        return .malformed(line: line, text: String(decoding: text, as: UTF8.self), reason: reason)
    }

    /// One record at the beginning of `bytes`.
    private static func parse(_ bytes: UnsafeBufferPointer<UInt8>, isAtEnd: Bool, recordByteCountMax: Int) -> Outcome {
        let comma: UInt8 = 0x2C
        let quote: UInt8 = 0x22
        var fields: [String] = []
        var at = 0
        var lineCount = 0
        while true {
            if at < bytes.count, bytes[at] == quote {
                at += 1
                var start = at
                var content: [UInt8] = []
                while true {
                    while at < bytes.count, bytes[at] != quote {
                        if bytes[at] == 10 { lineCount += 1 }
                        at += 1
                    }
                    if at > recordByteCountMax {
                        return .broken("a quote is not closed within \(recordByteCountMax) bytes")
                    }
                    guard at < bytes.count else {
                        return isAtEnd ? .broken("a quote is not closed") : .incomplete
                    }
                    guard at + 1 < bytes.count || isAtEnd else { return .incomplete }
                    if at + 1 < bytes.count, bytes[at + 1] == quote {
                        content.append(contentsOf: bytes[start...at])
                        at += 2
                        start = at
                        continue
                    }
                    break
                }
                let slice = UnsafeBufferPointer(rebasing: bytes[start..<at])
                if content.isEmpty {
                    guard let text = String(validating: slice, as: UTF8.self) else { return .broken("is not UTF-8") }
                    fields.append(text)
                } else {
                    content.append(contentsOf: slice)
                    guard let text = String(validating: content, as: UTF8.self) else { return .broken("is not UTF-8") }
                    fields.append(text)
                }
                at += 1
            } else {
                let start = at
                while at < bytes.count, bytes[at] != comma, bytes[at] != 10 { at += 1 }
                if at > recordByteCountMax { return .broken("is longer than \(recordByteCountMax) bytes") }
                guard at < bytes.count || isAtEnd else { return .incomplete }
                var end = at
                if at == bytes.count || bytes[at] == 10, end > start, bytes[end - 1] == 13 { end -= 1 }
                if fields.isEmpty, end == start, at < bytes.count, bytes[at] == 10 { return .blank(byteCount: at + 1) }
                let slice = UnsafeBufferPointer(rebasing: bytes[start..<end])
                guard let text = String(validating: slice, as: UTF8.self) else { return .broken("is not UTF-8") }
                fields.append(text)
            }
            guard fields.count <= fieldCountMax else { return .broken("has more than \(fieldCountMax) fields") }
            if at >= bytes.count {
                return isAtEnd ? .record(fields: fields, byteCount: bytes.count, lineCount: lineCount + 1) : .incomplete
            }
            switch bytes[at] {
            case comma: at += 1
            case 10: return .record(fields: fields, byteCount: at + 1, lineCount: lineCount + 1)
            case 13:
                guard at + 1 < bytes.count || isAtEnd else { return .incomplete }
                guard at + 1 == bytes.count || bytes[at + 1] == 10 else {
                    return .broken("has text behind a closing quote")
                }
                at += 1
            default: return .broken("has text behind a closing quote")
            }
            if at == bytes.count, !isAtEnd { return .incomplete }
            if at < bytes.count, bytes[at] == 10, at > 0, bytes[at - 1] == 13 {
                return .record(fields: fields, byteCount: at + 1, lineCount: lineCount + 1)
            }
            if at == bytes.count, bytes[at - 1] == 13 {
                return .record(fields: fields, byteCount: at, lineCount: lineCount + 1)
            }
        }
    }
}

/// Reads the lines of a file, each at most a stated length; empty ones are left out.
struct LineReader: ~Copyable {
    private var window: FileWindow
    private let lineByteCountMax: Int
    private var line = 0

    init(path: String, subject: String, lineByteCountMax: Int) throws {
        window = try FileWindow(path: path, subject: subject)
        self.lineByteCountMax = lineByteCountMax
    }

    var consumedByteCount: Int { window.consumedByteCount }
    /// The number of the next line.
    var nextLine: Int { line + 1 }

    /// Goes on where a reader of the same file stood.
    mutating func move(to position: Int, line: Int) throws {
        try window.move(to: position)
        self.line = line - 1
    }

    /// The next line with its number; `isComplete` is false for one that is too long, of which only the beginning is given.
    mutating func next() throws -> (number: Int, bytes: [UInt8], isComplete: Bool)? {
        var kept: [UInt8] = []
        var isComplete = true
        while true {
            let available = window.bytes[window.start...]
            let end = available.firstIndex(of: 10)
            let part = available[..<(end ?? available.endIndex)]
            if kept.count + part.count > lineByteCountMax { isComplete = false }
            kept += part.prefix(max(0, lineByteCountMax - kept.count))
            window.consume(part.count + (end == nil ? 0 : 1))
            if end == nil, !window.isAtEnd {
                try window.fill()
                continue
            }
            if end == nil, kept.isEmpty { return nil }
            line += 1
            if kept.last == 13 { kept.removeLast() }
            if !kept.isEmpty { return (line, kept, isComplete) }
            if end == nil { return nil }
        }
    }
}
