/// Encodes one column of one row group.
struct ChunkEncoder {
    /// Rows of one page.
    static let pageRowCount = 1 << 17
    /// Most entries of a dictionary.
    static let dictionaryCountMax = 1 << 14
    /// Longest text whose bounds go into the statistics.
    static let boundByteCountMax = 128

    let vector: ColumnVector
    let column: FileColumn
    let settings: ParquetWriter.Settings

    /// Appends the chunk's pages.
    func encode(into out: inout [UInt8]) -> ParquetWriter.RowGroup.Chunk {
        let start = out.count
        var chunk = ParquetWriter.RowGroup.Chunk(
            encodings: [0, 3], valueCount: vector.count, expandedByteCount: 0, byteCount: 0, dictionaryByteCount: 0,
            statistics: statistics())
        var places: [UInt32]?
        var width = 0
        if column.kind != .bool, let found = dictionary() {
            places = found.places
            width = found.count <= 1 ? 0 : Int.bitWidth - (found.count - 1).leadingZeroBitCount
            chunk.encodings = [0, 3, 8]
            let body = found.page
            let packed = settings.codec.compress(body, level: settings.level)
            var header = ThriftWriter()
            header.element { page in
                page.int32(1, 2)
                page.int32(2, body.count)
                page.int32(3, packed.count)
                page.structure(7) { dictionary in
                    dictionary.int32(1, found.count)
                    dictionary.int32(2, 0)
                }
            }
            out.append(contentsOf: header.bytes)
            out.append(contentsOf: packed)
            chunk.dictionaryByteCount = header.bytes.count + packed.count
            chunk.expandedByteCount += header.bytes.count + body.count
        }
        var row = 0
        repeat {
            let rows = row..<min(vector.count, row + Self.pageRowCount)
            let body = page(rows, places: places, width: width)
            let packed = settings.codec.compress(body, level: settings.level)
            var header = ThriftWriter()
            header.element { page in
                page.int32(1, 0)
                page.int32(2, body.count)
                page.int32(3, packed.count)
                page.structure(5) { data in
                    data.int32(1, rows.count)
                    data.int32(2, places == nil ? 0 : 8)
                    data.int32(3, 3)
                    data.int32(4, 3)
                }
            }
            out.append(contentsOf: header.bytes)
            out.append(contentsOf: packed)
            chunk.expandedByteCount += header.bytes.count + body.count
            row = rows.upperBound
        } while row < vector.count
        chunk.byteCount = out.count - start
        return chunk
    }

    // MARK: Pages

    private func page(_ rows: Range<Int>, places: [UInt32]?, width: Int) -> [UInt8] {
        var body: [UInt8] = []
        body.reserveCapacity(rows.count * 8 + rows.count / 8 + 64)
        let present = vector.present
        if column.isOptional {
            var levels: [UInt8] = []
            if let present {
                Self.pack(rows.count, width: 1, into: &levels) { UInt64(present[rows.lowerBound + $0]) }
            } else {
                Self.varint(UInt64(rows.count) << 1, into: &levels)
                levels.append(1)
            }
            for shift in 0..<4 { body.append(UInt8(truncatingIfNeeded: levels.count >> (8 * shift))) }
            body.append(contentsOf: levels)
        }
        if let places {
            body.append(UInt8(width))
            if let present {
                let dense = rows.filter { present[$0] != 0 }
                Self.pack(dense.count, width: width, into: &body) { UInt64(places[dense[$0]]) }
            } else {
                Self.pack(rows.count, width: width, into: &body) { UInt64(places[rows.lowerBound + $0]) }
            }
            return body
        }
        switch column.kind {
        case .text, nil:
            for row in rows where present.map({ $0[row] != 0 }) ?? true {
                let range = vector.offsets[row]..<vector.offsets[row + 1]
                for shift in 0..<4 { body.append(UInt8(truncatingIfNeeded: range.count >> (8 * shift))) }
                body.append(contentsOf: vector.bytes[range])
            }
        case .bool:
            let dense = rows.filter { row in present.map { $0[row] != 0 } ?? true }
            var byte: UInt8 = 0
            for (index, row) in dense.enumerated() {
                byte |= UInt8(truncatingIfNeeded: vector.words[row] & 1) << UInt8(index & 7)
                if index & 7 == 7 || index == dense.count - 1 {
                    body.append(byte)
                    byte = 0
                }
            }
        default:
            if let present {
                vector.words.withUnsafeBufferPointer { words in
                    for row in rows where present[row] != 0 {
                        withUnsafeBytes(of: words[row].littleEndian) { body.append(contentsOf: $0) }
                    }
                }
            } else {
                vector.words.withUnsafeBytes {
                    body.append(contentsOf: $0[(rows.lowerBound * 8)..<(rows.upperBound * 8)])
                }
            }
        }
        return body
    }

    private static func varint(_ value: UInt64, into out: inout [UInt8]) {
        var rest = value
        while rest >= 0x80 {
            out.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        out.append(UInt8(rest))
    }

    /// One bit-packed run of `count` fields, padded to whole groups of eight.
    private static func pack(_ count: Int, width: Int, into out: inout [UInt8], _ value: (Int) -> UInt64) {
        guard count > 0 else { return }
        let groups = (count + 7) / 8
        varint(UInt64(groups) << 1 | 1, into: &out)
        guard width > 0 else { return }
        var word: UInt64 = 0
        var bits = 0
        let end = out.count + groups * width
        out.reserveCapacity(end)
        for index in 0..<count {
            word |= value(index) << UInt64(bits)
            bits += width
            while bits >= 8 {
                out.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
                bits -= 8
            }
        }
        if bits > 0 { out.append(UInt8(truncatingIfNeeded: word)) }
        while out.count < end { out.append(0) }
    }

    // MARK: Dictionary

    /// Distinct values, where they are few; the place of a null is 0.
    private func dictionary() -> (page: [UInt8], count: Int, places: [UInt32])? {
        guard vector.count >= 16 else { return nil }
        let most = min(Self.dictionaryCountMax, vector.count / 4)
        var places = [UInt32](repeating: 0, count: vector.count)
        if vector.isText {
            var table = TextTable()
            for row in 0..<vector.count where vector.hasValue(row) {
                places[row] = table.insert(vector.bytes, vector.offsets[row]..<vector.offsets[row + 1])
                if table.count > most || table.bytes.count > 1 << 20 { return nil }
            }
            var page: [UInt8] = []
            for place in 0..<table.count {
                let range = table.range(place)
                for shift in 0..<4 { page.append(UInt8(truncatingIfNeeded: range.count >> (8 * shift))) }
                page.append(contentsOf: table.bytes[range])
            }
            return (page, table.count, places)
        }
        var table = WordTable(capacity: 256)
        let fits = vector.words.withUnsafeBufferPointer { words in
            for row in 0..<vector.count where vector.hasValue(row) {
                places[row] = table.insert(words[row])
                if table.count > most { return false }
                // Values that hardly repeat at the beginning hardly repeat at all.
                if row == 2047, table.count > 1536 { return false }
            }
            return true
        }
        guard fits else { return nil }
        return (table.keys.withUnsafeBytes { Array($0) }, table.count, places)
    }

    // MARK: Statistics

    private func statistics() -> EncodedStatistics {
        var statistics = EncodedStatistics()
        if let present = vector.present { statistics.nullCount = present.reduce(0) { $0 + ($1 == 0 ? 1 : 0) } }
        guard statistics.nullCount < vector.count else { return statistics }
        func plain(_ word: Int64) -> [UInt8] { withUnsafeBytes(of: word.littleEndian) { Array($0) } }
        switch column.kind {
        case .text, nil:
            var bounds: (minimum: ArraySlice<UInt8>, maximum: ArraySlice<UInt8>)?
            for row in 0..<vector.count where vector.hasValue(row) {
                let text = vector.bytes[vector.offsets[row]..<vector.offsets[row + 1]]
                guard text.count <= Self.boundByteCountMax else { return statistics }
                guard let known = bounds else {
                    bounds = (text, text)
                    continue
                }
                if text.lexicographicallyPrecedes(known.minimum) { bounds?.minimum = text }
                if known.maximum.lexicographicallyPrecedes(text) { bounds?.maximum = text }
            }
            statistics.bounds = bounds.map { (Array($0.minimum), Array($0.maximum)) }
        case .real:
            var (low, high) = (Double.infinity, -Double.infinity)
            var hasNaN = false
            for row in 0..<vector.count where vector.hasValue(row) {
                let value = Double(bitPattern: UInt64(bitPattern: vector.words[row]))
                if value.isNaN { hasNaN = true }
                low = Swift.min(low, value)
                high = Swift.max(high, value)
            }
            // Bounds of a column with NaN would mislead; a zero bound is written with the sign that cannot exclude the other.
            guard !hasNaN else { return statistics }
            if low == 0 { low = -0.0 }
            if high == 0 { high = 0.0 }
            statistics.bounds = (plain(Int64(bitPattern: low.bitPattern)), plain(Int64(bitPattern: high.bitPattern)))
        default:
            var (low, high) = (Int64.max, Int64.min)
            for row in 0..<vector.count where vector.hasValue(row) {
                low = Swift.min(low, vector.words[row])
                high = Swift.max(high, vector.words[row])
            }
            statistics.bounds = column.kind == .bool ? ([UInt8(low & 1)], [UInt8(high & 1)]) : (plain(low), plain(high))
        }
        return statistics
    }
}
