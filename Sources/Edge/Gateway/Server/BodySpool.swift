import APIContract
import ContentHashing
import Foundation
import HummingbirdCore
import NIOCore
import NIOHTTP1
import PlatformCore

/// Writes the bodies of requests to files as they come.
enum BodySpool {
    /// After so many bytes the disk begins with what is written.
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
            // What is hashed is going to be kept; other bodies are read once and removed, mostly before the disk has them.
            var stream = FileStream(into: descriptor, windowByteCount: isHashed ? windowByteCount : nil)
            for try await chunk in body {
                guard stream.position + chunk.readableBytes <= limit else {
                    throw PlatformError(
                        .tooLarge, "request body", "it has more than the \(limit) bytes that are accepted")
                }
                try chunk.withUnsafeReadableBytes { bytes in
                    hasher?.update(bytes)
                    try stream.write(bytes)
                }
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

    private static func failure(_ error: any Error) -> any Error {
        if error is PlatformError || error is HTTPParserError { return error }
        return PlatformError(.unavailable, "request body", "it cannot be kept: \(error)")
    }
}
