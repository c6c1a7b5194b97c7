import ContentHashing
import Foundation
public import PlatformCore
import StoragePorts
import Synchronization

/// Makes page tokens that only this installation can make, and only for the same question.
///
/// A token holds where its page begins, so no page has to count those before it, and a check over that, the question
/// and a secret that was drawn when the store was made.
public final class PageSeal: Sendable {
    private static let checkByteCount = 16
    private let secret = Mutex<[UInt8]>([])

    init() {}

    func set(secret text: String) { secret.withLock { $0 = Array(text.utf8) } }

    private func check(_ place: [UInt8], _ question: JSONValue) -> [UInt8] {
        let secret = secret.withLock { $0 }
        var hasher = ContentHasher()
        hasher.update(secret)
        hasher.update(ContentHasher.hash(question.canonicalBytes).hex.utf8.map { $0 })
        hasher.update(place)
        hasher.update(secret)
        return Array(hasher.finalize().hex.utf8.prefix(Self.checkByteCount))
    }

    /// A token for the page of `question` that begins at `place`.
    public func token(_ place: JSONValue, question: JSONValue) -> String {
        let bytes = place.canonicalBytes
        return Data(check(bytes, question) + bytes).base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    /// Where the page of a token begins.
    /// - Throws: `invalidInput` for a token that was not made here or belongs to another question.
    public func place(_ token: String, question: JSONValue) throws(PlatformError) -> JSONValue {
        var text = token.replacing("-", with: "+").replacing("_", with: "/")
        text += String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        if token.utf8.count <= 65_536, let bytes = Data(base64Encoded: text), bytes.count > Self.checkByteCount {
            let place = [UInt8](bytes.dropFirst(Self.checkByteCount))
            if Array(bytes.prefix(Self.checkByteCount)) == check(place, question),
                let value = try? JSONValue.parse(place)
            {
                return value
            }
        }
        throw PlatformError(
            .invalidInput, "page_token",
            "Invalid page token '\(token.prefix(64))': it was not given by this server for this query; "
                + "start again without page_token")
    }
}

extension TrackingStore {
    /// Reads the secret of page tokens, or draws it.
    func prepareSeal() async throws {
        let drawn = (0..<4).map { _ in String(UInt64.random(in: .min ... .max), radix: 16) }.joined(separator: "-")
        let kept = try await metadata.write { transaction in
            try transaction.execute(
                "INSERT INTO tracking_setting (name, value) VALUES ('page-secret', ?) ON CONFLICT (name) DO NOTHING",
                [.text(drawn)])
            return try transaction.query("SELECT value FROM tracking_setting WHERE name = 'page-secret'").first?
                .text("value") ?? drawn
        }
        pageSeal.set(secret: kept)
    }
}
