import RuntimePorts

/// Asks shadows whose answers are waited for, many rows in a call.
///
/// The writer of the prediction log waits for them, as records of a prediction stand beside each other in the log, but never
/// longer than `timeMax` for a batch; who has not answered then has failed.
enum DeferredShadows {
    struct Place: Hashable {
        let entry: Int
        let version: Int
    }

    private static let timeMax = Duration.seconds(2)
    /// Rows of one call.
    private static let rowCountMax = 256

    private struct Call: Sendable {
        let shadow: ServedVersion
        let entries: [(index: Int, record: PredictionRecord)]
    }

    /// Answers of all such shadows of a batch; those that failed are missing.
    static func answers(to batch: ArraySlice<PredictionLogEntry>) async -> [Place: PredictionRecord] {
        guard batch.contains(where: { $0.shadows.contains { $0.deferred != nil } }) else { return [:] }
        var open: [ObjectIdentifier: (shadow: ServedVersion, entries: [(index: Int, record: PredictionRecord)])] = [:]
        for (index, entry) in batch.enumerated() {
            for shadow in entry.shadows where shadow.deferred != nil {
                guard let record = try? entry.record(), shadow.binding.versionText == record.serviceVersion else {
                    continue
                }
                open[ObjectIdentifier(shadow), default: (shadow, [])].entries.append((index, record))
            }
        }
        let deadline = ContinuousClock.now + timeMax
        return await withTaskGroup(of: [(Place, PredictionRecord)].self) { group in
            for (_, (shadow, entries)) in open {
                for start in stride(from: 0, to: entries.count, by: rowCountMax) {
                    let call = Call(
                        shadow: shadow, entries: Array(entries[start..<min(start + rowCountMax, entries.count)]))
                    group.addTask { await ask(call, deadline) }
                }
            }
            return await group.reduce(into: [:]) { answers, part in
                for (place, record) in part { answers[place] = record }
            }
        }
    }

    private static func ask(_ call: Call, _ deadline: ContinuousClock.Instant) async -> [(Place, PredictionRecord)] {
        let begin = ContinuousClock.now
        let rows = call.entries.flatMap { $0.record.inputs.map(Float.init) }
        guard
            let outputs = try? await call.shadow.loaded.prediction(
                of: rows, rowCount: call.entries.count, deadline: deadline)
        else { return [] }
        let took = ContinuousClock.now - begin
        let width = outputs.count / call.entries.count
        return call.entries.enumerated().compactMap { row, entry in
            let output = Array(outputs[(row * width)..<((row + 1) * width)])
            guard output.allSatisfy(\.isFinite) else { return nil }
            let record = PredictionLog.shadowRecord(call.shadow, to: entry.record, output: output, took: took)
            return (Place(entry: entry.index, version: call.shadow.number), record)
        }
    }
}
