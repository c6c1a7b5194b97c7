/// A short durable memory of what is not yet anywhere else.
///
/// Small entries arrive one by one and must survive a crash at once; later they are put where they belong, many at a
/// time, and forgotten here. An `EventLog` keeps everything and is read by many; a journal has one owner and is read
/// only when that owner starts.
public protocol Journal: Sendable {
    /// Hands every entry that is still kept to `body`, in order; called once, before the first append.
    ///
    /// - Parameter next: the least number that a new entry may get.
    /// - Throws: `corrupted` where entries between others are damaged, `locked`, `unavailable`.
    func recover(next: UInt64, _ body: @Sendable (_ number: UInt64, _ entry: [UInt8]) throws -> Void) async throws
    /// Appends an entry and calls `durable` once, with its number when it is on the disk.
    ///
    /// Entries that wait for each other share one trip to the disk. `durable` is called in the order of the numbers, on
    /// a thread of the journal, which it must not hold up.
    func append(_ entry: [UInt8], durable: @escaping @Sendable (Result<UInt64, StoreError>) -> Void)
    /// Appends an entry before it returns, on the calling thread, if nothing else is being written and the disk has been
    /// quick of late.
    ///
    /// `durable` is called at most once, before this returns. What it costs the calling thread is one write of a block;
    /// a caller that other work waits for should use `append`.
    ///
    /// - Returns: `false` if nothing was done, and `append` is the way.
    func appendNow(_ entry: [UInt8], durable: (Result<UInt64, StoreError>) -> Void) -> Bool
    /// Says that no entry up to a number is needed any more.
    func forget(upTo number: UInt64)
}

extension Journal {
    /// Leaves every entry to `append`.
    public func appendNow(_ entry: [UInt8], durable: (Result<UInt64, StoreError>) -> Void) -> Bool { false }
}

/// Largest entry that a journal accepts.
public let journalEntryByteCountMax = 4 << 20
