import Foundation
import PlatformCore
import StoragePorts

/// DuckDB's command-line program, one child process per call: just enough of the port to compare answers.
struct CommandLineEngine: OfflineEngine {
    let executable: String
    var threads = 2

    /// Finds the program: `BOTTEGA_DUCKDB`, `.venv/bin/duckdb` in the package, then `PATH`.
    init() throws {
        let environment = ProcessInfo.processInfo.environment
        var candidates: [String] = []
        if let named = environment["BOTTEGA_DUCKDB"] { candidates.append(named) }
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        candidates.append(root.appending(path: ".venv/bin/duckdb").path)
        candidates += (environment["PATH"] ?? "").split(separator: ":").map { "\($0)/duckdb" }
        guard let found = candidates.first(where: FileManager.default.isExecutableFile(atPath:)) else {
            throw PlatformError(.notFound, "duckdb", "the program is not installed; run `make setup`")
        }
        executable = found
    }

    private func run(_ sql: String) throws(StoreError) -> [UInt8] {
        let folder = FileManager.default.temporaryDirectory.appending(path: "parity-\(UUID().uuidString)")
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            let script = folder.appending(path: "script.sql")
            try Data("SET TimeZone = 'UTC'; SET threads = \(threads);\n\(sql)".utf8).write(to: script)
            let (output, errors) = (folder.appending(path: "out"), folder.appending(path: "err"))
            for file in [output, errors] { try Data().write(to: file) }
            let process = Process()
            process.executableURL = URL(filePath: executable)
            process.arguments = ["-jsonlines", "-bail", "-f", script.path]
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = try FileHandle(forWritingTo: output)
            process.standardError = try FileHandle(forWritingTo: errors)
            try process.run()
            process.waitUntilExit()
            let message = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
            guard process.terminationStatus == 0, message.isEmpty else {
                throw StoreError(.invalidInput, "duckdb", message)
            }
            return [UInt8](try Data(contentsOf: output))
        } catch {
            throw error as? StoreError ?? StoreError(.unavailable, "duckdb", String(describing: error))
        }
    }

    func execute(_ sql: String, limits: QueryLimits) async throws(StoreError) { _ = try run(sql) }

    func query(
        _ sql: String, setup: String, limits: QueryLimits, _ body: @escaping @Sendable (JSONValue) throws -> Void
    ) async throws {
        let bytes = try run(setup.isEmpty ? sql : "\(setup);\n\(sql)")
        for line in bytes.split(separator: 10) { try body(try JSONValue.parse(line)) }
    }

    func version() async throws(StoreError) -> String {
        String(decoding: try run("SELECT version() AS v"), as: UTF8.self).filter { !$0.isNewline }
    }
}
