import Foundation
import PlatformCore
import StoragePorts
import Synchronization

/// The answer of an outside database on its way to a file: a JSON object of texts on each line.
final class SpineAnswer: Sendable {
    private struct State {
        var names: [String] = []
        var prefixes: [[UInt8]] = []
        var byteCount = 0
    }
    private let handle: FileHandle
    private let byteCountMax: Int
    private let subject: String
    private let state = Mutex(State())

    init(path: String, byteCountMax: Int, subject: String) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let handle = FileHandle(forWritingAtPath: path)
        else { throw StoreError(.full, subject, "the query's answer cannot be written") }
        self.handle = handle
        self.byteCountMax = byteCountMax
        self.subject = subject
    }

    func begin(_ columns: [RowColumn]) throws {
        let names = columns.map(\.name)
        guard Set(names).count == names.count else {
            throw PlatformError(.invalidInput, subject, "the spine's query gives a column twice")
        }
        state.withLock { state in
            state.names = names
            state.prefixes = names.map { name in
                var bytes: [UInt8] = []
                JSONValue.write(name, to: &bytes)
                return bytes + [0x3A]
            }
        }
    }

    func add(_ rows: [[String?]]) throws {
        var bytes: [UInt8] = []
        let total = state.withLock { state in
            for row in rows {
                bytes.append(0x7B)
                var isFirst = true
                for (prefix, cell) in zip(state.prefixes, row) {
                    guard let cell else { continue }
                    if !isFirst { bytes.append(0x2C) }
                    isFirst = false
                    bytes += prefix
                    JSONValue.write(cell, to: &bytes)
                }
                bytes += [0x7D, 10]
            }
            state.byteCount += bytes.count
            return state.byteCount
        }
        guard total <= byteCountMax else {
            throw PlatformError(
                .tooLarge, subject, "the spine's query gives more than \(byteCountMax) bytes; ask for a span of time")
        }
        do { try handle.write(contentsOf: bytes) } catch {
            throw StoreError(.full, subject, "the query's answer cannot be written", cause: error)
        }
    }

    /// The names of its columns.
    func finish() throws -> [String] {
        try handle.close()
        return state.withLock { $0.names }
    }
}
