import StoragePorts

/// The rules of an object's key.
enum ObjectKey {
    static let byteCountMax = 1_024

    /// The parts of a key; throws `invalidInput` if it is none.
    static func parts(of key: String) throws(StoreError) -> [String] {
        guard 1...byteCountMax ~= key.utf8.count else {
            throw StoreError(.invalidInput, subject(key), "a key has 1 to \(byteCountMax) bytes")
        }
        let parts = key.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.allSatisfy(isPart) else {
            throw StoreError(
                .invalidInput, subject(key),
                "a key has parts of A–Z a–z 0–9 _ . = - joined by '/', none empty, '.' or '..', each at most 255 bytes")
        }
        return parts
    }

    /// Whether a text may be one part of a key.
    static func isPart(_ text: String) -> Bool {
        1...255 ~= text.utf8.count && text != "." && text != ".." && text.utf8.allSatisfy(isAccepted)
    }

    static func isAccepted(_ byte: UInt8) -> Bool {
        48...57 ~= byte || 65...90 ~= byte || 97...122 ~= byte || [45, 46, 61, 95].contains(byte)
    }

    /// How errors name an object.
    ///
    /// Outside text is cut and cleaned.
    static func subject(_ key: String) -> String {
        let clean = key.utf8.prefix(200).map { isAccepted($0) || $0 == 47 ? $0 : 63 }
        return "object/" + String(decoding: clean, as: UTF8.self)
    }
}
