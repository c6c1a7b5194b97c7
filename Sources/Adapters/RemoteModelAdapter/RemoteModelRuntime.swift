import ContentHashing
import Foundation
import PlatformCore
public import RuntimePorts
import Synchronization

/// Asks other servers of the Open Inference Protocol V2 (Triton, KServe, MLServer) over HTTP or gRPC with binary tensors.
public final class RemoteModelRuntime: ModelRuntime {
    private struct Entry {
        weak var server: RemoteServer?
    }
    private let trust: RemoteTrust
    private let folder: String
    private let state = Mutex<(ledgers: [String: RemoteLedger], servers: [String: [Entry]])>(([:], [:]))

    /// Time for a server that is known already to say what its model takes.
    private static let greetingTime = Duration.seconds(2)

    /// Makes a runtime with connections of its own.
    ///
    /// - Parameters:
    ///   - folder: where it keeps what servers said of their models.
    ///   - authorities: a file of certificates in PEM that encrypted connections trust beside the system's.
    public init(folder: String, authorities: String? = nil) {
        self.folder = folder
        trust = RemoteTrust(authorities: authorities)
    }

    /// One.
    public var formats: [String] { ["remote-v2"] }

    /// Lines that begin with `v2://`, `v2s://`, `grpc://` or `grpcs://`.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool {
        RemoteAddress.isOne(bytes) || fileName.hasSuffix(".v2")
    }

    /// Refused: such a model is opened, not loaded.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        throw ModelError(.unsupportedModel, "remote models are asked by the server only")
    }

    /// Asks the other server what the model takes, and has it predict a row of zeros.
    ///
    /// What it said last time stands where it cannot be asked now: the model is there, its breaker counts the failure, and
    /// calls reach the server again when it is back.
    public func open(_ bytes: [UInt8], fileName: String, options: RuntimeOptions) async throws(ModelError)
        -> any LoadedModel
    {
        let line = try line(to: try RemoteAddress(bytes))
        let server = state.withLock { state in
            let ledger = state.ledgers[options.model] ?? RemoteLedger()
            state.ledgers[options.model] = ledger
            let server = RemoteServer(line, ledger: ledger)
            state.servers[options.model, default: []].removeAll { $0.server == nil }
            state.servers[options.model, default: []].append(Entry(server: server))
            return server
        }
        let mark = "\(folder)/\(ContentHasher.hash(bytes).hex).json"
        let known = Self.remembered(mark)
        let said: Said
        do throws(ModelError) {
            said = try await Self.ask(
                server, within: known == nil ? options.timeout : min(options.timeout, Self.greetingTime))
            remember(said, at: mark)
        } catch {
            guard let known, [.unavailable, .deadlineExceeded, .breakerOpen].contains(error.code) else { throw error }
            said = known
        }
        return RemoteModel(
            server, try RemoteLayout(said.metadata), outputCount: said.outputCount, timeout: options.timeout,
            categories: [:])
    }

    private func line(to address: RemoteAddress) throws(ModelError) -> any RemoteLine {
        switch address {
        case .http(let base): try HTTPLine(base, trust: trust)
        case .grpc(let target): try GRPCLine(target, trust: trust)
        }
    }

    /// What a server says of a model, and how many numbers it gave for a row of zeros.
    private struct Said {
        let metadata: JSONValue
        let outputCount: Int
    }

    private static func ask(_ server: RemoteServer, within time: Duration) async throws(ModelError) -> Said {
        let metadata = try await server.metadata(within: time)
        let layout = try RemoteLayout(metadata)
        let zeros = [Float](repeating: 0, count: layout.featureCount)
        let tried = try await server.infer(zeros, rowCount: 1, layout, categories: [:], until: .now + time)
        return Said(metadata: metadata, outputCount: tried.width)
    }

    private func remember(_ said: Said, at path: String) {
        let json: JSONValue = ["metadata": said.metadata, "outputs": .integer(Int64(said.outputCount))]
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try? Data(json.canonicalBytes).write(to: URL(fileURLWithPath: path), options: .atomic)
    }

    private static func remembered(_ path: String) -> Said? {
        guard let data = FileManager.default.contents(atPath: path), data.count <= 2 << 20,
            let json = try? JSONValue.parse(Array(data)[...], limits: JSONLimits(byteCountMax: 2 << 20, depthMax: 20)),
            let metadata = json["metadata"], let outputs = json["outputs"]?.integerValue, 1...(1 << 16) ~= outputs
        else { return nil }
        return Said(metadata: metadata, outputCount: Int(outputs))
    }

    /// Calls by model.
    public func measurements() -> [RuntimeMeasurement] {
        let (ledgers, servers) = state.withLock { state in
            (state.ledgers, state.servers.mapValues { $0.compactMap(\.server) })
        }
        var measurements: [RuntimeMeasurement] = []
        for (model, ledger) in ledgers.sorted(by: { $0.key < $1.key }) {
            let label = RuntimeMeasurement.Label("model", model)
            for (outcome, count) in ledger.outcomes.sorted(by: { $0.key < $1.key }) {
                measurements.append(
                    RuntimeMeasurement(
                        "bottega_remote_calls_total", [label, RuntimeMeasurement.Label("outcome", outcome)],
                        Double(count)))
            }
            let open = (servers[model] ?? []).count(where: \.breakerIsOpen)
            measurements.append(RuntimeMeasurement("bottega_remote_breakers_open", [label], Double(open)))
        }
        return measurements
    }
}
