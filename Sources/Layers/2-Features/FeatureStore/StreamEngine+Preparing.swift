import Dispatch
public import PlatformCore
import Synchronization

/// Reads that take long: the first distinct count of a key with very many events, after a start or after it was let go.
///
/// Who answers on an event loop asks `isReady`, and where it says no hands the question to somebody who can wait for
/// `prepare`. A read without either gives the same values; it only holds its own thread up.
extension StreamEngine {
    /// Whether `read` of a service would answer at once.
    /// - Parameter keys: entity by entity, a value for each of `plan.joinKeys`.
    public func isReady(_ plan: ServingPlan, keys: [String?]) -> Bool {
        isReady(plan.views, keys, keyCount: plan.joinKeys.count)
    }

    /// Makes what `read` of a service needs, away from the caller's thread; what fails is told by `read`.
    public func prepare(_ plan: ServingPlan, keys: [String?]) async {
        await prepare(plan.views, keys, keyCount: plan.joinKeys.count)
    }

    /// Whether `online` would answer at once.
    public func isReady(_ name: Name, _ question: OnlineRequest) -> Bool {
        guard let plan = plan(name), mayTakeLong(plan.parts) else { return true }
        return isReady(plan.parts, plan.keys(of: question), keyCount: plan.joinKeys.count)
    }

    /// Makes what `online` needs, away from the caller's thread; what fails is told by `online`.
    public func prepare(_ name: Name, _ question: OnlineRequest) async {
        guard let plan = plan(name), mayTakeLong(plan.parts) else { return }
        await prepare(plan.parts, plan.keys(of: question), keyCount: plan.joinKeys.count)
    }

    /// Makes what `read` of a selection needs, away from the caller's thread; what fails is told by `read`.
    public func prepare(_ selection: FeatureSelection, keys: [String?]) async {
        await prepare(selection.plan.parts, keys, keyCount: selection.joinKeys.count)
    }

    private func plan(_ name: Name) -> OnlinePlan? {
        snapshot.withLock { $0.viewPlans[name] ?? $0.servicePlans[name] }
    }

    private func mayTakeLong(_ parts: [ServingPlan.ViewPart]) -> Bool { parts.contains { $0.countsValues } }

    private func isReady(_ parts: [ServingPlan.ViewPart], _ keys: [String?], keyCount: Int) -> Bool {
        guard mayTakeLong(parts) else { return true }
        return unready(parts, keys, keyCount: keyCount, countMax: 1).isEmpty
    }

    private func prepare(_ parts: [ServingPlan.ViewPart], _ keys: [String?], keyCount: Int) async {
        guard mayTakeLong(parts) else { return }
        for (state, key) in unready(parts, keys, keyCount: keyCount, countMax: .max) {
            await withCheckedContinuation { continuation in
                preparation.async {
                    try? state.prepare(key)
                    continuation.resume()
                }
            }
        }
    }

    private func unready(_ parts: [ServingPlan.ViewPart], _ keys: [String?], keyCount: Int, countMax: Int)
        -> [(ViewState, SeriesKey)]
    {
        guard keyCount > 0 else { return [] }
        let views = snapshot.withLock { $0.views }
        var found: [(ViewState, SeriesKey)] = []
        for part in parts where part.countsValues {
            guard let state = views[part.versionName] else { continue }
            for start in stride(from: 0, to: keys.count, by: keyCount) {
                guard let key = Self.key(keys, from: start, part.keyPositions), !state.isReady(key) else { continue }
                found.append((state, key))
                if found.count == countMax { return found }
            }
        }
        return found
    }
}

extension OnlinePlan {
    /// The keys of a question's entities, one after another.
    fileprivate func keys(of question: OnlineRequest) -> [String?] {
        question.entities.flatMap { entity in joinKeys.map { entity[$0] } }
    }
}
