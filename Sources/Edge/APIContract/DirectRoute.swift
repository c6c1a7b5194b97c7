/// A call so small and frequent that a task, a body stream and a router would cost more than the call.
///
/// The gateway answers it on the event loop, in front of the framework; an ordinary route of the same method and path
/// must exist and answers whatever this one passes on.
public struct DirectRoute: Sendable {
    /// Upper-case method.
    public let method: String
    /// The exact path.
    public let path: String
    /// Largest body that is taken; a larger one goes to the ordinary route.
    public let byteCountMax: Int
    /// Takes a request and answers it later, once, from any thread; `false` passes it on to the ordinary route.
    ///
    /// It runs on an event loop: no waiting, no disk.
    public let handler: @Sendable (_ body: [UInt8], _ answer: @escaping @Sendable (APIResponse) -> Void) -> Bool

    /// Makes a route.
    public init(
        _ method: String, _ path: String, byteCountMax: Int,
        handler: @escaping @Sendable (_ body: [UInt8], _ answer: @escaping @Sendable (APIResponse) -> Void) -> Bool
    ) {
        self.method = method
        self.path = path
        self.byteCountMax = byteCountMax
        self.handler = handler
    }
}
