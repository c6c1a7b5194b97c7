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

    /// Documents of some runs in their order; runs that have vanished are left out.
    func documents(of references: [RunReference], in tracking: TrackingStore) async throws -> [[UInt8]] {
        let known = state.withLock { state in references.map { Self.find($0, &state, byteCountMax / 2) } }
        let missing = zip(references, known).compactMap { $1 == nil ? $0 : nil }
        if missing.isEmpty { return known.compactMap(\.self) }
        var made: [String: [UInt8]] = [:]
        for portion in stride(from: 0, to: missing.count, by: 1000) {
            for (run, revision) in try await tracking.runs(Array(missing[portion..<min(portion + 1000, missing.count)]))
            {
                let bytes = run.wire.canonicalBytes
                made[run.info.id] = bytes
                state.withLock { Self.keep(run.info.id, revision, bytes, &$0, byteCountMax / 2) }
            }
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
