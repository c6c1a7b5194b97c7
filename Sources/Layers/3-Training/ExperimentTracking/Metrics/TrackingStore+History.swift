import PlatformCore
import StoragePorts

extension TrackingStore {
    /// All values of one metric of a run, by time, step and value.
    ///
    /// - Parameter after: the last point of the page before this one.
    public func metricHistory(
        run id: String, key: String, after: MetricPoint? = nil, countMax: Int = 25_000
    ) async throws -> MetricHistoryPage {
        let points = try await points(run: id, key: key, after: after, countMax: countMax + 1)
        return MetricHistoryPage(points: Array(points.prefix(countMax)), hasMore: points.count > countMax)
    }

    /// A curve of at most about `pointCountMax` points that keeps its shape.
    ///
    /// The history is cut into equal parts; of each part the least and the greatest value stay, and the first and the
    /// last point of all, so that no peak is lost. A history that is short enough comes whole.
    public func sampledHistory(run id: String, key: String, pointCountMax: Int) async throws -> [MetricPoint] {
        MetricSampling.sample(
            try await points(run: id, key: key, after: nil, countMax: .max), pointCountMax: pointCountMax)
    }

    /// Histories of one metric in several runs by step, each thinned out to at most `countMax` points.
    ///
    /// A history's points (those whose step lies between `startStep` and `endStep`, if these are given) are put in order
    /// of step, time and value and cut into `countMax` parts whose sizes differ by one at most, the larger ones first; of
    /// each part the first point stays, and in place of the last part's the last point of all. A run that does not exist
    /// has no history.
    /// - SeeAlso: MLflow's `SqlAlchemyStore.get_metric_history_bulk_interval`, which keeps the same points.
    public func sampledHistories(
        runs: [String], key: String, startStep: Int64?, endStep: Int64?, countMax: Int
    ) async throws -> [(run: String, points: [MetricPoint])] {
        var histories: [(run: String, points: [MetricPoint])] = []
        for run in runs {
            do {
                let points = try await points(run: run, key: key, after: nil, countMax: .max)
                histories.append(
                    (
                        run,
                        MetricSampling.thinned(
                            points, steps: (startStep ?? .min)...(endStep ?? .max), countMax: countMax)
                    ))
            } catch {
                guard (error as? PlatformError)?.code == .notFound else { throw error }
            }
        }
        return histories
    }

    /// What is kept of each metric of a run beside its points, by key.
    public func metricSummaries(_ id: String) async throws -> [MetricSummary] {
        try await settle()
        return try await metadata.read { transaction in
            let number = try Self.info(id, transaction).number
            return try transaction.query(
                "SELECT * FROM tracking_metric_latest WHERE run_number = ? ORDER BY key", [.integer(number)]
            ).map { row in
                MetricSummary(
                    latest: row.metric(), pointCount: Int(row.integer("point_count")),
                    minimum: row["minimum"].doubleValue, maximum: row["maximum"].doubleValue)
            }
        }
    }

    /// News of a run from now on: metrics as soon as they are durable, and changes of status.
    ///
    /// Costs nothing while nobody listens. To miss nothing, listen first and read the histories then.
    /// - Throws: `notFound`.
    public func updates(ofRun id: String) async throws -> AsyncStream<RunUpdate> {
        tail.updates(ofRun: try await runInfo(id).number)
    }

    private func points(
        run id: String, key: String, after: MetricPoint?, countMax: Int
    ) async throws -> [MetricPoint] {
        let number = try await runInfo(id).number
        // The tail first: what is folded between the two is found twice and not missed.
        var recent = tail.points(ofRun: number, key: key)
        if let after { recent.removeAll { !(after < $0) } }
        recent = recent.sortedOnce()
        let stored = try await metadata.read { transaction in
            try Self.points(run: number, key: key, after: after, countMax: countMax, transaction)
        }
        let merged = stored.merged(with: recent)
        return countMax < merged.count ? Array(merged.prefix(countMax)) : merged
    }

    private static func points(
        run: Int64, key: String, after: MetricPoint?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [MetricPoint] {
        var points: [MetricPoint] = []
        let total = try transaction.query(
            "SELECT SUM(point_count) AS count FROM tracking_metric_chunk WHERE run_number = ? AND key = ?",
            [.integer(run), .text(key)]
        ).first?["count"].integerValue
        // Once for all chunks: asking for room for each of them would copy what is there each time.
        points.reserveCapacity(min(Int(total ?? 0), countMax < .max ? countMax + MetricChunk.pointCountMax : .max))
        var number: Int64 = 0
        if let after {
            let first = try transaction.query(
                """
                SELECT MIN(number) AS number FROM tracking_metric_chunk WHERE run_number = ? AND key = ?
                AND (last_at, last_step) >= (?, ?)
                """, [.integer(run), .text(key), .integer(after.milliseconds), .integer(after.step)]
            ).first?["number"].integerValue
            guard let first else { return [] }
            number = first
        }
        // A few chunks at a time, so that a page does not read a whole history.
        let chunkCount = 16
        while true {
            let rows = try transaction.query(
                """
                SELECT points FROM tracking_metric_chunk WHERE run_number = ? AND key = ? AND number >= ?
                ORDER BY number LIMIT \(chunkCount)
                """, [.integer(run), .text(key), .integer(number)])
            for row in rows {
                let start = points.count
                try MetricChunk.decode(row["points"].blobValue ?? [], to: &points)
                if start == 0, let after { points.removeAll { !(after < $0) } }
                if points.count >= countMax { return points }
            }
            if rows.count < chunkCount { return points }
            number += Int64(chunkCount)
        }
    }
}

/// One page of a metric's history.
public struct MetricHistoryPage: Sendable {
    /// The points, in order.
    public let points: [MetricPoint]
    /// Whether more follow.
    public let hasMore: Bool
}

/// Thins out histories.
enum MetricSampling {
    static func sample(_ points: [MetricPoint], pointCountMax: Int) -> [MetricPoint] {
        guard points.count > max(pointCountMax, 4) else { return points }
        let partCount = max(1, (pointCountMax - 2) / 2)
        var kept: [MetricPoint] = []
        kept.reserveCapacity(pointCountMax)
        kept.append(points[0])
        let inner = points.count - 2
        points.withUnsafeBufferPointer { points in
            for part in 0..<partCount {
                let (start, end) = (1 + part * inner / partCount, 1 + (part + 1) * inner / partCount)
                if start == end { continue }
                var (least, greatest) = (start, start)
                for index in start..<end {
                    let value = points[index].value
                    if value < points[least].value || points[least].value.isNaN { least = index }
                    if value > points[greatest].value || points[greatest].value.isNaN { greatest = index }
                }
                kept.append(points[min(least, greatest)])
                if least != greatest { kept.append(points[max(least, greatest)]) }
            }
        }
        kept.append(points[points.count - 1])
        return kept
    }

    /// Evenly spread points of a history by step, the first and the last among them.
    static func thinned(_ points: [MetricPoint], steps: ClosedRange<Int64>, countMax: Int) -> [MetricPoint] {
        let points = sortedByStep(points)
        let start = lowerBound(points.count) { points[$0].step < steps.lowerBound }
        let end = lowerBound(points.count) { points[$0].step <= steps.upperBound }
        let count = end - start
        guard count > countMax, countMax > 0 else { return Array(points[start..<end]) }
        let (size, larger) = count.quotientAndRemainder(dividingBy: countMax)
        var kept: [MetricPoint] = []
        kept.reserveCapacity(countMax)
        for part in 0..<(countMax - 1) { kept.append(points[start + part * size + min(part, larger)]) }
        kept.append(points[end - 1])
        return kept
    }

    /// A history, which is in order of time, in order of step, time and value; as it is if both orders are one.
    private static func sortedByStep(_ points: [MetricPoint]) -> [MetricPoint] {
        let isSorted = points.withUnsafeBufferPointer { points in
            var last = Int64.min
            for point in points {
                if point.step < last { return false }
                last = point.step
            }
            return true
        }
        return isSorted ? points : points.sorted { ($0.step, $0) < ($1.step, $1) }
    }

    /// The first of `count` positions that is not before what is looked for.
    private static func lowerBound(_ count: Int, _ isBefore: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if isBefore(middle) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
