import Foundation
import PlatformCore
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// One partition of a table of scores on the disk, and the place where it is made.
///
/// `table/date=2026-11-21/part-00000.parquet`, …, `_manifest.json`; while it is made, `.work/table/date=2026-11-21/`: `state.json`
/// (what was asked for, and since when), `input.parquet` (questions with features), `out/` (parts), and for each finished part
/// a note beside it. A part counts once its note is there; the folder `out` becomes the partition in one rename. The work has its
/// place outside the table's folder because readers that look for `*/*.parquet` may find hidden folders too.
struct ScoreFolder {
    static let manifestName = "_manifest.json"

    let final: String
    let work: String
    var out: String { "\(work)/out" }
    var input: String { "\(work)/input.parquet" }

    init(root: String, table: Name, date: String) {
        final = "\(root)/\(table)/date=\(date)"
        work = "\(root)/.work/\(table)/date=\(date)"
    }

    static func partName(_ index: Int) -> String {
        let digits = String(index)
        return "part-\(String(repeating: "0", count: max(0, 5 - digits.count)))\(digits).parquet"
    }

    /// Clears away what earlier versions, which worked in the table's folder (`table/.date=…`), left under way.
    ///
    /// A former partition that stood aside there is put back first where none took its place.
    static func clearFormerWork(in root: String) {
        let files = FileManager.default
        for table in (try? files.contentsOfDirectory(atPath: root)) ?? [] where Name(table) != nil {
            for name in (try? files.contentsOfDirectory(atPath: "\(root)/\(table)")) ?? []
            where name.hasPrefix(".date=") {
                let (work, final) = ("\(root)/\(table)/\(name)", "\(root)/\(table)/\(name.dropFirst())")
                if !files.fileExists(atPath: final), files.fileExists(atPath: "\(work)/old"),
                    rename("\(work)/old", final) != 0
                {
                    continue
                }
                try? files.removeItem(atPath: work)
            }
        }
    }

    /// Held where folders above that of a day come and go, so that none goes between its making and that of the day's.
    private static let parents = Mutex(())

    func prepare() throws {
        try Self.parents.withLock { _ in
            for folder in [out, parent] {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            }
        }
    }

    func discardWork() {
        try? FileManager.default.removeItem(atPath: work)
        // Unless another day is being made there.
        Self.parents.withLock { _ in _ = rmdir(URL(fileURLWithPath: work).deletingLastPathComponent().path) }
    }

    func read(_ name: String) -> JSONValue? {
        FileManager.default.contents(atPath: "\(work)/\(name)").flatMap { try? JSONValue.parse(Array($0)) }
    }

    /// Writes a small file so that it is whole or not there.
    func write(_ value: JSONValue, to name: String, below folder: String? = nil) throws {
        let path = "\(folder ?? work)/\(name)"
        let temporary = "\(work)/.\(name).new"
        try Data(value.canonicalBytes).write(to: URL(fileURLWithPath: temporary))
        try Self.synchronize(temporary)
        guard rename(temporary, path) == 0 else { throw Self.failure(path) }
    }

    /// What the finished partition says of itself.
    func manifest() -> ScoredPartition? {
        guard let data = FileManager.default.contents(atPath: "\(final)/\(Self.manifestName)") else { return nil }
        return try? JSONValue.parse(Array(data)).decoded()
    }

    /// Makes the parts the partition; one that is there changes places with them in one step.
    ///
    /// After a crash at any moment there is the former partition, or this one.
    func publish() throws {
        try Self.synchronize(out)
        if FileManager.default.fileExists(atPath: final) {
            // From here on the parts count for nobody who would go on with this work: `out` may be the former partition.
            try? FileManager.default.removeItem(atPath: "\(work)/state.json")
            try Self.synchronize(work)
            if !FileCalls.exchange(out, final) {
                try? FileManager.default.removeItem(atPath: old)
                guard rename(final, old) == 0 else { throw Self.failure(final) }
                guard rename(out, final) == 0 else { throw Self.failure(final) }
            }
        } else {
            guard rename(out, final) == 0 else { throw Self.failure(final) }
        }
        try Self.synchronize(parent)
        discardWork()
    }

    /// Puts the former partition back where a crash came between its going and the coming of the next one.
    func recover() {
        guard !FileManager.default.fileExists(atPath: final), FileManager.default.fileExists(atPath: old) else {
            return
        }
        _ = rename(old, final)
    }

    private var parent: String { URL(fileURLWithPath: final).deletingLastPathComponent().path }

    /// Where the former partition waits, on file systems that cannot exchange two folders.
    private var old: String { "\(work)/old" }

    /// Waits until a file, or the names in a folder, are on the disk.
    static func synchronize(_ path: String) throws {
        do throws(FileCallFailure) { try FileCalls.synchronize(path) } catch { throw failure(path, error.number) }
    }

    private static func failure(_ path: String, _ number: Int32 = errno) -> PlatformError {
        PlatformError(.unavailable, path, "cannot be written: \(String(cString: strerror(number)))")
    }
}
