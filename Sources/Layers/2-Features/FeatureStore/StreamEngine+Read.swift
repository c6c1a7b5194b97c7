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
                    // The closure borrows the scratch memory only while the shard's lock is held.
                    nonisolated(unsafe) let scratch = scratch
                    for entity in 0..<entityCount {
                        var presence = EntityPresence.notFound
                        if let key = Self.key(keys, from: entity * plan.joinKeys.count, part.keyPositions) {
                            presence = try state.read(key) { series, missing in
                                if let series {
                                    return series.evaluate(part.plan, at: time, into: scratch, missing: &missing)
                                }
                                EventSeries.writeNothing(part.plan, into: scratch)
                                return .notFound
                            }
                        } else {
                            EventSeries.writeNothing(part.plan, into: scratch)
                        }
                        let (status, newest) = Self.describe(presence)
                        let age = newest.map { time.since($0).milliseconds } ?? -1
                        let start = entity * plan.featureCount
                        for index in part.outputs.indices {
                            let output = start + part.outputs[index]
                            values[output] = scratch[index]
                            ages[output] = age
                            let isNull = status == .present && scratch[index].isNaN
                            statuses[output] = (isNull ? FeatureStatus.nullValue : status).rawValue
                        }
                    }
                }
            }
        } catch {
            throw Self.platformError(error)
        }
    }

    /// The features of one view for several entities, with their types.
    /// - Parameter entities: join key values by name; a missing one makes the entity `notFound`.
    /// - Throws: `notFound` for an unknown view, `invalidInput` for a key that the view does not have.
    public func onlineFeatures(view name: Name, entities: [[String: String]], at time: EventTime? = nil) async throws
        -> OnlineFeatures
    {
        let definitions = snapshot.withLock { $0.definitions }
        guard let wanted = definitions.featureViews[name] else {
            throw unknown("feature view", name, among: definitions.featureViews.keys.map(\.text))
        }
        guard let held = snapshot.withLock({ $0.served[name] }) else { throw unserved(wanted.versionName) }
        let view = held.view
        let plan = AggregationPlan(view: view, source: held.source)
        let part = ServingPlan.ViewPart(
            versionName: view.versionName, plan: plan, keyPositions: Array(view.joinKeys.indices),
            outputs: Array(plan.features.indices))
        usage.read(view.versionName, features: view.features.map(\.name), count: entities.count)
        return try answer([part], names: view.features.map(\.name), joinKeys: view.joinKeys, entities, at: time)
    }

    /// The view features of a service for several entities, with their types.
    /// - Parameter entities: join key values by name; a missing one makes the features of its views `notFound`.
    /// - Throws: `notFound` for an unknown service, `invalidInput` for a key that the service does not have.
    public func onlineFeatures(service name: Name, entities: [[String: String]], at time: EventTime? = nil) async throws
        -> OnlineFeatures
    {
        let definitions = snapshot.withLock { $0.definitions }
        guard let service = definitions.featureServices[name] else {
            throw unknown("feature service", name, among: definitions.featureServices.keys.map(\.text))
        }
        guard let plan = snapshot.withLock({ $0.services[name] }) else {
            let pending = Set(service.features.map(\.view)).compactMap { definitions.featureViews[$0]?.versionName }
                .sorted().first { version in snapshot.withLock { $0.views[version] == nil } }
            throw unserved(pending ?? service.name)
        }
        if plan.reads.add(entities.count) { usage.list(plan.reads) }
        return try answer(
            plan.views, names: plan.features.map(\.servedName), joinKeys: plan.joinKeys, entities, at: time)
    }

    private func answer(
        _ parts: [ServingPlan.ViewPart], names: [String], joinKeys: [String], _ entities: [[String: String]],
        at time: EventTime?
    ) throws -> OnlineFeatures {
        let time = time ?? clock.now()
        let views = snapshot.withLock { $0.views }
        var answers: [EntityFeatures] = []
        for entity in entities {
            if let foreign = entity.keys.sorted().first(where: { !joinKeys.contains($0) }) {
                let near = nearestName(to: foreign, among: joinKeys)
                throw PlatformError(
                    .invalidInput, "entities",
                    "'\(foreign.prefix(60))' is no join key here; known: \(joinKeys.joined(separator: ", "))"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            let keys = joinKeys.map { entity[$0] }
            var values = [CellValue](repeating: .null, count: names.count)
            var statuses = [FeatureStatus](repeating: .notFound, count: names.count)
            var eventTimes = [EventTime?](repeating: nil, count: names.count)
            for part in parts {
                guard let state = views[part.versionName] else { throw unserved(part.versionName) }
                let empty = EventSeries(plan: part.plan)
                var found: (presence: EntityPresence, values: [CellValue])?
                if let key = Self.key(keys, part.keyPositions) {
                    found = try state.read(key) { series, missing in
                        (series ?? empty).cells(part.plan, at: time, missing: &missing)
                    }
                }
                let result = found ?? empty.cells(part.plan, at: time)
                let (status, newest) = Self.describe(result.presence)
                for (index, output) in part.outputs.enumerated() {
                    values[output] = result.values[index]
                    eventTimes[output] = newest
                    statuses[output] = status == .present && result.values[index].isNull ? .nullValue : status
                }
            }
            answers.append(EntityFeatures(values: values, statuses: statuses, eventTimes: eventTimes))
        }
        return OnlineFeatures(names: names, entities: answers)
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

    private func unknown(_ kind: String, _ name: Name, among known: [String]) -> PlatformError {
        PlatformError(
            .notFound, "\(kind.replacing(" ", with: "_"))/\(name)",
            "no \(kind) has this name"
                + (nearestName(to: name.text, among: known).map { "; did you mean '\($0)'?" } ?? ""))
    }

    static func key(_ keys: [String?], from start: Int = 0, _ positions: [Int]) -> SeriesKey? {
        if positions.count == 1 {
            guard let text = keys[start + positions[0]], EntityKey.accepts(text) else { return nil }
            return SeriesKey(text)
        }
        var values: [String] = []
        values.reserveCapacity(positions.count)
        for position in positions {
            guard let text = keys[start + position] else { return nil }
            values.append(text)
        }
        return EntityKey(values: values).map { SeriesKey($0.joined) }
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
