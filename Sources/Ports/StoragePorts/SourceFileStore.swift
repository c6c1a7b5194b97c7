/// A file outside of the platform that a source may be loaded from.
public struct SourceFileInfo: Sendable, Hashable {
    /// Where it is: a path, or a bucket's address.
    public let location: String
    /// Its size in bytes.
    public let byteCount: Int
    /// Differs when the content may: the time of its last change, or an entity tag.
    public let stamp: String
    /// Makes the description.
    public init(location: String, byteCount: Int, stamp: String) {
        self.location = location
        self.byteCount = byteCount
        self.stamp = stamp
    }
}

/// Where raw files come from: a folder today, a bucket by another adapter.
public protocol SourceFileStore: Sendable {
    /// The files of a location, in byte order of their locations.
    ///
    /// A location is one file; a folder, meaning the files in it and below, hidden ones (`.x`, `_x`) left out; or a pattern
    /// with `*` and `?` within a part and `**` for any number of folders.
    /// - Throws: `notFound` for a location that does not exist, `invalidInput` for one that this store does not know,
    ///   `limitExceeded` for more than 100,000 files.
    func list(_ location: String) async throws(StoreError) -> [SourceFileInfo]
    /// A local file with the content, which must not be changed; it may be a copy of the moment.
    func localPath(of location: String) async throws(StoreError) -> String
    /// Writes the uncompressed content of a local gzip or Zstandard file (all of its members or frames) to a new file.
    /// - Throws: `corrupted` for a file that is damaged or cut off, `limitExceeded` beyond `byteCountMax`, `full`.
    func unpack(_ path: String, to target: String, byteCountMax: Int) async throws(StoreError)
}
