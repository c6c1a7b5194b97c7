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

    /// Histories of one metric in several runs, thinned out by their steps together, so that they can be compared.
    ///
    /// At most about `countMax` steps are kept, spread evenly over all that occur, and the first and last step of each
    /// run. A run that does not exist has no history.
    public func sampledHistories(
        runs: [String], key: String, startStep: Int64?, endStep: Int64?, countMax: Int
    ) async throws -> [(run: String, points: [MetricPoint])] {
        var histories: [(run: String, points: [MetricPoint])] = []
        for run in runs {
            do { histories.append((run, try await points(run: run, key: key, after: nil, countMax: .max))) } catch {
                guard (error as? PlatformError)?.code == .notFound else { throw error }
            }
        }
        let steps = MetricSampling.steps(
            of: histories.map(\.points), startStep: startStep, endStep: endStep, countMax: countMax)
        return histories.map { ($0.run, MetricSampling.points(of: $0.points, at: steps)) }
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

    /// The steps that the reference server's interval call keeps, in order.
    /// - SeeAlso: MLflow `get_metric_history_bulk_interval` and `_get_sampled_steps_from_steps`.
    static func steps(
        of histories: [[MetricPoint]], startStep: Int64?, endStep: Int64?, countMax: Int
    ) -> [Int64] {
        var all: [Int64] = []
        all.reserveCapacity(histories.reduce(0) { $0 + $1.count })
        var borders: [Int64] = []
        var isSorted = true
        for points in histories where !points.isEmpty {
            points.withUnsafeBufferPointer { points in
                var (least, greatest) = (points[0].step, points[0].step)
                var last = all.last
                for point in points where point.step != last {
                    if let last, point.step < last { isSorted = false }
                    last = point.step
                    all.append(point.step)
                    least = min(least, point.step)
                    greatest = max(greatest, point.step)
                }
                borders += [least, greatest]
            }
        }
        if !isSorted {
            all.sort()
            var kept = 0
            for index in all.indices where index == 0 || all[index] != all[kept - 1] {
                all[kept] = all[index]
                kept += 1
            }
            all.removeLast(all.count - kept)
        }
        let start = startStep ?? (endStep == nil ? min(0, all.first ?? 0) : .min)
        let end = endStep ?? all.last ?? 0
        guard start <= end else { return [] }
        let inside = all[position(of: start, in: all)..<(end == .max ? all.count : position(of: end + 1, in: all))]
        guard inside.count > countMax, countMax > 0, let last = inside.last else { return Array(inside) }
        var kept: Set<Int64> = [last]
        for index in 0..<countMax { kept.insert(inside[inside.startIndex + index * inside.count / countMax]) }
        return kept.union(borders.filter { start...end ~= $0 }).sorted()
    }

    /// The points of a history at some sorted steps, by step.
    static func points(of points: [MetricPoint], at steps: [Int64]) -> [MetricPoint] {
        let isSorted = points.withUnsafeBufferPointer { points in
            var last = Int64.min
            for point in points {
                if point.step < last { return false }
                last = point.step
            }
            return true
        }
        guard isSorted else {
            let wanted = Set(steps)
            return points.filter { wanted.contains($0.step) }.sorted { ($0.step, $0) < ($1.step, $1) }
        }
        var kept: [MetricPoint] = []
        for step in steps {
            var index = lowerBound(points.count) { points[$0].step < step }
            while index < points.count, points[index].step == step {
                kept.append(points[index])
                index += 1
            }
        }
        return kept
    }

    private static func position(of step: Int64, in steps: [Int64]) -> Int {
        lowerBound(steps.count) { steps[$0] < step }
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
