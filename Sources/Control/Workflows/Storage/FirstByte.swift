import Foundation

/// Looks at how a file begins.
enum FirstByte {
    /// The first byte of a file; `nil` if it cannot be read or is empty.
    static func of(_ path: String) -> UInt8? {
        guard let file = FileHandle(forReadingAtPath: path) else { return nil }
        defer { try? file.close() }
        return (try? file.read(upToCount: 1))?.first
    }
}
