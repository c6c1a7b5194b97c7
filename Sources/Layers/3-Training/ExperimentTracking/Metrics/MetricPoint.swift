public import PlatformCore

/// One point of a metric's curve.
public struct MetricPoint: Sendable, Hashable, Comparable {
    /// When it was measured, in milliseconds since 1970.
    public let milliseconds: Int64
    /// The step of training.
    public let step: Int64
    /// The value; may be NaN, never infinite once stored.
    public let value: Double

    /// Makes a point.
    public init(milliseconds: Int64, step: Int64, value: Double) {
        self.milliseconds = milliseconds
        self.step = step
        self.value = value
    }

    init(_ metric: Metric) {
        self.init(milliseconds: metric.measuredAt.milliseconds, step: metric.step, value: metric.value)
    }

    /// When it was measured.
    public var measuredAt: EventTime { EventTime(milliseconds: milliseconds) }

    /// The order of a history: time, then step, then value; NaN counts as 0, behind it.
    public static func < (left: MetricPoint, right: MetricPoint) -> Bool {
        if left.milliseconds != right.milliseconds { return left.milliseconds < right.milliseconds }
        if left.step != right.step { return left.step < right.step }
        let values = (left.value.isNaN ? 0 : left.value, right.value.isNaN ? 0 : right.value)
        if values.0 != values.1 { return values.0 < values.1 }
        return !left.value.isNaN && right.value.isNaN
    }

    /// Whether both are the same measurement; NaN equals NaN, and -0 equals 0.
    public static func == (left: MetricPoint, right: MetricPoint) -> Bool {
        left.milliseconds == right.milliseconds && left.step == right.step
            && (left.value == right.value || left.value.isNaN && right.value.isNaN)
    }

    /// Equal points give equal hashes: the value takes no part, since NaN equals NaN and -0 equals 0.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(milliseconds)
        hasher.combine(step)
    }

    func metric(_ key: String) -> Metric { Metric(key, value, measuredAt: measuredAt, step: step) }
}

extension Array where Element == MetricPoint {
    /// Sorted, each measurement once.
    ///
    /// - Complexity: O(n) for points that are in order already.
    consuming func sortedOnce() -> [MetricPoint] {
        var points = self
        var isSorted = true
        for index in points.indices.dropFirst() where !(points[index - 1] < points[index]) {
            isSorted = false
            break
        }
        if isSorted { return points }
        points.sort()
        var kept = 0
        for index in points.indices where index == 0 || points[index] != points[kept - 1] {
            points[kept] = points[index]
            kept += 1
        }
        points.removeLast(points.count - kept)
        return points
    }

    /// This sorted history and another one as one; each measurement once.
    func merged(with other: [MetricPoint]) -> [MetricPoint] {
        guard let first = other.first, let last else { return isEmpty ? other : self }
        if last < first { return self + other }
        return (self + other).sortedOnce()
    }
}

/// What is kept of each metric of a run beside its points.
public struct MetricSummary: Sendable, Hashable {
    /// Its latest value: greatest step, then time, then value.
    public let latest: Metric
    /// How many measurements there are.
    public let pointCount: Int
    /// The least value; `nil` if all are NaN.
    public let minimum: Double?
    /// The greatest value; `nil` if all are NaN.
    public let maximum: Double?
}

extension Metric {
    /// Whether `other`, which came later, takes this one's place as the latest value.
    func isLatest(beside other: Metric) -> Bool {
        (step, measuredAt, value.isNaN ? 0 : value) > (
            other.step, other.measuredAt, other.value.isNaN ? 0 : other.value
        )
    }
}
