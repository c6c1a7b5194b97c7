/// Reads the header `Range`.
enum ByteRange {
    /// The bytes that a header asks for; empty if the file has none of them, `nil` for what is no single range.
    static func parse(_ text: String, byteCount: Int) -> Range<Int>? {
        guard text.utf8.count <= 64, text.hasPrefix("bytes="), !text.contains(",") else { return nil }
        let parts = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        if parts[0].isEmpty {
            guard let count = Int(parts[1]), count >= 0 else { return nil }
            return max(0, byteCount - count)..<byteCount
        }
        guard let start = Int(parts[0]), start >= 0 else { return nil }
        guard let end = parts[1].isEmpty ? byteCount - 1 : Int(parts[1]), end >= start || parts[1].isEmpty else {
            return nil
        }
        return start < byteCount ? start..<(min(end, byteCount - 1) + 1) : 0..<0
    }
}
