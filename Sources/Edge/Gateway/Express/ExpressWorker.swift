import CEpoll
import Foundation
import Glibc
import ModelServing
import NIOCore

/// The thread of a lane: reads requests, answers predictions, and gives every connection that wants anything else away.
///
/// A round takes everything that is there: bytes in, an answer for each whole request in them, one write. Nothing here
/// waits, except for the system to tell of the next bytes. A connection that asks for another route, or in a way that
/// is not plain (`WireRequest`), goes to the framework with the bytes that it has brought, and does not come back.
final class ExpressWorker {
    /// Bytes that are read at once.
    private static let readByteCount = 64 << 10
    /// Bytes of pipelined answers that are gathered into one write.
    private static let gatheredByteCountMax = 256 << 10
    /// How long a begun request may take to arrive.
    private static let arrivalTime = TimeAmount.seconds(30)
    private static let retryTime = TimeAmount.milliseconds(1)
    private static let acceptPause = TimeAmount.milliseconds(100)
    private static let eventCounts = (first: 256, last: 16_384)
    /// What is thrown away of a caller that sends on after the last answer, and for how long.
    private static let drained = (byteCountMax: 16 << 20, timeMax: TimeAmount.seconds(2))

    private let lane: ExpressLane
    private let routes: HotRoutes
    private let give: @Sendable (Int32, ByteBuffer) -> Void
    private var listener: (socket: ListeningSocket, lanes: [ExpressLane])?

    private let scratch = PredictionScratch()
    private let gauge: LoopGauges.Gauge
    private var pressure: LoopPressure
    /// When the events in hand came, and when the round before was over.
    private var now = NIODeadline.now()
    private var sampleDue = NIODeadline.distantFuture
    private var lastRequest = NIODeadline.distantPast

    private var connections: [ExpressConnection?] = []
    private var connectionCount = 0
    private var waits: [(due: NIODeadline, descriptor: Int32, wait: UInt64)] = []
    private var nextDue = NIODeadline.distantFuture
    private var waitCount: UInt64 = 0
    private var heldCount = 0
    private var nextLane = 0
    private var acceptsAgain: NIODeadline?
    private var sweepDue: NIODeadline?
    private var isStopping = false
    /// Answers of the connection in hand.
    private var out: [UInt8] = []
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: readByteCount, alignment: 16)

    /// - Parameters:
    ///   - listener: the socket on which this lane accepts for all of `lanes`; `nil` for those that do not.
    ///   - give: takes a connection that the framework is to go on with, and what it has brought.
    init(
        _ lane: ExpressLane, _ routes: HotRoutes, listener: (socket: ListeningSocket, lanes: [ExpressLane])?,
        give: @escaping @Sendable (Int32, ByteBuffer) -> Void
    ) {
        self.lane = lane
        self.routes = routes
        self.give = give
        self.listener = listener
        gauge = routes.gauges.add()
        pressure = LoopPressure(targetNanoseconds: routes.gauges.targetNanoseconds)
    }

    deinit { buffer.deallocate() }

    /// Works until the lane was stopped and has no connection left.
    func run() {
        if let listener {
            _ = bottega_epoll_add(lane.poll, listener.socket.descriptor, bottega_readable, ExpressLane.listenerTag)
        }
        var capacity = Self.eventCounts.first
        while !isStopping || connectionCount > 0 {
            let isFull = withUnsafeTemporaryAllocation(of: bottega_event.self, capacity: capacity) { events in
                guard let first = events.baseAddress else { return false }
                while !isStopping || connectionCount > 0 {
                    if round(first, capacity) == capacity, capacity < Self.eventCounts.last { return true }
                }
                return false
            }
            // A round takes all that is there: the time that one takes is how long requests wait.
            if isFull { capacity *= 2 }
        }
        lane.end()
    }

    /// Takes what has happened; how many things that were.
    private func round(_ events: UnsafeMutablePointer<bottega_event>, _ capacity: Int) -> Int {
        let count = max(0, Int(bottega_epoll_wait(lane.poll, events, Int32(capacity), patience())))
        now = NIODeadline.now()
        var isAlarmed = false
        for index in 0..<count {
            switch events[index].tag {
            case ExpressLane.alarmTag: isAlarmed = true
            case ExpressLane.listenerTag: accept()
            case let tag: goOn(Int32(truncatingIfNeeded: tag), events[index].happened)
            }
        }
        // After the round: what is said may end connections, and their descriptors may be others' by now.
        if isAlarmed { takeMessages() }
        keepTime()
        return count
    }

    // MARK: Time

    /// How long to wait for the next event, in milliseconds.
    private func patience() -> Int32 {
        let due = min(min(nextDue, sampleDue), min(acceptsAgain ?? .distantFuture, sweepDue ?? .distantFuture))
        guard due < .distantFuture else { return -1 }
        let left = due - now
        return left.nanoseconds <= 0 ? 0 : Int32(min(1000, left.nanoseconds / 1_000_000 + 1))
    }

    private func keepTime() {
        now = NIODeadline.now()
        if now >= sampleDue { measure(now) }
        if now >= nextDue { endWaits(now) }
        if let again = acceptsAgain, now >= again, let listener {
            acceptsAgain = nil
            _ = bottega_epoll_add(lane.poll, listener.socket.descriptor, bottega_readable, ExpressLane.listenerTag)
        }
        if let due = sweepDue, now >= due { sweep(now) }
    }

    /// How late this thread comes to what is due is how long requests wait for it.
    private func measure(_ now: NIODeadline) {
        pressure.observe(delay: UInt64((now - sampleDue).nanoseconds))
        routes.gauges.set(gauge, pressure.pressure)
        let isBusy = now - lastRequest < .seconds(1) || pressure.pressure > 0
        sampleDue = isBusy ? now + LoopGauges.period : .distantFuture
    }

    private func noteRequests() {
        lastRequest = now
        routes.traffic.noteOther(at: now)
        if sampleDue == .distantFuture, routes.gauges.targetNanoseconds > 0 { sampleDue = now + LoopGauges.period }
    }

    /// Ends connections whose time is over.
    private func sweep(_ now: NIODeadline) {
        var isNeeded = false
        for case let connection? in connections {
            guard let endsAt = connection.endsAt else { continue }
            if now >= endsAt { end(connection) } else { isNeeded = true }
        }
        sweepDue = isNeeded ? now + .seconds(1) : nil
    }

    private func end(_ connection: ExpressConnection, in time: TimeAmount) {
        connection.endsAt = now + time
        if sweepDue == nil { sweepDue = now + .seconds(1) }
    }

    // MARK: Connections

    private func accept() {
        guard let listener else { return }
        for _ in 0..<64 {
            let descriptor = bottega_accept(listener.socket.descriptor)
            guard descriptor >= 0 else {
                switch errno {
                case EINTR, ECONNABORTED: continue
                case EAGAIN: return
                default: return pauseAccepting()  // no descriptors or no memory
                }
            }
            // A new descriptor is the least that is free: the rest is for the stores, and for what the system's libraries open.
            guard descriptor < listener.socket.descriptorMax else {
                close(descriptor)
                return pauseAccepting()
            }
            nextLane = (nextLane + 1) % listener.lanes.count
            if !listener.lanes[nextLane].post(.arrived(descriptor: descriptor)) { close(descriptor) }
        }
    }

    /// Those that wait are taken when others have ended.
    private func pauseAccepting() {
        guard let listener else { return }
        _ = bottega_epoll_remove(lane.poll, listener.socket.descriptor)
        acceptsAgain = now + Self.acceptPause
    }

    private func begin(_ descriptor: Int32) {
        let tag = UInt64(UInt32(bitPattern: descriptor))
        guard bottega_epoll_add(lane.poll, descriptor, bottega_readable, tag) == 0 else {
            close(descriptor)
            return
        }
        let place = Int(descriptor)
        if place >= connections.count {
            connections.append(contentsOf: repeatElement(nil, count: place + 64 - connections.count))
        }
        let connection = ExpressConnection(descriptor)
        connections[place] = connection
        connectionCount += 1
        if isStopping { finish(connection) }
    }

    private func goOn(_ descriptor: Int32, _ happened: UInt32) {
        guard Int(descriptor) < connections.count, let connection = connections[Int(descriptor)] else { return }
        if connection.isReading {
            read(connection)
        } else if connection.drainedByteCount != nil {
            drain(connection)
        } else if happened & bottega_broken != 0 {
            end(connection)
        } else if !connection.out.isEmpty {
            flush(connection)
            if connection.isReading { takeArrived(connection) }
        }
        settle(connection)
    }

    private func read(_ connection: ExpressConnection) {
        let count = recv(connection.descriptor, buffer.baseAddress, buffer.count, 0)
        guard count > 0 else {
            if count == 0 || (errno != EAGAIN && errno != EINTR) { end(connection) }
            return
        }
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        if connection.arrived.isEmpty {
            guard let taken = take(connection, bytes), taken < count else { return }
            connection.arrived = Array(bytes[taken...])
            watchArrival(connection)
        } else {
            connection.arrived.append(contentsOf: bytes)
            if connection.arrived.count >= connection.wantedByteCount { takeArrived(connection) }
        }
    }

    /// Goes on with what has arrived before.
    private func takeArrived(_ connection: ExpressConnection) {
        guard !connection.arrived.isEmpty else { return }
        var arrived = connection.arrived
        connection.arrived = []
        guard let taken = arrived.withUnsafeBytes({ take(connection, $0) }), taken < arrived.count else { return }
        if taken > 0 { arrived.removeFirst(taken) }
        connection.arrived = arrived
        watchArrival(connection)
    }

    /// Sees to it that a begun request does not take for ever.
    private func watchArrival(_ connection: ExpressConnection) {
        if connection.isReading, connection.endsAt == nil { end(connection, in: Self.arrivalTime) }
    }

    /// Answers the whole requests in `bytes` as far as it goes.
    /// - Returns: how many bytes were taken; `nil` if the connection is not this lane's any more.
    private func take(_ connection: ExpressConnection, _ bytes: UnsafeRawBufferPointer) -> Int? {
        var taken = 0
        connection.wantedByteCount = 0
        reading: while taken < bytes.count, connection.isReading {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[taken...])
            let request: WireRequest
            switch WireRequest.read(rest) {
            case .incomplete: break reading
            case .foreign: return leave(connection, rest, taken)
            case .plain(let read): request = read
            }
            let byteCount = request.headByteCount + request.bodyByteCount
            guard connection.caller.isAdmitted(request, rest, by: routes.access),
                let target = routes.target(request, rest), !target.isRoute
            else { return leave(connection, rest, taken) }
            guard rest.count >= byteCount else {
                connection.wantedByteCount = byteCount
                break
            }
            let whole = UnsafeRawBufferPointer(rebasing: rest[..<byteCount])
            let answer = routes.predict(target, request, whole, pressure: gauge.pressure, scratch: scratch)
            guard let answer, !answer.isLeft else { return leave(connection, rest, taken) }
            taken += byteCount
            connection.endsAt = nil
            deliver(answer, keepsAlive: request.keepsAlive, to: connection)
            if out.count >= Self.gatheredByteCountMax { flush(connection) }
        }
        flush(connection)
        if taken > 0 { noteRequests() }
        return taken
    }

    /// Gives a connection to the framework, behind the answers that are on their way.
    private func leave(_ connection: ExpressConnection, _ rest: UnsafeRawBufferPointer, _ taken: Int) -> Int? {
        if isStopping { return taken + refuse(rest, on: connection) }
        flush(connection)
        guard connection.out.isEmpty else { return taken }  // it is tried again when they are gone
        forget(connection)
        _ = bottega_epoll_remove(lane.poll, connection.descriptor)
        give(connection.descriptor, ByteBuffer(bytes: rest))
        return nil
    }

    /// Answers a request that comes too late for the framework.
    /// - Returns: its bytes; 0 where its end is not known, or not there.
    private func refuse(_ rest: UnsafeRawBufferPointer, on connection: ExpressConnection) -> Int {
        var (path, byteCount) = ("", 0)
        if case .plain(let request) = WireRequest.read(rest) {
            path = String(decoding: rest[request.path], as: UTF8.self)
            byteCount = request.headByteCount + request.bodyByteCount
        }
        routes.writeStopping(at: path, to: &out)
        connection.isClosing = true
        flush(connection)
        return byteCount <= rest.count ? byteCount : 0
    }

    private func forget(_ connection: ExpressConnection) {
        guard connections[Int(connection.descriptor)] === connection else { return }
        connections[Int(connection.descriptor)] = nil
        connectionCount -= 1
        letGo(connection)
        connection.isClosing = true
    }

    private func end(_ connection: ExpressConnection) {
        guard connections[Int(connection.descriptor)] === connection else { return }
        forget(connection)
        // By its name: a process that is being started may hold the same connection for a moment, and it would go on to tell.
        _ = bottega_epoll_remove(lane.poll, connection.descriptor)
        close(connection.descriptor)
    }

    /// Listens for what the connection can do next.
    private func settle(_ connection: ExpressConnection) {
        guard connections[Int(connection.descriptor)] === connection else { return }
        if connection.isClosing, connection.out.isEmpty, !connection.isHeld, connection.drainedByteCount == nil {
            guard hasUnread(connection) else { return end(connection) }
            connection.drainedByteCount = 0
            connection.arrived = []
            shutdown(connection.descriptor, Int32(SHUT_WR))
            end(connection, in: Self.drained.timeMax)
        }
        let wanted =
            !connection.out.isEmpty ? bottega_writable : connection.isHeld ? 0 : bottega_readable
        guard wanted != connection.interest else { return }
        connection.interest = wanted
        let tag = UInt64(UInt32(bitPattern: connection.descriptor))
        _ = bottega_epoll_change(lane.poll, connection.descriptor, wanted, tag)
    }

    /// Whether bytes have come that nobody will answer.
    private func hasUnread(_ connection: ExpressConnection) -> Bool {
        !connection.arrived.isEmpty || bottega_has_bytes(connection.descriptor) > 0
    }

    /// Throws away what comes after the last answer, until the caller has heard the end.
    private func drain(_ connection: ExpressConnection) {
        let count = recv(connection.descriptor, buffer.baseAddress, buffer.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        let sum = (connection.drainedByteCount ?? 0) + count
        connection.drainedByteCount = sum
        if count <= 0 || sum > Self.drained.byteCountMax { end(connection) }
    }

    // MARK: Answers

    private func deliver(_ answer: Predictor.Answer, keepsAlive: Bool, to connection: ExpressConnection) {
        let (lane, descriptor, wait) = (lane, connection.descriptor, waitCount + 1)
        let delivery = routes.deliver(answer) { { lane.post(.written(descriptor: descriptor, wait: wait)) } }
        switch delivery {
        case .now(let other): write(other ?? answer, keepsAlive: keepsAlive, to: connection)
        case .onceDurable:
            hold(connection, answer, keepsAlive: keepsAlive, isWritten: true)
            guard let deadline = answer.deadline else { return }
            let left = (deadline - ContinuousClock.now) / .nanoseconds(1)
            watch(connection, until: NIODeadline.now() + .nanoseconds(Int64(max(0, min(left, 1e18)))))
        case .later:
            hold(connection, answer, keepsAlive: keepsAlive, isWritten: false)
            watch(connection, until: NIODeadline.now() + Self.retryTime)
        }
    }

    /// Keeps an answer back until the log has its records, or has room for them.
    private func hold(_ connection: ExpressConnection, _ answer: Predictor.Answer, keepsAlive: Bool, isWritten: Bool) {
        waitCount += 1
        heldCount += 1
        connection.hold(answer, keepsAlive: keepsAlive, isWritten: isWritten, wait: waitCount)
        routes.predictor.admission.beginWaiting()
    }

    private func letGo(_ connection: ExpressConnection) {
        guard connection.isHeld else { return }
        connection.letGo()
        heldCount -= 1
        routes.predictor.admission.endWaiting()
    }

    private func isWaitedFor(_ wait: (due: NIODeadline, descriptor: Int32, wait: UInt64)) -> Bool {
        connections[Int(wait.descriptor)]?.wait == wait.wait
    }

    private func watch(_ connection: ExpressConnection, until due: NIODeadline) {
        // Most are over long before they are due.
        if waits.count > 2 * heldCount + 64 { waits.removeAll { !isWaitedFor($0) } }
        waits.append((due, connection.descriptor, waitCount))
        nextDue = min(nextDue, due)
    }

    private func endWaits(_ now: NIODeadline) {
        let over = waits.filter { $0.due <= now && isWaitedFor($0) }
        waits.removeAll { $0.due <= now || !isWaitedFor($0) }
        // Not looked through for each of many that end within a millisecond.
        nextDue = waits.map(\.due).min().map { max($0, now + Self.retryTime) } ?? .distantFuture
        for wait in over { release(wait.descriptor, wait.wait, isWritten: false) }
    }

    /// Ends a wait, if it is still waited for: its record is durable, its time is over, or the log is to be asked again.
    private func release(_ descriptor: Int32, _ wait: UInt64, isWritten: Bool) {
        guard let connection = connections[Int(descriptor)], connection.wait == wait, let held = connection.held else {
            return
        }
        letGo(connection)
        if held.isWritten {
            let given = isWritten ? held.answer : routes.predictor.refusalOfLate(held.answer) ?? held.answer
            write(given, keepsAlive: held.keepsAlive, to: connection)
        } else {
            deliver(held.answer, keepsAlive: held.keepsAlive, to: connection)
        }
        flush(connection)
        if connection.isReading { takeArrived(connection) }
        settle(connection)
    }

    private func write(_ answer: Predictor.Answer, keepsAlive: Bool, to connection: ExpressConnection) {
        let keepsAlive = keepsAlive && !isStopping
        HotRoutes.writeHead(
            status: answer.status, headers: answer.headers, byteCount: answer.body.count,
            retryAfterSeconds: answer.retryAfterSeconds, keepsAlive: keepsAlive, to: &out)
        out.append(contentsOf: answer.body)
        if !keepsAlive { connection.isClosing = true }
    }

    /// Sends what there is for a connection; what it does not take stays with it.
    private func flush(_ connection: ExpressConnection) {
        if !connection.out.isEmpty {  // behind the rest of a write before
            connection.out.append(contentsOf: out)
            out.removeAll(keepingCapacity: true)
            let sent = connection.out.withUnsafeBytes { send($0, to: connection) }
            connection.out = connection.out.dropFirst(sent)
            if connection.out.isEmpty { connection.out = [] }
        } else if !out.isEmpty {
            let sent = out.withUnsafeBytes { send($0, to: connection) }
            if sent < out.count { connection.out = out[sent...] }
            out.removeAll(keepingCapacity: out.count <= Self.gatheredByteCountMax)
        }
    }

    /// How many bytes were sent; all of them, as far as anybody cares, where the caller has gone.
    private func send(_ bytes: UnsafeRawBufferPointer, to connection: ExpressConnection) -> Int {
        while true {
            let sent = bottega_send(connection.descriptor, bytes.baseAddress, UInt(bytes.count))
            if sent >= 0 { return sent }
            switch errno {
            case EINTR: continue
            case EAGAIN: return 0
            default:
                connection.isClosing = true
                return bytes.count
            }
        }
    }

    // MARK: Messages

    private func takeMessages() {
        for message in lane.takeMessages() {
            switch message {
            case .arrived(let descriptor): begin(descriptor)
            case .written(let descriptor, let wait): release(descriptor, wait, isWritten: true)
            case .stop: stop()
            case .abandon:
                stop()
                for case let connection? in connections { end(connection) }
            }
        }
    }

    private func stop() {
        guard !isStopping else { return }
        isStopping = true
        if let listener { close(listener.socket.descriptor) }
        listener = nil
        acceptsAgain = nil
        for case let connection? in connections { finish(connection) }
    }

    /// Answers what has come, and ends a connection.
    private func finish(_ connection: ExpressConnection) {
        if connection.isReading { read(connection) }
        connection.isClosing = true
        settle(connection)
    }
}
