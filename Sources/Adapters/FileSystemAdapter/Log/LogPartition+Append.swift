import Dispatch
import Glibc
import PlatformCore
import StoragePorts
import Synchronization

/// One call of `append` that waits for its turn.
struct PendingAppend: Sendable {
    let records: [LogRecord]
    let byteCount: Int
    let continuation: CheckedContinuation<Result<UInt64, StoreError>, Never>
}

/// Where this process writes.
struct LogWriter: Sendable {
    let file: File
    /// How many bytes the saved index covers.
    var indexedByteCount: Int
}

extension LogPartition {
    /// Calls that are written as one commit have at most about this many bytes together.
    private static let commitByteCountMax = 16 << 20
    /// Bytes between saved indexes of the growing segment: what a start has to scan.
    private static let indexSpacing = 4 << 20

    /// Appends durably; gives the offset of the first record.
    ///
    /// Calls that come while one is on its way to the disk wait together and share the next trip. They need no bound of
    /// their own: each holds up its caller, so there are as many as callers.
    func append(_ records: [LogRecord], byteCount: Int) async throws(StoreError) -> UInt64 {
        let outcome: Result<UInt64, StoreError> = await withCheckedContinuation { continuation in
            let starts = state.withLock { state in
                state.waiting.append(PendingAppend(records: records, byteCount: byteCount, continuation: continuation))
                defer { state.isDraining = true }
                return !state.isDraining
            }
            if starts { writing.async { self.drain() } }
        }
        return try outcome.get()
    }

    private func drain() {
        while true {
            let calls = state.withLock { state in
                var byteCount = 0
                let count = state.waiting.prefix { call in
                    byteCount += call.byteCount
                    return byteCount <= Self.commitByteCountMax || byteCount == call.byteCount
                }.count
                let calls = Array(state.waiting.prefix(count))
                state.waiting.removeFirst(count)
                if calls.isEmpty { state.isDraining = false }
                return calls
            }
            if calls.isEmpty { return }
            let outcome = Result { () throws(StoreError) in try commit(calls.map(\.records)) }
            for (position, call) in calls.enumerated() {
                call.continuation.resume(returning: outcome.map { $0[position] })
            }
        }
    }

    /// Writes the records of several calls and returns when they are on the disk: the first offset of each call.
    private func commit(_ calls: [[LogRecord]]) throws(StoreError) -> [UInt64] {
        var (writer, content) = try openForWriting()
        let byteCount = calls.joined().reduce(0) { $0 + LogFrame.byteCount(of: $1) }
        if content.index.endPosition > SegmentHeader.byteCount,
            content.index.endPosition + byteCount > configuration.segmentByteCountMax
        {
            (writer, content) = try roll(content)
        }
        let start = content.index.endPosition
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        var offsets: [UInt64] = []
        for records in calls {
            offsets.append(content.index.endOffset)
            for (number, record) in records.enumerated() {
                let position = start + bytes.count
                let offset = content.index.endOffset
                LogFrame.write(
                    record, offset: offset, commitPosition: start, isContinued: number + 1 < records.count, to: &bytes)
                content.index.add(
                    offset: offset, position: position, byteCount: start + bytes.count - position,
                    timeMilliseconds: record.time.milliseconds)
            }
        }
        do throws(StoreError) {
            try writer.file.write(bytes, at: start)
            if configuration.synchronizes { try writer.file.synchronizeData() }
        } catch {
            undo(writer, to: start)
            throw error
        }
        if content.index.endPosition - writer.indexedByteCount >= Self.indexSpacing {
            content.last?.save(content.index, subject: subject)
            writer.indexedByteCount = content.index.endPosition
        }
        content.byteCountSeen = content.index.endPosition
        state.withLock { [writer] in $0.writer = writer }
        publish(content)
        return offsets
    }

    /// Takes back a commit that failed.
    ///
    /// After a failed synchronization nobody knows which bytes reached the disk, so none may stay; where even that
    /// fails, the next append looks at the files from scratch.
    private func undo(_ writer: LogWriter, to byteCount: Int) {
        do throws(StoreError) {
            try writer.file.truncate(to: byteCount)
            try writer.file.synchronizeData()
        } catch {
            state.withLock { $0.writer = nil }
        }
    }

    /// The writer, after taking the topic's lock and cutting a torn tail if this is the first append.
    func openForWriting() throws(StoreError) -> (LogWriter, Content) {
        if let known = state.withLock({ state in state.writer.flatMap { writer in state.content.map { (writer, $0) } } }
        ) {
            return known
        }
        try lock.acquire()
        return try examination.withLock { (_) throws(StoreError) -> (LogWriter, Content) in
            if try LogSegment.baseOffsets(in: directory, subject: subject).isEmpty {
                try LogSegment.create(
                    in: directory, baseOffset: 0, maximumTimeBefore: .min, synchronizes: configuration.synchronizes,
                    subject: subject)
            }
            var content = try examine()
            if let last = content.last, try last.file.byteCount() < SegmentHeader.byteCount {
                try repairHeader(of: last, content)
                content = try examine()
            }
            guard let last = content.last else { throw StoreError(.unavailable, subject, "\(directory) has vanished") }
            let file = try File(last.file.path, O_RDWR, subject: subject)
            let byteCount = try file.byteCount()
            if byteCount > content.index.endPosition {
                try cutTail(of: file, from: content.index.endPosition, byteCount: byteCount)
            }
            // What an earlier process wrote may be readable and not yet on the disk.
            if configuration.synchronizes { try file.synchronizeData() }
            let writer = LogWriter(file: file, indexedByteCount: try last.savedIndex(subject: subject).endPosition)
            state.withLock { state in
                state.writer = writer
                state.places.removeAll()
            }
            publish(content)
            tellOfLost(content)
            return (writer, content)
        }
    }

    /// Writes the header of a segment that got its name and, without synchronization, nothing else.
    private func repairHeader(of segment: LogSegment, _ content: Content) throws(StoreError) {
        var maximumTime = Int64.min
        if let before = content.baseOffsets.dropLast().last {
            maximumTime = try LogSegment(directory: directory, baseOffset: before, subject: subject)
                .index(subject: subject).maximumTime
        }
        try File(segment.file.path, O_RDWR, subject: subject).write(
            SegmentHeader.encoded(baseOffset: segment.baseOffset, maximumTimeBefore: maximumTime), at: 0)
    }

    /// Cuts what a crash left of a commit that nobody was told of.
    ///
    /// The bytes are kept in a file beside the segment.
    private func cutTail(of file: File, from position: Int, byteCount: Int) throws(StoreError) {
        let tail = try file.read(min(byteCount - position, 64 << 20), at: position)
        let copy = String(file.path.dropLast(4)) + ".torn-\(position)"
        try? Folder.replaceFile(copy, with: tail, durable: false, subject: subject)
        try file.truncate(to: position)
        configuration.onTornTail(
            TornTail(subject: subject, path: file.path, position: position, byteCount: byteCount - position))
    }

    /// Tells of records that consumers have read and the log has no more: a disk lost them, or somebody cut the file.
    ///
    /// One more than there are may be remembered of a topic that had none.
    private func tellOfLost(_ content: Content) {
        let (end, consumed) = (content.index.endOffset, consumedOffset())
        guard consumed > end + 1 else { return }
        configuration.onLostRecords(LostRecords(subject: subject, directory: directory, from: end, to: consumed))
    }

    /// Closes the last segment and begins a new one.
    func roll(_ content: Content) throws(StoreError) -> (LogWriter, Content) {
        content.last?.save(content.index, subject: subject)
        let base = content.index.endOffset
        try LogSegment.create(
            in: directory, baseOffset: base, maximumTimeBefore: content.index.maximumTime,
            synchronizes: configuration.synchronizes, subject: subject)
        var next = content
        next.baseOffsets.append(base)
        next.last = try LogSegment(directory: directory, baseOffset: base, subject: subject)
        next.index = SegmentIndex(baseOffset: base, maximumTimeBefore: content.index.maximumTime)
        next.byteCountSeen = next.index.endPosition
        let path = LogSegment.path(in: directory, base)
        let writer = LogWriter(file: try File(path, O_RDWR, subject: subject), indexedByteCount: next.index.endPosition)
        state.withLock { $0.writer = writer }
        publish(next)
        return (writer, next)
    }
}
