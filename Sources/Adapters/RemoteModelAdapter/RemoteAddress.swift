import Foundation
import RuntimePorts

/// Where a remote model is: what the one line of a `model.v2` file says.
enum RemoteAddress: Sendable, Hashable {
    /// `http://host:port/v2/models/name`, with `/versions/version` where one is named.
    case http(URL)
    case grpc(Target)

    /// A model behind a gRPC port.
    struct Target: Sendable, Hashable {
        let host: String
        let port: Int
        let model: String
        /// Empty where none is named.
        let version: String
        /// Whether TLS is spoken.
        var isSecure = false
    }

    private static let byteCountMax = 2048
    /// Where Triton's gRPC is.
    private static let grpcPort = 8001
    private static let schemes = ["v2": "http", "v2s": "https", "grpc": "grpc", "grpcs": "grpcs"]

    /// Reads `v2://host:port/model` or `v2://host:port/model/versions/version`; `v2s` for https, `grpc` for gRPC, `grpcs` for gRPC over TLS.
    /// - Throws: `malformedModel`.
    init(_ bytes: [UInt8]) throws(ModelError) {
        func fault(_ text: String) -> ModelError {
            ModelError(.malformedModel, "\(text); one line such as v2://host:8000/model is expected")
        }
        guard bytes.count <= Self.byteCountMax else { throw fault("it is longer than \(Self.byteCountMax) bytes") }
        let text = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard let parts = URLComponents(string: text), let given = parts.scheme, let host = parts.host, !host.isEmpty
        else { throw fault("it is no address") }
        guard let scheme = Self.schemes[given] else {
            let known = ["http": "'http' is written 'v2' here", "https": "'https' is written 'v2s' here"][given]
            throw fault(
                known ?? "'\(printable(given))' is no scheme that is known here: v2, v2s, grpc and grpcs are")
        }
        guard parts.user == nil, parts.password == nil, parts.query == nil, parts.fragment == nil else {
            throw fault("it has more than host, port and model")
        }
        let path = Array(parts.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst())
        let isName = path.count == 1
        let isVersion = path.count == 3 && path[1] == "versions"
        guard isName || isVersion, path.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
            throw fault("its path is neither a model nor a model's version")
        }
        guard !scheme.hasPrefix("grpc") else {
            let port = parts.port ?? Self.grpcPort
            guard 1...65_535 ~= port else { throw fault("\(port) is no port") }
            self = .grpc(
                Target(
                    host: host.trimmingCharacters(in: CharacterSet(charactersIn: "[]")), port: port,
                    model: String(path[0]), version: isVersion ? String(path[2]) : "", isSecure: scheme == "grpcs"))
            return
        }
        var target = URLComponents()
        target.scheme = scheme
        target.host = host
        target.port = parts.port
        target.path = "/v2/models" + parts.path
        guard let url = target.url else { throw fault("it is no address") }
        self = .http(url)
    }

    /// Whether bytes look like an address.
    static func isOne(_ bytes: [UInt8]) -> Bool {
        bytes.count <= byteCountMax && schemes.keys.contains { bytes.starts(with: Array("\($0)://".utf8)) }
    }
}
