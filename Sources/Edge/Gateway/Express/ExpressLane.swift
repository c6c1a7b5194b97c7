import CEpoll
import Glibc
import NIOCore
import Synchronization

/// What other threads may ask of a lane: a thread that answers predictions on connections of its own.
final class ExpressLane: Sendable {
    /// What a lane is told.
    enum Message: Sendable {
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
    private let messages = Mutex<[Message]>([])

    /// Marks the alarm and the listening socket among what happened; descriptors have 32 bits.
    static let alarmTag: UInt64 = 1 << 40
    static let listenerTag: UInt64 = 1 << 41

    static let readable = UInt32(1)  // EPOLLIN
    static let writable = UInt32(4)  // EPOLLOUT
    static let broken = UInt32(8 | 16)  // EPOLLERR, EPOLLHUP

    /// - Throws: the system's error.
    init() throws(IOError) {
        poll = bottega_epoll_make()
        guard poll >= 0 else { throw IOError(errnoCode: errno, reason: "epoll_create1") }
        alarm = bottega_eventfd()
        guard alarm >= 0, bottega_epoll_set(poll, Int32(EPOLL_CTL_ADD), alarm, Self.readable, Self.alarmTag) == 0 else {
            let code = errno
            close(poll)
            throw IOError(errnoCode: code, reason: "eventfd")
        }
    }

    deinit {
        close(poll)
        close(alarm)
    }

    /// Gives the lane a connection; from here on it is the lane's to close.
    func add(_ descriptor: Int32) {
        if bottega_epoll_set(
            poll, Int32(EPOLL_CTL_ADD), descriptor, Self.readable, UInt64(UInt32(bitPattern: descriptor)))
            != 0
        {
            close(descriptor)
        }
    }

    /// Says something to the lane and wakes it.
    func post(_ message: Message) {
        let isFirst = messages.withLock { messages in
            messages.append(message)
            return messages.count == 1
        }
        guard isFirst else { return }
        var one: UInt64 = 1
        _ = Glibc.write(alarm, &one, 8)
    }

    /// What was said since the last time.
    func takeMessages() -> [Message] {
        var count: UInt64 = 0
        _ = Glibc.read(alarm, &count, 8)
        return messages.withLock { messages in
            defer { messages = [] }
            return messages
        }
    }
}
