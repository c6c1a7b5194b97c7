public import PlatformCore
public import StoragePorts

/// What a double answers that keeps everything and knows of no other consumers.
///
/// Not beside the port: a log that forgot one of these would keep everything, or let go of what is still read.
extension EventLog {
    /// The first record there ever was.
    public func startOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 { 0 }
    /// Drops nothing.
    public func drop(_ topic: Name, partition: Int, upTo limit: LogDropLimit) async throws(StoreError) -> LogDrop {
        LogDrop(startOffset: 0, recordCount: 0, byteCount: 0, newestTime: nil)
    }
    /// Nobody.
    public func positions(_ topic: Name, partition: Int) async throws(StoreError) -> [Name: UInt64] { [:] }
}
