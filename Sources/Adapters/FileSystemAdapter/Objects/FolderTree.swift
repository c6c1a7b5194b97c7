import Glibc
import StoragePorts
import Synchronization

/// A tree of folders that is walked part by part from its root, so that no symbolic link in it is ever followed.
final class FolderTree: Sendable {
    private let root: String
    /// Folders whose own entry this process knows to be on the disk; forgotten as a whole when it grows past a bound.
    private let durable = Mutex<Set<String>>([])

    init(root: String) { self.root = root }

    /// Opens the folder at `parts`; `nil` if it is not there.
    private func folder(_ parts: some Sequence<String>, subject: String) throws(StoreError) -> File? {
        var current = try File(root, O_RDONLY | O_DIRECTORY, subject: subject)
        for part in parts {
            let next = openat(current.descriptor, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if next < 0 {
                let number = errno
                if number == ENOENT { return nil }
                if number == ENOTDIR {
                    try refuseLink(part, in: current, subject)
                    return nil  // an object stands where a longer key has a folder
                }
                throw systemFailure(number, subject, "opening \(current.path)/\(part)")
            }
            current = File(descriptor: next, path: current.path + "/" + part, subject: subject)
        }
        return current
    }

    private func refuseLink(_ part: String, in folder: File, _ subject: String) throws(StoreError) {
        var status = stat()
        if fstatat(folder.descriptor, part, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mode & S_IFMT == S_IFLNK {
            throw StoreError(
                .corrupted, subject, "\(folder.path)/\(part) is a symbolic link, which an object store never follows")
        }
    }

    /// Opens the folder at `parts`, making what is missing, durably.
    private func makeFolder(_ parts: some Sequence<String>, subject: String) throws(StoreError) -> File {
        var current = try File(root, O_RDONLY | O_DIRECTORY, subject: subject)
        for part in parts {
            let path = current.path + "/" + part
            let made = mkdirat(current.descriptor, part, 0o755) == 0
            if !made, errno != EEXIST { throw systemFailure(errno, subject, "making the folder \(path)") }
            let next = openat(current.descriptor, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if next < 0 {
                let number = errno
                try refuseLink(part, in: current, subject)
                guard number == ENOTDIR else { throw systemFailure(number, subject, "opening \(path)") }
                throw StoreError(.conflict, subject, "an object exists at a key that would have to be a folder")
            }
            // Another process may have made the folder and not have synchronized it yet.
            if made || !durable.withLock({ $0.contains(path) }) {
                try current.synchronize()
                durable.withLock { known in
                    if known.count >= 4_096 { known.removeAll() }
                    known.insert(path)
                }
            }
            current = File(descriptor: next, path: path, subject: subject)
        }
        return current
    }

    /// Gives the file at `path` the name `parts` as well, durably; `false` if that is taken.
    func link(_ path: String, to parts: [String], subject: String) throws(StoreError) -> Bool {
        guard let name = parts.last else { return false }
        let folder = try makeFolder(parts.dropLast(), subject: subject)
        guard linkat(AT_FDCWD, path, folder.descriptor, name, 0) == 0 else {
            if errno == EEXIST { return false }
            throw systemFailure(errno, subject, "linking \(folder.path)/\(name)")
        }
        try folder.synchronize()
        return true
    }

    /// Returns when the entries of the folder at `parts` are on the disk.
    func synchronize(_ parts: some Sequence<String>, subject: String) throws(StoreError) {
        try folder(parts, subject: subject)?.synchronize()
    }

    /// Opens the regular file at `parts` and gives its size; `nil` if there is none.
    func open(_ parts: [String], subject: String) throws(StoreError) -> (File, byteCount: Int)? {
        guard let name = parts.last, let folder = try folder(parts.dropLast(), subject: subject) else { return nil }
        let descriptor = openat(folder.descriptor, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw systemFailure(errno, subject, "opening \(folder.path)/\(name)")
        }
        let file = File(descriptor: descriptor, path: folder.path + "/" + name, subject: subject)
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return (file, Int(status.st_size))
    }

    /// The size of the regular file at `parts`, `nil` if there is none.
    func info(_ parts: [String], subject: String) throws(StoreError) -> Int? {
        guard let name = parts.last, let folder = try folder(parts.dropLast(), subject: subject) else { return nil }
        var status = stat()
        guard fstatat(folder.descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            if errno == ENOENT { return nil }
            throw systemFailure(errno, subject, "looking at \(folder.path)/\(name)")
        }
        try refuseLink(name, in: folder, subject)
        return status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
    }

    /// Removes the file at `parts`, durably.
    func remove(_ parts: [String], subject: String) throws(StoreError) {
        guard let name = parts.last, let folder = try folder(parts.dropLast(), subject: subject) else { return }
        guard unlinkat(folder.descriptor, name, 0) == 0 else {
            if errno == ENOENT || errno == EISDIR { return }
            throw systemFailure(errno, subject, "removing \(folder.path)/\(name)")
        }
        try folder.synchronize()
    }

    /// The regular files whose path below the root begins with `prefix`, in no particular order.
    func list(prefix: String) throws(StoreError) -> [ObjectInfo] {
        let parts = prefix.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard prefix.utf8.count <= ObjectKey.byteCountMax, parts.dropLast().allSatisfy(ObjectKey.isPart) else {
            return []
        }
        let subject = ObjectKey.subject(prefix)
        var found: [ObjectInfo] = []
        var waiting = [Array(parts.dropLast())]
        while let next = waiting.popLast() {
            guard let folder = try folder(next, subject: subject) else { continue }
            let copy = openat(folder.descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard copy >= 0 else { throw systemFailure(errno, subject, "listing \(folder.path)") }
            let path = next.map { $0 + "/" }.joined()
            for name in Folder.names(of: copy) where ObjectKey.isPart(name) && (path + name).hasPrefix(prefix) {
                var status = stat()
                // An entry may go while we look: then it is not listed.
                guard fstatat(folder.descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
                switch status.st_mode & S_IFMT {
                case S_IFREG: found.append(ObjectInfo(key: path + name, byteCount: Int(status.st_size)))
                case S_IFDIR: waiting.append(next + [name])
                default: continue
                }
            }
        }
        return found
    }
}
