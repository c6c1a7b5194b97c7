import APIContract
import ContentHashing
import Foundation
import HummingbirdCore
import NIOCore
import NIOHTTP1
import PlatformCore

/// Writes the bodies of requests to files as they come.
enum BodySpool {
    /// After so many bytes the disk begins with what is written: the flush at the end has little left to wait for then.
    private static let windowByteCount = 8 << 20

    /// Writes a body into a new file of a folder; its hash is taken on the way if that is wanted.
    ///
    /// Nothing stays when this throws.
    static func file(
        of body: HummingbirdCore.RequestBody, byteCountMax limit: Int, isHashed: Bool, directory: String
    ) async throws -> (file: String, hash: ContentHash?) {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let path = "\(directory)/body-\(UUID().uuidString)"
        let descriptor = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw PlatformError(
                .unavailable, directory, "cannot write a temporary file: \(String(cString: strerror(errno)))")
        }
        var hasher = isHashed ? ContentHasher() : nil
        do {
            defer { close(descriptor) }
            var written = 0
            // What is hashed is going to be kept; other bodies are read once and removed, mostly before the disk has them.
            var started: Int? = isHashed ? 0 : nil
            for try await chunk in body {
                guard written + chunk.readableBytes <= limit else {
                    throw PlatformError(
                        .tooLarge, "request body", "it has more than the \(limit) bytes that are accepted")
                }
                try chunk.withUnsafeReadableBytes { bytes in
                    hasher?.update(bytes)
                    try write(bytes, to: descriptor, at: written)
                }
                written += chunk.readableBytes
                if let from = started { started = start(descriptor, from: from, upTo: written) }
            }
        } catch {
            unlink(path)
            throw failure(error)
        }
        return (path, hasher?.finalize())
    }

    /// Gives a body's bytes to the room that its route has for them; gives the room back when this throws.
    static func fill(_ room: any BodyRoom, with body: HummingbirdCore.RequestBody) async throws {
        do {
            var written = 0
            for try await chunk in body {
                written += chunk.readableBytes
                try chunk.withUnsafeReadableBytes { try room.write($0) }
            }
            guard written == room.byteCount else {
                throw PlatformError(
                    .invalidInput, "request body", "it has \(written) bytes and not the \(room.byteCount) that it said")
            }
        } catch {
            room.release()
            throw failure(error)
        }
    }

    private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, at position: Int) throws {
        var done = 0
        while done < bytes.count {
            let count = pwrite(
                descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(position + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw PlatformError(
                    .unavailable, "request body", "it cannot be kept: \(String(cString: strerror(errno)))")
            }
            done += count
        }
    }

    /// Has the disk begin with a range of a file once it is large enough; gives where the next one begins.
    private static func start(_ descriptor: Int32, from: Int, upTo end: Int) -> Int {
        guard end - from >= windowByteCount else { return from }
        // Linux begins to write the range's changed pages and returns; they stay in memory until they are written.
        _ = posix_fadvise(descriptor, off_t(from), off_t(end - from), POSIX_FADV_DONTNEED)
        return end
    }

    private static func failure(_ error: any Error) -> any Error {
        if error is PlatformError || error is HTTPParserError { return error }
        return PlatformError(.unavailable, "request body", "it cannot be kept: \(error)")
    }
}
