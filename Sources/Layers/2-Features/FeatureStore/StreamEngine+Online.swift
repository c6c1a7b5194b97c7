import Aggregation
import Definitions
import Expressions
public import PlatformCore
import Synchronization

/// A question about some entities of one view or service.
public struct OnlineRequest: Sendable {
    /// Join key values by name, entity by entity; a missing one makes the features of its views `notFound`.
    public var entities: [[String: String]]
    /// What the request brings for on-demand features, by name: empty, or one for each entity.
    public var request: [[String: CellValue]]
    /// The moment of the question; `nil` for now.
    public var time: EventTime?

    /// Puts a question.
    public init(entities: [[String: String]], request: [[String: CellValue]] = [], time: EventTime? = nil) {
        self.entities = entities
        self.request = request
        self.time = time
    }
}

/// What answers questions by one name, compiled once.
final class OnlinePlan: Sendable {
    /// A feature that is computed from others.
    struct OnDemand: Sendable {
        enum Input: Sendable {
            case request(String)
            case place(Int)
            case nothing
        }
        let feature: OnDemandFeatureDefinition
        let inputs: [Input]
    }
    enum Reader: Sendable {
        /// A service, or features that somebody picked.
        case service(ReadCounter)
        case view(Name, features: [String])
    }

    let names: [String]
    let joinKeys: [String]
    let parts: [ServingPlan.ViewPart]
    let request: [RequestFeatureDefinition]
    let onDemand: [OnDemand]
    let reader: Reader

    /// All features of a view.
    init(_ held: HeldView) {
        names = held.view.features.map(\.name)
        joinKeys = held.view.joinKeys
        parts = [
            ServingPlan.ViewPart(
                whole: AggregationPlan(view: held.view, source: held.source),
                positions: Array(held.view.features.indices), keyPositions: Array(held.view.joinKeys.indices),
                outputs: Array(held.view.features.indices))
        ]
        request = []
        onDemand = []
        reader = .view(held.versionName, features: names)
    }

    /// Features picked from views.
    init(names: [String], joinKeys: [String], parts: [ServingPlan.ViewPart], reads: ReadCounter) {
        self.names = names
        self.joinKeys = joinKeys
        self.parts = parts
        request = []
        onDemand = []
        reader = .service(reads)
    }

    /// The view features of a service and those computed from them.
    init(_ plan: ServingPlan) {
        let places = Dictionary(uniqueKeysWithValues: plan.features.enumerated().map { ($1.servedName, $0) })
        let requested = Set(plan.service.request.map(\.name))
        names = plan.features.map(\.servedName) + plan.service.onDemand.map(\.name)
        joinKeys = plan.joinKeys
        parts = plan.views
        request = plan.service.request
        onDemand = plan.service.onDemand.map { feature in
            OnDemand(
                feature: feature,
                inputs: feature.inputs.map { input in
                    if let place = places[input.name] { return .place(place) }
                    return requested.contains(input.name) ? .request(input.name) : .nothing
                })
        }
        reader = .service(plan.reads)
    }
}

extension StreamEngine {
    /// The features of a view, or of a service with those computed on demand, for several entities, with their types.
    ///
    /// Synchronous, as `read` is. A view that says how stale an answer may be is answered from the cache where it can be,
    /// unless the question names its moment.
    /// - Throws: `notFound` for a name that is neither, `unavailable` for one that is being built, `invalidInput` for a
    ///   key or request feature that it does not have.
    public func online(_ name: Name, _ question: OnlineRequest) throws(PlatformError) -> OnlineFeatures {
        let (view, service) = snapshot.withLock { ($0.viewPlans[name], $0.servicePlans[name]) }
        if let plan = view ?? service { return try answer(plan, question) }
        let definitions = snapshot.withLock { $0.definitions }
        if let view = definitions.featureViews[name] { throw unserved(view.versionName) }
        if let service = definitions.featureServices[name] { throw unserved(service, definitions) }
        throw unknown(
            "feature view or service", name,
            among: definitions.featureViews.keys.map(\.text) + definitions.featureServices.keys.map(\.text))
    }

    /// The features of one view; see `online`.
    public func onlineFeatures(view name: Name, entities: [[String: String]], at time: EventTime? = nil) async throws
        -> OnlineFeatures
    {
        if let plan = snapshot.withLock({ $0.viewPlans[name] }) {
            return try answer(plan, OnlineRequest(entities: entities, time: time))
        }
        let definitions = snapshot.withLock { $0.definitions }
        if let wanted = definitions.featureViews[name] { throw unserved(wanted.versionName) }
        throw unknown("feature view", name, among: definitions.featureViews.keys.map(\.text))
    }

    /// The features of a service; see `online`.
    public func onlineFeatures(
        service name: Name, entities: [[String: String]], request: [[String: CellValue]] = [], at time: EventTime? = nil
    ) async throws -> OnlineFeatures {
        if let plan = snapshot.withLock({ $0.servicePlans[name] }) {
            return try answer(plan, OnlineRequest(entities: entities, request: request, time: time))
        }
        let definitions = snapshot.withLock { $0.definitions }
        if let service = definitions.featureServices[name] { throw unserved(service, definitions) }
        throw unknown("feature service", name, among: definitions.featureServices.keys.map(\.text))
    }

    private func answer(_ plan: OnlinePlan, _ question: OnlineRequest) throws(PlatformError) -> OnlineFeatures {
        guard question.request.isEmpty || question.request.count == question.entities.count else {
            throw PlatformError(.invalidInput, "request", "as many are expected as there are entities")
        }
        count(plan, reads: question.entities.count)
        let time = question.time ?? clock.now()
        let states = try states(of: plan)
        var answers: [EntityFeatures] = []
        answers.reserveCapacity(question.entities.count)
        for (index, entity) in question.entities.enumerated() {
            if entity.keys.contains(where: { !plan.joinKeys.contains($0) }) { throw foreign(entity, plan.joinKeys) }
            let keys = plan.joinKeys.map { entity[$0] }
            var filled = try filled(plan, states, keys, at: time, isNow: question.time == nil)
            if !plan.onDemand.isEmpty {
                let request = question.request.isEmpty ? [:] : question.request[index]
                try check(request, plan.request, at: index)
                compute(plan, request, into: &filled)
            }
            answers.append(filled)
        }
        return OnlineFeatures(names: plan.names, entities: answers, time: time)
    }

    // MARK: One plan

    /// Counts what is read by it.
    func count(_ plan: OnlinePlan, reads: Int) {
        switch plan.reader {
        case .service(let counter): if counter.add(reads) { usage.list(counter) }
        case .view(let version, let features): usage.read(version, features: features, count: reads)
        }
    }

    /// The states that the parts of a plan read.
    func states(of plan: OnlinePlan) throws(PlatformError) -> [ViewState] {
        let views = snapshot.withLock { $0.views }
        return try plan.parts.map { (part) throws(PlatformError) -> ViewState in
            guard let state = views[part.versionName] else { throw unserved(part.versionName) }
            return state
        }
    }

    /// What the views of a plan answer for one entity, whose keys stand from `start` on.
    func filled(
        _ plan: OnlinePlan, _ states: [ViewState], _ keys: [String?], from start: Int = 0, at time: EventTime,
        isNow: Bool
    ) throws(PlatformError) -> EntityFeatures {
        var filled = EntityFeatures(count: plan.names.count)
        for (part, state) in zip(plan.parts, states) {
            do {
                try fill(&filled, part, state, Self.key(keys, from: start, part.keyPositions), at: time, isNow: isNow)
            } catch { throw Self.platformError(error) }
        }
        return filled
    }

    private func fill(
        _ filled: inout EntityFeatures, _ part: ServingPlan.ViewPart, _ state: ViewState, _ key: SeriesKey?,
        at time: EventTime, isNow: Bool
    ) throws {
        if isNow, let key, let (answer, staleness) = try cached(part, state, key, at: time) {
            part.put(answer.presence, staleness: staleness, into: &filled) { answer.values[part.positions[$0]] }
            return
        }
        var found = (presence: EntityPresence.notFound, values: [CellValue]())
        if let key {
            found = try state.read(key) { entity, missing in
                (entity?.series ?? part.empty).cells(part.plan, at: time, missing: &missing)
            }
        } else {
            found = part.empty.cells(part.plan, at: time)
        }
        part.put(found.presence, staleness: 0, into: &filled) { found.values[$0] }
    }

    /// The whole view's features for one entity from the cache, or computed and kept there; `nil` for a view without.
    private func cached(_ part: ServingPlan.ViewPart, _ state: ViewState, _ key: SeriesKey, at time: EventTime) throws
        -> (answer: EntityCache.Answer, staleness: Int64)?
    {
        guard let cache, let (serial, age) = state.cached else { return nil }
        let (place, instant) = (EntityCache.Key(state: serial, entity: key), ContinuousClock.now)
        let found = cache.find(
            place, at: time, tick: part.whole.tick(at: time.milliseconds), instant: instant, age: age,
            timeToLive: part.whole.timeToLive)
        if let found { return (found, time.since(found.computedAt).milliseconds) }
        let ticket = cache.ticket(key)
        let (computed, newest) = try state.read(key) { entity, missing in
            let series = entity?.series ?? part.empty
            return (series.cells(part.whole, at: time, missing: &missing), series.newestIngestTime)
        }
        let answer = EntityCache.Answer(
            presence: computed.presence, values: computed.values, computedAt: time, instant: instant)
        // A row of this very millisecond has been acknowledged and is not visible yet: the next question sees it.
        if newest < time.milliseconds { cache.store(answer, for: place, ticket: ticket) }
        return (answer, 0)
    }

    // MARK: On demand

    private func compute(_ plan: OnlinePlan, _ request: [String: CellValue], into filled: inout EntityFeatures) {
        let first = plan.names.count - plan.onDemand.count
        let staleness = filled.staleness.max() ?? 0
        for (index, onDemand) in plan.onDemand.enumerated() {
            let value = onDemand.feature.expression.evaluate { position -> CellValue in
                switch onDemand.inputs[position] {
                case .request(let name): return request[name] ?? .null
                case .place(let place): return filled.values[place].number.map(CellValue.double) ?? .null
                case .nothing: return .null
                }
            }
            filled.values[first + index] = value
            filled.statuses[first + index] = value.isNull ? .nullValue : .present
            filled.staleness[first + index] = staleness
        }
    }

    /// Request features as a prediction would take them; one that is missing is null.
    private func check(_ request: [String: CellValue], _ known: [RequestFeatureDefinition], at index: Int)
        throws(PlatformError)
    {
        for (name, value) in request {
            let place = "request[\(index)].\(name.prefix(60))"
            guard let feature = known.first(where: { $0.name == name }) else {
                let near = nearestName(to: name, among: known.map(\.name))
                throw PlatformError(
                    .invalidInput, place,
                    "the service's requests have no such feature" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            switch (feature.kind, value) {
            case (_, .null): continue
            case (.number(let minimum, let maximum), _):
                guard let number = value.number, number >= minimum ?? -.infinity, number <= maximum ?? .infinity else {
                    let bounds = [minimum.map { "at least \($0)" }, maximum.map { "at most \($0)" }].compactMap { $0 }
                    throw PlatformError(
                        .invalidInput, place, "must be a number" + bounds.map { ", \($0)" }.joined())
                }
            case (.category(let values), .text(let text)) where values.contains(text): continue
            case (.category(let values), _):
                throw PlatformError(.invalidInput, place, "must be one of its \(values.count) known values")
            }
        }
    }

    // MARK: Refusals

    private func foreign(_ entity: [String: String], _ joinKeys: [String]) -> PlatformError {
        let foreign = entity.keys.sorted().first { !joinKeys.contains($0) } ?? ""
        let near = nearestName(to: foreign, among: joinKeys)
        return PlatformError(
            .invalidInput, "entities",
            "'\(foreign.prefix(60))' is no join key here; known: \(joinKeys.joined(separator: ", "))"
                + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    private func unserved(_ service: FeatureServiceDefinition, _ definitions: DefinitionSet) -> PlatformError {
        let pending = Set(service.features.map(\.view)).compactMap { definitions.featureViews[$0]?.versionName }
            .sorted().first { version in snapshot.withLock { $0.views[version] == nil } }
        return unserved(pending ?? service.name)
    }

    func unknown(_ kind: String, _ name: Name, among known: [String]) -> PlatformError {
        PlatformError(
            .notFound, "\(kind.replacing(" ", with: "_"))/\(name)",
            "no \(kind) has this name"
                + (nearestName(to: name.text, among: known).map { "; did you mean '\($0)'?" } ?? ""))
    }
}
