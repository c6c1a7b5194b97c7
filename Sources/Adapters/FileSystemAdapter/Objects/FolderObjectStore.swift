import Glibc
public import StoragePorts

/// Objects as files of one folder.
///
/// An object at key `a/b` is the file `objects/a/b`, so other programs can read it. It is written elsewhere in the folder
/// (`staging/`), synchronized, and then linked to its name, which fails if the name is taken. Symbolic links are never
/// followed below the folder. Two things follow from keys being paths: no object can have a key below another object's
/// (`conflict`), and a part of a key has at most 255 bytes.
public struct FolderObjectStore: ObjectStore {
    private let root: String
    private let folders: FolderTree
    private let threads = FileThreads(label: "object store")

    private var staging: String { root + "/staging" }

    /// Opens the store in `directory`, making it where missing, and removes staged files that nobody has touched for a day.
    /// - Throws: `unavailable`, `full`.
    public init(directory: String) throws(StoreError) {
        let subject = "object store"
        try Folder.make(directory, subject: subject)
        guard let resolved = realpath(directory, nil) else {
            throw systemFailure(errno, subject, "opening \(directory)")
        }
        defer { free(resolved) }
        root = String(cString: resolved)
        try Folder.make(root + "/objects", subject: subject)
        try Folder.make(root + "/staging", subject: subject)
        folders = FolderTree(root: root + "/objects")
        try removeAbandonedFiles()
    }

    private func removeAbandonedFiles() throws(StoreError) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        for name in try Folder.names(in: staging, subject: "object store") {
            var status = stat()
            let path = staging + "/" + name
            if lstat(path, &status) == 0, now.tv_sec - status.st_mtim.tv_sec > 86_400 { unlink(path) }
        }
    }

    private func newStagingPath(suffix: String = "") -> String {
        "\(staging)/\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 16))\(suffix)"
    }

    // MARK: Writing

    /// Stores bytes under a new key; durable when it returns.
    public func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        let parts = try ObjectKey.parts(of: key)
        try await threads.run { () throws(StoreError) in
            try stage(at: key, parts) { file throws(StoreError) in try file.write(bytes, at: 0) }
        }
    }

    /// Stores a copy of a local file under a new key; durable when it returns.
    public func put(fileAt path: String, at key: String) async throws(StoreError) {
        let parts = try ObjectKey.parts(of: key)
        try await threads.run { () throws(StoreError) in
            let source = try File(path, O_RDONLY | O_NONBLOCK, subject: ObjectKey.subject(key))
            try requireRegular(source, key)
            try stage(at: key, parts) { file throws(StoreError) in
                var position = 0
                while true {
                    let part = try source.read(1 << 20, at: position)
                    if part.isEmpty { break }
                    try file.write(part, at: position)
                    position += part.count
                }
            }
        }
    }

    /// Writes a staged file with `fill`, then gives it its name.
    private func stage(at key: String, _ parts: [String], _ fill: (File) throws(StoreError) -> Void) throws(StoreError)
    {
        let subject = ObjectKey.subject(key)
        if try folders.info(parts, subject: subject) != nil { try refuseTaken(parts, subject) }
        let path = newStagingPath()
        let file = try File(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, subject: subject)
        defer { unlink(path) }
        try fill(file)
        try link(file, to: parts, subject)
    }

    private func link(_ file: File, to parts: [String], _ subject: String) throws(StoreError) {
        fchmod(file.descriptor, 0o400)
        try file.synchronize()
        guard try folders.link(file.path, to: parts, subject: subject) else { return try refuseTaken(parts, subject) }
    }

    /// Says that a key is taken, once that is durable: whoever holds it may not have got that far.
    private func refuseTaken(_ parts: [String], _ subject: String) throws(StoreError) {
        try folders.synchronize(parts.dropLast(), subject: subject)
        throw StoreError(.conflict, subject, "the key exists; an object is never replaced")
    }

    private func requireRegular(_ file: File, _ key: String) throws(StoreError) {
        var status = stat()
        guard fstat(file.descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw StoreError(.invalidInput, ObjectKey.subject(key), "\(file.path) is no regular file")
        }
    }

    /// A local path where a producer may write a file that `adopt` then takes over.
    public func stagingPath(suffix: String) async throws(StoreError) -> String {
        guard suffix.utf8.count <= 64, suffix.utf8.allSatisfy(ObjectKey.isAccepted) else {
            throw StoreError(.invalidInput, "object store", "a suffix has at most 64 of A–Z a–z 0–9 _ . = -")
        }
        return newStagingPath(suffix: suffix)
    }

    /// Moves a file that was written at a `stagingPath` to a new key; it stays where it is when this throws.
    public func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {
        let parts = try ObjectKey.parts(of: key)
        guard path.hasPrefix(staging + "/"), ObjectKey.isPart(String(path.dropFirst(staging.count + 1))) else {
            throw StoreError(
                .invalidInput, ObjectKey.subject(key), "the file to adopt was not written at a staging path")
        }
        try await threads.run { () throws(StoreError) in
            let file = try File(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, subject: ObjectKey.subject(key))
            try requireRegular(file, key)
            try link(file, to: parts, ObjectKey.subject(key))
            unlink(path)
        }
    }

    /// Removes an object; nothing happens if there is none.
    public func delete(_ key: String) async throws(StoreError) {
        let parts = try ObjectKey.parts(of: key)
        try await threads.run { () throws(StoreError) in
            try folders.remove(parts, subject: ObjectKey.subject(key))
        }
    }

    // MARK: Reading

    /// The bytes of an object.
    public func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        let parts = try ObjectKey.parts(of: key)
        let subject = ObjectKey.subject(key)
        return try await threads.run { () throws(StoreError) in
            guard let (file, byteCount) = try folders.open(parts, subject: subject) else {
                throw StoreError(.notFound, subject, "there is no such object")
            }
            guard byteCount <= byteCountMax else {
                throw StoreError(.limitExceeded, subject, "it has \(byteCount) bytes, the limit is \(byteCountMax)")
            }
            let bytes = try file.read(byteCount, at: 0)
            guard bytes.count == byteCount else {
                throw StoreError(.corrupted, subject, "the file was cut while it was read")
            }
            return bytes
        }
    }

    /// What is known of an object, `nil` if there is none.
    public func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        let parts = try ObjectKey.parts(of: key)
        return try await threads.run { () throws(StoreError) in
            try folders.info(parts, subject: ObjectKey.subject(key)).map { ObjectInfo(key: key, byteCount: $0) }
        }
    }

    /// Objects whose key begins with `prefix`, in byte order of the key.
    public func list(prefix: String) async throws(StoreError) -> [ObjectInfo] {
        try await threads.run { () throws(StoreError) in
            try folders.list(prefix: prefix).sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
        }
    }

    /// The file that holds the object's bytes.
    public func localPath(of key: String) async throws(StoreError) -> String {
        guard try await info(key) != nil else {
            throw StoreError(.notFound, ObjectKey.subject(key), "there is no such object")
        }
        return "\(root)/objects/\(key)"
    }
}
