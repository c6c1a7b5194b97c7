import ColumnFiles
import FeatureStore
import Foundation
import PlatformCore
import Synchronization

/// What scoring a file gave.
public struct ScoredFile: Sendable, Hashable {
    /// Rows.
    public var rowCount = 0
    /// Rows whose prediction is null.
    public var missingCount = 0
    /// Size of the answer.
    public var byteCount = 0
}

extension BatchScorer {
    /// Scores every row into one file, several row groups at a time, in the order of the rows.
    ///
    /// - Parameter progress: hears how many rows are written.
    @concurrent
    public func score(
        to path: String, workerCount: Int, progress: @escaping @Sendable (Int) -> Void = { _ in }
    ) async throws -> ScoredFile {
        if isDeferred { return try await writeLater(Array(0..<reader.rowGroupCount), to: path, progress) }
        let workers = Workers(count: workerCount)
        return try await workers.detached { try write(Array(0..<reader.rowGroupCount), to: path, workers, progress) }
    }

    /// Scores row groups into a file; what is done early waits for those before it, at most as many as there are workers.
    func write(_ groups: [Int], to path: String, _ workers: Workers, _ progress: @escaping @Sendable (Int) -> Void)
        throws
        -> ScoredFile
    {
        let file = ScoredFileWriter(try OutputFile(path), try ParquetWriter(columns: columns))
        try file.begin()
        var next = 0
        while next < groups.count {
            let wave = next..<min(groups.count, next + 4 * workers.count)
            let waiting = Mutex<(next: Int, groups: [Int: Scored])>((0, [:]))
            try workers.run(units: wave.count, state: { () }) { _, offset in
                let scored = try score(rowGroup: groups[wave.lowerBound + offset])
                try waiting.withLock { waiting in
                    waiting.groups[offset] = scored
                    while let ready = waiting.groups.removeValue(forKey: waiting.next) {
                        progress(try file.append(ready))
                        waiting.next += 1
                    }
                }
            }
            next = wave.upperBound
        }
        return try file.finish()
    }

    /// Scores row groups into a file, one after the other, with a model that has to be waited for.
    @concurrent
    func writeLater(_ groups: [Int], to path: String, _ progress: @escaping @Sendable (Int) -> Void) async throws
        -> ScoredFile
    {
        let file = ScoredFileWriter(try OutputFile(path), try ParquetWriter(columns: columns))
        try file.begin()
        for group in groups { progress(try file.append(try await scoreLater(rowGroup: group))) }
        return try file.finish()
    }
}

/// A file of scores under way.
final class ScoredFileWriter: Sendable {
    private struct State {
        var writer: ParquetWriter
        var done = ScoredFile()
    }
    private let file: OutputFile
    private let state: Mutex<State>

    init(_ file: OutputFile, _ writer: ParquetWriter) {
        self.file = file
        state = Mutex(State(writer: writer))
    }

    func begin() throws {
        try file.write(ParquetWriter.head)
        state.withLock { $0.done.byteCount = ParquetWriter.head.count }
    }

    /// Writes a row group and gives the rows so far.
    func append(_ scored: BatchScorer.Scored) throws -> Int {
        try state.withLock { state in
            let bytes = state.writer.append(scored.group)
            try file.write(bytes)
            state.done.byteCount += bytes.count
            state.done.rowCount += scored.rowCount
            state.done.missingCount += scored.missingCount
            return state.done.rowCount
        }
    }

    /// Writes the end and waits for the disk.
    func finish() throws -> ScoredFile {
        try state.withLock { state in
            let bytes = state.writer.finish()
            try file.write(bytes)
            try file.synchronize()
            state.done.byteCount += bytes.count
            return state.done
        }
    }
}
