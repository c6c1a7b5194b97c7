import Foundation
import Governance
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

/// `tools/verify_audit.py` knows nothing of our code, so it finds what we could have got wrong twice.
@Suite struct IndependentVerifierTests {
    private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("tools/verify_audit.py").path

    /// Runs Python on the verifier's folder; gives the exit code and what it printed.
    private func python(_ arguments: [String]) throws -> (code: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3"] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    private func verify(_ bytes: [UInt8], in folder: String, head: ContentHash? = nil) throws -> (
        code: Int32, output: String
    ) {
        let path = folder + "/" + UUID().uuidString + ".ndjson"
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return try python([Self.script, path] + (head.map { ["--head", $0.hex] } ?? []))
    }

    @Test func agreesThatAnUntouchedExportIsIntact() async throws {
        let fixture = try await AuditFixture()
        try await fixture.fill(12)
        let head = try #require(try await fixture.log.head()).hash
        let result = try verify(try await fixture.export(), in: fixture.folder, head: head)
        #expect(result.output == "intact: 12 entries, head \(head)\n")
        #expect(result.code == 0)
    }

    @Test func findsDroppedMovedAddedAndCutEntries() async throws {
        let fixture = try await AuditFixture()
        try await fixture.fill(6)
        let head = try #require(try await fixture.log.head()).hash
        let lines = try await fixture.export().split(separator: 10).map { Array($0) + [10] }
        var moved = lines
        moved.swapAt(2, 3)
        let tampered: [([[UInt8]], String)] = [
            (Array(lines[0..<2] + lines[3...]), "line 3: holds entry 4"), (moved, "line 3: holds entry 4"),
            (lines[0..<3] + [lines[2]] + lines[3...], "line 4: holds entry 3"),
            (Array(lines.dropFirst()), "line 1: holds entry 2"),
            (Array(lines.dropLast()), "entries are missing at its end"),
            ([], "entries are missing at its end"),
            (Array(lines.dropLast()) + [lines[5].dropLast()], "line 6: does not end with a hash"),
        ]
        for (lines, message) in tampered {
            let result = try verify(Array(lines.joined()), in: fixture.folder, head: head)
            #expect(result.code == 1)
            #expect(result.output.contains(message), "\(result.output)")
        }
        #expect(try python([Self.script, fixture.folder + "/none"]).code == 2)
    }

    @Test func showsAChangedRowInTheExportAsChanged() async throws {
        let fixture = try await AuditFixture()
        try await fixture.fill(4)
        try await fixture.store.write {
            _ = try $0.execute("UPDATE audit_entries SET subject = 'x' WHERE position = 2")
        }
        let result = try verify(try await fixture.export(), in: fixture.folder)
        #expect(result.output == "NOT INTACT: line 2: its content was changed (the hash does not match)\n")
    }

    /// All single-byte changes in one Python process: each byte with one bit flipped, and with another value.
    @Test func findsEveryFlippedByte() async throws {
        let fixture = try await AuditFixture()
        try await fixture.fill(3)
        let path = fixture.folder + "/export.ndjson"
        let bytes = try await fixture.export()
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let loop = """
            import io, os, sys
            sys.dont_write_bytecode = True
            sys.path.insert(0, os.path.dirname(sys.argv[1]))
            import verify_audit
            original = open(sys.argv[2], "rb").read()
            verify_audit.verify(io.BytesIO(original))
            missed = 0
            for place in range(len(original)):
                for mask in (1, 32, 128):
                    changed = bytearray(original)
                    changed[place] ^= mask
                    try:
                        verify_audit.verify(io.BytesIO(bytes(changed)))
                        missed += 1
                    except verify_audit.Fault:
                        pass
            print(len(original), missed)
            """
        let result = try python(["-c", loop, Self.script, path])
        #expect(result.output == "\(bytes.count) 0\n")
    }
}
