import Glibc
import StoragePorts

/// Work on folders by path: for folders that only the platform writes.
enum Folder {
    /// Makes a folder and the missing ones above it, durably.
    static func make(_ path: String, subject: String) throws(StoreError) {
        if mkdir(path, 0o755) == 0 {
            try synchronize(parent(of: path), subject: subject)
            return
        }
        switch errno {
        case EEXIST: return
        case ENOENT where !path.isEmpty && path != "/":
            try make(parent(of: path), subject: subject)
            try make(path, subject: subject)
        case let number: throw systemFailure(number, subject, "making the folder \(path)")
        }
    }

    /// The folder that holds `path`.
    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Returns when the entries of a folder are on the disk.
    static func synchronize(_ path: String, subject: String) throws(StoreError) {
        try File(path, O_RDONLY | O_DIRECTORY, subject: subject).synchronize()
    }

    /// The names in a folder, in no particular order; none if there is no such folder.
    static func names(in path: String, subject: String) throws(StoreError) -> [String] {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return [] }
            throw systemFailure(errno, subject, "listing \(path)")
        }
        return names(of: descriptor)
    }

    /// The names in an open folder.
    ///
    /// Takes the descriptor over.
    static func names(of descriptor: Int32) -> [String] {
        guard let listing = fdopendir(descriptor) else {
            close(descriptor)
            return []
        }
        defer { closedir(listing) }
        var found: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { found.append(name) }
        }
        return found
    }

    /// Writes a file so that its name never leads to half of it: a new file beside it takes over the name.
    ///
    /// - Parameter durable: whether to return only when it is on the disk.
    static func replaceFile(_ path: String, with bytes: [UInt8], durable: Bool, subject: String) throws(StoreError) {
        let temporary = "\(path).new-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        do throws(StoreError) {
            let file = try File(temporary, O_WRONLY | O_CREAT | O_EXCL, subject: subject)
            try file.write(bytes, at: 0)
            if durable { try file.synchronizeData() }
            guard rename(temporary, path) == 0 else { throw systemFailure(errno, subject, "renaming to \(path)") }
        } catch {
            unlink(temporary)
            throw error
        }
        if durable { try synchronize(parent(of: path), subject: subject) }
    }
}
