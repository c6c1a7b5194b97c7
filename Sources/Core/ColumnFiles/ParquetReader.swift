/// Bounds of what a file may claim before anything is allocated for it.
public struct ColumnFileLimits: Sendable {
    /// Bytes of the footer.
    public var metadataByteCountMax = 64 << 20
    /// Rows of one row group.
    public var rowGroupRowCountMax = 1 << 25
    /// Bytes of one page, expanded.
    public var pageByteCountMax = 256 << 20
    /// Bytes of one column chunk, as stored and as text in memory.
    public var chunkByteCountMax = 1 << 30
    /// The defaults.
    public init() {}
}

/// Reads flat columns of a Parquet file, one column of one row group at a time.
///
/// Reads data pages of both versions; plain, dictionary, run-length, delta and byte-stream-split values; no compression,
/// Snappy and Zstandard. Everything else, nested columns included, is `unsupported`, and only when it is asked for.
/// Foreign bytes never trap: they are `corrupted`, or `tooLarge` beyond `ColumnFileLimits`.
public struct ParquetReader: Sendable {
    private let source: any ByteSource
    private let limits: ColumnFileLimits
    private let metadata: ParquetMetadata

    /// The columns, nested leaves included, in the order of the file.
    public var columns: [FileColumn] { metadata.columns }
    /// Rows in the file.
    public var rowCount: Int { metadata.rowCount }
    /// Number of row groups.
    public var rowGroupCount: Int { metadata.rowGroups.count }
    /// Rows of a row group.
    public func rowCount(ofRowGroup index: Int) -> Int { metadata.rowGroups[index].rowCount }
    /// The place of the column called `name`.
    public func position(of name: String) -> Int? { metadata.columns.firstIndex { $0.name == name } }

    /// Reads the footer.
    public init(_ source: any ByteSource, limits: ColumnFileLimits = ColumnFileLimits()) throws(ColumnFileError) {
        self.source = source
        self.limits = limits
        let size = source.byteCount
        guard size >= 12 else { throw .corrupted("a Parquet file has at least 12 bytes; this one has \(size)") }
        let tail = try Self.read(source, at: size - 8, count: 8)
        let magic = Array(tail[4..<8])
        guard magic == Array("PAR1".utf8) else {
            if magic == Array("PARE".utf8) { throw ColumnFileError(.unsupported, "the file is encrypted") }
            throw .corrupted("the file does not end as a Parquet file does")
        }
        let count = Int(tail[0]) | Int(tail[1]) << 8 | Int(tail[2]) << 16 | Int(tail[3]) << 24
        guard count <= size - 12 else { throw .corrupted("the footer is larger than the file") }
        guard count <= limits.metadataByteCountMax else {
            throw ColumnFileError(
                .tooLarge, "the footer has \(count) bytes; at most \(limits.metadataByteCountMax) are read")
        }
        metadata = try ParquetMetadata(try Self.read(source, at: size - 8 - count, count: count))
    }

    private static func read(_ source: any ByteSource, at offset: Int, count: Int) throws(ColumnFileError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count + ByteCursor.slack)
        var failure: ColumnFileError?
        bytes.withUnsafeMutableBytes { buffer in
            do throws(ColumnFileError) {
                try source.read(at: offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Decodes one column of one row group.
    /// - Throws: `unsupported` naming what of the column is not read, `corrupted`, `tooLarge`, `unavailable`.
    public func column(_ position: Int, ofRowGroup index: Int) throws(ColumnFileError) -> ColumnVector {
        let column = metadata.columns[position]
        let group = metadata.rowGroups[index]
        let chunk = group.chunks[position]
        guard let kind = column.kind else {
            throw ColumnFileError(.unsupported, "column '\(column.name)' is \(column.typeName)")
        }
        guard chunk.hasMetadata, !chunk.isElsewhere else {
            throw ColumnFileError(.unsupported, "column '\(column.name)' lies in another file or is encrypted")
        }
        guard let codec = ColumnCodec(rawValue: chunk.codec) else {
            let name =
                ColumnCodec.names.indices.contains(chunk.codec)
                ? ColumnCodec.names[chunk.codec] : "codec \(chunk.codec)"
            throw ColumnFileError(.unsupported, "column '\(column.name)' is compressed with \(name)")
        }
        guard chunk.type == metadata.physical[position] else {
            throw .corrupted("column '\(column.name)' has another type in row group \(index)")
        }
        guard chunk.valueCount == group.rowCount else {
            throw .corrupted("column '\(column.name)' has \(chunk.valueCount) values in \(group.rowCount) rows")
        }
        guard group.rowCount <= limits.rowGroupRowCountMax, chunk.byteCount <= limits.chunkByteCountMax else {
            throw ColumnFileError(
                .tooLarge,
                "row group \(index) has \(group.rowCount) rows; at most \(limits.rowGroupRowCountMax) are read")
        }
        guard group.rowCount > 0 else { return kind == .text ? ColumnVector(texts: []) : ColumnVector(words: []) }
        let offset = chunk.offset
        guard offset >= 4, chunk.byteCount <= source.byteCount - 8, offset <= source.byteCount - 8 - chunk.byteCount
        else {
            throw .corrupted("column '\(column.name)' lies outside the file")
        }
        let bytes = try Self.read(source, at: offset, count: chunk.byteCount)
        var decoder = ChunkDecoder(
            kind: kind, physical: chunk.type, isOptional: column.isOptional, codec: codec, rowCount: group.rowCount,
            limits: limits)
        do { return try decoder.decode(bytes, count: chunk.byteCount) } catch {
            throw ColumnFileError(error.code, "column '\(column.name)', row group \(index): \(error.message)")
        }
    }
}
