/// What a Parquet footer says, as far as this reader needs it.
struct ParquetMetadata: Sendable {
    struct Chunk: Sendable {
        var type = -1
        var codec = -1
        var valueCount = 0
        var byteCount = 0
        var dataPageOffset = 0
        var dictionaryPageOffset: Int?
        var isElsewhere = false
        var hasMetadata = false

        /// Where the chunk's first page is.
        var offset: Int {
            if let place = dictionaryPageOffset, place > 0, place < dataPageOffset { return place }
            return dataPageOffset
        }
    }
    struct RowGroup: Sendable {
        var rowCount = 0
        var chunks: [Chunk] = []
    }
    private struct Element {
        var type: Int?
        var repetition = 0
        var name = ""
        var childCount = 0
        var converted: Int?
        var logical: Int?
        var unit: Int?
        var bitWidth: Int?
        var isSigned = true
        var isAdjusted = true
    }

    private(set) var rowCount = 0
    /// Leaves in the order of the chunks.
    private(set) var columns: [FileColumn] = []
    /// Physical types of the leaves.
    private(set) var physical: [Int] = []
    private(set) var rowGroups: [RowGroup] = []

    static let typeNames = [
        "BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY",
    ]

    init(_ bytes: [UInt8]) throws(ColumnFileError) {
        var reader = ThriftReader(bytes)
        var elements: [Element] = []
        var groups: [RowGroup] = []
        var rows = 0
        try reader.structure(depth: 0) { (reader, field, type) throws(ColumnFileError) in
            switch (field, type) {
            case (2, 9):
                try reader.list { (reader, _) throws(ColumnFileError) in elements.append(try Self.element(&reader)) }
            case (3, 6): rows = try Self.size(&reader)
            case (4, 9):
                try reader.list { (reader, _) throws(ColumnFileError) in groups.append(try Self.rowGroup(&reader)) }
            default: return false
            }
            return true
        }
        rowCount = rows
        rowGroups = groups
        try layOut(elements)
        for group in groups {
            guard group.chunks.count == columns.count else {
                throw .corrupted("a row group has other columns than the file")
            }
            guard group.rowCount <= rowCount else { throw .corrupted("a row group has more rows than the file") }
        }
        guard groups.reduce(0, { $0 &+ $1.rowCount }) == rowCount else {
            throw .corrupted("the row groups hold another number of rows than the file")
        }
    }

    private static func size(_ reader: inout ThriftReader) throws(ColumnFileError) -> Int {
        let value = try reader.integer()
        guard 0...(1 << 48) ~= value else { throw .corrupted("a size of \(value) in the metadata") }
        return Int(value)
    }

    private static func element(_ reader: inout ThriftReader) throws(ColumnFileError) -> Element {
        var element = Element()
        try reader.structure(depth: 1) { (reader, field, type) throws(ColumnFileError) in
            switch (field, type) {
            case (1, 5): element.type = Int(try reader.integer())
            case (3, 5): element.repetition = Int(try reader.integer())
            case (4, 8): element.name = try reader.text()
            case (5, 5): element.childCount = Int(try reader.integer())
            case (6, 5): element.converted = Int(try reader.integer())
            case (10, 12): try logicalType(&reader, &element)
            default: return false
            }
            return true
        }
        return element
    }

    private static func logicalType(_ reader: inout ThriftReader, _ element: inout Element) throws(ColumnFileError) {
        var (logical, unit, bitWidth, isSigned, isAdjusted) = (nil as Int?, nil as Int?, nil as Int?, true, true)
        try reader.structure(depth: 2) { (reader, kind, type) throws(ColumnFileError) in
            logical = kind
            guard type == 12, kind == 8 || kind == 10 else { return false }
            try reader.structure(depth: 3) { (reader, field, type) throws(ColumnFileError) in
                switch (kind, field, type) {
                case (8, 1, 1), (8, 1, 2): isAdjusted = type == 1
                case (8, 2, 12):
                    try reader.structure(depth: 4) { (_, field, _) throws(ColumnFileError) in
                        unit = field
                        return false
                    }
                case (10, 1, 3): bitWidth = Int(try reader.byte())
                case (10, 2, 1), (10, 2, 2): isSigned = type == 1
                default: return false
                }
                return true
            }
            return true
        }
        element.logical = logical
        element.unit = unit
        element.bitWidth = bitWidth
        element.isSigned = isSigned
        element.isAdjusted = isAdjusted
    }

    private static func rowGroup(_ reader: inout ThriftReader) throws(ColumnFileError) -> RowGroup {
        var group = RowGroup()
        try reader.structure(depth: 1) { (reader, field, type) throws(ColumnFileError) in
            switch (field, type) {
            case (1, 9):
                try reader.list { (reader, _) throws(ColumnFileError) in group.chunks.append(try chunk(&reader)) }
            case (3, 6): group.rowCount = try size(&reader)
            default: return false
            }
            return true
        }
        return group
    }

    private static func chunk(_ reader: inout ThriftReader) throws(ColumnFileError) -> Chunk {
        var chunk = Chunk()
        try reader.structure(depth: 2) { (reader, field, type) throws(ColumnFileError) in
            switch (field, type) {
            case (1, 8):
                _ = try reader.text()
                chunk.isElsewhere = true
            case (3, 12):
                chunk.hasMetadata = true
                try reader.structure(depth: 3) { (reader, field, type) throws(ColumnFileError) in
                    switch (field, type) {
                    case (1, 5): chunk.type = Int(try reader.integer())
                    case (4, 5): chunk.codec = Int(try reader.integer())
                    case (5, 6): chunk.valueCount = try size(&reader)
                    case (7, 6): chunk.byteCount = try size(&reader)
                    case (9, 6): chunk.dataPageOffset = try size(&reader)
                    case (11, 6): chunk.dictionaryPageOffset = try size(&reader)
                    default: return false
                    }
                    return true
                }
            default: return false
            }
            return true
        }
        return chunk
    }

    /// Walks the schema's tree, which is written from the top, children after their parent.
    private mutating func layOut(_ elements: [Element]) throws(ColumnFileError) {
        guard let root = elements.first else { throw .corrupted("the file has no schema") }
        var open: [(left: Int, name: String)] = [(root.childCount, "")]
        for element in elements.dropFirst() {
            while let last = open.last, last.left <= 0 { open.removeLast() }
            guard !open.isEmpty else { throw .corrupted("the schema has too many elements") }
            open[open.count - 1].left -= 1
            if element.type == nil || element.childCount > 0 {
                guard element.childCount > 0, open.count < ThriftReader.depthMax else {
                    throw .corrupted("the schema's element '\(element.name)' is neither column nor group")
                }
                open.append((element.childCount, element.name))
                continue
            }
            let isFlat = open.count == 1
            let type = element.type ?? -1
            let kind = isFlat && element.repetition != 2 ? Self.kind(of: element, type) : nil
            let typeName =
                !isFlat || element.repetition == 2
                ? "a nested column"
                : (Self.typeNames.indices.contains(type) ? Self.typeNames[type] : "type \(type)")
                    + (element.logical.map { " (logical type \($0))" } ?? element.converted.map {
                        " (converted type \($0))"
                    } ?? "")
            // A leaf of a group goes by the group's name, which nobody can ask for as a flat column.
            let name = isFlat ? element.name : open.dropFirst().map(\.name).joined(separator: ".") + "." + element.name
            let isBare =
                type == 6
                ? element.logical == nil && element.converted == nil : element.logical == 8 && !element.isAdjusted
            columns.append(
                FileColumn(
                    name: name, kind: kind, isOptional: element.repetition == 1, typeName: typeName, isBare: isBare))
            physical.append(type)
        }
        while let last = open.last, last.left <= 0 { open.removeLast() }
        guard open.isEmpty else { throw .corrupted("the schema has too few elements") }
    }

    /// What a leaf's cells are; `nil` for what is not read.
    private static func kind(of element: Element, _ type: Int) -> ColumnKind? {
        switch type {
        case 0: return .bool
        case 1:
            switch (element.logical, element.converted) {
            case (10, _): return element.isSigned || (element.bitWidth ?? 32) < 32 ? .integer : nil
            case (nil, nil), (nil, 11), (nil, 12), (nil, 15), (nil, 16), (nil, 17): return .integer
            default: return nil
            }
        case 2:
            switch (element.logical, element.converted) {
            case (8, _):
                switch element.unit {
                case 1: return .timestamp(perSecond: 1000)
                case 2: return .timestamp(perSecond: 1_000_000)
                case 3: return .timestamp(perSecond: 1_000_000_000)
                default: return nil
                }
            case (10, _): return element.isSigned ? .integer : nil
            case (nil, 9): return .timestamp(perSecond: 1000)
            case (nil, 10): return .timestamp(perSecond: 1_000_000)
            case (nil, nil), (nil, 18): return .integer
            default: return nil
            }
        case 4 where element.logical == nil: return .real
        case 5 where element.logical == nil: return .real
        case 6:
            switch (element.logical, element.converted) {
            case (1, _), (4, _), (nil, 0), (nil, 4), (nil, nil): return .text
            default: return nil
            }
        default: return nil
        }
    }
}
