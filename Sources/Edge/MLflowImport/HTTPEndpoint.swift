import Foundation
import FoundationNetworking
public import PlatformCore

/// A server that speaks MLflow's protocol.
public struct HTTPEndpoint: Sendable {
    /// The address, without user and password.
    public let base: String
    private let authorization: String?
    private let actor: String?

    /// - Parameters:
    ///   - base: `http://127.0.0.1:5000`; a user and password in it are sent as basic authentication.
    ///   - token: sent as a bearer token.
    ///   - actor: who asks, for our own audit.
    /// - Throws: `invalidInput`.
    public init(base: String, token: String? = nil, actor: String? = nil) throws(PlatformError) {
        guard var parts = URLComponents(string: base), ["http", "https"].contains(parts.scheme ?? ""),
            parts.host?.isEmpty == false
        else { throw PlatformError(.invalidInput, "import", "'\(base)' is no address of a server") }
        if let user = parts.user {
            authorization = "Basic " + Data("\(user):\(parts.password ?? "")".utf8).base64EncodedString()
        } else {
            authorization = token.map { "Bearer \($0)" }
        }
        (parts.user, parts.password, parts.query, parts.fragment) = (nil, nil, nil, nil)
        var text = parts.string ?? base
        while text.hasSuffix("/") { text.removeLast() }
        self.base = text
        self.actor = actor
    }

    /// The answer to a GET, with fields that may repeat.
    public func get(_ path: String, _ fields: [(String, String)] = []) async throws -> JSONValue {
        try Self.json(try await data(request("GET", path, fields)).data, path)
    }

    /// The answer to a request with a JSON body.
    public func send(_ method: String, _ path: String, _ body: JSONValue) async throws -> JSONValue {
        var request = try request(method, path, [])
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        request.httpBody = Data(body.canonicalBytes)
        return try Self.json(try await data(request).data, path)
    }

    /// Whether something is there: `nil` for a 404.
    public func find(_ path: String, _ fields: [(String, String)]) async throws -> JSONValue? {
        let answer = try await data(request("GET", path, fields), accepts404: true)
        // In one expression `nil` would be JSON's null.
        if answer.status == 404 { return JSONValue?.none }
        return try Self.json(answer.data, path)
    }

    /// Copies the answer to a GET into a file.
    public func download(_ path: String, _ fields: [(String, String)] = [], to file: String) async throws {
        let request = try request("GET", path, fields)
        try await retrying(path) {
            let (place, response) = try await URLSession.shared.download(for: request)
            defer { try? FileManager.default.removeItem(at: place) }
            try Self.check(
                response, (try? Data(contentsOf: place, options: .mappedIfSafe).prefix(2000)) ?? Data(), path)
            try? FileManager.default.removeItem(atPath: file)
            try FileManager.default.moveItem(atPath: place.path, toPath: file)
        }
    }

    /// Sends a file as the body of a PUT.
    public func upload(_ file: String, to path: String) async throws {
        var request = try request("PUT", path, [])
        request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
        let sent = request
        try await retrying(path) {
            let (data, response) = try await URLSession.shared.upload(for: sent, fromFile: URL(fileURLWithPath: file))
            try Self.check(response, data, path)
        }
    }

    // MARK: Parts

    private func request(_ method: String, _ path: String, _ fields: [(String, String)]) throws -> URLRequest {
        var allowed = CharacterSet(charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
        func encoded(_ text: String) -> String { text.addingPercentEncoding(withAllowedCharacters: allowed) ?? "" }
        let query = fields.map { "\(encoded($0.0))=\(encoded($0.1))" }.joined(separator: "&")
        allowed.insert(charactersIn: "/")
        guard let url = URL(string: base + encoded(path) + (query.isEmpty ? "" : "?\(query)")) else {
            throw PlatformError(.invalidInput, "import", "'\(path)' is no path")
        }
        var request = URLRequest(url: url)
        request.httpMethod = method
        request.timeoutInterval = 600
        if let authorization { request.setValue(authorization, forHTTPHeaderField: "Authorization") }
        if let actor { request.setValue(actor, forHTTPHeaderField: "X-Bottega-Actor") }
        return request
    }

    private func data(_ request: URLRequest, accepts404: Bool = false) async throws -> (data: Data, status: Int) {
        let path = request.url?.path ?? ""
        return try await retrying(path) {
            let (data, response) = try await URLSession.shared.data(for: request)
            let status = (response as? HTTPURLResponse)?.statusCode ?? 0
            if accepts404, status == 404 { return (data, status) }
            try Self.check(response, data, path)
            return (data, status)
        }
    }

    /// Tries three times where the server or the way to it may be better a moment later.
    private func retrying<Value: Sendable>(_ path: String, _ work: () async throws -> Value) async throws -> Value {
        var attempt = 0
        while true {
            attempt += 1
            do { return try await work() } catch {
                let code = (error as? PlatformError)?.code
                let mayPass = code == nil ? error is URLError : code == .unavailable || code == .overloaded
                guard mayPass, attempt < 3, !Task.isCancelled else {
                    if let error = error as? URLError {
                        throw PlatformError(.unavailable, base, "does not answer: \(error.localizedDescription)")
                    }
                    throw error
                }
                try await Task.sleep(for: .milliseconds(300 * attempt * attempt))
            }
        }
    }

    private static func check(_ response: URLResponse, _ data: Data, _ path: String) throws {
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        if 200..<300 ~= status { return }
        let json = try? JSONValue.parse(Array(data.prefix(20_000)))
        let message =
            json?["message"]?.stringValue ?? json?["error"]?["message"]?.stringValue
            ?? String(decoding: data.prefix(200), as: UTF8.self)
        let code: PlatformError.Code =
            switch status {
            case 401, 403: .forbidden
            case 404: .notFound
            case 409: .conflict
            case 429: .overloaded
            case 400..<500: .invalidInput
            default: .unavailable
            }
        throw PlatformError(code, path, "answered \(status): \(message)")
    }

    private static func json(_ data: Data, _ path: String) throws -> JSONValue {
        if data.isEmpty { return [:] }
        do { return try JSONValue.parse(Array(data), limits: JSONLimits(byteCountMax: 1 << 30, depthMax: 128)) } catch {
            throw PlatformError(.unavailable, path, "its answer is no JSON: \(error.description)")
        }
    }
}
