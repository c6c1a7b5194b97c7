import CEpoll
import Glibc
import NIOCore
import Synchronization

/// What other threads may ask of a lane: a thread that answers predictions on connections of its own.
final class ExpressLane: Sendable {
    /// What a lane is told.
    enum Message: Sendable {
        /// A new connection, the lane's to close.
        case arrived(descriptor: Int32)
        /// The record that an answer waits for is durable.
        case written(descriptor: Int32, wait: UInt64)
        /// No new connections; those that wait for an answer get it, the others end.
        case stop
        /// All connections end now.
        case abandon
    }

    /// Where the lane waits for what happens to its connections.
    let poll: Int32
    private let alarm: Int32
    private let box = Mutex<(messages: [Message], isClosed: Bool)>(([], false))

    /// Marks the alarm and the listening socket among what happened; descriptors have 32 bits.
    static let alarmTag: UInt64 = 1 << 40
    static let listenerTag: UInt64 = 1 << 41

    /// - Throws: the system's error.
    init() throws(IOError) {
        poll = bottega_epoll_make()
        alarm = bottega_eventfd()
        guard poll >= 0, alarm >= 0,
            bottega_epoll_add(poll, alarm, bottega_readable, Self.alarmTag) == 0
        else { throw IOError(errnoCode: errno, reason: "epoll") }
    }

    deinit {
        for descriptor in [poll, alarm] where descriptor >= 0 { close(descriptor) }
    }

    /// Says something to the lane and wakes it; `false` if it has ended.
    @discardableResult
    func post(_ message: Message) -> Bool {
        let (isTaken, isFirst) = box.withLock { box in
            guard !box.isClosed else { return (false, false) }
            box.messages.append(message)
            return (true, box.messages.count == 1)
        }
        if isFirst {
            var one: UInt64 = 1
            _ = Glibc.write(alarm, &one, 8)
        }
        return isTaken
    }

    /// What was said since the last time.
    func takeMessages() -> [Message] {
        var count: UInt64 = 0
        _ = Glibc.read(alarm, &count, 8)
        return box.withLock { box in
            defer { box.messages = [] }
            return box.messages
        }
    }

    /// Hears nothing any more; connections that came last end.
    func end() {
        let last = box.withLock { box in
            box.isClosed = true
            return box.messages
        }
        for case .arrived(let descriptor) in last { close(descriptor) }
    }
}
