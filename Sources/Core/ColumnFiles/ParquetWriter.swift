/// Writes a Parquet file of flat columns: row groups are encoded apart, on any thread, and laid down in order.
///
/// Pages are of version 1; values are plain, or by dictionary where that is clearly smaller. The same vectors give the same
/// bytes. Statistics are the smallest and largest value and the number of nulls.
public struct ParquetWriter: Sendable {
    /// How a file is written.
    public struct Settings: Sendable {
        /// How pages are compressed.
        public var codec: ColumnCodec
        /// Zstandard's level.
        public var level: Int32
        /// Makes settings.
        public init(codec: ColumnCodec = .zstd, level: Int32 = 1) {
            self.codec = codec
            self.level = level
        }
    }

    /// A row group ready to be laid down.
    public struct RowGroup: Sendable {
        struct Chunk: Sendable {
            var encodings: [Int]
            var valueCount: Int
            var expandedByteCount: Int
            var byteCount: Int
            var dictionaryByteCount: Int
            var statistics: EncodedStatistics
        }
        let rowCount: Int
        let chunks: [Chunk]
        let bytes: [UInt8]
        /// Size in the file.
        public var byteCount: Int { bytes.count }
    }

    private let columns: [FileColumn]
    private let settings: Settings
    private var groups: [(rowGroup: RowGroup, offset: Int)] = []
    private var position = 4

    /// The first bytes of every file.
    public static let head = Array("PAR1".utf8)

    /// Starts a file whose first bytes are `head`.
    /// - Throws: `unsupported` for a column without a kind.
    public init(columns: [FileColumn], settings: Settings = Settings()) throws(ColumnFileError) {
        for column in columns where column.kind == nil {
            throw ColumnFileError(.unsupported, "column '\(column.name)' has no kind to write")
        }
        self.columns = columns
        self.settings = settings
    }

    /// Encodes vectors, one for each column and all of the same length.
    public static func encode(_ vectors: [ColumnVector], columns: [FileColumn], settings: Settings = Settings())
        throws(ColumnFileError)
        -> RowGroup
    {
        precondition(vectors.count == columns.count, "a vector for each column")
        var bytes: [UInt8] = []
        var chunks: [RowGroup.Chunk] = []
        for (vector, column) in zip(vectors, columns) {
            precondition(vector.count == vectors[0].count, "vectors of one length")
            if !column.isOptional, let present = vector.present, present.contains(0) {
                throw ColumnFileError(.corrupted, "column '\(column.name)' may not hold nulls, and does")
            }
            let encoder = ChunkEncoder(vector: vector, column: column, settings: settings)
            chunks.append(encoder.encode(into: &bytes))
        }
        return RowGroup(rowCount: vectors.first?.count ?? 0, chunks: chunks, bytes: bytes)
    }

    /// Takes the next row group and gives its bytes, which follow those given before.
    public mutating func append(_ group: RowGroup) -> [UInt8] {
        groups.append((RowGroup(rowCount: group.rowCount, chunks: group.chunks, bytes: []), position))
        position += group.bytes.count
        return group.bytes
    }

    /// The last bytes of the file.
    public func finish() -> [UInt8] {
        var out = ThriftWriter()
        out.element { file in
            file.int32(1, 2)
            file.list(2, count: columns.count + 1, type: 12)
            file.element { root in
                root.binary(4, "schema".utf8)
                root.int32(5, columns.count)
            }
            for column in columns { Self.write(column, into: &file) }
            file.int64(3, groups.reduce(0) { $0 + $1.rowGroup.rowCount })
            file.list(4, count: groups.count, type: 12)
            for (group, offset) in groups { write(group, at: offset, into: &file) }
            file.binary(6, "bottega".utf8)
            // The order of statistics: that of the type.
            file.list(7, count: columns.count, type: 12)
            for _ in columns { file.element { $0.structure(1) { _ in } } }
        }
        let footer = out.bytes
        var bytes = footer
        for shift in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: footer.count >> (8 * shift))) }
        return bytes + Array("PAR1".utf8)
    }

    private static func physical(_ kind: ColumnKind?) -> Int {
        switch kind {
        case .bool: 0
        case .integer, .timestamp: 2
        case .real: 5
        case .text, nil: 6
        }
    }

    private static func write(_ column: FileColumn, into file: inout ThriftWriter) {
        file.element { element in
            element.int32(1, physical(column.kind))
            element.int32(3, column.isOptional ? 1 : 0)
            element.binary(4, column.name.utf8)
            switch column.kind {
            case .text where column.isBare: break
            case .text:
                element.int32(6, 0)
                element.structure(10) { $0.structure(1) { _ in } }
            case .timestamp(let perSecond):
                // The older words for moments say that they are in UTC.
                if perSecond <= 1_000_000, !column.isBare { element.int32(6, perSecond == 1000 ? 9 : 10) }
                element.structure(10) { logical in
                    logical.structure(8) { moment in
                        moment.bool(1, !column.isBare)
                        moment.structure(2) { unit in
                            unit.structure(perSecond == 1000 ? 1 : perSecond == 1_000_000 ? 2 : 3) { _ in }
                        }
                    }
                }
            default: break
            }
        }
    }

    private func write(_ group: RowGroup, at start: Int, into file: inout ThriftWriter) {
        file.element { out in
            out.list(1, count: columns.count, type: 12)
            var offset = start
            for (column, chunk) in zip(columns, group.chunks) {
                let (place, dictionary) = (offset, chunk.dictionaryByteCount)
                out.element { element in
                    element.int64(2, place)
                    element.structure(3) { meta in
                        meta.int32(1, Self.physical(column.kind))
                        meta.list(2, count: chunk.encodings.count, type: 5)
                        for encoding in chunk.encodings { meta.element(encoding) }
                        meta.list(3, count: 1, type: 8)
                        meta.element(Array(column.name.utf8))
                        meta.int32(4, settings.codec.rawValue)
                        meta.int64(5, chunk.valueCount)
                        meta.int64(6, chunk.expandedByteCount)
                        meta.int64(7, chunk.byteCount)
                        meta.int64(9, place + dictionary)
                        if dictionary > 0 { meta.int64(11, place) }
                        meta.structure(12) { statistics in
                            statistics.int64(3, chunk.statistics.nullCount)
                            if let bounds = chunk.statistics.bounds {
                                statistics.binary(5, bounds.maximum)
                                statistics.binary(6, bounds.minimum)
                            }
                        }
                    }
                }
                offset += chunk.byteCount
            }
            out.int64(2, group.chunks.reduce(0) { $0 + $1.expandedByteCount })
            out.int64(3, group.rowCount)
            out.int64(5, start)
            out.int64(6, offset - start)
        }
    }
}

/// Bounds and nulls of a chunk.
struct EncodedStatistics: Sendable {
    var nullCount = 0
    var bounds: (minimum: [UInt8], maximum: [UInt8])?
}
