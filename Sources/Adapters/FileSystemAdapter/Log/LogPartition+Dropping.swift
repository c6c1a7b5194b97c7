import Dispatch
import PlatformCore
import StoragePorts
import Synchronization

/// Letting go of the oldest segments.
extension LogPartition {
    /// Drops whole segments from the beginning; see the port.
    func drop(upTo limit: LogDropLimit) async throws(StoreError) -> LogDrop {
        // On the thread that writes, between two commits.
        let outcome: Result<LogDrop, StoreError> = await withCheckedContinuation { continuation in
            writing.async {
                continuation.resume(returning: Result { () throws(StoreError) in try self.dropNow(limit) })
            }
        }
        return try outcome.get()
    }

    private func dropNow(_ limit: LogDropLimit) throws(StoreError) -> LogDrop {
        var content: Content
        if limit.isRehearsal {
            content = try currentContent()
        } else {
            content = try openForWriting().1
            if let closing = limit.closingBefore, let oldest = try oldestTime(ofLast: content), oldest < closing {
                content = try roll(content).1
            }
        }
        // What comes before a segment is told by its header, so that nothing of what is dropped has to be read.
        var count = 0
        var newest: Int64?
        for position in content.baseOffsets.indices.dropFirst() {
            let base = content.baseOffsets[position]
            // At least one record stays: the last one of a topic may say where its writer goes on.
            guard base <= limit.offset, base < content.index.endOffset else { break }
            let timeBefore = try segment(position, of: content).maximumTimeBefore
            guard timeBefore < limit.time.milliseconds else { break }
            (count, newest) = (position, timeBefore)
        }
        let first = content.baseOffsets.first ?? 0
        guard count > 0 else { return LogDrop(startOffset: first, recordCount: 0, byteCount: 0, newestTime: nil) }
        var byteCount = 0
        for position in 0..<count { byteCount += try segment(position, of: content).file.byteCount() }
        let start = content.baseOffsets[count]
        if !limit.isRehearsal {
            content.baseOffsets.removeFirst(count)
            try remove(before: start, keeping: content)
        }
        return LogDrop(
            startOffset: start, recordCount: Int(start - first), byteCount: byteCount,
            newestTime: newest.map { EventTime(milliseconds: $0) })
    }

    /// Shows readers what stays, then removes the rest.
    private func remove(before start: UInt64, keeping content: Content) throws(StoreError) {
        publish(content)
        do throws(StoreError) {
            try LogSegment.remove(before: start, in: directory, durable: configuration.synchronizes, subject: subject)
        } catch {
            // Some are gone, some are not; the next look at the files says which.
            publish(try examine())
            throw error
        }
    }

    /// The time of the first record of the last segment; `nil` if it has none that can be read.
    private func oldestTime(ofLast content: Content) throws(StoreError) -> EventTime? {
        guard let last = content.last else { return nil }
        var cursor = FrameCursor(
            file: last.file, position: SegmentHeader.byteCount, end: content.index.endPosition,
            expectedOffset: last.baseOffset)
        guard case .frame(let frame) = try cursor.next() else { return nil }
        return EventTime(milliseconds: frame.timeMilliseconds)
    }
}
