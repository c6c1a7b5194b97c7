import Aggregation
import Definitions
public import PlatformCore
import StoragePorts
import Synchronization

extension StreamEngine {
    /// Computes the whole feature vector of a service at one moment, synchronously.
    ///
    /// Never waits while the entity is in memory; an entity that is not is read from the online store once. May be called
    /// from an event loop.
    /// - Parameters:
    ///   - keys: a value for each of `plan.joinKeys`; `nil` for one that the caller does not know: its views answer
    ///     `notFound`.
    ///   - values: doubles in the service's order; NaN for null.
    ///   - ages: milliseconds since the newest visible event of the entity in the value's view; -1 without one.
    ///   - statuses: raw values of `FeatureStatus`.
    /// - Throws: `notFound` if a view version of the plan is not served (not applied yet, or removed), `unavailable` or
    ///   `corrupted` when the online store fails.
    public func read(
        _ plan: ServingPlan, keys: [String?], at time: EventTime, into values: UnsafeMutableBufferPointer<Double>,
        ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws(PlatformError) {
        try read(plan, entityCount: 1, keys: keys, at: time, into: values, ages: ages, statuses: statuses)
    }

    /// Computes the feature vectors of several entities at one moment, synchronously.
    ///
    /// As `read` of one entity; what depends on the service alone is done once. Nothing is allocated for an entity whose
    /// views have one key and that is in memory.
    /// - Parameters:
    ///   - keys: entity by entity, a value for each of `plan.joinKeys`.
    ///   - values: `entityCount` vectors one after another; `ages` and `statuses` lie the same way.
    public func read(
        _ plan: ServingPlan, entityCount: Int, keys: [String?], at time: EventTime,
        into values: UnsafeMutableBufferPointer<Double>, ages: UnsafeMutableBufferPointer<Int64>,
        statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws(PlatformError) {
        precondition(keys.count == entityCount * plan.joinKeys.count, "a value, or nil, for each join key")
        precondition(
            min(values.count, ages.count, statuses.count) >= entityCount * plan.featureCount,
            "a place for every feature")
        let views = snapshot.withLock { $0.views }
        if plan.reads.add(1) { usage.list(plan.reads) }
        do {
            try withUnsafeTemporaryAllocation(of: Double.self, capacity: max(1, plan.widestPartCount)) { scratch in
                for part in plan.views {
                    guard let state = views[part.versionName] else { throw unserved(part.versionName) }
                    try Self.read(
                        part, of: state, entityCount: entityCount, keys: keys, keyCount: plan.joinKeys.count, at: time,
                        scratch: scratch, stride: plan.featureCount, into: values, ages: ages, statuses: statuses)
                }
            }
        } catch {
            throw Self.platformError(error)
        }
    }

    private static func read(
        _ part: ServingPlan.ViewPart, of state: ViewState, entityCount: Int, keys: [String?], keyCount: Int,
        at time: EventTime, scratch: UnsafeMutableBufferPointer<Double>, stride: Int,
        into values: UnsafeMutableBufferPointer<Double>, ages: UnsafeMutableBufferPointer<Int64>,
        statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws {
        let program = part.program
        // The closure borrows the scratch memory only while the shard's lock is held.
        nonisolated(unsafe) let scratch = scratch
        try part.outputs.withUnsafeBufferPointer { outputs in
            for entity in 0..<entityCount {
                var presence = EntityPresence.notFound
                if let key = key(keys, from: entity * keyCount, part.keyPositions) {
                    presence = try state.read(key) { entity, missing in
                        if let entity {
                            return program.evaluate(entity.series, at: time, into: scratch, missing: &missing)
                        }
                        program.writeNothing(into: scratch)
                        return .notFound
                    }
                } else {
                    program.writeNothing(into: scratch)
                }
                let (status, newest) = describe(presence)
                let age = newest.map { time.since($0).milliseconds } ?? -1
                let start = entity * stride
                for index in outputs.indices {
                    let output = start + outputs[index]
                    let isNull = status == .present && scratch[index].isNaN
                    values[output] = scratch[index]
                    ages[output] = age
                    statuses[output] = (isNull ? FeatureStatus.nullValue : status).rawValue
                }
            }
        }
    }

    /// Why a version gives no values.
    func unserved(_ versionName: Name) -> PlatformError {
        let subject = "feature_view/\(versionName)"
        guard let status = backfills.status(of: versionName) else {
            return PlatformError(
                .notFound, subject,
                "this version of the view is not served: no definition in force, model or pin uses it")
        }
        return PlatformError(
            .unavailable, subject,
            "this version is being built from history: row \(status.nextOffset) of \(status.endOffset)"
                + (status.failure.map { "; it last failed: \($0)" } ?? ""))
    }

    static func key(_ keys: [String?], from start: Int = 0, _ positions: [Int]) -> SeriesKey? {
        guard let text = keys[start + positions[0]], EntityKey.accepts(text) else { return nil }
        if positions.count == 1 { return SeriesKey(text) }
        // One text is made, of the size that it needs.
        var byteCount = positions.count - 1
        for position in positions {
            guard let text = keys[start + position], EntityKey.accepts(text) else { return nil }
            byteCount += text.utf8.count
        }
        return SeriesKey(
            String(unsafeUninitializedCapacity: byteCount) { bytes in
                var at = 0
                for position in positions {
                    if at > 0 {
                        bytes[at] = 0x1F
                        at += 1
                    }
                    for byte in (keys[start + position] ?? "").utf8 {
                        bytes[at] = byte
                        at += 1
                    }
                }
                return at
            })
    }

    static func describe(_ presence: EntityPresence) -> (FeatureStatus, EventTime?) {
        switch presence {
        case .notFound: (.notFound, nil)
        case .outsideMaxAge(let newest): (.outsideMaxAge, newest)
        case .present(let newest): (.present, newest)
        }
    }

    static func platformError(_ error: any Error) -> PlatformError {
        if let error = error as? PlatformError { return error }
        if let error = error as? StoreError {
            return PlatformError(error.code == .corrupted ? .corrupted : .unavailable, error.subject, error.message)
        }
        return PlatformError(.internal, "features", String(describing: error))
    }
}
