import Foundation
import PlatformCore
import RuntimePorts

/// One running worker: its process, its socket and what it printed.
///
/// Used by one thread, which starts it and waits for its answers; the process does not outlive that thread.
final class WorkerProcess {
    /// What the worker said of its model.
    private(set) var hello: WorkerHello?
    /// Bytes that it printed.
    private(set) var outputByteCount = 0
    private let pid: pid_t
    private let socket: Int32
    private let output: Int32
    private var printed: [UInt8] = []
    private var callNumber: UInt32 = 0
    private var isEnded = false

    private static let printedByteCountMax = 4096

    /// Starts a process.
    init(command: [String], environment: [String: String], folder: String) throws(WorkerEnd) {
        func fault(_ what: String) -> WorkerEnd { .died("\(what): \(String(cString: strerror(errno)))") }
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw fault("no socket can be made")
        }
        defer { close(pair[1]) }
        var pipes: [Int32] = [-1, -1]
        guard pipe(&pipes) == 0 else {
            let error = fault("no pipe can be made")
            close(pair[0])
            throw error
        }
        defer { close(pipes[1]) }
        for file in pipes { _ = fcntl(file, F_SETFD, FD_CLOEXEC) }
        let started = SpawnedProcess.start(
            command: command, environment: environment, workingDirectory: folder, input: pair[1], output: pipes[1])
        switch started {
        case .failure(let failure):
            close(pair[0])
            close(pipes[0])
            throw .died("'\(command[0])' cannot be started: \(String(cString: strerror(failure.number)))")
        case .success(let pid): self.pid = pid
        }
        (socket, output) = (pair[0], pipes[0])
        for file in [socket, output] { _ = fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK) }
    }

    deinit {
        end()
        close(socket)
        close(output)
    }

    /// Ends the process and what it started.
    func end() {
        guard !isEnded else { return }
        isEnded = true
        if kill(-pid, SIGKILL) != 0 { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) == -1, errno == EINTR {}
    }

    // MARK: Calls

    /// Waits for the worker to have loaded its model.
    func greet(until deadline: ContinuousClock.Instant) throws(WorkerEnd) -> WorkerHello {
        let frame = try receive(until: deadline)
        guard frame.kind == .hello else { throw .garbage("something else than a greeting") }
        let hello = try WorkerHello(frame.payload)
        self.hello = hello
        return hello
    }

    /// Tells the texts behind codes.
    func tell(_ layout: WorkerLayout, until deadline: ContinuousClock.Instant) throws(WorkerEnd) {
        try send(WorkerFrame(kind: .layout, call: 0, payload: layout.payload), until: deadline)
    }

    /// Predicts rows.
    func predict(_ rows: [Float], rowCount: Int, until deadline: ContinuousClock.Instant) throws(WorkerEnd) -> [Float] {
        callNumber &+= 1
        try send(.predict(rows, rowCount: rowCount, call: callNumber), until: deadline)
        let frame = try receive(until: deadline)
        guard frame.call == callNumber else { throw .garbage("an answer to another call") }
        switch frame.kind {
        case .answer:
            do throws(WorkerFrame.Garbage) {
                return try WorkerFrame.outputs(
                    frame.payload, rowCount: rowCount, outputCount: hello?.outputCount ?? 1)
            } catch { throw .garbage(error.reason) }
        case .fault:
            let text = printable(String(decoding: frame.payload.dropFirst(), as: UTF8.self))
            switch frame.payload.first {
            case 1: throw .refused(text)
            case 2: throw .memory(text)
            default: throw .garbage("a fault of an unknown kind")
            }
        default: throw .garbage("something else than an answer")
        }
    }

    /// Asks whether it is well; gives its resident bytes.
    func ping(until deadline: ContinuousClock.Instant) throws(WorkerEnd) -> Int {
        callNumber &+= 1
        try send(WorkerFrame(kind: .ping, call: callNumber, payload: []), until: deadline)
        let frame = try receive(until: deadline)
        guard frame.kind == .pong, frame.call == callNumber, frame.payload.count == 8 else {
            throw .garbage("something else than the answer to a ping")
        }
        let low = Int(WorkerFrame.number(frame.payload, at: 0))
        return low | Int(WorkerFrame.number(frame.payload, at: 4) & 0x7FFF_FFFF) << 32
    }

    /// Checks on it between calls: throws if it has ended or speaks without being asked.
    func look() throws(WorkerEnd) {
        drain()
        var poll = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard Foundation.poll(&poll, 1, 0) > 0 else { return }
        throw ended(or: "it spoke without being asked")
    }

    // MARK: Bytes

    private func send(_ frame: WorkerFrame, until deadline: ContinuousClock.Instant) throws(WorkerEnd) {
        let bytes = frame.bytes
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Foundation.send(
                    socket, $0.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                sent += count
            } else if count < 0, errno == EAGAIN || errno == EINTR {
                try wait(for: POLLOUT, until: deadline)
            } else {
                throw ended(or: "it reads no more")
            }
        }
    }

    private func receive(until deadline: ContinuousClock.Instant) throws(WorkerEnd) -> WorkerFrame {
        let head = try receive(WorkerFrame.headByteCount, until: deadline)
        let (kind, call, byteCount): (WorkerFrame.Kind, UInt32, Int)
        do throws(WorkerFrame.Garbage) { (kind, call, byteCount) = try WorkerFrame.head(head) } catch {
            // What a process writes as it ends is the lesser news.
            throw ended(or: "it sent \(error.reason)")
        }
        return WorkerFrame(kind: kind, call: call, payload: try receive(byteCount, until: deadline))
    }

    private func receive(_ byteCount: Int, until deadline: ContinuousClock.Instant) throws(WorkerEnd) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var received = 0
        while received < byteCount {
            let count = bytes.withUnsafeMutableBytes {
                recv(socket, $0.baseAddress.map { $0 + received }, byteCount - received, 0)
            }
            if count > 0 {
                received += count
            } else if count < 0, errno == EAGAIN || errno == EINTR {
                try wait(for: POLLIN, until: deadline)
            } else {
                throw ended(or: "it closed its connection")
            }
        }
        return bytes
    }

    /// Waits until the socket is ready; reads what the worker prints meanwhile.
    private func wait(for events: Int32, until deadline: ContinuousClock.Instant) throws(WorkerEnd) {
        while true {
            let left = (deadline - .now) / .milliseconds(1)
            guard left > 0 else { throw .hung("there was no answer in time") }
            var files = [
                pollfd(fd: socket, events: Int16(events), revents: 0),
                pollfd(fd: output, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&files, outputIsOpen ? 2 : 1, Int32(min(left.rounded(.up), 1000)))
            if count > 0, files[1].revents != 0 { drain() }
            if count > 0, files[0].revents != 0 { return }
        }
    }

    private var outputIsOpen = true

    private func drain() {
        var chunk = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<256 where outputIsOpen {
            let count = read(output, &chunk, chunk.count)
            if count == 0 { outputIsOpen = false }
            guard count > 0 else { return }
            outputByteCount += count
            printed += chunk[..<count]
            printed.removeFirst(max(0, printed.count - Self.printedByteCountMax))
        }
    }

    /// Why the process ended; of one that has not, `reason` is said, and it is ended.
    private func ended(or reason: String) -> WorkerEnd {
        var status: Int32 = 0
        var reaped = isEnded ? 0 : waitpid(pid, &status, WNOHANG)
        // Its connection closes a moment before it ends. No event says when it has: `waitpid` takes no deadline, and Swift's
        // Glibc has neither `pidfd_open` nor `syscall`. This thread serves the ended worker alone, for 20 ms at most.
        for _ in 0..<20 where reaped == 0 && !isEnded {
            usleep(1000)
            reaped = waitpid(pid, &status, WNOHANG)
        }
        drain()
        guard reaped == pid else { return .garbage(reason) }
        isEnded = true
        kill(-pid, SIGKILL)  // what it started
        let signal = status & 0x7F
        let cause = signal != 0 ? "it was ended by signal \(signal)" : "it ended with exit code \((status >> 8) & 0xFF)"
        let line = String(decoding: printed, as: UTF8.self).split(whereSeparator: \.isNewline).last
        return .died(cause + (line.map { "; last line: \(printable(String($0.prefix(300))))" } ?? ""))
    }
}

/// The texts behind the codes of one feature service.
final class WorkerLayout: Sendable {
    let payload: [UInt8]

    init(categories: [Int: [String]]) {
        let texts = categories.map { (String($0.key), JSONValue.array($0.value.map(JSONValue.string))) }
        let json: JSONValue = ["categories": .object(Dictionary(texts, uniquingKeysWith: { $1 }))]
        payload = json.canonicalBytes
    }
}
