import Definitions
import Foundation
import Logging
import ModelServing
import PlatformCore
import PlatformTesting
import RuntimePorts
import StoragePorts
import Synchronization
import Testing

/// A small service compiled from its YAML, and what serving needs around it.
enum ServingFixture {
    static let model = Name(static: "delay")
    static let start = EventTime(milliseconds: 1_372_670_100_000)

    /// Definitions of a model that reads three request features and two view features of plane and origin.
    static func definitions(
        deployment: String = "fallback: {constant: 0.25}", sticky: String = "tailnum", onDemand: String = ""
    ) throws -> DefinitionSet {
        let text = """
            kind: Entity
            name: plane
            keys: [tailnum]
            ---
            kind: Entity
            name: origin
            keys: [origin]
            ---
            kind: Source
            name: departures
            event_time: at
            key: [id]
            schema:
              - {name: id, type: string}
              - {name: at, type: timestamp}
              - {name: tailnum, type: string}
              - {name: origin, type: string}
              - {name: carrier, type: string}
              - {name: distance, type: int64}
              - {name: hour, type: int64}
              - {name: delay, type: float64}
            ---
            kind: FeatureView
            name: planes
            entities: [plane]
            source: departures
            features: [{name: mean, aggregate: mean, column: delay, window: 1h}]
            ---
            kind: FeatureView
            name: origins
            entities: [origin]
            source: departures
            features: [{name: flights, aggregate: count, window: 1h}]
            ---
            kind: FeatureService
            name: delay
            request:
              - {name: carrier, type: category, values: [AA, UA, DL]}
              - {name: distance, type: number, range: [0, 6000]}
              - {name: hour, type: number, range: [0, 23], nullable: true}
            views: [planes, origins]
            \(onDemand)
            ---
            kind: TrainingSet
            name: delay
            service: delay
            spine: departures
            label: {name: late, source: departures, join: [id], column: delay, horizon: 1d}
            ---
            kind: Model
            name: delay
            service: delay
            training_set: delay
            training: {command: [train]}
            ---
            kind: Deployment
            name: delay
            model: delay
            sticky_by: [\(sticky)]
            \(deployment)
            """
        return try DefinitionCompiler.compile([DefinitionFile(path: "delay.yaml", folder: "/", text: text)])
    }

    static func service() throws -> FeatureServiceDefinition {
        try #require(try definitions().featureServices[model])
    }

    static func binding(_ reader: any VectorReader = ConstantReader()) throws -> ServiceBinding {
        ServiceBinding(definition: try service(), reader: reader)
    }

    static func version(
        _ number: Int, _ loaded: any LoadedModel = LinearModel(weights: [1, 2, 4, 8, 16]),
        binding: ServiceBinding? = nil
    ) throws -> ServedVersion {
        try ServedVersion(
            model: model, number: number, artifact: ContentHash(bytes: Array(repeating: UInt8(number), count: 32)),
            loaded: loaded, binding: try binding ?? Self.binding())
    }

    static func route(
        _ versions: [(ServedVersion, Double)], shadows: [ServedVersion] = [],
        deployment: String = "fallback: {constant: 0.25}", sticky: String = "tailnum",
        fallbackVersions: [Int: ServedVersion] = [:], precomputed: PrecomputedScores? = nil
    ) throws -> DeploymentRoute {
        let definition = try #require(try definitions(deployment: deployment, sticky: sticky).deployments[model])
        return DeploymentRoute(
            definition: definition, revision: 3, variants: versions.map { .init(version: $0, share: $1) },
            shadows: shadows, fallbackVersions: fallbackVersions, precomputed: precomputed)
    }

    static func log(
        _ events: any EventLog = InMemoryEventLog(), observer: any PredictionObserver = Collector(),
        capacity: Int = 65_536
    ) -> PredictionLog {
        PredictionLog(
            log: events, observer: observer, capacity: capacity,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    /// A request that is right in every field.
    static let request: JSONValue = [
        "entities": ["tailnum": "N123UA", "origin": "EWR"],
        "features": ["carrier": "UA", "distance": 733, "hour": 9],
    ]

    static func record(_ index: Int, model: String = "delay", at time: EventTime? = nil) -> PredictionRecord {
        PredictionRecord(
            id: "id-\(index)", time: time ?? start, model: model, version: 1, artifact: "", policyRevision: 3,
            choice: .primary, serviceVersion: "", entities: [.init(key: "tailnum", value: "N\(index)")],
            inputs: [1, 2, 3, 4, 5], ages: [-1, -1, -1, 5, 6], statuses: [4, 4, 4, 0, 0], overridden: [],
            output: [0.5], fallbackReason: "", latency: .init(), caller: "test")
    }
}

/// A weighted sum of the inputs, missing values left out.
struct LinearModel: LoadedModel {
    let weights: [Float]
    var bias: Float = 0

    var description: ModelDescription {
        ModelDescription(
            format: "linear", featureNames: [], featureCount: weights.count, categoricalFeatures: [], outputCount: 1,
            output: .value, objective: "reg:linear", treeCount: 0)
    }

    init(weights: [Float], bias: Float = 0) {
        self.weights = weights
        self.bias = bias
    }

    /// Reads an artifact: a bias, then the weights, four bytes each.
    init(bytes: [UInt8]) throws {
        var reader = ByteReader(bytes)
        var numbers: [Float] = []
        while reader.remaining > 0 { numbers.append(Float(bitPattern: try reader.fixed(UInt32.self))) }
        guard let bias = numbers.first else { throw ModelError(.malformedModel, "no bias") }
        self.init(weights: Array(numbers.dropFirst()), bias: bias)
    }

    var bytes: [UInt8] {
        var writer = ByteWriter()
        for number in [bias] + weights { writer.write(fixed: number.bitPattern) }
        return writer.bytes
    }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        guard rows.count == rowCount * weights.count, output.count == rowCount else {
            throw ModelError(.shapeMismatch, "the rows do not fit")
        }
        for row in 0..<rowCount {
            var sum = bias
            for (position, weight) in weights.enumerated() {
                let value = rows[row * weights.count + position]
                if !value.isNaN { sum += value * weight }
            }
            output[row] = sum
        }
    }
}

/// A model that always fails.
struct BrokenModel: LoadedModel {
    let description = LinearModel(weights: [0, 0, 0, 0, 0]).description

    func predict(_: UnsafeBufferPointer<Float>, rowCount _: Int, into _: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    { throw ModelError(.unavailable, "out of order") }
}

/// Three classes: the softest of models.
struct ThreeClasses: LoadedModel {
    let description = ModelDescription(
        format: "constant", featureNames: [], featureCount: 5, categoricalFeatures: [], outputCount: 3,
        output: .classProbabilities, objective: "multi:softprob", treeCount: 0)

    func predict(_: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        for row in 0..<rowCount {
            for (position, value) in [Float(0.25), 0.5, 0.25].enumerated() { output[row * 3 + position] = value }
        }
    }
}

/// View features that are the same for everybody: the first has a value, the second has none.
struct ConstantReader: VectorReader {
    func read(
        keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
        ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws(PlatformError) {
        values[0] = 12.5
        ages[0] = 60_000
        statuses[0] = 1
        statuses[1] = 2
    }
}

/// A feature store that cannot be read.
struct BrokenReader: VectorReader {
    func read(
        keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
        ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws(PlatformError) { throw PlatformError(.unavailable, "online", "the disk is gone") }
}

extension Predictor {
    /// Answers a body of its own, with nothing kept from before.
    func answer(model: String, body: [UInt8], caller: String) -> Answer {
        body.withUnsafeBytes { answer(model: model, body: $0, caller: caller, scratch: PredictionScratch()) }
    }
}

/// Remembers what became durable, in order.
final class Collector: PredictionObserver {
    let isWatching = true
    private let all = Mutex<[PredictionRecord]>([])
    var records: [PredictionRecord] { all.withLock { $0 } }
    func observed(_ records: [PredictionRecord]) { all.withLock { $0 += records } }
    private let failed = Mutex<[Int]>([])
    var failedShadows: [Int] { failed.withLock { $0 } }
    func shadowFailed(model: String, version: Int) { failed.withLock { $0.append(version) } }
}
