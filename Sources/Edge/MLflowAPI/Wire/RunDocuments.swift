import ExperimentTracking
import PlatformCore
import Synchronization

/// Runs as the bytes of their JSON, so that a search does not put together again what has not changed.
///
/// A document counts only while the run's revision, which each search reads anew, is the one it was made of.
final class RunDocuments: Sendable {
    private struct State {
        var young: [String: (revision: Int64, bytes: [UInt8])] = [:]
        var old: [String: (revision: Int64, bytes: [UInt8])] = [:]
        var youngByteCount = 0
    }
    private let state = Mutex(State())
    private let byteCountMax: Int

    /// - Parameter byteCountMax: most bytes kept, about.
    init(byteCountMax: Int = 32 << 20) { self.byteCountMax = byteCountMax }

    /// Bytes after which an answer ends; the rest comes by its page token.
    static let answerByteCount = 64 << 20
    /// Bytes of documents that are made at a time, about.
    private static let portionByteCount = 16 << 20

    /// Documents of the first of some runs in their order, and how many runs that are.
    ///
    /// As many as one answer holds, and one at least; runs that have vanished are left out.
    func documents(
        of references: [RunReference], in tracking: TrackingStore, byteCountMax: Int = answerByteCount
    ) async throws -> (documents: [[UInt8]], runCount: Int) {
        var (documents, byteCount) = ([[UInt8]](), 0)
        var (taken, portion) = (0, 4)
        while taken < references.count, taken == 0 || byteCount < byteCountMax {
            let part = Array(references[taken..<min(taken + portion, references.count)])
            for document in try await all(part, in: tracking) {
                byteCount += document.count
                documents.append(document)
            }
            taken += part.count
            // Of a run with a hundred thousand parameters, few at a time.
            portion = min(1000, portion * 4, max(1, Self.portionByteCount / max(1, byteCount / taken)))
        }
        return (documents, taken)
    }

    private func all(_ references: [RunReference], in tracking: TrackingStore) async throws -> [[UInt8]] {
        let known = state.withLock { state in references.map { Self.find($0, &state, byteCountMax / 2) } }
        let missing = zip(references, known).compactMap { $1 == nil ? $0 : nil }
        if missing.isEmpty { return known.compactMap(\.self) }
        var made: [String: [UInt8]] = [:]
        for (run, revision) in try await tracking.runs(missing) {
            let bytes = run.wire.canonicalBytes
            made[run.info.id] = bytes
            state.withLock { Self.keep(run.info.id, revision, bytes, &$0, byteCountMax / 2) }
        }
        return zip(references, known).compactMap { $1 ?? made[$0.info.id] }
    }

    private static func find(_ reference: RunReference, _ state: inout State, _ generationByteCount: Int) -> [UInt8]? {
        let id = reference.info.id
        if let found = state.young[id] { return found.revision == reference.revision ? found.bytes : nil }
        guard let found = state.old[id], found.revision == reference.revision else { return nil }
        keep(id, found.revision, found.bytes, &state, generationByteCount)
        return found.bytes
    }

    private static func keep(
        _ id: String, _ revision: Int64, _ bytes: [UInt8], _ state: inout State, _ generationByteCount: Int
    ) {
        if state.youngByteCount > generationByteCount {
            state.old = state.young
            state.young = [:]
            state.youngByteCount = 0
        }
        state.youngByteCount += bytes.count - (state.young[id]?.bytes.count ?? 0)
        state.young[id] = (revision, bytes)
    }
}
