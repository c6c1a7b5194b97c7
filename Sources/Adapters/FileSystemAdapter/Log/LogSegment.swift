import Glibc
import StoragePorts
import Synchronization

/// One segment file, open for reading.
final class LogSegment: Sendable {
    let baseOffset: UInt64
    let file: File
    /// The latest time in the segments before this one; the largest time there is if that cannot be told, so that a
    /// lookup by time begins too early and never too late.
    let maximumTimeBefore: Int64
    private let closedIndex = Mutex<SegmentIndex?>(nil)

    init(directory: String, baseOffset: UInt64, flags: Int32 = O_RDONLY, subject: String) throws(StoreError) {
        self.baseOffset = baseOffset
        file = try File(Self.path(in: directory, baseOffset), flags, subject: subject)
        let header = try file.read(SegmentHeader.byteCount, at: 0)
        maximumTimeBefore = SegmentHeader.maximumTimeBefore(in: header, baseOffset: baseOffset) ?? .max
    }

    // MARK: Names

    private static let suffix = ".log"

    /// The table of a segment's keys.
    static func keysPath(in directory: String, _ baseOffset: UInt64) -> String {
        path(in: directory, baseOffset).dropLast(suffix.count) + ".keys"
    }

    /// `00000000000000000042.log`, so that names sort like offsets.
    static func path(in directory: String, _ baseOffset: UInt64) -> String {
        let digits = String(baseOffset)
        return "\(directory)/\(String(repeating: "0", count: 20 - digits.count))\(digits)\(suffix)"
    }

    /// The first offsets of the segments in a folder, in order.
    static func baseOffsets(in directory: String, subject: String) throws(StoreError) -> [UInt64] {
        try Folder.names(in: directory, subject: subject)
            .compactMap { $0.hasSuffix(suffix) && $0.utf8.count == 24 ? UInt64($0.dropLast(suffix.count)) : nil }
            .sorted()
    }

    /// Makes the file of a new segment, durably: it has its header as soon as it has its name.
    static func create(
        in directory: String, baseOffset: UInt64, maximumTimeBefore: Int64, synchronizes: Bool, subject: String
    ) throws(StoreError) {
        try Folder.replaceFile(
            path(in: directory, baseOffset),
            with: SegmentHeader.encoded(baseOffset: baseOffset, maximumTimeBefore: maximumTimeBefore),
            durable: synchronizes, subject: subject)
    }

    /// The files of segments before `start` and of nothing else, in the order in which they are removed.
    ///
    /// The oldest segment goes first, and of a segment the file with its records last: whenever that is interrupted, what
    /// is left is the end of the log, and the next removal finds the rest.
    static func files(before start: UInt64, in names: [String]) -> [String] {
        var found: [(base: UInt64, isLog: Bool, name: String)] = []
        for name in names where name.utf8.count >= 24 {
            let digits = name.prefix(20)
            guard digits.utf8.allSatisfy({ 48...57 ~= $0 }), name.dropFirst(20).hasPrefix("."),
                let base = UInt64(digits), base < start
            else { continue }
            found.append((base, name.utf8.count == 24 && name.hasSuffix(suffix), name))
        }
        return found.sorted { ($0.base, $0.isLog ? 1 : 0, $0.name) < ($1.base, $1.isLog ? 1 : 0, $1.name) }.map(\.name)
    }

    /// Removes the segments before `start` with everything that is kept beside them.
    ///
    /// - Parameter durable: whether each is gone from the disk before the next one is touched, so that no loss of power can
    ///   leave an older segment than one that is gone.
    static func remove(before start: UInt64, in directory: String, durable: Bool, subject: String) throws(StoreError) {
        for name in files(before: start, in: try Folder.names(in: directory, subject: subject)) {
            guard unlink("\(directory)/\(name)") == 0 || errno == ENOENT else {
                throw systemFailure(errno, subject, "removing \(directory)/\(name)")
            }
            if durable, name.hasSuffix(suffix) { try Folder.synchronize(directory, subject: subject) }
        }
    }

    // MARK: Index

    private var indexPath: String { String(file.path.dropLast(Self.suffix.count)) + ".index" }

    /// Keeps an index beside the segment.
    ///
    /// It saves time and holds nothing that the segment does not, so a failure is no failure, and it is not waited for.
    func save(_ index: SegmentIndex, subject: String) {
        try? Folder.replaceFile(indexPath, with: index.encoded(), durable: false, subject: subject)
    }

    /// The index beside the segment, or one that covers nothing if that is missing or damaged.
    func savedIndex(subject: String) throws(StoreError) -> SegmentIndex {
        let nothing = SegmentIndex(baseOffset: baseOffset, maximumTimeBefore: maximumTimeBefore)
        guard let saved = try? File(indexPath, O_RDONLY, subject: subject), let byteCount = try? saved.byteCount(),
            byteCount <= 64 << 20, let bytes = try? saved.read(byteCount, at: 0)
        else { return nothing }
        return SegmentIndex(bytes: bytes, baseOffset: baseOffset, segmentByteCount: try file.byteCount()) ?? nothing
    }

    /// The index of all of a segment that nobody writes any more.
    func index(subject: String) throws(StoreError) -> SegmentIndex {
        if let known = closedIndex.withLock({ $0 }) { return known }
        var index = try savedIndex(subject: subject)
        let byteCount = try file.byteCount()
        if index.endPosition < byteCount {
            try scan(&index, to: byteCount)
            save(index, subject: subject)
        }
        closedIndex.withLock { [index] in $0 = index }
        return index
    }

    /// Extends `index` over the whole appends up to the byte `end`; `index.endPosition` is then where an unfinished or
    /// torn tail begins, or `end`.
    ///
    /// Damage that a later commit shows to have been acknowledged once is stepped over: a read that gets there says so.
    ///
    /// - Parameter bytes: those behind `index.endPosition`, if they were read already.
    /// - Returns: whether there was no damage.
    @discardableResult
    func scan(_ index: inout SegmentIndex, to end: Int, bytes: FollowedBytes? = nil) throws(StoreError) -> Bool {
        let (start, offset) = (index.endPosition, index.endOffset)
        var cursor =
            bytes.map {
                FrameCursor(
                    file: file, position: start, end: end, expectedOffset: offset, bytes: $0, isChecked: false)
            } ?? FrameCursor(file: file, position: start, end: end, expectedOffset: offset)
        var isSound = true
        var unfinished: [LogFrame] = []  // of an append whose last record has not come yet
        while true {
            switch try cursor.next() {
            case .frame(let frame) where frame.isContinued: unfinished.append(frame)
            case .frame(let frame):
                for earlier in unfinished { index.add(earlier) }
                unfinished.removeAll(keepingCapacity: true)
                index.add(frame)
            case .end: return isSound
            case .damage:
                isSound = false
                let damage = cursor.position
                guard try cursor.frameBehindDamage(where: { $0.commitPosition > damage }) != nil,
                    let next = try cursor.frameBehindDamage()
                else { return isSound }
                cursor.resume(at: next)
            }
        }
    }
}
