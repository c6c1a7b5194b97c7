public import Definitions
public import PlatformCore

/// What the platform remembers of one prediction: enough to explain it and to compute it again, bit for bit.
///
/// Topic `predictions`, partition 0; the record's time is the prediction's time and its key the model's name.
public struct PredictionRecord: Sendable, Hashable {
    /// Why this variant answered.
    public enum Choice: UInt8, Sendable, CaseIterable {
        /// The only live version.
        case primary = 0
        /// The hash of the sticky keys fell into the challenger's share.
        case canary = 1
        /// A copy for comparison; nobody saw the answer.
        case shadow = 2
        /// No model answered.
        case fallback = 3
        /// The unit is held out of every rollout; the champion answered.
        case holdout = 4

        /// The word for it.
        ///
        /// Written out: printing a case looks its name up by reflection, which takes longer than the trees.
        public var word: String {
            switch self {
            case .primary: "primary"
            case .canary: "canary"
            case .shadow: "shadow"
            case .fallback: "fallback"
            case .holdout: "holdout"
            }
        }
    }
    /// Identifier the caller got.
    ///
    /// A shadow's record carries the identifier of the answer it is paired with.
    public var id: String
    /// Moment of prediction.
    public var time: EventTime
    /// The model.
    public var model: String
    /// Its version number; for a fallback that of the version that should have answered.
    public var version: Int
    /// Hash of the artifact that computed it; empty for a fallback.
    public var artifact: String
    /// Revision of the deployment's policy then in force.
    public var policyRevision: Int
    /// Why this variant.
    public var choice: Choice
    /// Hash of the feature service's meaning: names and order of `inputs`.
    public var serviceVersion: String
    /// Entity key values by join key name, sorted by name.
    public var entities: [Entity]
    /// The model's input in the order of the service; NaN is a missing value.
    public var inputs: [Double]
    /// For each input, the age in milliseconds of the newest event behind it; -1 where there is none.
    public var ages: [Int64]
    /// For each input, its `FeatureStatus` as a raw value.
    public var statuses: [UInt8]
    /// Positions of inputs that the caller overrode.
    public var overridden: [Int]
    /// Outputs of the model as given to the caller.
    public var output: [Float]
    /// What the answer calls the prediction: the only output, or the number of the most probable class.
    public var prediction: Float? {
        output.count > 1 ? output.indices.max { output[$0] < output[$1] }.map(Float.init) : output.first
    }
    /// Why the fallback answered; empty otherwise.
    ///
    /// What a model or a store said is part of it, which may be anything: callers get `callersReason`.
    public var fallbackReason: String
    /// Whether its version was not loaded: the platform's failure, which says nothing of the model.
    public var isOfUnloadedVersion: Bool { fallbackReason.hasPrefix(UnloadedModel.recordedReason) }
    /// The part of `fallbackReason` that is our own words.
    public var callersReason: String {
        guard let end = fallbackReason.utf8.firstIndex(of: UInt8(ascii: ":")) else { return fallbackReason }
        return String(fallbackReason[..<end])
    }
    /// Microseconds for reading features, scoring, and in all.
    public var latency: Latency
    /// Who asked.
    public var caller: String
    /// What answered in the model's place; `nil` where the model was able to.
    public var fallback: Fallback?
    /// Where the output comes from.
    public var origin = Origin.model
    /// Whether the caller asked for this very version, so that no hash dealt the unit to it.
    public var isVersionNamed = false

    /// Whether nothing answered.
    var isUnanswered: Bool { choice == .fallback && output.isEmpty }
    /// Whether nothing answered because the time of the request was over.
    var isUnansweredForTime: Bool { isUnanswered && fallback?.cause == .timeout }

    /// What answered in the model's place.
    public struct Fallback: Sendable, Hashable {
        /// Why the model did not.
        public let cause: AnswerFault
        /// The step of the chain that answered, `version 3`, `expression`, `constant`; empty if none did.
        public let step: String
        /// The version that computed the output; 0 for none.
        public let version: Int

        /// Puts them together.
        public init(cause: AnswerFault, step: String, version: Int) {
            self.cause = cause
            self.step = step
            self.version = version
        }
    }

    /// Where an output comes from.
    public enum Origin: UInt8, Sendable, CaseIterable {
        /// It was computed for this request, by the model or by what stood in for it.
        case model = 0
        /// The same version computed it for the same input a while ago.
        case cache = 1
        /// It was read from a feature that holds predictions.
        case precomputed = 2

        /// The word for it.
        public var word: String { "\(self)" }
    }

    /// One entity key value.
    public struct Entity: Sendable, Hashable {
        /// Join key.
        public let key: String
        /// Its value; `nil` where the caller said null.
        public internal(set) var value: String?
        /// Makes a pair.
        public init(key: String, value: String?) {
            self.key = key
            self.value = value
        }
    }

    /// Where the time went, in microseconds.
    public struct Latency: Sendable, Hashable {
        /// Reading features.
        public var features: UInt32
        /// Scoring.
        public var score: UInt32
        /// From the parsed request to the answer.
        public var total: UInt32
        /// Makes it.
        public init(features: UInt32 = 0, score: UInt32 = 0, total: UInt32 = 0) {
            self.features = features
            self.score = score
            self.total = total
        }
    }

    /// Makes a record.
    public init(
        id: String, time: EventTime, model: String, version: Int, artifact: String, policyRevision: Int, choice: Choice,
        serviceVersion: String, entities: [Entity], inputs: [Double], ages: [Int64], statuses: [UInt8],
        overridden: [Int], output: [Float], fallbackReason: String, latency: Latency, caller: String
    ) {
        self.id = id
        self.time = time
        self.model = model
        self.version = version
        self.artifact = artifact
        self.policyRevision = policyRevision
        self.choice = choice
        self.serviceVersion = serviceVersion
        self.entities = entities
        self.inputs = inputs
        self.ages = ages
        self.statuses = statuses
        self.overridden = overridden
        self.output = output
        self.fallbackReason = fallbackReason
        self.latency = latency
        self.caller = caller
    }
}

// MARK: - Codec

extension PredictionRecord {
    /// The usual record.
    private static let formatVersion: UInt8 = 1
    /// One with `origin` and `fallback` behind it.
    private static let extendedVersion: UInt8 = 2
    /// One with `origin`, `fallback` and flags behind it; bit 0 says that the caller named the version.
    private static let flaggedVersion: UInt8 = 3

    static func isKnown(form: UInt8) -> Bool { formatVersion...flaggedVersion ~= form }
    static func isExtended(form: UInt8) -> Bool { form > formatVersion }
    static func isFlagged(form: UInt8) -> Bool { form == flaggedVersion }

    /// The identifier of a stored record; `nil` for bytes that are none.
    static func identifier(in bytes: [UInt8]) -> String? {
        var reader = ByteReader(bytes)
        guard let form = try? reader.byte(), isKnown(form: form) else { return nil }
        return try? reader.text()
    }

    /// The record as bytes.
    public borrowing func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 256 + inputs.count * 12)
        let isExtended = fallback != nil || origin != .model || isVersionNamed
        writer.write(
            isVersionNamed ? Self.flaggedVersion : isExtended ? Self.extendedVersion : Self.formatVersion)
        writer.write(id)
        writer.write(fixed: time.milliseconds)
        writer.write(model)
        writer.write(varint: UInt64(version))
        writer.write(artifact)
        writer.write(varint: UInt64(policyRevision))
        writer.write(choice.rawValue)
        writer.write(serviceVersion)
        writer.write(varint: UInt64(entities.count))
        for entity in entities {
            writer.write(entity.key)
            writer.write(entity.value == nil ? UInt8(0) : UInt8(1))
            if let value = entity.value { writer.write(value) }
        }
        writer.write(varint: UInt64(inputs.count))
        writer.write(inputs)
        for age in ages { writer.write(signed: age) }
        writer.write(bytes: statuses)
        writer.write(varint: UInt64(overridden.count))
        for position in overridden { writer.write(varint: UInt64(position)) }
        writer.write(varint: UInt64(output.count))
        for value in output { writer.write(fixed: value.bitPattern) }
        writer.write(fallbackReason)
        writer.write(varint: UInt64(latency.features))
        writer.write(varint: UInt64(latency.score))
        writer.write(varint: UInt64(latency.total))
        writer.write(caller)
        if isExtended {
            writer.write(origin.rawValue)
            writer.write(fallback?.cause.rawValue ?? "")
            if let fallback {
                writer.write(fallback.step)
                writer.write(varint: UInt64(fallback.version))
            }
        }
        if isVersionNamed { writer.write(UInt8(1)) }
        return writer.bytes
    }

    /// Reads what `encoded` wrote.
    public init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        let form = try reader.byte()
        guard Self.isKnown(form: form) else {
            throw DecodingFailure("an unknown form of prediction record")
        }
        id = try reader.text()
        time = EventTime(milliseconds: try reader.fixed(Int64.self))
        model = try reader.text()
        version = Int(clamping: try reader.varint())
        artifact = try reader.text()
        policyRevision = Int(clamping: try reader.varint())
        guard let choice = Choice(rawValue: try reader.byte()) else { throw DecodingFailure("an unknown choice") }
        self.choice = choice
        serviceVersion = try reader.text()
        entities = []
        for _ in 0..<(try reader.count(unitByteCount: 2)) {
            let key = try reader.text()
            entities.append(Entity(key: key, value: try reader.byte() == 0 ? nil : try reader.text()))
        }
        let count = try reader.count(unitByteCount: 10)
        inputs = try reader.doubles(count)
        ages = []
        ages.reserveCapacity(count)
        for _ in 0..<count { ages.append(try reader.signed()) }
        statuses = try reader.raw(count)
        overridden = []
        for _ in 0..<(try reader.count()) { overridden.append(Int(clamping: try reader.varint())) }
        output = []
        for _ in 0..<(try reader.count(unitByteCount: 4)) {
            output.append(Float(bitPattern: try reader.fixed(UInt32.self)))
        }
        fallbackReason = try reader.text()
        latency = Latency(
            features: UInt32(clamping: try reader.varint()), score: UInt32(clamping: try reader.varint()),
            total: UInt32(clamping: try reader.varint()))
        caller = try reader.text()
        guard form != Self.formatVersion else { return }
        guard let origin = Origin(rawValue: try reader.byte()) else { throw DecodingFailure("an unknown origin") }
        self.origin = origin
        let cause = try reader.text()
        if !cause.isEmpty {
            guard let cause = AnswerFault(rawValue: cause) else {
                throw DecodingFailure("an unknown cause of a fallback")
            }
            fallback = Fallback(cause: cause, step: try reader.text(), version: Int(clamping: try reader.varint()))
        }
        if form == Self.flaggedVersion { isVersionNamed = try reader.byte() & 1 == 1 }
    }
}

/// A label that arrived for a prediction.
///
/// Topic `labels`, partition 0; the record's key is the prediction's identifier.
public struct LabelRecord: Sendable, Hashable {
    /// The prediction it belongs to.
    public let predictionID: String
    /// When it became known.
    public let time: EventTime
    /// The outcome: 0 or 1 for binary models, the value for regression, the class for multiclass.
    public let value: Double
    /// Makes a label.
    public init(predictionID: String, time: EventTime, value: Double) {
        self.predictionID = predictionID
        self.time = time
        self.value = value
    }

    /// The label as bytes.
    public func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(UInt8(1))
        writer.write(predictionID)
        writer.write(fixed: time.milliseconds)
        writer.write(value)
        return writer.bytes
    }

    /// Reads what `encoded` wrote.
    public init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.byte() == 1 else { throw DecodingFailure("an unknown form of label record") }
        predictionID = try reader.text()
        time = EventTime(milliseconds: try reader.fixed(Int64.self))
        value = try reader.double()
    }
}
