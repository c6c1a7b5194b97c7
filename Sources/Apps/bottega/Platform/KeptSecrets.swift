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
        do { try Data(name.utf8).write(to: URL(fileURLWithPath: path), options: .atomic) } catch {
            throw PlatformError(.unavailable, path, "the node's name cannot be written: \(errorText(error))")
        }
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
        guard
            FileManager.default.createFile(
                atPath: path, contents: Data(key), attributes: [.posixPermissions: 0o600])
        else { throw PlatformError(.unavailable, path, "the key cannot be written") }
        return key
    }

    /// On loopback nobody needs a token.
    ///
    /// Elsewhere everybody does: the configured one, or one made at the first start.
    static func access(_ settings: Settings) throws -> AccessPolicy {
        if let token = settings.token {
            guard token.utf8.count >= 16 else {
                throw PlatformError(.invalidInput, "configuration gateway.token", "a token has at least 16 characters")
            }
            return AccessPolicy(token: token)
        }
        if ["127.0.0.1", "::1", "localhost"].contains(settings.host) { return AccessPolicy(token: nil) }
        let path = "\(settings.dataDirectory)/admin-token"
        if let data = FileManager.default.contents(atPath: path) {
            return AccessPolicy(
                token: String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
        }
        var generator = SystemRandomNumberGenerator()
        let token = (0..<4).map { _ in String(generator.next() as UInt64, radix: 36) }.joined()
        guard
            FileManager.default.createFile(
                atPath: path, contents: Data(token.utf8), attributes: [.posixPermissions: 0o600])
        else {
            throw PlatformError(.unavailable, path, "the admin token cannot be written")
        }
        try? FileHandle.standardError.write(
            contentsOf: Data(
                "bottega: \(settings.host) is not loopback, so every request needs the token in \(path)\n".utf8))
        return AccessPolicy(token: token)
    }
}
