import CZstd

/// How pages are compressed.
public enum ColumnCodec: Int, Sendable {
    /// Not at all.
    case none = 0
    /// Fast, modest.
    case snappy = 1
    /// Slower, smaller.
    case zstd = 6

    static let names = ["UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW"]

    /// Expands a page to `size` bytes, with room behind for `ByteCursor`.
    func expand(_ source: UnsafeRawBufferPointer, size: Int) throws(ColumnFileError) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: size + ByteCursor.slack)
        var failure: ColumnFileError?
        out.withUnsafeMutableBytes { whole in
            let target = UnsafeMutableRawBufferPointer(rebasing: whole[..<size])
            switch self {
            case .none:
                if source.count == size {
                    target.copyMemory(from: source)
                } else {
                    failure = .corrupted("a page of another size")
                }
            case .snappy:
                do throws(ColumnFileError) { try Snappy.expand(source, into: target) } catch { failure = error }
            case .zstd:
                guard size > 0 || source.count > 0 else { return }
                let written = ZSTD_decompress(target.baseAddress, size, source.baseAddress, source.count)
                if ZSTD_isError(written) != 0 || written != size {
                    failure = .corrupted("a Zstandard page does not expand")
                }
            }
        }
        if let failure { throw failure }
        return out
    }

    /// Compresses a page.
    func compress(_ bytes: [UInt8], level: Int32) -> [UInt8] {
        switch self {
        case .none: return bytes
        case .snappy: return bytes.withUnsafeBytes { Snappy.compress($0) }
        case .zstd:
            let bound = ZSTD_compressBound(bytes.count)
            return [UInt8](unsafeUninitializedCapacity: bound) { out, count in
                let written = bytes.withUnsafeBytes {
                    ZSTD_compress(out.baseAddress, bound, $0.baseAddress, $0.count, level)
                }
                // The bound is Zstandard's own, so nothing but memory can be missing.
                precondition(ZSTD_isError(written) == 0, "Zstandard compresses into its own bound")
                count = written
            }
        }
    }
}
