internal import Crypto
public import PlatformCore

/// Computes content hashes, all at once or as bytes arrive.
///
/// This target computes hashes and nothing else; it exists so that the rest of Core does not wait for the cryptography
/// library to build.
public struct ContentHasher: Sendable {
    private var state = SHA256()

    /// Starts with no bytes.
    public init() {}

    /// Adds bytes.
    public mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { state.update(bufferPointer: $0) } }

    /// Adds bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) { state.update(bufferPointer: bytes) }

    /// The hash of the bytes so far; the hasher can go on.
    public func finalize() -> ContentHash { ContentHash(bytes: state.finalize()) }

    /// The hash of `bytes`.
    public static func hash(_ bytes: [UInt8]) -> ContentHash {
        var hasher = ContentHasher()
        hasher.update(bytes)
        return hasher.finalize()
    }

    /// The hash of `text` as UTF-8.
    public static func hash(_ text: String) -> ContentHash { hash(Array(text.utf8)) }
}
