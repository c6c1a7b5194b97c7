import Foundation
import FoundationNetworking
public import RuntimePorts
import Synchronization

/// Asks other servers of the Open Inference Protocol V2 (Triton, KServe, MLServer) over HTTP with binary tensors.
public final class RemoteModelRuntime: ModelRuntime {
    private struct Entry {
        weak var server: RemoteServer?
    }
    private let session: URLSession
    private let state = Mutex<(ledgers: [String: RemoteLedger], servers: [String: [Entry]])>(([:], [:]))

    /// Makes a runtime with connections of its own.
    public init() {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.httpMaximumConnectionsPerHost = 32
        configuration.connectionProxyDictionary = [:]
        configuration.httpShouldSetCookies = false
        session = URLSession(configuration: configuration)
    }

    /// One.
    public var formats: [String] { ["remote-v2"] }

    /// Lines that begin with `v2://` or `v2s://`.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool { RemoteAddress.isOne(bytes) }

    /// Refused: such a model is opened, not loaded.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        throw ModelError(.unsupportedModel, "remote models are asked by the server only")
    }

    /// Asks the other server what the model takes, and has it predict a row of zeros.
    public func open(_ bytes: [UInt8], fileName: String, options: RuntimeOptions) async throws(ModelError)
        -> any LoadedModel
    {
        let address = try RemoteAddress(bytes)
        let server = state.withLock { state in
            let ledger = state.ledgers[options.model] ?? RemoteLedger()
            state.ledgers[options.model] = ledger
            let server = RemoteServer(address, session: session, ledger: ledger)
            state.servers[options.model, default: []].removeAll { $0.server == nil }
            state.servers[options.model, default: []].append(Entry(server: server))
            return server
        }
        let layout = try RemoteLayout(try await server.metadata(within: options.timeout))
        let zeros = [Float](repeating: 0, count: layout.featureCount)
        let (head, body) = try RemoteTensors.request(zeros, rowCount: 1, layout, categories: [:])
        let answer = try await server.infer(body, headByteCount: head, until: .now + options.timeout)
        let tried = try RemoteTensors.outputs(
            answer.body, headByteCount: answer.headByteCount, rowCount: 1, output: layout.output)
        return RemoteModel(server, layout, outputCount: tried.width, timeout: options.timeout, categories: [:])
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
