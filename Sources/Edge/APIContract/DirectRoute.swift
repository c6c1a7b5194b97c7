/// A call so small and frequent that a task, a body stream and a router would cost more than the call.
///
/// The gateway answers it on the event loop, in front of the framework; an ordinary route of the same method and path
/// must exist and answers whatever this one passes on.
public struct DirectRoute: Sendable {
    /// Answers the call, later and once, from any thread; `false` passes it on to the ordinary route.
    ///
    /// It runs on an event loop: no waiting, no disk, no lock that a writer holds for long. `name` is what stands in
    /// place of the parameter, empty for a path without one.
    public typealias Handler =
        @Sendable (_ name: String, _ body: [UInt8], _ answer: @escaping @Sendable (APIResponse) -> Void) -> Bool

    /// Upper-case method.
    public let method: String
    /// Largest body that is taken; a larger one goes to the ordinary route.
    public let byteCountMax: Int
    /// What answers it.
    public let handler: Handler
    /// What answers it when nothing else waits for the event loop: the same, but it may hold the loop for one small write
    /// to the disk, which is quicker than to wait for another thread's; `nil` if there is no such way.
    public let lonelyHandler: Handler?
    private let prefix: String
    /// What follows the parameter; `nil` for a path without one.
    private let suffix: String?

    /// Makes a route.
    ///
    /// - Parameter path: the exact path, with at most one parameter: `/features/groups/{view}/get-online`.
    public init(
        _ method: String, _ path: String, byteCountMax: Int, lonelyHandler: Handler? = nil, handler: @escaping Handler
    ) {
        self.method = method
        self.byteCountMax = byteCountMax
        self.handler = handler
        self.lonelyHandler = lonelyHandler
        if let open = path.firstIndex(of: "{"), let close = path.firstIndex(of: "}"), open < close {
            prefix = String(path[..<open])
            suffix = String(path[path.index(after: close)...])
        } else {
            (prefix, suffix) = (path, nil)
        }
    }

    /// Whether a path, as its bytes, begins like this one's; `name(in:)` decides.
    public func matches(_ path: UnsafeRawBufferPointer) -> Bool { path.starts(with: prefix.utf8) }

    /// What stands in place of the parameter in a request's path, percent signs and all; `nil` if the path is another.
    public func name(in path: String) -> Substring? {
        guard path.hasPrefix(prefix) else { return nil }
        let rest = path.dropFirst(prefix.count).prefix { $0 != "?" }
        guard let suffix else { return rest.isEmpty ? rest : nil }
        guard rest.hasSuffix(suffix) else { return nil }
        let name = rest.dropLast(suffix.count)
        return name.isEmpty || name.contains("/") ? nil : name
    }
}
