import Foundation

/// A part of the data directory, how large it is, and what it is for.
public struct StoragePlace: Sendable, Hashable, Codable {
    /// Path below the data directory: `log/predictions`.
    public let path: String
    /// Bytes of its files as they are written; holes of sparse files count as nothing.
    public let byteCount: Int
    /// Its files.
    public let fileCount: Int
    /// What it is, and what makes it smaller.
    public let use: String

    enum CodingKeys: String, CodingKey {
        case path, use
        case byteCount = "byte_count"
        case fileCount = "files"
    }
}

/// Says what every byte of a data directory is for.
public struct StorageSurvey: Sendable {
    private let directory: String
    private let jobs: @Sendable (String) async -> String?

    /// Surveys `directory`.
    /// - Parameter jobs: says of which job a folder of that name is; `nil` if of none.
    public init(directory: String, jobs: @escaping @Sendable (String) async -> String?) {
        self.directory = directory
        self.jobs = jobs
    }

    /// Every place, the largest first; together they hold every file below the directory.
    @concurrent
    public func places() async -> [StoragePlace] {
        var sizes: [String: (byteCount: Int, fileCount: Int)] = [:]
        let root = URL(fileURLWithPath: directory).standardizedFileURL.path
        guard let walk = FileManager.default.enumerator(atPath: root) else { return [] }
        while let path = walk.nextObject() as? String {
            var status = stat()
            guard lstat("\(root)/\(path)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
            // A file that is hardly written, such as a database that maps more than it holds, has few blocks.
            let byteCount = min(Int(status.st_size), Int(status.st_blocks) * 512)
            let place = Self.place(of: path)
            sizes[place, default: (0, 0)].byteCount += byteCount
            sizes[place, default: (0, 0)].fileCount += 1
        }
        var places: [StoragePlace] = []
        for (path, size) in sizes {
            places.append(
                StoragePlace(path: path, byteCount: size.byteCount, fileCount: size.fileCount, use: await use(of: path))
            )
        }
        return places.sorted { ($1.byteCount, $0.path) < ($0.byteCount, $1.path) }
    }

    /// The place that a file belongs to: its topic, table, job, or the entry of the data directory that it is below.
    static func place(of path: String) -> String {
        let parts = path.split(separator: "/").map(String.init)
        let depth: Int
        switch parts.first {
        case "objects":
            depth = parts.dropFirst().first == "objects" ? (parts.dropFirst(2).first == "tables" ? 4 : 3) : 2
        case "log", "jobs", "scores": depth = 2
        default: depth = parts.count > 1 ? 1 : 0
        }
        guard depth > 0 else {
            // The files that SQLite keeps beside a database belong to it.
            let name = parts.first ?? path
            return ["-wal", "-shm", "-journal"].reduce(name) { $0.hasSuffix($1) ? String($0.dropLast($1.count)) : $0 }
        }
        return parts.prefix(min(depth, max(1, parts.count - 1))).joined(separator: "/")
    }

    private func use(of path: String) async -> String {
        let parts = path.split(separator: "/").map(String.init)
        let name = parts.last ?? path
        switch (parts.first, parts.count) {
        case ("metadata.sqlite", _): return "definitions, runs, versions and their history"
        case ("objects", 3...) where parts[2] == "blobs":
            return "files by content; listed one by one with what names each"
        case ("objects", 4...) where parts[2] == "tables":
            return "the table \(name); 'bottega table vacuum \(name)' removes what no version in use needs"
        case ("objects", _): return "files on their way into the store"
        case ("log", 2...): return Self.use(ofTopic: name)
        case ("jobs", 2...):
            if let job = await jobs(name) { return job }
            return "no job has this folder: it may be deleted"
        case ("scores", 2) where name == ".work": return "partitions of scores that are not finished yet"
        case ("scores", _): return "partitions of the table of scores \(name)"
        case ("jobs", _): return "what running jobs are known by"
        case ("metrics", _): return "metric histories of runs, as they were logged"
        case ("online", _): return "newest feature values, rebuilt from the log where they are lost"
        case ("spool", _), ("spill", _), ("spark", _): return "files on their way, emptied at every start"
        case ("monitor.state", _): return "where the monitor stands"
        case ("webhook-key", _), ("admin-token", _): return "a secret, readable by its owner alone"
        case ("clock", _), ("lock", _), ("monitor.lock", _), ("node", _):
            return "who uses the directory, and its clock"
        case ("python", _): return "files of models that are Python code, made again from the store"
        case ("remote", _): return "what other servers said of their models"
        case ("onnx", _): return "which ONNX files have been tried"
        default: return "not the platform's, as far as it knows"
        }
    }

    private static func use(ofTopic topic: String) -> String {
        if topic.hasPrefix("source.") {
            return "rows of the source \(topic.dropFirst(7)), from which all tables are made"
        }
        if topic.hasPrefix("scores.") { return "rows that the deployment \(topic.dropFirst(7)) scored as they came" }
        if topic.hasPrefix("quarantine.") { return "rows that \(topic.dropFirst(11))'s contract refused" }
        switch topic {
        case "predictions": return "every prediction, for why, replay and the monitor"
        case "labels": return "how predictions turned out"
        case "platform": return "every change, as it was told"
        case "monitoring": return "what the monitor found"
        case "lineage", "lineage_received": return "lineage events"
        default: return "events of \(topic)"
        }
    }
}
