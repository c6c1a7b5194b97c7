import ContentHashing
import Foundation
import PlatformCore
import StoragePorts
import Synchronization

/// Artifacts that arrive in parts, several at a time.
///
/// Parts go into one file at a staging path of the object store, each written there as it comes where its place is known;
/// completing an upload gives that file its name. What a
/// crash leaves behind is never seen, and the object store removes it after a day. Uploads are known to this process
/// alone: after a restart a client begins again.
final class ArtifactUploads: Sendable {
    private struct Part {
        let byteCount: Int
        let tag: String
    }
    private struct Upload {
        let path: String
        let file: String
        let partCount: Int
        let startedAt: EventTime
        var parts: [Int: Part] = [:]
        /// The size of every part but the last; known once one of them is here.
        var partByteCount: Int?
        /// The last part, while nobody knows where it belongs.
        var lastFile: String?
        /// The hash of the first `hashedCount` parts; `nil` while more are added.
        var hasher: ContentHasher? = ContentHasher()
        var hashedCount = 0
        /// Whether no part came a second time, perhaps with other bytes.
        var isHashable = true
        /// Parts that are being copied to their place.
        var writing: [Int: Int] = [:]
        /// Parts that are being written in their place as they come.
        var rooms: [Int: PartRoom] = [:]

        /// Whether nothing is here: a size that a failed part left behind binds nobody then.
        var isUntouched: Bool { parts.isEmpty && writing.isEmpty && rooms.isEmpty }
    }

    /// Most uploads at the same time.
    static let countMax = 256
    /// Most parts of one upload.
    static let partCountMax = 10_000
    /// Uploads that were begun so long ago are forgotten when there are too many.
    private static let millisecondsMax: Int64 = 86_400_000

    private let uploads = Mutex<[String: Upload]>([:])

    func begin(_ id: String, path: String, file: String, partCount: Int, at now: EventTime) throws(PlatformError) {
        guard 1...Self.partCountMax ~= partCount else {
            throw PlatformError(
                .invalidInput, "num_parts", "it must be at least 1 and at most \(Self.partCountMax), not \(partCount)")
        }
        guard FileManager.default.createFile(atPath: file, contents: nil) else {
            throw PlatformError(.unavailable, "upload", "its file cannot be made")
        }
        let (isAccepted, abandoned) = uploads.withLock { uploads in
            var abandoned: [Upload] = []
            if uploads.count >= Self.countMax {
                for (id, upload) in uploads
                where now.milliseconds - upload.startedAt.milliseconds > Self.millisecondsMax {
                    uploads[id] = nil
                    abandoned.append(upload)
                }
            }
            guard uploads.count < Self.countMax else { return (false, abandoned) }
            uploads[id] = Upload(path: path, file: file, partCount: partCount, startedAt: now)
            return (true, abandoned)
        }
        for upload in abandoned { Self.remove(upload) }
        if isAccepted { return }
        try? FileManager.default.removeItem(atPath: file)
        throw PlatformError(
            .overloaded, "upload", "\(Self.countMax) uploads are under way; complete or abort one, or try later")
    }

    /// Room for a part in its place, so that it is written once; `nil` where its place is not known, or if the part is
    /// there or is coming: it goes through a file of its own then, which cannot spoil what is there.
    func room(forPart number: Int, of id: String, byteCount: Int) -> PartRoom? {
        uploads.withLock { uploads in
            guard let upload = uploads[id], 1...upload.partCount ~= number, upload.parts[number] == nil,
                upload.writing[number] == nil, upload.rooms[number] == nil
            else { return nil }
            let isLast = number == upload.partCount
            let usual =
                isLast ? upload.partByteCount : upload.isUntouched ? byteCount : upload.partByteCount ?? byteCount
            guard let usual = upload.partCount == 1 ? 0 : usual, isLast || usual == byteCount,
                let room = PartRoom(
                    upload: id, number: number, file: upload.file, offset: (number - 1) * usual, byteCount: byteCount)
            else { return nil }
            if !isLast { uploads[id]?.partByteCount = usual }
            uploads[id]?.rooms[number] = room
            return room
        }
    }

    /// Makes a part of what was written into its room; gives its tag.
    @concurrent
    func take(_ room: PartRoom) async throws -> String {
        let id = room.upload
        let tag = Self.tag(id, room.number, room.byteCount)
        let isTaken = uploads.withLock { uploads in
            guard uploads[id]?.rooms[room.number] === room, room.finish() else { return false }
            uploads[id]?.rooms[room.number] = nil
            uploads[id]?.parts[room.number] = Part(byteCount: room.byteCount, tag: tag)
            return true
        }
        guard isTaken else {
            throw PlatformError(.conflict, "part \(room.number)", "it came again, or its upload has ended")
        }
        try hashOn(id)
        return tag
    }

    /// Takes back the room of a part that did not come in full.
    func giveBack(_ room: PartRoom) {
        room.close()
        uploads.withLock { uploads in
            if uploads[room.upload]?.rooms[room.number] === room { uploads[room.upload]?.rooms[room.number] = nil }
            Self.forgetSizeIfUntouched(&uploads[room.upload])
        }
    }

    /// A part that did not come in full binds nobody to its size: neither the next one of its number nor the last one.
    private static func forgetSizeIfUntouched(_ upload: inout Upload?) {
        if upload?.isUntouched == true { upload?.partByteCount = nil }
    }

    private static func tag(_ id: String, _ number: Int, _ byteCount: Int) -> String {
        "\(id.suffix(12))-\(number)-\(byteCount)"
    }

    /// Puts a part where it belongs; gives its tag.
    @concurrent
    func put(part number: Int, of id: String, from source: String) async throws -> String {
        let upload = try find(id)
        guard 1...upload.partCount ~= number else {
            throw PlatformError(
                .invalidInput, "part", "part \(number) of an upload of \(upload.partCount) parts")
        }
        let byteCount = try Self.byteCount(of: source)
        let isLast = number == upload.partCount
        // The size and that it binds somebody in one step: another part may come, or break off, between two.
        let expected: Int? = try uploads.withLock { uploads in
            let expected: Int?
            if isLast {
                expected = upload.partCount == 1 ? 0 : uploads[id]?.partByteCount
            } else {
                let known = uploads[id].flatMap { $0.isUntouched ? nil : $0.partByteCount } ?? byteCount
                guard known == byteCount else {
                    throw PlatformError(
                        .invalidInput, "part",
                        "part \(number) has \(byteCount) bytes, others have \(known); all but the last must be equal")
                }
                uploads[id]?.partByteCount = known
                expected = known
            }
            if uploads[id]?.parts[number] != nil || uploads[id]?.writing[number] != nil {
                uploads[id]?.isHashable = false
            }
            uploads[id]?.writing[number, default: 0] += 1
            uploads[id]?.rooms.removeValue(forKey: number)?.close()  // whoever writes there has given up, or is late
            return expected
        }
        defer {
            uploads.withLock { uploads in
                guard let count = uploads[id]?.writing[number] else { return }
                uploads[id]?.writing[number] = count > 1 ? count - 1 : nil
                Self.forgetSizeIfUntouched(&uploads[id])
            }
        }
        if let expected {
            try LargeFile.copy(source, to: upload.file, at: (number - 1) * expected)
            let replaced: String? = uploads.withLock { uploads in
                guard isLast else { return nil }
                defer { uploads[id]?.lastFile = nil }
                return uploads[id]?.lastFile
            }
            if let replaced { try? FileManager.default.removeItem(atPath: replaced) }
        } else {
            let file = "\(upload.file).last"
            _ = FileManager.default.createFile(atPath: file, contents: nil)
            try LargeFile.copy(source, to: file, at: 0)
            uploads.withLock { $0[id]?.lastFile = file }
        }
        let tag = Self.tag(id, number, byteCount)
        uploads.withLock { $0[id]?.parts[number] = Part(byteCount: byteCount, tag: tag) }
        try hashOn(id)
        return tag
    }

    /// Hashes the parts that follow those hashed without a gap, while others come: completing has nothing to read then.
    private func hashOn(_ id: String) throws {
        while let (hasher, file, range) = takeUnhashed(id) {
            var hasher = hasher
            try LargeFile.hash(range, of: file, into: &hasher)
            let hashed = hasher
            uploads.withLock { uploads in
                uploads[id]?.hasher = hashed
                uploads[id]?.hashedCount += 1
            }
        }
    }

    /// The next part to hash, and the hasher for it, which nobody else has until it is put back.
    private func takeUnhashed(_ id: String) -> (hasher: ContentHasher, file: String, range: Range<Int>)? {
        uploads.withLock { uploads in
            guard let upload = uploads[id], upload.isHashable, let hasher = upload.hasher,
                let part = upload.parts[upload.hashedCount + 1],
                upload.lastFile == nil || upload.hashedCount + 1 < upload.partCount
            else { return nil }
            uploads[id]?.hasher = nil
            let start = upload.hashedCount * (upload.partByteCount ?? 0)
            return (hasher, upload.file, start..<(start + part.byteCount))
        }
    }

    /// Takes an upload out when all of its parts are here: its path, the file with its bytes, and their hash if it is known.
    ///
    /// - Parameter tags: what `put` gave for each part, by number.
    @concurrent
    func complete(_ id: String, path: String, tags: [Int: String]) async throws
        -> (path: String, file: String, hash: ContentHash?)
    {
        let upload = try find(id)
        guard upload.path == path else { throw Self.unknown(id) }
        guard upload.writing.isEmpty else {
            throw PlatformError(.invalidInput, "upload/\(id)", "a part of it is still being written")
        }
        for number in 1...upload.partCount {
            guard let part = upload.parts[number] else {
                throw PlatformError(.invalidInput, "upload/\(id)", "part \(number) of \(upload.partCount) has not come")
            }
            if let tag = tags[number], tag != part.tag {
                throw PlatformError(.invalidInput, "upload/\(id)", "part \(number) has another tag than the one given")
            }
        }
        if let lastFile = upload.lastFile {
            try LargeFile.copy(lastFile, to: upload.file, at: (upload.partCount - 1) * (upload.partByteCount ?? 0))
            try? FileManager.default.removeItem(atPath: lastFile)
            uploads.withLock { $0[id]?.lastFile = nil }
            try hashOn(id)
        }
        for room in upload.rooms.values { room.close() }
        let whole = upload.parts.values.reduce(0) { $0 + $1.byteCount }
        // A part that was first sent longer, and not in full, may have left bytes behind the end.
        if try Self.byteCount(of: upload.file) > whole { truncate(upload.file, off_t(whole)) }
        guard try Self.byteCount(of: upload.file) == whole else {
            throw PlatformError(.invalidInput, "upload/\(id)", "its parts do not make \(whole) bytes")
        }
        let last = uploads.withLock { $0.removeValue(forKey: id) }
        let isHashed = last.map { $0.isHashable && $0.hashedCount == $0.partCount } ?? false
        return (upload.path, upload.file, isHashed ? last?.hasher?.finalize() : nil)
    }

    /// Forgets an upload and its bytes; nothing happens if there is none.
    func abort(_ id: String) {
        if let upload = uploads.withLock({ $0.removeValue(forKey: id) }) { Self.remove(upload) }
    }

    private func find(_ id: String) throws(PlatformError) -> Upload {
        guard let upload = uploads.withLock({ $0[id] }) else { throw Self.unknown(id) }
        return upload
    }

    private static func unknown(_ id: String) -> PlatformError {
        PlatformError(
            .notFound, "upload/\(id.prefix(64))",
            "no such upload is under way; it was completed, aborted or begun before a restart")
    }

    private static func remove(_ upload: Upload) {
        for room in upload.rooms.values { room.close() }
        for file in [upload.file, upload.lastFile].compactMap(\.self) {
            try? FileManager.default.removeItem(atPath: file)
        }
    }

    private static func byteCount(of file: String) throws -> Int {
        guard let handle = FileHandle(forReadingAtPath: file) else {
            throw PlatformError(.unavailable, "upload", "its file cannot be read")
        }
        defer { try? handle.close() }
        return Int(try handle.seekToEnd())
    }
}

extension TrackingStore {
    /// Begins an upload in parts; gives its identifier.
    /// - Throws: `invalidInput`, `overloaded`.
    public func beginUpload(at path: String, partCount: Int) async throws -> String {
        let path = try Self.checkedArtifactPath(path)
        let id = newIdentifier()
        try uploads.begin(
            id, path: path, file: await content.base.stagingPath(suffix: "-upload"), partCount: partCount,
            at: clock.now())
        return id
    }

    /// Takes a part from a local file; gives the tag that completing may name.
    public func putPart(_ number: Int, ofUpload id: String, fileAt file: String) async throws -> String {
        try await uploads.put(part: number, of: id, from: file)
    }

    /// Room for a part in its place, if that is known and nobody else writes there; give it back or take the part.
    public func room(forPart number: Int, ofUpload id: String, byteCount: Int) -> PartRoom? {
        uploads.room(forPart: number, of: id, byteCount: byteCount)
    }

    /// Makes a part of what was written into its room; gives the tag that completing may name.
    public func takePart(in room: PartRoom) async throws -> String { try await uploads.take(room) }

    /// Takes back the room of a part that did not come in full; nothing happens if the part was taken.
    public func giveBack(_ room: PartRoom) { uploads.giveBack(room) }

    /// Makes an artifact of an upload whose parts are all here; what was at its path is replaced.
    public func completeUpload(_ id: String, at path: String, tags: [Int: String] = [:]) async throws {
        let (path, file, hash) = try await uploads.complete(id, path: Self.checkedArtifactPath(path), tags: tags)
        do { try await adopt(stagedFileAt: file, at: path, hash: hash) } catch {
            try? FileManager.default.removeItem(atPath: file)
            throw error
        }
    }

    /// Forgets an upload and its bytes.
    public func abortUpload(_ id: String) { uploads.abort(id) }
}
