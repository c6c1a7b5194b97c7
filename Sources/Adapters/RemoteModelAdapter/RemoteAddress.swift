import Foundation
import RuntimePorts

/// Where a remote model is: what the one line of a `model.v2` file says.
struct RemoteAddress: Sendable, Hashable {
    /// `http://host:port/v2/models/name`, with `/versions/version` where one is named.
    let base: URL

    private static let byteCountMax = 2048

    /// Reads `v2://host:port/model` or `v2://host:port/model/versions/version`; `v2s` for https.
    /// - Throws: `malformedModel`.
    init(_ bytes: [UInt8]) throws(ModelError) {
        func fault(_ text: String) -> ModelError {
            ModelError(.malformedModel, "\(text); one line such as v2://host:8000/model is expected")
        }
        guard bytes.count <= Self.byteCountMax else { throw fault("it is longer than \(Self.byteCountMax) bytes") }
        let text = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard let parts = URLComponents(string: text), let scheme = parts.scheme, let host = parts.host, !host.isEmpty
        else { throw fault("it is no address") }
        guard ["v2", "v2s"].contains(scheme) else { throw fault("'\(scheme)' is no scheme that is known here") }
        guard parts.user == nil, parts.password == nil, parts.query == nil, parts.fragment == nil else {
            throw fault("it has more than host, port and model")
        }
        let path = parts.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        let isName = path.count == 1
        let isVersion = path.count == 3 && path[path.startIndex + 1] == "versions"
        guard isName || isVersion, path.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
            throw fault("its path is neither a model nor a model's version")
        }
        var target = URLComponents()
        target.scheme = scheme == "v2" ? "http" : "https"
        target.host = host
        target.port = parts.port
        target.path = "/v2/models" + parts.path
        guard let url = target.url else { throw fault("it is no address") }
        base = url
    }

    /// Whether bytes look like an address.
    static func isOne(_ bytes: [UInt8]) -> Bool {
        bytes.count <= byteCountMax
            && (bytes.starts(with: Array("v2://".utf8)) || bytes.starts(with: Array("v2s://".utf8)))
    }
}
