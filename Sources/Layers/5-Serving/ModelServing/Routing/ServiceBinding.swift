public import Definitions
import Expressions
public import PlatformCore

/// Reads the view features of one service for one set of keys: what serving needs of the feature store.
///
/// Called on event loops: no disk wait for an entity in memory, no lock held for long.
public protocol VectorReader: Sendable {
    /// Fills the three buffers, one place for each view feature of the service, in its order.
    ///
    /// - Parameters:
    ///   - keys: values of the service's join keys, in their order; `nil` where the caller said null.
    ///   - asOf: the moment of the question.
    ///   - values: numbers; NaN where there is none.
    ///   - ages: milliseconds since the newest event behind the value; -1 where there is none.
    ///   - statuses: raw values of the feature store's status.
    /// - Throws: when the store cannot be read; the prediction then falls back.
    func read(
        keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
        ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>) throws(PlatformError)

    /// Whether a read may take long at all: where not, nothing else here is asked.
    var mayTakeLong: Bool { get }

    /// Whether `read` would answer at once; where not, an event loop leaves the request to somebody who calls `prepare`.
    /// - Parameter keys: of one question or of several, one after another.
    func isReady(keys: [String?]) -> Bool

    /// Makes what `read` needs, away from the caller's thread.
    func prepare(keys: [String?]) async
}

extension VectorReader {
    /// It does not.
    public var mayTakeLong: Bool { false }
    /// It always is.
    public func isReady(keys: [String?]) -> Bool { true }
    /// Nothing is to be made.
    public func prepare(keys: [String?]) async {}
}

/// One fault in one field of a request.
public struct FieldFault: Sendable, Hashable {
    /// `entities.tailnum` or `features.distance`.
    public let field: String
    /// What was expected and what kind of value came.
    public let message: String
    /// Makes a fault.
    public init(field: String, message: String) {
        self.field = field
        self.message = message
    }
}

/// A feature service made ready for requests: names to positions, categories to codes, ranges.
public final class ServiceBinding: Sendable {
    /// The definition.
    public let definition: FeatureServiceDefinition
    let reader: any VectorReader
    /// Hash of the service's meaning, as text.
    let versionText: String
    let requestFeatures: [RequestFeature]
    private let positions: [String: Int]
    let onDemand: OnDemandInputs
    let joinKeyPositions: [String: Int]
    let joinKeyTable: NameTable
    let inputTable: NameTable

    struct RequestFeature: Sendable {
        let name: String
        let nullable: Bool
        let minimum: Double
        let maximum: Double
        let codes: [String: Double]?
    }

    /// Status of an input that came with the request.
    public static let requestStatus: UInt8 = 4

    /// Compiles `definition`; `reader` reads its view features.
    public init(definition: FeatureServiceDefinition, reader: any VectorReader) {
        self.definition = definition
        self.reader = reader
        requestFeatures = definition.request.map { feature in
            switch feature.kind {
            case .number(let minimum, let maximum):
                RequestFeature(
                    name: feature.name, nullable: feature.nullable,
                    minimum: minimum ?? -Double(Float.greatestFiniteMagnitude),
                    maximum: maximum ?? Double(Float.greatestFiniteMagnitude), codes: nil)
            case .category(let values):
                RequestFeature(
                    name: feature.name, nullable: feature.nullable, minimum: 0, maximum: 0,
                    codes: Dictionary(uniqueKeysWithValues: values.enumerated().map { ($1, Double($0)) }))
            }
        }
        positions = Dictionary(uniqueKeysWithValues: definition.inputNames.enumerated().map { ($1, $0) })
        onDemand = OnDemandInputs(definition)
        joinKeyPositions = Dictionary(uniqueKeysWithValues: definition.joinKeys.enumerated().map { ($1, $0) })
        joinKeyTable = NameTable(definition.joinKeys)
        inputTable = NameTable(definition.inputNames)
        versionText = definition.version.hex
    }

    /// Where an input stands.
    func position(of name: String) -> Int? { positions[name] }

    /// Number of inputs of the model.
    public var inputCount: Int { positions.count }

    /// Turns one request instance into the model's input, reading what the caller did not send.
    ///
    /// - Parameters:
    ///   - instance: `{"entities": {key: value or null}, "features": {name: value}}`; every join key must be named.
    ///   - asOf: the moment of the question.
    ///   - vector: receives keys, inputs, ages and statuses.
    /// - Returns: faults, one for each bad field; the vector is of use only when there are none.
    /// - Throws: when the feature store cannot be read; what the request brought is in the vector then.
    public func assemble(_ instance: JSONValue, asOf: EventTime, into vector: inout InputVector) throws(PlatformError)
        -> [FieldFault]
    {
        guard case .object(let members) = instance else {
            return [
                FieldFault(
                    field: "", message: "an object with 'entities' and 'features' is expected, not \(instance.kindName)"
                )
            ]
        }
        var faults: [FieldFault] = []
        for name in members.keys.sorted() where name != "entities" && name != "features" {
            let near = nearestName(to: name, among: ["entities", "features"])
            faults.append(
                FieldFault(field: name, message: "unknown member" + (near.map { "; did you mean '\($0)'?" } ?? "")))
        }
        vector.reset(keyCount: definition.joinKeys.count, inputCount: inputCount)
        readKeys(members["entities"] ?? .object([:]), into: &vector, faults: &faults)
        let sent = members["features"] ?? .object([:])
        guard case .object(let features) = sent else {
            faults.append(FieldFault(field: "features", message: "an object is expected, not \(sent.kindName)"))
            return faults
        }
        let unreadable = faults.isEmpty ? readViews(asOf: asOf, into: &vector) : nil
        readRequestFeatures(features, into: &vector, faults: &faults)
        readOverrides(features, into: &vector, faults: &faults)
        if faults.isEmpty { onDemand.compute(into: &vector) }
        if let unreadable, faults.isEmpty { throw unreadable }
        return faults
    }

    /// The same for the bytes of a request, by a shorter way that the usual request takes.
    ///
    /// - Returns: whether the vector is complete; `false` decides nothing, and `assemble` is to be asked.
    /// - Throws: when the feature store cannot be read; what the request brought is in the vector then.
    func assembleQuickly(_ bytes: UnsafeRawBufferPointer, asOf: EventTime, into vector: inout InputVector)
        throws(PlatformError) -> Bool
    {
        vector.reset(keyCount: definition.joinKeys.count, inputCount: inputCount)
        vector.forgetSent()
        var request = QuickInstance(bytes)
        guard request.read(self, into: &vector) else { return false }
        if reader.mayTakeLong, !reader.isReady(keys: vector.keys) { return false }
        let unreadable = readViews(asOf: asOf, into: &vector)
        for position in 0..<requestFeatures.count {
            vector.statuses[position] = Self.requestStatus
            if vector.isSent[position] { vector.inputs[position] = vector.sent[position] }
        }
        for position in requestFeatures.count..<vector.inputs.count where vector.isSent[position] {
            vector.inputs[position] = vector.sent[position]
            vector.ages[position] = -1
            vector.statuses[position] = Self.requestStatus
            vector.overridden.append(position)
        }
        onDemand.compute(into: &vector)
        if let unreadable { throw unreadable }
        return true
    }

    /// Reads the view features; none of them has a value where that fails.
    func readViews(asOf: EventTime, into vector: inout InputVector) -> PlatformError? {
        guard !definition.features.isEmpty else { return nil }
        let keys = vector.keys
        do {
            try vector.withBuffers(from: requestFeatures.count) { (values, ages, statuses) throws(PlatformError) in
                try reader.read(keys: keys, asOf: asOf, values: values, ages: ages, statuses: statuses)
            }
            return nil
        } catch {
            vector.reset(keyCount: 0, inputCount: inputCount)
            vector.keys = keys
            return error
        }
    }

    private func readKeys(_ sent: JSONValue, into vector: inout InputVector, faults: inout [FieldFault]) {
        guard case .object(let entities) = sent else {
            faults.append(FieldFault(field: "entities", message: "an object is expected, not \(sent.kindName)"))
            return
        }
        for (position, key) in definition.joinKeys.enumerated() {
            guard let value = entities[key] else {
                faults.append(FieldFault(field: "entities.\(key)", message: "is missing; say null if it is not known"))
                continue
            }
            switch value {
            case .null: vector.keys[position] = nil
            case .string(let text) where EntityKey.accepts(text): vector.keys[position] = text
            case .integer(let number): vector.keys[position] = String(number)
            case .string:
                faults.append(
                    FieldFault(
                        field: "entities.\(key)",
                        message: "must have 1 to \(EntityKey.valueByteCountMax) bytes and no control characters"))
            default:
                faults.append(FieldFault(field: "entities.\(key)", message: "text is expected, not \(value.kindName)"))
            }
        }
        for name in entities.keys.sorted() where joinKeyPositions[name] == nil {
            let near = nearestName(to: name, among: definition.joinKeys)
            faults.append(
                FieldFault(
                    field: "entities.\(name)",
                    message: "no such key; "
                        + (near.map { "did you mean '\($0)'?" }
                            ?? "known: \(definition.joinKeys.joined(separator: ", "))")))
        }
    }

    private func readRequestFeatures(
        _ features: [String: JSONValue], into vector: inout InputVector, faults: inout [FieldFault]
    ) {
        for (position, feature) in requestFeatures.enumerated() {
            vector.statuses[position] = Self.requestStatus
            guard let value = features[feature.name] else {
                if !feature.nullable {
                    faults.append(FieldFault(field: "features.\(feature.name)", message: "is missing"))
                }
                continue
            }
            if value.isNull, feature.nullable { continue }
            if let codes = feature.codes {
                guard case .string(let text) = value else {
                    faults.append(
                        FieldFault(
                            field: "features.\(feature.name)", message: "text is expected, not \(value.kindName)"))
                    continue
                }
                guard let code = codes[text] else {
                    faults.append(
                        FieldFault(
                            field: "features.\(feature.name)",
                            message: "'\(text.prefix(40))' is none of its \(codes.count) known values"))
                    continue
                }
                vector.inputs[position] = code
                continue
            }
            guard let number = value.doubleValue else {
                faults.append(
                    FieldFault(
                        field: "features.\(feature.name)", message: "a number is expected, not \(value.kindName)"))
                continue
            }
            guard number >= feature.minimum, number <= feature.maximum else {
                faults.append(
                    FieldFault(
                        field: "features.\(feature.name)",
                        message: "must be within [\(feature.minimum), \(feature.maximum)]"))
                continue
            }
            vector.inputs[position] = number
        }
    }

    private func readOverrides(
        _ features: [String: JSONValue], into vector: inout InputVector, faults: inout [FieldFault]
    ) {
        guard features.count > 0 else { return }
        for (name, value) in features {
            guard let position = positions[name] else {
                let near = nearestName(to: name, among: positions.keys)
                faults.append(
                    FieldFault(
                        field: "features.\(name)",
                        message: "no such feature" + (near.map { "; did you mean '\($0)'?" } ?? "")))
                continue
            }
            guard position >= requestFeatures.count else { continue }
            switch value {
            case .null: vector.inputs[position] = .nan
            case .integer, .number: vector.inputs[position] = value.doubleValue ?? .nan
            default:
                faults.append(
                    FieldFault(field: "features.\(name)", message: "a number is expected, not \(value.kindName)"))
                continue
            }
            vector.ages[position] = -1
            vector.statuses[position] = Self.requestStatus
            vector.overridden.append(position)
        }
        vector.overridden.sort()
    }
}

/// The input of one prediction while it is put together; reused between requests.
public struct InputVector: Sendable {
    /// Values of the join keys.
    public var keys: [String?] = []
    /// Numbers in the order of the service; NaN for none.
    public var inputs: [Double] = []
    /// Age of the newest event behind each input; -1 for none.
    public var ages: [Int64] = []
    /// Status of each input.
    public var statuses: [UInt8] = []
    /// Positions that the caller overrode.
    public var overridden: [Int] = []
    /// What a request brought by position, and which positions it brought; for the quick way only.
    var sent: [Double] = []
    var isSent: [Bool] = []

    /// An empty vector.
    public init() {}

    mutating func reset(keyCount: Int, inputCount: Int) {
        Self.fill(&keys, keyCount, nil)
        Self.fill(&inputs, inputCount, .nan)
        Self.fill(&ages, inputCount, -1)
        Self.fill(&statuses, inputCount, 0)
        overridden.removeAll(keepingCapacity: true)
    }

    mutating func forgetSent() {
        if sent.count != inputs.count { sent = Array(repeating: .nan, count: inputs.count) }
        Self.fill(&isSent, inputs.count, false)
    }

    private static func fill<Element>(_ array: inout [Element], _ count: Int, _ value: Element) {
        guard array.count == count else {
            array = Array(repeating: value, count: count)
            return
        }
        for position in 0..<count { array[position] = value }
    }

    mutating func withBuffers(
        from offset: Int,
        _ body: (
            UnsafeMutableBufferPointer<Double>, UnsafeMutableBufferPointer<Int64>, UnsafeMutableBufferPointer<UInt8>
        )
            throws(PlatformError) -> Void
    ) throws(PlatformError) {
        try inputs.withUnsafeMutableBufferPointer { (values) throws(PlatformError) in
            try ages.withUnsafeMutableBufferPointer { (ages) throws(PlatformError) in
                try statuses.withUnsafeMutableBufferPointer { (statuses) throws(PlatformError) in
                    try body(
                        UnsafeMutableBufferPointer(rebasing: values[offset...]),
                        UnsafeMutableBufferPointer(rebasing: ages[offset...]),
                        UnsafeMutableBufferPointer(rebasing: statuses[offset...]))
                }
            }
        }
    }
}
