import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Runs of some experiments that pass a filter; the one that started last comes first unless `orders` says otherwise.
    public func searchRuns(
        experiments: [String], filter: SearchFilter = .all, orders: [SearchOrder] = [], view: LifecycleView = .active,
        offset: Int = 0, countMax: Int = 1000
    ) async throws -> TrackedPage<TrackedRun> {
        guard experiments.count <= 10_000 else {
            throw PlatformError(
                .invalidInput, "experiment_ids", "\(experiments.count) experiments, 10000 are accepted")
        }
        let numbers = experiments.compactMap { Int64($0) }
        let query = try RunQuery(experiments: numbers, filter: filter, orders: orders, view: view)
        if numbers.isEmpty { return TrackedPage(elements: [], nextOffset: nil) }
        return try await metadata.read { transaction in
            let rows = try transaction.query(
                "\(query.sql) LIMIT ? OFFSET ?",
                query.arguments + [.integer(Int64(countMax) + 1), .integer(Int64(offset))])
            let runs = try Self.details(of: rows.prefix(countMax).map { Self.info($0) }, transaction)
            return TrackedPage(elements: runs, nextOffset: rows.count > countMax ? offset + countMax : nil)
        }
    }
}
