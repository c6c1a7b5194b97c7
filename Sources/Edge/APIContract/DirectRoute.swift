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

    /// The calls that it takes.
    public let path: DirectPath
    /// What answers it.
    public let handler: Handler
    /// What answers it when nothing else waits for the event loop: the same, but it may hold the loop for one small write
    /// to the disk, which is quicker than to wait for another thread's; `nil` if there is no such way.
    public let lonelyHandler: Handler?

    /// Makes a route.
    ///
    /// - Parameter path: the exact path, with at most one parameter: `/features/groups/{view}/get-online`.
    public init(
        _ method: String, _ path: String, byteCountMax: Int, lonelyHandler: Handler? = nil, handler: @escaping Handler
    ) {
        self.path = DirectPath(method, path, byteCountMax: byteCountMax)
        self.handler = handler
        self.lonelyHandler = lonelyHandler
    }
}
