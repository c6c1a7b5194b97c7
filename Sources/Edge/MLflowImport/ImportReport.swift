public import PlatformCore
import Synchronization

/// What an import did.
public struct ImportReport: Sendable, Hashable {
    /// Things by kind.
    public struct Counts: Sendable, Hashable {
        /// In the source.
        public var found = 0
        /// Copied now.
        public var copied = 0
        /// There already, as they are in the source.
        public var present = 0
    }
    /// By kind: `experiments`, `runs`, `metric_points`, `files`, `logged_models`, `scorers`,
    /// `evaluation_datasets`, `registered_models`, `versions`.
    public internal(set) var counts: [String: Counts] = [:]
    /// Bytes of copied files.
    public internal(set) var byteCount = 0
    /// What was not copied, or is not in the target as it is in the source.
    public internal(set) var problems: [String] = []
    /// What an import leaves out, and what was not to be found in the source.
    public internal(set) var notes: [String] = []

    /// The report as JSON.
    public var json: JSONValue {
        [
            "counts": .object(
                counts.mapValues {
                    [
                        "found": .integer(Int64($0.found)), "copied": .integer(Int64($0.copied)),
                        "present": .integer(Int64($0.present)),
                    ]
                }), "bytes": .integer(Int64(byteCount)), "problems": .array(problems.map(JSONValue.string)),
            "notes": .array(notes.map(JSONValue.string)),
            "complete": .bool(problems.isEmpty),
        ]
    }
}

/// The report while it grows, from several tasks.
final class ImportTally: Sendable {
    private let state = Mutex(ImportReport())
    private let progress: @Sendable (String) -> Void

    init(progress: @escaping @Sendable (String) -> Void) { self.progress = progress }

    var report: ImportReport { state.withLock { $0 } }

    func found(_ kind: String, _ count: Int) { state.withLock { $0.counts[kind, default: .init()].found += count } }
    func copied(_ kind: String, _ count: Int = 1) {
        let text = state.withLock { report in
            report.counts[kind, default: .init()].copied += count
            let runs = report.counts["runs"] ?? .init()
            return
                "\(runs.copied + runs.present) of \(runs.found) runs, \(report.counts["metric_points"]?.copied ?? 0) points, \(report.byteCount >> 20) MiB of files"
        }
        progress(text)
    }
    func present(_ kind: String, _ count: Int = 1) {
        state.withLock { $0.counts[kind, default: .init()].present += count }
    }
    func add(bytes: Int) { state.withLock { $0.byteCount += bytes } }
    func note(_ text: String) { state.withLock { $0.notes.append(text) } }
    func problem(_ text: String) { state.withLock { $0.problems.append(text) } }
}
