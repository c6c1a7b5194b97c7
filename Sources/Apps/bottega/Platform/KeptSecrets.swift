import Foundation
import Gateway
import PlatformCore

/// What a data directory is given once and keeps: its name, its keys, its token.
enum KeptSecrets {
    /// The name of this data directory among those that share a metadata store: made once.
    static func node(_ directory: String) throws -> String {
        let path = "\(directory)/node"
        if let data = FileManager.default.contents(atPath: path), !data.isEmpty {
            return String(decoding: data, as: UTF8.self)
        }
        var generator = SystemRandomNumberGenerator()
        let name = (0..<2).map { _ in String(generator.next() as UInt64, radix: 36) }.joined()
        try keep([UInt8](name.utf8), at: path)
        return name
    }

    /// The key that webhooks' secrets are sealed with: made once, beside the database and not in it.
    static func webhookKey(_ directory: String) throws -> [UInt8] {
        let path = "\(directory)/webhook-key"
        if let data = FileManager.default.contents(atPath: path) {
            guard data.count == 32 else { throw PlatformError(.corrupted, path, "a key has 32 bytes") }
            return [UInt8](data)
        }
        var generator = SystemRandomNumberGenerator()
        let key = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        try keep(key, at: path)
        return key
    }

    /// Fewest bytes of a token.
    private static let tokenByteCountMin = 16

    /// On loopback nobody needs a token.
    ///
    /// Elsewhere everybody does: the configured one, or one made at the first start.
    /// - Throws: for a token that is too short to keep anybody out, configured or kept.
    static func access(_ settings: Settings) throws -> AccessPolicy {
        if let token = settings.token {
            guard token.value.utf8.count >= tokenByteCountMin else {
                throw PlatformError(
                    .invalidInput, "configuration gateway.token",
                    "a token has at least \(tokenByteCountMin) characters")
            }
            return AccessPolicy(token: token.value)
        }
        if ["127.0.0.1", "::1", "localhost"].contains(settings.host) { return AccessPolicy(token: nil) }
        let path = "\(settings.dataDirectory)/admin-token"
        if FileManager.default.fileExists(atPath: path) {
            guard let data = FileManager.default.contents(atPath: path) else {
                throw PlatformError(.unavailable, path, "the token cannot be read; the file must be this user's")
            }
            let token = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            guard token.utf8.count >= tokenByteCountMin else {
                throw PlatformError(
                    .corrupted, path,
                    "it holds no token of at least \(tokenByteCountMin) characters; remove it and the next start makes "
                        + "one, or set gateway.token")
            }
            return AccessPolicy(token: token)
        }
        var generator = SystemRandomNumberGenerator()
        let token = (0..<4).map { _ in String(generator.next() as UInt64, radix: 36) }.joined()
        try keep([UInt8](token.utf8), at: path)
        try? FileHandle.standardError.write(
            contentsOf: Data(
                "bottega: \(settings.host) is not loopback, so every request needs the token in \(path)\n".utf8))
        return AccessPolicy(token: token)
    }

    /// Writes a file that its owner alone may read, whole or not at all; on the disk when this returns.
    private static func keep(_ bytes: [UInt8], at path: String) throws {
        func checked(_ isDone: Bool) throws {
            guard isDone else {
                throw PlatformError(.unavailable, path, "cannot be written: \(String(cString: strerror(errno)))")
            }
        }
        func synchronized(_ path: String, _ flags: Int32, _ body: (Int32) -> Bool = { _ in true }) throws {
            let descriptor = open(path, flags | O_CLOEXEC, 0o600)
            try checked(descriptor >= 0)
            defer { close(descriptor) }
            try checked(body(descriptor) && fsync(descriptor) == 0)
        }
        try synchronized("\(path).new", O_WRONLY | O_CREAT | O_TRUNC) { write($0, bytes, bytes.count) == bytes.count }
        try checked(rename("\(path).new", path) == 0)
        try synchronized((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY)
    }
}
