import Dispatch
import Glibc
import PlatformCore
import StoragePorts
import Synchronization

/// One partition: a folder of segment files, of which the last one grows.
///
/// Everything below `index.endPosition` of the last segment is on the disk and never changes, so readers take a copy of
/// where that is and then read without a lock. The writing half is in `LogPartition+Append.swift`.
final class LogPartition: Sendable {
    /// What is known of the files.
    struct Content: Sendable {
        /// First offsets of the segments, in order.
        var baseOffsets: [UInt64] = []
        /// The last segment; `nil` while there is none.
        var last: LogSegment?
        /// What is readable of it.
        var index = SegmentIndex(baseOffset: 0, maximumTimeBefore: .min)
        /// The size at which the unfinished tail of the last segment was looked at.
        var byteCountSeen = 0
    }
    struct State {
        var content: Content?
        /// Where this process writes; `nil` while it does not.
        var writer: LogWriter?
        var waiting: [PendingAppend] = []
        var isDraining = false
        var closed: [UInt64: LogSegment] = [:]
        /// Places where reads ended, which is where the next ones begin: segment, offset and byte.
        var places: [(baseOffset: UInt64, offset: UInt64, position: Int)] = []
        /// What was read to see how far the last segment has grown, for the next read; `nil` where nobody follows.
        var followed: FollowedBytes?
        var isFollowed = false
        /// The keys of the growing segment, as far as they were asked for.
        var keys: GrowingKeys?
        var sleepers: [UInt64: (offset: UInt64, continuation: CheckedContinuation<Void, Never>)] = [:]
        var nextSleeper: UInt64 = 0
    }

    private static let closedSegmentCountMax = 64
    private static let placeCountMax = 16
    private static let followedByteCountMax = 8 << 20

    let directory: String
    let subject: String
    let configuration: SegmentEventLogConfiguration
    let lock: TopicLock
    /// How far a consumer has read, the furthest of all; asked once, before the first append.
    let consumedOffset: @Sendable () -> UInt64
    /// Held for copies only, never while a file is touched.
    let state = Mutex(State())
    /// Held while the files are examined, by Dispatch's threads only.
    let examination = Mutex(())
    /// Held while keys are gathered, by Dispatch's threads only.
    let gathering = Mutex(())
    let writing: DispatchQueue

    init(
        directory: String, subject: String, configuration: SegmentEventLogConfiguration, lock: TopicLock,
        consumedOffset: @escaping @Sendable () -> UInt64
    ) {
        self.consumedOffset = consumedOffset
        self.directory = directory
        self.subject = subject
        self.configuration = configuration
        self.lock = lock
        writing = DispatchQueue(label: subject)
    }

    deinit {
        state.withLock { state in
            guard let writer = state.writer, let content = state.content else { return }
            if content.index.endPosition > writer.indexedByteCount {
                content.last?.save(content.index, subject: subject)
            }
        }
    }

    // MARK: Looking at the files

    /// What is readable now, after a look at the files unless this process is the one that writes them.
    ///
    /// Blocks on the disk.
    func currentContent() throws(StoreError) -> Content {
        let (known, isWriting) = state.withLock { ($0.content, $0.writer != nil) }
        if let known, isWriting { return known }
        return try examination.withLock { (_) throws(StoreError) -> Content in
            let (known, isWriting) = state.withLock { ($0.content, $0.writer != nil) }
            if let known, isWriting { return known }
            var content: Content
            if let known { content = known } else { content = try examine() }
            if known != nil { try follow(&content) }
            publish(content)
            return content
        }
    }

    /// Looks at the files from scratch.
    func examine() throws(StoreError) -> Content {
        var content = Content()
        content.baseOffsets = try LogSegment.baseOffsets(in: directory, subject: subject)
        guard let base = content.baseOffsets.last else { return content }
        let last = try LogSegment(directory: directory, baseOffset: base, subject: subject)
        content.index = try last.savedIndex(subject: subject)
        content.last = last
        content.byteCountSeen = try last.file.byteCount()
        try last.scan(&content.index, to: content.byteCountSeen)
        return content
    }

    /// Extends what is known by what another process has written since.
    private func follow(_ content: inout Content) throws(StoreError) {
        guard let last = content.last else {
            content = try examine()
            return
        }
        let byteCount = try last.file.byteCount()
        // The writer has cut what it could not finish: what was seen there may be gone.
        if byteCount < content.index.endPosition {
            state.withLock { state in
                state.places.removeAll()
                state.followed = nil
            }
            content = try examine()
            return
        }
        if byteCount != content.byteCountSeen {
            content.byteCountSeen = byteCount
            try extend(&content, of: last, to: byteCount)
        }
        let isUnfinished = content.index.endPosition < byteCount
        let next = LogSegment.path(in: directory, content.index.endOffset)
        guard content.index.endOffset > last.baseOffset, isUnfinished || access(next, F_OK) == 0 else { return }
        let bases = try LogSegment.baseOffsets(in: directory, subject: subject)
        if let newest = bases.last, newest > last.baseOffset { content = try examine() }
    }

    /// Extends what is known of the last segment by its bytes up to `end`, and keeps these for the reader that follows it.
    private func extend(_ content: inout Content, of last: LogSegment, to end: Int) throws(StoreError) {
        let (start, offset) = (content.index.endPosition, content.index.endOffset)
        let (isFollowed, known) = state.withLock { state in
            defer { state.followed = nil }
            return (state.isFollowed, state.followed)
        }
        guard isFollowed, end - start <= Self.followedByteCountMax else {
            try last.scan(&content.index, to: end)
            return
        }
        var found = FollowedBytes(
            baseOffset: last.baseOffset, offset: offset, position: start,
            bytes: try last.file.read(end - start, at: start))
        guard try last.scan(&content.index, to: end, bytes: found) else { return }
        found.bytes.removeLast(max(0, found.end - content.index.endPosition))
        if var known, known.baseOffset == found.baseOffset, known.end == start,
            known.bytes.count + found.bytes.count <= Self.followedByteCountMax
        {
            known.bytes += found.bytes
            found = known
        }
        state.withLock { $0.followed = found }
    }

    /// Makes `content` what readers see, and wakes those that waited for it.
    ///
    /// Segments that were dropped, by whatever process, are held open no longer: the disk gets their room back then only.
    func publish(_ content: Content) {
        let start = content.baseOffsets.first ?? 0
        let awake = state.withLock { state in
            if state.content?.baseOffsets.first != start {
                state.closed = state.closed.filter { $0.key >= start }
                state.places.removeAll { $0.baseOffset < start }
            }
            state.content = content
            let awake = state.sleepers.filter { $0.value.offset < content.index.endOffset }
            for key in awake.keys { state.sleepers[key] = nil }
            return awake
        }
        for sleeper in awake.values { sleeper.continuation.resume() }
    }

    /// Reads with `body`, once more where segments were dropped by another process since the files were looked at.
    func reading<Found>(_ body: (Content) throws(StoreError) -> Found) throws(StoreError) -> Found {
        var content = try currentContent()
        while true {
            do { return try body(content) } catch {
                guard state.withLock({ $0.writer == nil || $0.content?.baseOffsets != content.baseOffsets }) else {
                    throw error
                }
                let newer = try examination.withLock { (_) throws(StoreError) in try examine() }
                guard newer.baseOffsets.first != content.baseOffsets.first else { throw error }
                content = newer
            }
        }
    }

    /// The offset of the first record that is kept.
    ///
    /// Blocks on the disk.
    func startOffset() throws(StoreError) -> UInt64 {
        let known = state.withLock { $0.writer == nil ? nil : $0.content?.baseOffsets.first }
        if let known { return known }
        return try LogSegment.baseOffsets(in: directory, subject: subject).first ?? 0
    }

    /// A segment of `content`.
    func segment(_ position: Int, of content: Content) throws(StoreError) -> LogSegment {
        let base = content.baseOffsets[position]
        if let last = content.last, last.baseOffset == base { return last }
        if let known = state.withLock({ $0.closed[base] }) { return known }
        let segment = try LogSegment(directory: directory, baseOffset: base, subject: subject)
        state.withLock { state in
            // One that was dropped meanwhile would hold its room on the disk.
            guard base >= state.content?.baseOffsets.first ?? 0 else { return }
            if state.closed.count >= Self.closedSegmentCountMax { state.closed.removeAll() }
            state.closed[base] = segment
        }
        return segment
    }

    /// How far the records of a segment of `content` reach: what is known of it, and the offset behind its last record.
    private func extent(_ position: Int, of content: Content) throws(StoreError) -> (
        segment: LogSegment, index: SegmentIndex, endPosition: Int, endOffset: UInt64
    ) {
        let segment = try segment(position, of: content)
        if position == content.baseOffsets.count - 1 {
            return (segment, content.index, content.index.endPosition, content.index.endOffset)
        }
        let index = try segment.index(subject: subject)
        return (segment, index, try segment.file.byteCount(), content.baseOffsets[position + 1])
    }

    // MARK: Reading

    /// Records from `offset` on; see the port.
    ///
    /// Blocks on the disk.
    func read(from offset: UInt64, recordCountMax: Int, byteCountMax: Int) throws(StoreError) -> [StoredRecord] {
        try reading { content throws(StoreError) in
            try read(content, from: offset, recordCountMax: recordCountMax, byteCountMax: byteCountMax)
        }
    }

    func read(
        _ content: Content, from offset: UInt64, recordCountMax: Int, byteCountMax: Int
    ) throws(StoreError) -> [StoredRecord] {
        // Who reads at the end will want what comes there.
        if offset == content.index.endOffset { state.withLock { $0.isFollowed = true } }
        guard recordCountMax > 0, offset < content.index.endOffset else { return [] }
        var position = lastSegment(of: content) { $0 <= offset }
        var found: [StoredRecord] = []
        var byteCount = 0
        var isAtEnd = true
        while isAtEnd, position < content.baseOffsets.count {
            let (segment, index, endPosition, endOffset) = try extent(position, of: content)
            let entry = index.entry(atOrBefore: offset)
            let (place, followed) = state.withLock { state in
                let followed = state.followed.flatMap {
                    $0.baseOffset == segment.baseOffset && $0.offset == offset && $0.end <= endPosition ? $0 : nil
                }
                if followed != nil { state.followed = nil }
                return (
                    state.places.first { $0.baseOffset == segment.baseOffset && $0.offset == offset }, followed
                )
            }
            var cursor =
                followed.map {
                    FrameCursor(
                        file: segment.file, position: $0.position, end: endPosition, expectedOffset: offset,
                        bytes: $0, isChecked: true)
                }
                ?? FrameCursor(
                    file: segment.file, position: place?.position ?? entry.position, end: endPosition,
                    expectedOffset: place?.offset ?? entry.offset)
            isAtEnd = try collect(
                from: max(offset, segment.baseOffset), endOffset: endOffset, &cursor, recordCountMax, byteCountMax,
                &found, &byteCount)
            keepPlace(behind: found, cursor, in: segment)
            position += 1
        }
        return found
    }

    /// Reads records of one segment; gives whether it got to the segment's end.
    private func collect(
        from offset: UInt64, endOffset: UInt64, _ cursor: inout FrameCursor, _ recordCountMax: Int, _ byteCountMax: Int,
        _ found: inout [StoredRecord], _ byteCount: inout Int
    ) throws(StoreError) -> Bool {
        while found.count < recordCountMax {
            switch try cursor.next() {
            case .frame(let frame):
                if frame.offset < offset { continue }
                byteCount += frame.byteCount
                if byteCount > byteCountMax, !found.isEmpty { return false }
                found.append(cursor.record(of: frame))
            case .end where cursor.expectedOffset >= endOffset: return true
            case .end, .damage:
                if !found.isEmpty { return false }
                let next = try cursor.frameBehindDamage()
                if let next, next.offset <= offset {
                    cursor.resume(at: next)
                } else {
                    throw damaged(from: cursor.expectedOffset, to: next?.offset ?? endOffset)
                }
            }
        }
        return false
    }

    /// Remembers where a read ended, in place of where it began.
    private func keepPlace(behind found: [StoredRecord], _ cursor: FrameCursor, in segment: LogSegment) {
        guard let first = found.first, let last = found.last, cursor.expectedOffset == last.offset + 1 else { return }
        state.withLock { state in
            state.places.removeAll { $0.offset == first.offset || $0.offset == cursor.expectedOffset }
            if state.places.count >= Self.placeCountMax { state.places.removeFirst() }
            state.places.append((segment.baseOffset, cursor.expectedOffset, cursor.position))
        }
    }

    /// Where reading can go on behind damage.
    static func resumeOffset(of error: StoreError) -> UInt64? {
        guard error.code == .corrupted, error.message.contains(resumePhrase) else { return nil }
        return error.message.split(separator: " ").last.flatMap { UInt64($0) }
    }

    private static let resumePhrase = "reading can go on at "

    private func damaged(from start: UInt64, to end: UInt64) -> StoreError {
        StoreError(
            .corrupted, subject,
            "records \(start) to \(max(start, end &- 1)) in \(directory) are damaged; \(Self.resumePhrase)\(max(end, start + 1))"
        )
    }

    /// The last segment whose first offset `holds`, which is true for a beginning of them; the first if for none.
    private func lastSegment(of content: Content, where holds: (UInt64) -> Bool) -> Int {
        max(0, (content.baseOffsets.firstIndex { !holds($0) } ?? content.baseOffsets.count) - 1)
    }

    /// See the port.
    ///
    /// Blocks on the disk.
    func firstOffset(atOrAfter time: EventTime) throws(StoreError) -> UInt64 {
        try reading { content throws(StoreError) in try firstOffset(content, atOrAfter: time) }
    }

    private func firstOffset(_ content: Content, atOrAfter time: EventTime) throws(StoreError) -> UInt64 {
        var low = 0
        var high = content.baseOffsets.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if try segment(middle, of: content).maximumTimeBefore < time.milliseconds {
                low = middle
            } else {
                high = middle
            }
        }
        for position in low..<max(low, content.baseOffsets.count) {
            let (segment, index, endPosition, endOffset) = try extent(position, of: content)
            let entry = index.entry(before: time.milliseconds)
            var cursor = FrameCursor(
                file: segment.file, position: entry.position, end: endPosition, expectedOffset: entry.offset)
            scan: while true {
                switch try cursor.next() {
                case .frame(let frame) where frame.timeMilliseconds >= time.milliseconds: return frame.offset
                case .frame: continue
                case .end where cursor.expectedOffset >= endOffset: break scan
                // What the damaged records' times were nobody knows.
                case .end, .damage: return cursor.expectedOffset
                }
            }
        }
        return content.index.endOffset
    }

    // MARK: Waiting

    /// Returns when something is published past `offset`, or when the task is cancelled.
    func sleep(past offset: UInt64) async {
        let number = state.withLock { state in
            state.nextSleeper += 1
            return state.nextSleeper
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let returnsNow = state.withLock { state in
                    if Task.isCancelled || (state.content?.index.endOffset ?? 0) > offset { return true }
                    state.sleepers[number] = (offset, continuation)
                    return false
                }
                if returnsNow { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.sleepers.removeValue(forKey: number) }?.continuation.resume()
        }
    }
}
