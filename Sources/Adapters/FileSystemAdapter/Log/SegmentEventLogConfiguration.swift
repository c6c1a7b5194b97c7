/// How a `SegmentEventLog` writes.
public struct SegmentEventLogConfiguration: Sendable {
    /// Whether an append waits for the disk; `false` only where losing the newest records with the power is fine.
    public var synchronizes: Bool
    /// Size past which a new segment file begins, 4 KiB to 1 GiB.
    ///
    /// A single append may make a segment larger.
    public var segmentByteCountMax: Int
    /// Told of each torn tail that is cut, once, on the thread that writes.
    public var onTornTail: @Sendable (TornTail) -> Void
    /// Told of records that a consumer has read and the log has no more, once, on the thread that writes.
    public var onLostRecords: @Sendable (LostRecords) -> Void

    /// Makes a configuration; sizes out of range are moved to the nearest end of it.
    public init(
        synchronizes: Bool = true, segmentByteCountMax: Int = 64 << 20,
        onTornTail: @escaping @Sendable (TornTail) -> Void = { _ in },
        onLostRecords: @escaping @Sendable (LostRecords) -> Void = { _ in }
    ) {
        self.onLostRecords = onLostRecords
        self.synchronizes = synchronizes
        self.segmentByteCountMax = min(max(segmentByteCountMax, 4 << 10), 1 << 30)
        self.onTornTail = onTornTail
    }
}

/// Records that were acknowledged and read, and are gone: a disk lost them, or somebody cut the files.
public struct LostRecords: Sendable, Hashable, CustomStringConvertible {
    /// The partition, `topic/departures/0`.
    public let subject: String
    /// Its folder.
    public let directory: String
    /// The first of them.
    public let from: UInt64
    /// The offset behind the last of them that is known of.
    public let to: UInt64

    /// One line for a log.
    public var description: String {
        "\(subject): records \(from) to \(to - 1) are gone from \(directory), though consumers have read them; "
            + "restore the folder from a backup if there is one: new records get their numbers"
    }
}

/// The unfinished end of a log that a crash left behind and the next writer cut.
public struct TornTail: Sendable, Hashable, CustomStringConvertible {
    /// The partition, `topic/departures/0`.
    public let subject: String
    /// The segment file.
    ///
    /// The bytes that were cut are kept beside it, in a file with `.torn-` and the position.
    public let path: String
    /// Where the file was cut.
    public let position: Int
    /// How many bytes were cut.
    public let byteCount: Int

    /// One line for a log.
    public var description: String {
        "\(subject): cut an unfinished tail of \(byteCount) bytes at \(position) of \(path)"
    }
}
