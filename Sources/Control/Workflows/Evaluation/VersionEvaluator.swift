public import Definitions
import Foundation
public import ModelRegistry
import PlatformCore
public import RuntimePorts
public import Statistics
public import StoragePorts
import Synchronization

/// Rows of one slice of a training set, as the model reads them.
public struct SliceRows: Sendable {
    /// Inputs row by row, shape `[rowCount, inputCount]`; NaN for a missing value.
    public let inputs: [Float]
    /// Labels.
    public let labels: [Double]
    /// Number of rows.
    public var rowCount: Int { labels.count }
}

/// What an artifact shows on the slices of its training set, measured by us on the real bytes.
public struct EvaluatedVersion: Sendable {
    /// Metrics by slice.
    public let metrics: SliceMetrics
    /// Rows by slice.
    public let rows: [String: Int]
    /// Distributions to compare live traffic with.
    public let profile: ReferenceProfile
}

/// Scores slices with a loaded model: the scorer that serves, not the script that trained.
public struct VersionEvaluator: Sendable {
    let engine: any OfflineEngine

    /// Makes an evaluator that reads Parquet through `engine`.
    public init(engine: any OfflineEngine) { self.engine = engine }

    /// Reads one slice.
    ///
    /// - Parameters:
    ///   - path: the Parquet file.
    ///   - service: names and order of the inputs, and the codes of categories.
    ///   - label: the label's column.
    public func rows(at path: String, service: FeatureServiceDefinition, label: String) async throws -> SliceRows {
        if let read = try await SliceReader.read(path, service: service, label: label, columns: []) {
            guard !read.labels.contains(where: \.isNaN) else {
                throw PlatformError(.corrupted, path, "a row of the slice has no label")
            }
            return SliceRows(inputs: read.inputs, labels: read.labels)
        }
        let sql = """
            SELECT \(Self.inputs(of: service)) AS x, CAST(\(SQLText.identifier(label)) AS DOUBLE) AS y
            FROM read_parquet(\(SQLText.literal(path)))
            """
        let collector = SliceCollector()
        try await engine.query(sql, setup: "", limits: QueryLimits()) { row in
            guard case .array(let values)? = row["x"], let label = row["y"]?.doubleValue else {
                throw PlatformError(.corrupted, path, "a row of the slice has no label")
            }
            collector.add(values.map { $0.doubleValue.map(Float.init) ?? .nan }, label)
        }
        return collector.rows
    }

    /// The inputs of a row as a list of doubles in the model's order, in SQL.
    static func inputs(of service: FeatureServiceDefinition) -> String {
        let columns =
            service.request.map { feature in
                let column = SQLText.identifier(feature.name)
                switch feature.kind {
                case .number: return "CAST(\(column) AS DOUBLE)"
                case .category(let values):
                    let list = values.map(SQLText.literal).joined(separator: ", ")
                    return "CAST(NULLIF(list_position([\(list)], CAST(\(column) AS VARCHAR)), 0) - 1 AS DOUBLE)"
                }
            }
            + (service.features.map(\.servedName) + service.onDemand.map(\.name)).map {
                "CAST(\(SQLText.identifier($0)) AS DOUBLE)"
            }
        return "[\(columns.joined(separator: ", "))]"
    }

    /// Values of a column of a slice as text, in the order of `rows`; nothing is `(missing)`.
    /// - Parameter questions: a table with further columns of the rows, found by their `__sequence`.
    /// - Throws: `invalidInput` for a column that neither has.
    func texts(of column: String, at path: String, questions: String?) async throws -> [String] {
        if let read = try await SliceReader.texts(of: column, at: path) { return read }
        let file = "read_parquet(\(SQLText.literal(path)))"
        let own = try await types(of: file, .parquet).map(\.name)
        let cell = "CAST(\(SQLText.identifier(column)) AS VARCHAR) AS g"
        if own.contains(column) { return try await texts("SELECT \(cell) FROM \(file)").map(\.value) }
        let beside = try await questions == nil ? [] : types(of: questions ?? "", .parquet).map(\.name)
        guard beside.contains(column), let places = try await SliceReader.texts(of: "__sequence", at: path) else {
            let known = (own + beside).filter { !$0.hasPrefix("__") }
            let near = nearestName(to: column, among: known).map { "; did you mean '\($0)'?" } ?? ""
            throw PlatformError(
                .invalidInput, "data",
                "'\(column.prefix(100))' is no column of the training set or its questions\(near)")
        }
        let found = try await texts(
            "SELECT CAST(__sequence AS VARCHAR) AS k, \(cell) FROM \(questions ?? "") WHERE __sequence IN "
                + "(SELECT __sequence FROM \(file))")
        let byPlace = Dictionary(found.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
        return places.map { byPlace[$0] ?? SliceReader.missing }
    }

    private func texts(_ sql: String) async throws -> [(key: String, value: String)] {
        let collected = Mutex<[(key: String, value: String)]>([])
        try await engine.query(sql, setup: "", limits: QueryLimits()) { row in
            let cell = (row["k"]?.stringValue ?? "", row["g"]?.stringValue ?? SliceReader.missing)
            collected.withLock { $0.append(cell) }
        }
        return collected.withLock { $0 }
    }

    /// What a model says of the rows of a slice, beside what came of them: the probability of the positive class, those of
    /// every class, or the value.
    public static func scored(_ model: any LoadedModel, _ rows: SliceRows) async throws -> EvaluationRows {
        let count = model.description.outputCount
        let predictions = try await model.prediction(of: rows.inputs, rowCount: rows.rowCount).map(Double.init)
        return try EvaluationRows(predictions: predictions, outcomes: rows.labels, outputCount: count)
    }

    /// What is measured of every version of a model, and what its gates ask for beside that.
    public static func metrics(of model: ModelDescription, gates: [GateDefinition]) -> [MetricName] {
        let usual =
            model.outputCount > 1
            ? MetricName.usual(for: .classification, classCount: model.outputCount) : MetricName.basic
        var seen: Set<MetricName> = []
        return (usual + gates.compactMap(\.metric)).filter { seen.insert($0).inserted }
    }

    /// Metrics that are defined on these rows; a slice with one class only has no AUC.
    public static func metrics(on rows: EvaluationRows, _ metrics: [MetricName]) -> [MetricName: Double] {
        var result: [MetricName: Double] = [:]
        for metric in metrics where result[metric] == nil { result[metric] = try? metric.value(on: rows) }
        return result
    }

    /// Evaluates a model on every slice and takes its reference profile: inputs from `train`, predictions from `test`.
    public func evaluate(
        _ model: any LoadedModel, parts: [String: String], service: FeatureServiceDefinition, label: String,
        gates: [GateDefinition]
    ) async throws -> EvaluatedVersion {
        var metrics: SliceMetrics = [:]
        var counts: [String: Int] = [:]
        var inputs: [InputProfile] = []
        var prediction: InputProfile?
        var profiled = 0
        guard model.description.output != .values else {
            throw PlatformError(
                .invalidInput, "model",
                "it gives \(model.description.outputCount) values for each row that are no probabilities of classes. A "
                    + "version predicts one value, or a probability for each class (an output named 'probabilities'); "
                    + "register a model for each of the values")
        }
        let wanted = Self.metrics(of: model.description, gates: gates)
        for slice in parts.keys.sorted() {
            guard let path = parts[slice] else { continue }
            let rows = try await rows(at: path, service: service, label: label)
            let scored: EvaluationRows
            do { scored = try await Self.scored(model, rows) } catch let error as StatisticsError {
                let advice =
                    error == .notFinite
                    ? "; a model that knows no missing values has to fill them in itself, as a network's first layer or an "
                        + "imputer before it does" : ""
                throw PlatformError(.invalidInput, "slice \(slice)", error.description + advice)
            }
            metrics[slice] = Self.metrics(on: scored, wanted)
            counts[slice] = rows.rowCount
            if slice == "train" {
                profiled = rows.rowCount
                inputs = Self.profiles(rows, service: service)
            }
            if slice == "test" { prediction = Self.profile(scored) }
        }
        guard let prediction else {
            throw PlatformError(.invalidInput, "dataset", "the training set has no test slice to judge the model by")
        }
        return EvaluatedVersion(
            metrics: metrics, rows: counts,
            profile: ReferenceProfile(inputs: inputs, prediction: prediction, rowCount: profiled))
    }

    /// The predictions as the monitor counts them: of three and more classes the called one.
    private static func profile(_ rows: EvaluationRows) -> InputProfile {
        if rows.outputCount > 2 {
            return InputProfile(
                name: "prediction", codes: rows.calledClasses(threshold: 0.5).map(Double.init),
                codeCount: rows.outputCount)
        }
        return InputProfile(
            name: "prediction", numbers: rows.output(rows.outputCount - 1),
            driftBinCount: ReferenceProfile.predictionDriftBinCount)
    }

    private static func profiles(_ rows: SliceRows, service: FeatureServiceDefinition) -> [InputProfile] {
        let width = service.inputNames.count
        return service.inputNames.enumerated().map { position, name in
            let column = (0..<rows.rowCount).map { Double(rows.inputs[$0 * width + position]) }
            if position < service.request.count, case .category(let values) = service.request[position].kind {
                return InputProfile(name: name, codes: column, codeCount: values.count)
            }
            return InputProfile(name: name, numbers: column, driftBinCount: InputProfile.driftBinCountDefault)
        }
    }

    /// 99th percentile, in milliseconds, of scoring single rows of a slice, after a warm-up.
    ///
    /// Of a model whose answers are waited for, fewer rows are measured: one by one, as single requests meet it.
    public static func latencyP99Milliseconds(_ model: any LoadedModel, _ rows: SliceRows) async throws(ModelError)
        -> Double
    {
        let width = model.description.featureCount
        let (most, warmUp) = model.deferred == nil ? (2000, 200) : (300, 20)
        let count = min(rows.rowCount, most)
        guard count > 0 else { throw ModelError(.shapeMismatch, "there is no row to measure with") }
        var times: [Double] = []
        for index in 0..<(count + warmUp) {
            let row = index % count
            let input = Array(rows.inputs[(row * width)..<((row + 1) * width)])
            let start = ContinuousClock.now
            _ = try await model.prediction(of: input, rowCount: 1)
            let spent = (ContinuousClock.now - start).components
            if index >= warmUp { times.append(Double(spent.seconds) * 1000 + Double(spent.attoseconds) / 1e15) }
        }
        times.sort()
        return times[min(times.count - 1, Int((Double(times.count) * 0.99).rounded(.up)) - 1)]
    }
}

private final class SliceCollector: Sendable {
    private let state = Mutex<(inputs: [Float], labels: [Double])>(([], []))
    var rows: SliceRows { state.withLock { SliceRows(inputs: $0.inputs, labels: $0.labels) } }
    func add(_ values: [Float], _ label: Double) {
        state.withLock {
            $0.inputs.append(contentsOf: values)
            $0.labels.append(label)
        }
    }
}
