/// Decodes the pages of one column chunk.
struct ChunkDecoder {
    private struct PageHeader {
        var type = -1
        var expandedByteCount = 0
        var byteCount = 0
        var valueCount = 0
        var encoding = -1
        var levelEncoding = 3
        var levelByteCount = 0
        var repetitionByteCount = 0
        var isCompressed = true
    }

    private let kind: ColumnKind
    private let physical: Int
    private let isOptional: Bool
    private let codec: ColumnCodec
    private let rowCount: Int
    private let limits: ColumnFileLimits

    private var words: [Int64] = []
    private var offsets: [Int] = []
    private var bytes: [UInt8] = []
    private var present: [UInt8]?
    private var done = 0
    private var dictionary: ColumnVector?

    init(
        kind: ColumnKind, physical: Int, isOptional: Bool, codec: ColumnCodec, rowCount: Int, limits: ColumnFileLimits
    ) {
        self.kind = kind
        self.physical = physical
        self.isOptional = isOptional
        self.codec = codec
        self.rowCount = rowCount
        self.limits = limits
    }

    private var isText: Bool { kind == .text }

    /// - Parameter count: bytes of the chunk; `chunk` is longer by `ByteCursor.slack`.
    mutating func decode(_ chunk: [UInt8], count: Int) throws(ColumnFileError) -> ColumnVector {
        if isText {
            offsets = [Int](repeating: 0, count: rowCount + 1)
        } else {
            words = [Int64](repeating: 0, count: rowCount)
        }
        var position = 0
        while done < rowCount {
            var reader = ThriftReader(chunk, from: position, to: count)
            let header = try Self.pageHeader(&reader)
            position = reader.position
            guard header.byteCount <= count - position else { throw .corrupted("a page is longer than its column") }
            guard header.expandedByteCount <= limits.pageByteCountMax else {
                throw ColumnFileError(
                    .tooLarge,
                    "a page expands to \(header.expandedByteCount) bytes; at most \(limits.pageByteCountMax) are read")
            }
            let range = position..<(position + header.byteCount)
            switch header.type {
            case 0, 3: try dataPage(header, chunk, range)
            case 2: try dictionaryPage(header, chunk, range)
            default: break
            }
            position = range.upperBound
        }
        if isText { return ColumnVector(offsets: offsets, bytes: bytes, present: present) }
        return ColumnVector(words: words, present: present)
    }

    private static func pageHeader(_ reader: inout ThriftReader) throws(ColumnFileError) -> PageHeader {
        var header = PageHeader()
        func size(_ reader: inout ThriftReader) throws(ColumnFileError) -> Int {
            let value = try reader.integer()
            guard 0...Int64(Int32.max) ~= value else { throw .corrupted("a page has the size \(value)") }
            return Int(value)
        }
        try reader.structure(depth: 0) { (reader, field, type) throws(ColumnFileError) in
            switch (field, type) {
            case (1, 5): header.type = Int(try reader.integer())
            case (2, 5): header.expandedByteCount = try size(&reader)
            case (3, 5): header.byteCount = try size(&reader)
            case (5, 12), (7, 12):
                try reader.structure(depth: 1) { (reader, field, type) throws(ColumnFileError) in
                    switch (field, type) {
                    case (1, 5): header.valueCount = try size(&reader)
                    case (2, 5): header.encoding = Int(try reader.integer())
                    case (3, 5): header.levelEncoding = Int(try reader.integer())
                    default: return false
                    }
                    return true
                }
            case (8, 12):
                try reader.structure(depth: 1) { (reader, field, type) throws(ColumnFileError) in
                    switch (field, type) {
                    case (1, 5): header.valueCount = try size(&reader)
                    case (4, 5): header.encoding = Int(try reader.integer())
                    case (5, 5): header.levelByteCount = try size(&reader)
                    case (6, 5): header.repetitionByteCount = try size(&reader)
                    case (7, 1), (7, 2): header.isCompressed = type == 1
                    default: return false
                    }
                    return true
                }
            default: return false
            }
            return true
        }
        return header
    }

    private func expand(_ chunk: [UInt8], _ range: Range<Int>, size: Int, isCompressed: Bool) throws(ColumnFileError)
        -> [UInt8]
    {
        var out: [UInt8] = []
        var failure: ColumnFileError?
        chunk.withUnsafeBytes { all in
            do throws(ColumnFileError) {
                out = try (isCompressed ? codec : .none).expand(
                    UnsafeRawBufferPointer(rebasing: all[range]), size: size)
            } catch { failure = error }
        }
        if let failure { throw failure }
        return out
    }

    private mutating func dictionaryPage(_ header: PageHeader, _ chunk: [UInt8], _ range: Range<Int>)
        throws(ColumnFileError)
    {
        guard dictionary == nil else { throw .corrupted("a second dictionary") }
        guard header.encoding == 0 || header.encoding == 2 else {
            throw ColumnFileError(.unsupported, "a dictionary in encoding \(header.encoding)")
        }
        let page = try expand(chunk, range, size: header.expandedByteCount, isCompressed: true)
        // Every entry but a truth value has at least four bytes.
        guard header.valueCount <= header.expandedByteCount / 4, physical != 0 else {
            throw .corrupted("a dictionary of \(header.valueCount) values in \(header.expandedByteCount) bytes")
        }
        var inner = ChunkDecoder(
            kind: kind, physical: physical, isOptional: false, codec: .none, rowCount: header.valueCount, limits: limits
        )
        if isText {
            inner.offsets = [Int](repeating: 0, count: header.valueCount + 1)
        } else {
            inner.words = [Int64](repeating: 0, count: header.valueCount)
        }
        let count = header.expandedByteCount
        try Self.withCursor(page, count) { (cursor) throws(ColumnFileError) in
            try inner.plain(&cursor, header.valueCount)
        }
        dictionary =
            isText ? ColumnVector(offsets: inner.offsets, bytes: inner.bytes) : ColumnVector(words: inner.words)
    }

    private static func withCursor(
        _ bytes: [UInt8], _ count: Int, _ body: (inout ByteCursor) throws(ColumnFileError) -> Void
    ) throws(ColumnFileError) {
        var failure: ColumnFileError?
        bytes.withUnsafeBytes { all in
            guard let base = all.baseAddress else { return }
            var cursor = ByteCursor(base, count: count)
            do throws(ColumnFileError) { try body(&cursor) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private mutating func dataPage(_ header: PageHeader, _ chunk: [UInt8], _ range: Range<Int>) throws(ColumnFileError)
    {
        let rows = header.valueCount
        guard rows <= rowCount - done else { throw .corrupted("the pages hold more rows than the row group") }
        guard rows > 0 else { return }
        let levelBytes: Int
        var page: [UInt8]
        if header.type == 3 {
            guard header.repetitionByteCount == 0 else { throw ColumnFileError(.unsupported, "a repeated column") }
            levelBytes = header.levelByteCount
            guard levelBytes <= header.byteCount, levelBytes <= header.expandedByteCount else {
                throw .corrupted("the levels are longer than their page")
            }
            let start = range.lowerBound + levelBytes
            page = try expand(
                chunk, start..<range.upperBound, size: header.expandedByteCount - levelBytes,
                isCompressed: header.isCompressed)
            if levelBytes > 0 { page.insert(contentsOf: chunk[range.lowerBound..<start], at: 0) }
        } else {
            levelBytes = -1
            page = try expand(chunk, range, size: header.expandedByteCount, isCompressed: true)
        }
        var flags: [UInt8]?
        var valueCount = rows
        try Self.withCursor(page, header.expandedByteCount) { (cursor) throws(ColumnFileError) in
            if isOptional {
                var length = levelBytes
                if length < 0 {
                    guard header.levelEncoding == 3 else {
                        throw ColumnFileError(.unsupported, "levels in encoding \(header.levelEncoding)")
                    }
                    length = try cursor.fixed32()
                }
                let start = try cursor.take(length)
                (flags, valueCount) = try Self.levels(start, length, rows)
            } else if levelBytes > 0 {
                _ = try cursor.take(levelBytes)
            }
            try values(&cursor, header.encoding, valueCount)
        }
        if let flags {
            spread(flags, valueCount, rows)
        } else {
            present?.replaceSubrange(done..<(done + rows), with: repeatElement(1, count: rows))
        }
        done += rows
    }

    /// For each row whether it has a value (`nil` if all have), and how many have.
    private static func levels(_ start: UnsafeRawPointer, _ length: Int, _ rows: Int) throws(ColumnFileError) -> (
        [UInt8]?, Int
    ) {
        var probe = ByteCursor(start, count: length)
        if length > 0 {
            let header = try probe.varint()
            // The usual case: one run of ones.
            if header & 1 == 0, header >> 1 >= UInt64(rows), try probe.byte() == 1 { return (nil, rows) }
        }
        var levels = [UInt32](repeating: 0, count: rows)
        var failure: ColumnFileError?
        levels.withUnsafeMutableBufferPointer { out in
            guard let to = out.baseAddress else { return }
            var cursor = ByteCursor(start, count: length)
            do throws(ColumnFileError) { try cursor.hybrid(width: 1, count: rows, into: to) } catch { failure = error }
        }
        if let failure { throw failure }
        var flags = [UInt8](repeating: 0, count: rows)
        var count = 0
        for row in 0..<rows {
            guard levels[row] <= 1 else { throw .corrupted("a definition level of \(levels[row])") }
            flags[row] = UInt8(levels[row])
            count += Int(levels[row])
        }
        return (flags, count)
    }

    /// Moves the page's dense values to their rows.
    private mutating func spread(_ flags: [UInt8], _ valueCount: Int, _ rows: Int) {
        if present == nil { present = [UInt8](repeating: 1, count: rowCount) }
        present?.replaceSubrange(done..<(done + rows), with: flags)
        guard valueCount < rows else { return }
        var from = done + valueCount - 1
        if isText {
            // Ends of the texts: a null ends where the text before it ended.
            let dense = Array(offsets[(done + 1)..<(done + 1 + valueCount)])
            var (next, end) = (0, offsets[done])
            for row in 0..<rows {
                if flags[row] != 0 {
                    end = dense[next]
                    next += 1
                }
                offsets[done + row + 1] = end
            }
        } else {
            for row in stride(from: rows - 1, through: 0, by: -1) {
                if flags[row] != 0 {
                    words[done + row] = words[from]
                    from -= 1
                } else {
                    words[done + row] = 0
                }
            }
        }
    }

    /// Decodes `count` values behind the `done` rows.
    private mutating func values(_ cursor: inout ByteCursor, _ encoding: Int, _ count: Int) throws(ColumnFileError) {
        switch (encoding, physical) {
        case (0, _): try plain(&cursor, count)
        case (2, _), (8, _): try indexed(&cursor, count)
        case (3, 0):
            let length = try cursor.fixed32()
            let start = try cursor.take(length)
            try truths(count) { (out) throws(ColumnFileError) in
                var inner = ByteCursor(start, count: length)
                try inner.hybrid(width: 1, count: count, into: out)
            }
        case (5, 1), (5, 2):
            let isNarrow = physical == 1
            try withWords(count) { (out) throws(ColumnFileError) in
                try cursor.deltas(count: count, into: out)
                // Deltas of 32-bit integers wrap in 32 bits.
                if isNarrow { for index in 0..<count { out[index] = Int64(Int32(truncatingIfNeeded: out[index])) } }
            }
        case (6, 6): try lengthsThenTexts(&cursor, count)
        case (7, 6): try prefixesThenTexts(&cursor, count)
        case (9, 4), (9, 5), (9, 1), (9, 2): try streams(&cursor, count)
        default: throw ColumnFileError(.unsupported, "values in encoding \(encoding)")
        }
    }

    private mutating func withWords(_ count: Int, _ body: (UnsafeMutablePointer<Int64>) throws(ColumnFileError) -> Void)
        throws(ColumnFileError)
    {
        var failure: ColumnFileError?
        let start = done
        words.withUnsafeMutableBufferPointer { all in
            guard count > 0, let base = all.baseAddress else { return }
            do throws(ColumnFileError) { try body(base + start) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private mutating func truths(_ count: Int, _ body: (UnsafeMutablePointer<UInt32>) throws(ColumnFileError) -> Void)
        throws(ColumnFileError)
    {
        var bits = [UInt32](repeating: 0, count: count)
        var failure: ColumnFileError?
        bits.withUnsafeMutableBufferPointer { out in
            guard let base = out.baseAddress else { return }
            do throws(ColumnFileError) { try body(base) } catch { failure = error }
        }
        if let failure { throw failure }
        for index in 0..<count { words[done + index] = Int64(bits[index]) }
    }

    /// Plain values: fixed width, or each text after its length.
    fileprivate mutating func plain(_ cursor: inout ByteCursor, _ count: Int) throws(ColumnFileError) {
        switch physical {
        case 0:
            let start = try cursor.take((count + 7) / 8)
            for index in 0..<count {
                words[done + index] = Int64(truncatingIfNeeded: ByteCursor.field(start, index, 1, 1))
            }
        case 1:
            let start = try cursor.take(count * 4)
            try withWords(count) { (out) throws(ColumnFileError) in
                for index in 0..<count {
                    out[index] = Int64(
                        Int32(littleEndian: start.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)))
                }
            }
        case 4:
            let start = try cursor.take(count * 4)
            try withWords(count) { (out) throws(ColumnFileError) in
                for index in 0..<count {
                    let bits = UInt32(littleEndian: start.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
                    out[index] = Int64(bitPattern: Double(Float(bitPattern: bits)).bitPattern)
                }
            }
        case 2, 5:
            let start = try cursor.take(count * 8)
            try withWords(count) { (out) throws(ColumnFileError) in
                UnsafeMutableRawPointer(out).copyMemory(from: start, byteCount: count * 8)
            }
        default:
            for index in 0..<count {
                let length = try cursor.fixed32()
                let start = try cursor.take(length)
                try append(start, length, row: index)
            }
        }
    }

    private mutating func append(_ start: UnsafeRawPointer, _ length: Int, row: Int) throws(ColumnFileError) {
        guard length <= limits.chunkByteCountMax - bytes.count else {
            throw ColumnFileError(.tooLarge, "more than \(limits.chunkByteCountMax) bytes of text in a row group")
        }
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: start, count: length))
        offsets[done + row + 1] = bytes.count
    }

    /// Values as places in the dictionary.
    private mutating func indexed(_ cursor: inout ByteCursor, _ count: Int) throws(ColumnFileError) {
        guard count > 0 else { return }
        guard let dictionary else { throw .corrupted("a page needs a dictionary that is not there") }
        let width = Int(try cursor.byte())
        var places = [UInt32](repeating: 0, count: count)
        var failure: ColumnFileError?
        places.withUnsafeMutableBufferPointer { out in
            guard let base = out.baseAddress else { return }
            do throws(ColumnFileError) { try cursor.hybrid(width: width, count: count, into: base) } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        let size = UInt32(dictionary.count)
        guard places.allSatisfy({ $0 < size }) else { throw .corrupted("a place outside the dictionary") }
        if isText {
            for index in 0..<count {
                let place = Int(places[index])
                let range = dictionary.offsets[place]..<dictionary.offsets[place + 1]
                guard range.count <= limits.chunkByteCountMax - bytes.count else {
                    throw ColumnFileError(
                        .tooLarge, "more than \(limits.chunkByteCountMax) bytes of text in a row group")
                }
                bytes.append(contentsOf: dictionary.bytes[range])
                offsets[done + index + 1] = bytes.count
            }
        } else {
            try withWords(count) { (out) throws(ColumnFileError) in
                dictionary.words.withUnsafeBufferPointer { values in
                    for index in 0..<count { out[index] = values[Int(places[index])] }
                }
            }
        }
    }

    private func deltas(_ cursor: inout ByteCursor, _ count: Int) throws(ColumnFileError) -> [Int64] {
        var out = [Int64](repeating: 0, count: count)
        var failure: ColumnFileError?
        out.withUnsafeMutableBufferPointer { all in
            guard let base = all.baseAddress else { return }
            do throws(ColumnFileError) { try cursor.deltas(count: count, into: base) } catch { failure = error }
        }
        if let failure { throw failure }
        return out
    }

    private mutating func lengthsThenTexts(_ cursor: inout ByteCursor, _ count: Int) throws(ColumnFileError) {
        guard count > 0 else { return }
        for (index, length) in try deltas(&cursor, count).enumerated() {
            guard 0...Int64(Int32.max) ~= length else { throw .corrupted("a text of \(length) bytes") }
            let start = try cursor.take(Int(length))
            try append(start, Int(length), row: index)
        }
    }

    private mutating func prefixesThenTexts(_ cursor: inout ByteCursor, _ count: Int) throws(ColumnFileError) {
        guard count > 0 else { return }
        let prefixes = try deltas(&cursor, count)
        let lengths = try deltas(&cursor, count)
        var last: [UInt8] = []
        for index in 0..<count {
            guard 0...Int64(last.count) ~= prefixes[index], 0...Int64(Int32.max) ~= lengths[index] else {
                throw .corrupted("a text that shares \(prefixes[index]) of \(last.count) bytes")
            }
            let start = try cursor.take(Int(lengths[index]))
            last.removeLast(last.count - Int(prefixes[index]))
            last.append(contentsOf: UnsafeRawBufferPointer(start: start, count: Int(lengths[index])))
            guard last.count <= limits.chunkByteCountMax - bytes.count else {
                throw ColumnFileError(.tooLarge, "more than \(limits.chunkByteCountMax) bytes of text in a row group")
            }
            bytes.append(contentsOf: last)
            offsets[done + index + 1] = bytes.count
        }
    }

    /// The first bytes of all values, then their second bytes, and so on.
    private mutating func streams(_ cursor: inout ByteCursor, _ count: Int) throws(ColumnFileError) {
        let physical = physical
        let width = physical == 4 || physical == 1 ? 4 : 8
        let start = try cursor.take(count * width)
        try withWords(count) { (out) throws(ColumnFileError) in
            for index in 0..<count {
                var word: UInt64 = 0
                for byte in 0..<width {
                    word |= UInt64(start.load(fromByteOffset: byte * count + index, as: UInt8.self)) << UInt64(8 * byte)
                }
                switch physical {
                case 4:
                    out[index] = Int64(
                        bitPattern: Double(Float(bitPattern: UInt32(truncatingIfNeeded: word))).bitPattern)
                case 1: out[index] = Int64(Int32(truncatingIfNeeded: word))
                default: out[index] = Int64(bitPattern: word)
                }
            }
        }
    }
}
