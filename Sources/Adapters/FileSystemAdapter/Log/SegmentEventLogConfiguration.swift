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

    /// Makes a configuration; sizes out of range are moved to the nearest end of it.
    public init(
        synchronizes: Bool = true, segmentByteCountMax: Int = 64 << 20,
        onTornTail: @escaping @Sendable (TornTail) -> Void = { _ in }
    ) {
        self.synchronizes = synchronizes
        self.segmentByteCountMax = min(max(segmentByteCountMax, 4 << 10), 1 << 30)
        self.onTornTail = onTornTail
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
