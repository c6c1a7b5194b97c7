import ColumnFiles
import Foundation
import Testing

/// DuckDB's command-line program, as the other reader and writer.
enum DuckDB {
    static func executable() throws -> String {
        let environment = ProcessInfo.processInfo.environment
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        var candidates = [environment["BOTTEGA_DUCKDB"] ?? "", root.appending(path: ".venv/bin/duckdb").path]
        candidates += (environment["PATH"] ?? "").split(separator: ":").map { "\($0)/duckdb" }
        return try #require(candidates.first(where: FileManager.default.isExecutableFile(atPath:)), "run `make setup`")
    }

    /// Runs SQL; the lines of its answer as JSON.
    static func run(_ sql: String) throws -> [[String: Any]] {
        let folder = FileManager.default.temporaryDirectory.appending(path: "columns-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (script, output) = (folder.appending(path: "script.sql"), folder.appending(path: "out"))
        try Data("SET TimeZone = 'UTC';\n\(sql)".utf8).write(to: script)
        try Data().write(to: output)
        let process = Process()
        process.executableURL = URL(filePath: try executable())
        process.arguments = ["-jsonlines", "-bail", "-f", script.path]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: output)
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        return try Data(contentsOf: output).split(separator: 10).compactMap {
            try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any]
        }
    }

    /// Every cell as text in one form for all readers, row by row: NULL, decimal digits, bits of doubles, hexadecimal bytes.
    static func cells(of path: String, _ columns: [FileColumn]) throws -> [[String]] {
        let terms = columns.map { column -> String in
            let name = "\"\(column.name)\""
            let text =
                switch column.kind {
                case .real: "printf('%a', CAST(\(name) AS DOUBLE))"
                case .text: "hex(encode(\(name)))"
                case .timestamp(let perSecond):
                    perSecond == 1000 ? "epoch_ms(\(name))::VARCHAR" : "epoch_us(\(name))::VARCHAR"
                case .bool: "CAST(CAST(\(name) AS INTEGER) AS VARCHAR)"
                default: "CAST(\(name) AS VARCHAR)"
                }
            return "coalesce(\(text), 'NULL')"
        }
        let rows = try run(
            "SELECT [\(terms.joined(separator: ", "))] AS cells FROM read_parquet('\(path)', file_row_number = true) ORDER BY file_row_number"
        )
        return rows.compactMap { $0["cells"] as? [String] }
    }
}

func cells(of reader: ParquetReader, _ columns: [FileColumn]) throws -> [[String]] {
    var rows: [[String]] = []
    for group in 0..<reader.rowGroupCount {
        let vectors = try columns.map {
            try reader.column(try #require(reader.position(of: $0.name)), ofRowGroup: group)
        }
        for row in 0..<reader.rowCount(ofRowGroup: group) {
            rows.append(
                zip(columns, vectors).map { column, vector in
                    guard vector.hasValue(row) else { return "NULL" }
                    switch column.kind {
                    case .real: return String(format: "%a", Double(bitPattern: UInt64(bitPattern: vector.words[row])))
                    case .text:
                        return vector.bytes[vector.offsets[row]..<vector.offsets[row + 1]]
                            .map { String(format: "%02X", $0) }.joined()
                    default: return String(vector.words[row])
                    }
                })
        }
    }
    return rows
}

/// Says the first difference; a whole table would bury it.
func expectEqual(_ left: [[String]], _ right: [[String]], _ what: String) {
    #expect(left.count == right.count, "\(what): rows")
    let row = zip(left, right).enumerated().first { $0.element.0 != $0.element.1 }
    #expect(row == nil, "\(what), row \(row?.offset ?? 0): \(row.map { "\($0.element)" } ?? "")")
}

func fixtures() throws -> [URL] {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")
    return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        .filter { $0.pathExtension == "parquet" }.sorted { $0.path < $1.path }
}

struct RoundTripTests {
    @Test
    func filesOfPyarrowReadAsDuckDBReadsThem() throws {
        var compared = 0
        for file in try fixtures() where !["gzip", "nested"].contains(file.deletingPathExtension().lastPathComponent) {
            let reader = try ParquetReader(MemoryBytes([UInt8](Data(contentsOf: file))))
            let ours = try cells(of: reader, reader.columns)
            let theirs = try DuckDB.cells(of: file.path, reader.columns)
            expectEqual(ours, theirs, file.lastPathComponent)
            compared += ours.reduce(0) { $0 + $1.count }
        }
        #expect(compared > 100_000)
    }

    @Test
    func whatIsNotReadIsUnsupportedAndSaysWhat() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")
        let gzip = try ParquetReader(MemoryBytes([UInt8](Data(contentsOf: folder.appending(path: "gzip.parquet")))))
        let refusal = #expect(throws: ColumnFileError.self) { try gzip.column(0, ofRowGroup: 0) }
        #expect(refusal?.code == .unsupported)
        #expect(refusal?.message.contains("GZIP") == true)
        let nested = try ParquetReader(MemoryBytes([UInt8](Data(contentsOf: folder.appending(path: "nested.parquet")))))
        #expect(try nested.column(try #require(nested.position(of: "ok")), ofRowGroup: 0).words == [1, 2])
        for (index, column) in nested.columns.enumerated() where column.name != "ok" {
            #expect(throws: ColumnFileError.self, "\(column.name)") { try nested.column(index, ofRowGroup: 0) }
        }
    }

    @Test(arguments: ["snappy", "zstd", "uncompressed"], ["V1", "V2"])
    func filesOfDuckDBReadAsDuckDBReadsThem(codec: String, version: String) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).parquet").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        _ = try DuckDB.run(
            """
            COPY (SELECT CASE WHEN i % 7 = 0 THEN NULL ELSE i * 37 % 1001 END AS a, (hash(i) >> 1)::BIGINT AS b, i AS c, random() AS d,
            CASE WHEN i % 3 = 0 THEN NULL ELSE (i % 5)::DOUBLE END AS e, i % 2 = 0 AS f, CASE WHEN i % 4 > 0 THEN 'k' || (i % 90) END AS g,
            md5(i::VARCHAR) AS h, make_timestamptz(1372636800000000 + i * 1000) AS t, 7::BIGINT AS k
            FROM (SELECT (hash(range) >> 8)::BIGINT % 100000 AS i FROM range(5000)))
            TO '\(path)' (FORMAT parquet, COMPRESSION \(codec), PARQUET_VERSION \(version), ROW_GROUP_SIZE 2048)
            """)
        let reader = try ParquetReader(MemoryBytes([UInt8](Data(contentsOf: URL(filePath: path)))))
        expectEqual(try cells(of: reader, reader.columns), try DuckDB.cells(of: path, reader.columns), path)
        #expect(reader.rowGroupCount > 1)
    }

    static let columns = [
        FileColumn(name: "whole", kind: .integer), FileColumn(name: "few", kind: .integer),
        FileColumn(name: "real", kind: .real), FileColumn(name: "flag", kind: .bool),
        FileColumn(name: "text", kind: .text), FileColumn(name: "category", kind: .text),
        FileColumn(name: "moment", kind: .timestamp(perSecond: 1_000_000)),
        FileColumn(name: "due", kind: .integer, isOptional: false), FileColumn(name: "void", kind: .integer),
    ]

    static func vectors(_ count: Int, seed: UInt64) -> [ColumnVector] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 11
        }
        func optional(_ make: () -> Int64) -> ColumnVector {
            let present = (0..<count).map { _ in UInt8(next() % 5 == 0 ? 0 : 1) }
            return ColumnVector(words: present.map { $0 == 0 ? 0 : make() }, present: present)
        }
        return [
            optional { Int64(bitPattern: next() << 12) }, optional { Int64(next() % 6) },
            ColumnVector(
                words: (0..<count).map { _ in Int64(bitPattern: (Double(next() % 1000) / 8 - 60).bitPattern) }),
            optional { Int64(next() & 1) },
            ColumnVector(texts: (0..<count).map { _ in next() % 9 == 0 ? nil : "n\(next())é" }),
            ColumnVector(texts: (0..<count).map { _ in next() % 9 == 0 ? nil : ["UA", "", "DL"][Int(next() % 3)] }),
            optional { Int64(1_372_636_800_000_000 + next() % 1_000_000_000) },
            ColumnVector(words: (0..<count).map { Int64($0) }),
            ColumnVector(words: [Int64](repeating: 0, count: count), present: [UInt8](repeating: 0, count: count)),
        ]
    }

    static func file(_ parts: [[ColumnVector]], _ codec: ColumnCodec) throws -> [UInt8] {
        let settings = ParquetWriter.Settings(codec: codec)
        var writer = try ParquetWriter(columns: columns, settings: settings)
        var bytes = ParquetWriter.head
        for part in parts {
            bytes += writer.append(try ParquetWriter.encode(part, columns: columns, settings: settings))
        }
        return bytes + writer.finish()
    }

    @Test(arguments: [ColumnCodec.none, .snappy, .zstd])
    func whatIsWrittenIsReadByUsAndByDuckDB(codec: ColumnCodec) throws {
        let parts = [Self.vectors(3000, seed: 1), Self.vectors(1, seed: 2), Self.vectors(777, seed: 3)]
        let bytes = try Self.file(parts, codec)
        #expect(bytes == (try Self.file(parts, codec)))
        let reader = try ParquetReader(MemoryBytes(bytes))
        #expect(reader.columns.map(\.name) == Self.columns.map(\.name))
        #expect(reader.columns.map(\.kind) == Self.columns.map(\.kind))
        for (group, part) in parts.enumerated() {
            for (index, vector) in part.enumerated() {
                let found = try reader.column(index, ofRowGroup: group)
                #expect(found.words == vector.words)
                #expect(found.bytes == vector.bytes)
                #expect(found.offsets == vector.offsets)
                #expect((0..<vector.count).allSatisfy { found.hasValue($0) == vector.hasValue($0) })
            }
        }
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).parquet").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(bytes).write(to: URL(filePath: path))
        expectEqual(try cells(of: reader, reader.columns), try DuckDB.cells(of: path, reader.columns), path)
        let row = try #require(
            try DuckDB.run(
                """
                SELECT (SELECT count(*) FROM '\(path)' WHERE real < 0)::INTEGER AS below, (SELECT count(*) FROM '\(path)' WHERE due = 2999)::INTEGER AS one,
                (SELECT bool_and(stats_null_count = 3000) FROM parquet_metadata('\(path)') WHERE path_in_schema = 'void' AND row_group_id = 0) AS void,
                (SELECT stats_max_value FROM parquet_metadata('\(path)') WHERE path_in_schema = 'due' AND row_group_id = 0) AS top
                """
            ).first)
        let below = parts.joined().filter { _ in true }.enumerated().filter { $0.offset % Self.columns.count == 2 }
            .flatMap { $0.element.words }.filter { Double(bitPattern: UInt64(bitPattern: $0)) < 0 }.count
        #expect(row["below"] as? Int == below)
        #expect(row["one"] as? Int == 1)
        #expect(row["void"] as? Bool == true)
        #expect(row["top"] as? String == "2999")
    }

    @Test
    func brokenFilesAreErrorsAndNeverTraps() throws {
        var random = SystemRandomNumberGenerator()
        var limits = ColumnFileLimits()
        limits.rowGroupRowCountMax = 100_000
        limits.pageByteCountMax = 1 << 20
        var files = try fixtures().map { [UInt8](try Data(contentsOf: $0)) }
        files += try [ColumnCodec.none, .snappy, .zstd].map { try Self.file([Self.vectors(300, seed: 5)], $0) }
        var refused = 0
        for round in 0..<600 {
            var bytes = files[round % files.count]
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                // Half of the damage goes to the footer, which steers everything.
                let low = Bool.random(using: &random) ? 0 : max(0, bytes.count - 1500)
                let place = Int.random(in: low..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes[place] = [0, 0x7F, 0x80, 0xFF][Int.random(in: 0..<4, using: &random)]
                default: bytes.remove(at: place)
                }
            }
            do {
                let reader = try ParquetReader(MemoryBytes(bytes), limits: limits)
                for group in 0..<reader.rowGroupCount {
                    for column in reader.columns.indices {
                        do { _ = try reader.column(column, ofRowGroup: group) } catch { refused += 1 }
                    }
                }
            } catch { refused += 1 }
        }
        #expect(refused > 100)
        for count in [0, 1, 8, 11, 12, 40] {
            #expect(throws: ColumnFileError.self) {
                try ParquetReader(MemoryBytes([UInt8](repeating: 0x50, count: count)))
            }
        }
    }
}
