/// Bounds of the ingestion.
public struct IngestLimits: Sendable {
    /// Most rows of one push.
    public var pushRowCountMax: Int
    /// Most rows that may wait for a source's log; a push beyond it fails with `overloaded`.
    public var waitingRowCountMax: Int
    /// Rows after which a round of shared appends is closed.
    public var roundRowCountMax: Int
    /// A pushed row that equals one of at least this many last rows of its source is a duplicate (8 to 40 bytes of memory
    /// each).
    ///
    /// Loads compare with `historyRowCountMax` rows.
    public var recentRowCount: Int
    /// The rows of a source's log that a load compares with, newest first (14 to 28 bytes each, while it runs).
    public var historyRowCountMax: Int
    /// Idempotency keys remembered for each source, at least.
    public var idempotencyKeyCountMax: Int
    /// Rows that a load appends at once.
    public var loadBatchRowCount: Int
    /// Longest line or record of a file, in bytes.
    public var recordByteCountMax: Int

    /// Makes limits.
    public init(
        pushRowCountMax: Int = 10_000, waitingRowCountMax: Int = 100_000, roundRowCountMax: Int = 20_000,
        recentRowCount: Int = 1_000_000, historyRowCountMax: Int = 32_000_000, idempotencyKeyCountMax: Int = 10_000,
        loadBatchRowCount: Int = 5_000, recordByteCountMax: Int = 1 << 20
    ) {
        self.pushRowCountMax = pushRowCountMax
        self.waitingRowCountMax = waitingRowCountMax
        self.roundRowCountMax = roundRowCountMax
        self.recentRowCount = recentRowCount
        self.historyRowCountMax = historyRowCountMax
        self.idempotencyKeyCountMax = idempotencyKeyCountMax
        self.loadBatchRowCount = loadBatchRowCount
        self.recordByteCountMax = recordByteCountMax
    }
}
