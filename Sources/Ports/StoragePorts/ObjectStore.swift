internal import ContentHashing
public import PlatformCore

/// What is known of a stored object.
public struct ObjectInfo: Sendable, Hashable {
    /// Its key, `blobs/ab/ab12…`.
    public let key: String
    /// Its size in bytes.
    public let byteCount: Int
    /// Makes the description.
    public init(key: String, byteCount: Int) {
        self.key = key
        self.byteCount = byteCount
    }
}

/// Named immutable bytes.
///
/// An object appears whole or not at all and never changes; a folder on disk, or a bucket.
///
/// Keys are relative paths of `A–Z a–z 0–9 _ . = -` parts joined by `/`, no part `.` or `..`, at most 1,024 bytes.
public protocol ObjectStore: Sendable {
    /// Stores bytes under a new key; durable when it returns.
    /// - Throws: `conflict` if the key exists (its bytes are untouched), `invalidInput` for a bad key, `full`.
    func put(_ bytes: [UInt8], at key: String) async throws(StoreError)
    /// Stores a copy of a local file under a new key; durable when it returns. Does not hold the file in memory.
    func put(fileAt path: String, at key: String) async throws(StoreError)
    /// The bytes of an object.
    /// - Throws: `notFound`; `limitExceeded` if it is larger than `byteCountMax`.
    func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8]
    /// What is known of an object, `nil` if there is none.
    func info(_ key: String) async throws(StoreError) -> ObjectInfo?
    /// Objects whose key begins with `prefix`, in byte order of the key.
    func list(prefix: String) async throws(StoreError) -> [ObjectInfo]
    /// Removes an object; nothing happens if there is none.
    func delete(_ key: String) async throws(StoreError)
    /// A local file that holds the object's bytes, for engines that read files by path. The file must not be changed.
    func localPath(of key: String) async throws(StoreError) -> String
    /// A local path where a producer (an offline engine) may write a file that `adopt` then takes over.
    func stagingPath(suffix: String) async throws(StoreError) -> String
    /// Moves a file that was written at a `stagingPath` to a new key, durably; throws `conflict` if the key exists.
    func adopt(stagedFileAt path: String, at key: String) async throws(StoreError)
}

/// Content-addressed storage over an `ObjectStore`: the key of a blob is its SHA-256, so storing it twice stores it once.
public struct ContentStore: Sendable {
    /// Where the blobs are.
    public let base: any ObjectStore

    /// Keeps blobs under `blobs/` of `base`.
    public init(base: any ObjectStore) { self.base = base }

    /// The key of a blob.
    public static func key(of hash: ContentHash) -> String { "blobs/\(hash.hex.prefix(2))/\(hash.hex)" }

    /// Stores bytes and gives their hash; nothing happens if they are stored already.
    public func put(_ bytes: [UInt8]) async throws(StoreError) -> ContentHash {
        let hash = ContentHasher.hash(bytes)
        do { try await base.put(bytes, at: Self.key(of: hash)) } catch {
            if error.code != .conflict { throw error }
        }
        return hash
    }

    /// The bytes of a blob, checked against its hash.
    /// - Throws: `notFound`, `limitExceeded`, `corrupted`.
    public func get(_ hash: ContentHash, byteCountMax: Int = 1 << 30) async throws(StoreError) -> [UInt8] {
        let bytes = try await base.get(Self.key(of: hash), byteCountMax: byteCountMax)
        guard ContentHasher.hash(bytes) == hash else {
            throw StoreError(.corrupted, "blob/\(hash.short)", "the stored bytes do not have this hash")
        }
        return bytes
    }

    /// Whether a blob is stored.
    public func contains(_ hash: ContentHash) async throws(StoreError) -> Bool {
        try await base.info(Self.key(of: hash)) != nil
    }

    /// A local file with the blob's bytes.
    public func localPath(of hash: ContentHash) async throws(StoreError) -> String {
        try await base.localPath(of: Self.key(of: hash))
    }
}
