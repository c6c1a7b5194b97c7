import CEpoll
import Foundation
import NIOCore
import Synchronization

/// The threads that accept connections and answer predictions on them, one for each processor.
final class ExpressLanes: Sendable {
    private let lanes: [ExpressLane]
    private let socket: ListeningSocket
    private let routes: HotRoutes
    private let give: @Sendable (Int32, ByteBuffer) -> Void

    /// - Parameter give: takes a connection that the framework is to go on with, and what it has brought.
    /// - Throws: the system's error.
    init(
        _ socket: ListeningSocket, _ routes: HotRoutes, give: @escaping @Sendable (Int32, ByteBuffer) -> Void
    ) throws(IOError) {
        var lanes: [ExpressLane] = []
        for _ in 0..<ProcessInfo.processInfo.activeProcessorCount { lanes.append(try ExpressLane()) }
        self.lanes = lanes
        self.socket = socket
        self.routes = routes
        self.give = give
    }

    /// Works until `stop` or `abandon`, and until the answers that are under way are out.
    func run() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let left = Counter(lanes.count)
            for (index, lane) in lanes.enumerated() {
                let (socket, lanes, routes, give) = (socket, lanes, routes, give)
                let thread = Thread {
                    bottega_name_thread("express-\(index)")
                    ExpressWorker(lane, routes, listener: index == 0 ? (socket, lanes) : nil, give: give).run()
                    if left.down() == 0 { done.resume() }
                }
                thread.start()
            }
        }
    }

    /// Accepts no more; answers that are under way go out, then connections end.
    func stop() { for lane in lanes { lane.post(.stop) } }

    /// Ends all connections now.
    func abandon() { for lane in lanes { lane.post(.abandon) } }

    private final class Counter: Sendable {
        private let count: Atomic<Int>
        init(_ count: Int) { self.count = Atomic(count) }
        func down() -> Int { count.subtract(1, ordering: .acquiringAndReleasing).newValue }
    }
}
