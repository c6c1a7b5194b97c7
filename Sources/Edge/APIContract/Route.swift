public import PlatformCore

/// One HTTP request as the handlers see it, free of any server's types.
public struct APIRequest: Sendable {
    /// Upper-case method.
    public let method: String
    /// Path without the query, percent-decoded.
    public let path: String
    /// Values of the route pattern's `{name}` parts, percent-decoded.
    public let parameters: [String: String]
    /// Query fields in order; a repeated field repeats its key.
    public let query: [(key: String, value: String)]
    /// Header fields, names in lower case.
    public let headers: [String: String]
    /// The body, when the route collects it; empty for a spooled body.
    public let body: [UInt8]
    /// The file that holds a spooled body.
    ///
    /// The handler may move it; what it leaves is removed after the answer.
    public let bodyFile: String?
    /// The hash of a spooled body, if its route wants it: taken while the body came.
    public let bodyHash: ContentHash?
    /// The room that the route gave to the body, if it did; all bytes are there.
    public let bodyRoom: (any BodyRoom)?
    /// Who is asking, for logs and audit.
    public let actor: String

    /// Makes a request.
    public init(
        method: String, path: String, parameters: [String: String] = [:], query: [(key: String, value: String)] = [],
        headers: [String: String] = [:], body: [UInt8] = [], bodyFile: String? = nil,
        bodyHash: ContentHash? = nil, bodyRoom: (any BodyRoom)? = nil, actor: String = "local"
    ) {
        self.method = method
        self.path = path
        self.parameters = parameters
        self.query = query
        self.headers = headers
        self.body = body
        self.bodyFile = bodyFile
        self.bodyHash = bodyHash
        self.bodyRoom = bodyRoom
        self.actor = actor
    }

    /// First value of a query field.
    public func queryValue(_ key: String) -> String? { query.first { $0.key == key }?.value }
    /// Every value of a query field.
    public func queryValues(_ key: String) -> [String] { query.filter { $0.key == key }.map(\.value) }

    /// The body as JSON; an empty body is an empty object.
    /// - Throws: `PlatformError` (`invalidInput`) with line and column.
    public func json(byteCountMax: Int = 16 << 20) throws -> JSONValue {
        if body.isEmpty { return .object([:]) }
        do { return try JSONValue.parse(body, limits: JSONLimits(byteCountMax: byteCountMax)) } catch {
            throw PlatformError(.invalidInput, "request body", error.description)
        }
    }
}

/// Where a route wants the bytes of one body instead of a file of their own.
public protocol BodyRoom: Sendable {
    /// How many bytes there are to come.
    var byteCount: Int { get }
    /// Takes the next bytes of the body.
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// Gives the room back: called after the answer, or when the body did not come in full.
    func release()
}

/// One HTTP answer.
public struct APIResponse: Sendable {
    /// What the answer carries.
    public enum Body: Sendable {
        /// Bytes in memory.
        case bytes([UInt8])
        /// A local file, sent as it is.
        case file(String)
        /// Server-sent events: the closure gives each as its bytes until it returns or is cancelled.
        ///
        /// What a slow reader has not taken is bounded; the oldest events are dropped then, so events carry a number.
        case stream(@Sendable (_ send: @escaping @Sendable ([UInt8]) -> Void) async throws -> Void)
        /// Parts that are asked for one by one, each when the one before is sent, until there is none: nothing is dropped, and
        /// nothing is computed for a reader that has gone.
        case pulled(@Sendable () async throws -> [UInt8]?)
    }
    /// The status code.
    public let status: Int
    /// Header fields beside `Content-Length`.
    public let headers: [(name: String, value: String)]
    /// The content.
    public let body: Body

    /// Makes an answer.
    public init(status: Int = 200, headers: [(name: String, value: String)] = [], body: Body = .bytes([])) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// A JSON answer.
    public static func json(_ value: JSONValue, status: Int = 200) -> APIResponse {
        APIResponse(
            status: status, headers: [("Content-Type", "application/json")], body: .bytes(value.canonicalBytes))
    }
    /// An answer of plain text.
    public static func text(_ text: String, status: Int = 200, type: String = "text/plain; charset=utf-8")
        -> APIResponse
    {
        APIResponse(status: status, headers: [("Content-Type", type)], body: .bytes(Array(text.utf8)))
    }
}

/// One route: what the gateway mounts.
public struct Route: Sendable {
    /// How much body a route takes and where it goes.
    public enum BodyPolicy: Sendable {
        /// In memory, up to a number of bytes; more is answered 413 without reading on.
        case collect(byteCountMax: Int)
        /// Into a temporary file, up to a number of bytes; hashed on the way if that is wanted.
        ///
        /// Where `room` has some for a body of a known size, the bytes go there and not into a file of their own.
        case spool(
            byteCountMax: Int, isHashed: Bool = false,
            room: (@Sendable (_ parameters: [String: String], _ byteCount: Int) -> (any BodyRoom)?)? = nil)
    }
    /// Upper-case method.
    public let method: String
    /// Path pattern: literal parts, `{name}` for one part, `{name...}` last for the rest.
    public let pattern: String
    /// What happens to the body.
    public let body: BodyPolicy
    /// Answers a request.
    ///
    /// An error it throws becomes an answer in the form of `refusals`.
    public let handler: @Sendable (APIRequest) async throws -> APIResponse
    /// How the server words what it refuses in the handler's place; `nil` for the platform's own form.
    public let refusals: RefusalForm?
    /// The query fields that it knows; any other is refused.
    ///
    /// `nil` takes them all.
    public let query: [String]?
    /// Whether what its caller does is kept under the caller's name.
    ///
    /// Who reads, predicts or sends rows signs nothing: a name that nobody can act under is no fault there.
    public let isSigned: Bool

    /// Makes a route; one that only reads is not signed, whatever `isSigned` says.
    public init(
        _ method: String, _ pattern: String, body: BodyPolicy = .collect(byteCountMax: 16 << 20),
        query: [String]? = nil, refusals: RefusalForm? = nil, isSigned: Bool = true,
        handler: @escaping @Sendable (APIRequest) async throws -> APIResponse
    ) {
        self.isSigned = isSigned && !["GET", "HEAD"].contains(method)
        self.method = method
        self.pattern = pattern
        self.body = body
        self.refusals = refusals
        self.query = query
        self.handler = handler
    }

    /// Refuses a request whose query has a field that the route does not know.
    /// - Throws: `PlatformError` (`invalidInput`) with the nearest known field.
    public func checkQuery(_ request: APIRequest) throws(PlatformError) {
        guard let query, let other = request.query.first(where: { !query.contains($0.key) })?.key else { return }
        let known = query.isEmpty ? "none is known here" : "known are \(query.joined(separator: ", "))"
        throw PlatformError(
            .invalidInput, "query",
            "unknown field '\(other.prefix(64))'; "
                + (nearestName(to: other, among: query).map { "did you mean '\($0)'?" } ?? known))
    }

    /// The same route with refusals in another form.
    public func refusing(in form: RefusalForm) -> Route {
        Route(method, pattern, body: body, query: query, refusals: form, isSigned: isSigned, handler: handler)
    }
    /// The same route whose caller's name is kept nowhere.
    public var unsigned: Route {
        Route(method, pattern, body: body, query: query, refusals: refusals, isSigned: false, handler: handler)
    }
}
