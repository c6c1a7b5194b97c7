public import PlatformCore
public import RuntimePorts
public import StoragePorts

/// Finds past predictions in the log and computes them again.
public struct PredictionArchive: Sendable {
    private let log: any EventLog
    private let content: ContentStore
    private let release: @Sendable (_ topic: Name, _ time: EventTime) async throws -> LogRelease?
    private let load: @Sendable (_ bytes: [UInt8], _ serviceVersion: String) async throws -> any LoadedModel

    /// Reads `log`; `load` turns an artifact's bytes into a model for rows of a version of its feature service.
    /// - Parameter release: says when the records of a moment were let go; `nil` if they were not.
    public init(
        log: any EventLog, content: ContentStore,
        release: @escaping @Sendable (_ topic: Name, _ time: EventTime) async throws -> LogRelease? = { _, _ in nil },
        load: @escaping @Sendable (_ bytes: [UInt8], _ serviceVersion: String) async throws -> any LoadedModel
    ) {
        self.log = log
        self.content = content
        self.release = release
        self.load = load
    }

    /// How far behind its identifier's time a record may stand in the log.
    private static let slack = TimeSpan.minutes(1)

    /// How long after its answer a shadow's record may be written.
    private static let shadowDelay = TimeSpan(milliseconds: 5000)

    /// The answered prediction with this identifier first, then its shadows; also one that was made for a stream.
    /// - Throws: `PlatformError` (`notFound`, which says so where the records of that time were let go; `invalidInput` for
    ///   text that is no identifier).
    public func find(_ id: String) async throws -> [PredictionRecord] {
        let (record, offset) = try await search(id)
        guard let offset else { return [record] }
        var found = [record]
        // Shadows have their answer's time; those that are waited for follow a while after it.
        let end = record.time.advanced(by: Self.shadowDelay)
        try await search(PlatformTopic.predictions).scan((offset + 1)..<UInt64.max) { item in
            guard item.record.time <= end else { return false }
            if PredictionRecord.identifier(in: item.record.value) == id {
                found.append(try PredictionRecord(decoding: item.record.value))
            }
            return true
        }
        return found
    }

    /// The answered prediction with this identifier alone.
    /// - Throws: as `find`.
    public func answer(_ id: String) async throws -> PredictionRecord { try await search(id).record }

    /// An answer, and where its shadows begin to follow; `nil` where it can have none.
    private func search(_ id: String) async throws -> (record: PredictionRecord, offset: UInt64?) {
        guard let time = IdentifierSource.time(of: id) else {
            throw PlatformError(.invalidInput, "prediction/\(id.prefix(64))", "this is no prediction identifier")
        }
        let predictions = search(PlatformTopic.predictions)
        let place = try await stretch(of: predictions.topic, around: time)
        let answer = try await predictions.first(id, in: place) {
            let record = try PredictionRecord(decoding: $0)
            return record.choice == .shadow ? nil : record
        }
        if let answer { return (answer.found, answer.offset) }
        // A stretch also ends where the log is damaged, which is to be said then.
        _ = try await log.read(
            predictions.topic, partition: 0, from: place.upperBound, recordCountMax: 1, byteCountMax: 1 << 20)
        for topic in try await log.topics() where ScoredEvent.isTopic(topic) {
            let events = IdentifierSearch(log: log, topic: topic) { ScoredEvent.identifier(in: $0) }
            let streamed = try await events.first(id, in: try await stretch(of: topic, around: time)) {
                try ScoredEvent.record($0, of: id)
            }
            if let streamed { return (streamed.found, nil) }
        }
        throw try await missing(id, time)
    }

    private func search(_ topic: Name) -> IdentifierSearch {
        IdentifierSearch(log: log, topic: topic) { PredictionRecord.identifier(in: $0) }
    }

    /// Where in a topic the record of a moment may stand.
    private func stretch(of topic: Name, around time: EventTime) async throws -> Range<UInt64> {
        let back = TimeSpan(milliseconds: -Self.slack.milliseconds)
        let start = try await log.firstOffset(topic, partition: 0, atOrAfter: time.advanced(by: back))
        let behind = time.advanced(by: Self.slack).advanced(by: TimeSpan(milliseconds: 1))
        return start..<max(start, try await log.firstOffset(topic, partition: 0, atOrAfter: behind))
    }

    /// What is to be said of a prediction that is not there.
    private func missing(_ id: String, _ time: EventTime) async throws -> PlatformError {
        if let release = try await release(PlatformTopic.predictions, time) {
            return PlatformError(
                .notFound, "prediction/\(id)",
                "the predictions of its time, \(time), were let go at \(release.time) with all up to \(release.upTo); the setting was '\(release.rule)'"
            )
        }
        for topic in try await log.topics() where ScoredEvent.isTopic(topic) {
            guard let release = try await release(topic, time) else { continue }
            return PlatformError(
                .notFound, "prediction/\(id)",
                "if a stream scored it, it was let go at \(release.time) with the events of \(topic) up to \(release.upTo); the setting was '\(release.rule)'"
            )
        }
        return PlatformError(.notFound, "prediction/\(id)", "no such prediction is in the log")
    }

    /// The label of a prediction, if one arrived within `horizon`; the newest where several did.
    public func label(of record: PredictionRecord, horizon: TimeSpan) async throws -> LabelRecord? {
        let topic = PlatformTopic.labels
        let start = try await log.firstOffset(topic, partition: 0, atOrAfter: record.time)
        let end = record.time.advanced(by: horizon)
        let labels = try await log.records(topic, partition: 0, key: record.id, from: start)
        return try labels.last { $0.record.time <= end }.map { try LabelRecord(decoding: $0.record.value) }
    }

    /// What a replay found.
    public struct Comparison: Sendable {
        /// The prediction as logged.
        public let record: PredictionRecord
        /// Its output computed again.
        public let output: [Float]
        /// Whether every bit is the same.
        public var isEqual: Bool { record.output.map(\.bitPattern) == output.map(\.bitPattern) }
    }

    /// Computes a prediction again from its logged inputs, with the artifact that its hash names.
    /// - Throws: `PlatformError` (`refused` for a fallback answer, which no model computed).
    public func replay(_ record: PredictionRecord, models: inout [String: any LoadedModel]) async throws -> Comparison {
        let model = try await model(behind: record, known: &models)
        return Comparison(
            record: record, output: try await model.prediction(of: record.inputs.map(Float.init), rowCount: 1))
    }

    /// Explains a prediction from its logged inputs, with the artifact that its hash names.
    /// - Parameter models: loaded models by `key(of:)`.
    /// - Throws: `PlatformError` (`refused` for a fallback answer), `ModelError` (`unsupportedModel`) for a model that cannot
    ///   be explained.
    /// - Returns: the explanation, and what it is measured in.
    public func explain(_ record: PredictionRecord, models: inout [String: any LoadedModel]) async throws -> (
        explanation: Explanation, scale: MarginScale?
    ) {
        let model = try await model(behind: record, known: &models)
        let explanation = try model.explaining().explain(record.inputs.map(Float.init), rowCount: 1)[0]
        return (explanation, model.description.marginScale)
    }

    /// What a version in memory is called among the models that `replay` and `explain` know.
    public static func key(of version: ServedVersion) -> String {
        key(artifact: version.artifactText, service: version.binding.versionText)
    }

    private static func key(artifact: String, service: String) -> String { artifact + service }

    private func model(
        behind record: PredictionRecord, known models: inout [String: any LoadedModel]
    ) async throws -> any LoadedModel {
        guard let hash = ContentHash(hex: record.artifact) else {
            throw PlatformError(
                .refused, "prediction/\(record.id)", "the fallback answered it; there is no model to replay or explain")
        }
        let key = Self.key(artifact: hash.hex, service: record.serviceVersion)
        if let known = models[key] { return known }
        let model = try await load(try await content.get(hash), record.serviceVersion)
        models[key] = model
        return model
    }

    /// `count` answered predictions of a model, all of them if it has fewer, spread over the whole log, chosen by `seed`.
    public func sample(model: String, count: Int, seed: UInt64) async throws -> [PredictionRecord] {
        let topic = PlatformTopic.predictions
        let end = try await log.endOffset(topic, partition: 0)
        let first = try await log.startOffset(topic, partition: 0)
        guard end > first else { return [] }
        var chosen: [PredictionRecord] = []
        var state = seed
        func random() -> UInt64 {  // SplitMix64 (Steele, Lea, Flood 2014)
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }
        var seen: Set<UInt64> = []
        let kept = end - first
        let wanted = min(UInt64(count), kept)
        for index in 0..<wanted {  // one from each of `wanted` equal stretches of the log
            let from = first + kept * index / wanted
            let to = max(from + 1, first + kept * (index + 1) / wanted)
            let start = from + random() % (to - from)
            for item in try await log.read(topic, partition: 0, from: start, recordCountMax: 16, byteCountMax: 1 << 20)
            where !seen.contains(item.offset) {
                guard item.record.key == model, let record = try? PredictionRecord(decoding: item.record.value),
                    record.model == model, [.primary, .canary, .holdout].contains(record.choice)
                else { continue }
                seen.insert(item.offset)
                chosen.append(record)
                break
            }
        }
        guard chosen.count < count else { return chosen }
        // Others have most of the log to themselves: what is missing is drawn from all of the model's records.
        var missing = ReservoirSample(count: count - chosen.count, random: random)
        var next = first
        while next < end {
            try Task.checkCancellation()
            let page = try await log.read(
                topic, partition: 0, from: next, recordCountMax: 4096, byteCountMax: 8 << 20)
            guard let last = page.last else { break }
            for item in page where item.offset < end && !seen.contains(item.offset) {
                guard item.record.key == model, let record = try? PredictionRecord(decoding: item.record.value),
                    record.model == model, [.primary, .canary, .holdout].contains(record.choice)
                else { continue }
                missing.consider(record)
            }
            next = last.offset + 1
        }
        return (chosen + missing.chosen).sorted { $0.time < $1.time }
    }

    /// Draws a number of records from a stream of unknown length, each with the same chance (Vitter 1985, algorithm R).
    private struct ReservoirSample {
        let count: Int
        let random: () -> UInt64
        private(set) var chosen: [PredictionRecord] = []
        private var considered: UInt64 = 0

        init(count: Int, random: @escaping () -> UInt64) {
            self.count = count
            self.random = random
        }

        mutating func consider(_ record: PredictionRecord) {
            considered += 1
            if chosen.count < count {
                chosen.append(record)
            } else {
                let place = random() % considered
                if place < UInt64(count) { chosen[Int(place)] = record }
            }
        }
    }
}
