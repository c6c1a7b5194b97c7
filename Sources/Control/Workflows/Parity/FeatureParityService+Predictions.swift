import Definitions
import FeatureStore
import ModelServing
import PlatformCore

extension FeatureParityService {
    /// What logged predictions read, by the versions that they read it from.
    struct Sample {
        var views: [Name: (held: HeldView, observations: [ParityObservation])] = [:]
        /// By the hash of the service's version.
        var services: [String: (service: FeatureServiceDefinition, observations: [OnDemandObservation])] = [:]
        /// Predictions of which something was compared.
        var count = 0
        /// Predictions of which something could not be computed again, and why.
        var skipped: Set<String> = []
        var leftOut: [String: Int] = [:]

        mutating func leave(out record: PredictionRecord, because reason: String) {
            skipped.insert(record.id)
            leftOut[reason, default: 0] += 1
        }
    }

    /// The services that a scope is about; none for a single view.
    static func services(of scope: Scope, in set: DefinitionSet) -> [FeatureServiceDefinition] {
        switch scope {
        case .all: set.featureServices.values.sorted { $0.name < $1.name }
        case .view: []
        case .service(let name): [set.featureServices[name]].compactMap(\.self)
        case .model(let name): [set.models[name].flatMap { set.featureServices[$0.service] }].compactMap(\.self)
        }
    }

    /// Values of logged predictions, by the versions of views and services that gave them.
    func observePredictions(_ request: Request, _ views: [FeatureViewDefinition], _ set: DefinitionSet) async throws
        -> Sample
    {
        var sample = Sample()
        guard request.predictionCount > 0 else { return sample }
        let wanted = Set(views.map(\.name))
        let whole = Set(Self.services(of: request.scope, in: set).map(\.name))
        var known: [String: ServiceVersion?] = [:]
        for model in set.models.values.sorted(by: { $0.name < $1.name }) {
            if case .model(let name) = request.scope, name != model.name { continue }
            guard let read = set.featureServices[model.service],
                read.features.contains(where: { wanted.contains($0.view) })
            else { continue }
            let records = try await archive.sample(
                model: model.name.text, count: request.predictionCount, seed: request.seed)
            for record in records {
                if known[record.serviceVersion] == nil {
                    let hash = ContentHash(hex: record.serviceVersion)
                    var found: ServiceVersion?
                    if let hash { found = try await serviceVersion(hash) }
                    known[record.serviceVersion] = .some(found)
                }
                guard let found = known[record.serviceVersion], let version = found else {
                    sample.leave(out: record, because: "no revision has its service version")
                    continue
                }
                let isWhole = whole.contains(version.service.name)
                observe(record, version, in: set, into: &sample) { isWhole || wanted.contains($0) }
                if isWhole { Self.observeOnDemand(record, version.service, into: &sample) }
                sample.count += 1
            }
        }
        return sample
    }

    private func observe(
        _ record: PredictionRecord, _ version: ServiceVersion, in set: DefinitionSet, into sample: inout Sample,
        where isWanted: (Name) -> Bool
    ) {
        for (name, values) in Self.values(of: record, version.service) where isWanted(name) {
            guard let served = HeldView(name, in: version.definitions) else { continue }
            let key = served.versionName
            if sample.views[key] == nil {
                guard let held = Self.readable(served, under: set.sources[served.source.name]) else {
                    sample.leave(out: record, because: "\(key): rows of its source mean something else by now")
                    continue
                }
                sample.views[key] = (held, [])
            }
            let keys = served.view.joinKeys.map { key in record.entities.first { $0.key == key }?.value }
            sample.views[key]?.observations.append(
                ParityObservation(origin: record.id, keys: keys, time: record.time, isNumber: true, values: values))
        }
    }

    /// The view under a source whose table gives it the cells that it was served with; `nil` if none does.
    ///
    /// A column that was dropped is in the rows that have it still, as it is online; one of another type is not.
    private static func readable(_ held: HeldView, under current: SourceDefinition?) -> HeldView? {
        if let moved = held.moved(to: current) { return moved }
        guard let current else { return held }
        guard current.eventTimeColumn == held.source.eventTimeColumn,
            current.ingestTimeColumn == held.source.ingestTimeColumn,
            held.source.columns.allSatisfy({ column in
                current.column(column.name).map { $0.type == column.type } ?? true
            })
        else { return nil }
        return held
    }

    /// What a prediction read from each view; what the caller overrode is no reading.
    private static func values(of record: PredictionRecord, _ service: FeatureServiceDefinition) -> [Name:
        [ParityObservation.Value]]
    {
        var values: [Name: [ParityObservation.Value]] = [:]
        for (index, served) in service.features.enumerated() {
            let position = service.request.count + index
            guard position < record.inputs.count, !record.overridden.contains(position) else { continue }
            values[served.view, default: []].append(
                ParityObservation.Value(feature: served.feature, value: number(record.inputs[position])))
        }
        return values
    }

    /// What a prediction computed on demand, with what it computed that from: overrides are inputs like others.
    private static func observeOnDemand(
        _ record: PredictionRecord, _ service: FeatureServiceDefinition, into sample: inout Sample
    ) {
        guard !service.onDemand.isEmpty, record.inputs.count == service.inputNames.count else { return }
        var inputs: [String: CellValue] = [:]
        for (position, name) in service.inputNames.enumerated() { inputs[name] = number(record.inputs[position]) }
        for feature in service.request {
            guard case .category(let values) = feature.kind else { continue }
            let code = inputs[feature.name]?.number.flatMap { Int(exactly: $0) }
            inputs[feature.name] = code.flatMap { values.indices.contains($0) ? .text(values[$0]) : nil } ?? .null
        }
        let first = service.request.count + service.features.count
        let values = service.onDemand.enumerated().compactMap { index, feature in
            record.overridden.contains(first + index)
                ? nil : ParityObservation.Value(feature: feature.name, value: number(record.inputs[first + index]))
        }
        var keys: [String: String] = [:]
        for entity in record.entities { keys[entity.key] = entity.value }
        sample.services[service.version.hex, default: (service, [])].observations.append(
            OnDemandObservation(origin: record.id, keys: keys, time: record.time, inputs: inputs, values: values))
    }

    private static func number(_ value: Double) -> CellValue { value.isNaN ? .null : .double(value) }
}
