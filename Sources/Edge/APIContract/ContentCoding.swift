public import PlatformCore

/// How a body may be packed on its way here (RFC 9110 §8.4).
public enum ContentCoding {
    /// A body as it was before it was packed.
    ///
    /// - Parameters:
    ///   - coding: the field `Content-Encoding`; `nil` and an empty body are taken as they are.
    ///   - byteCountMax: largest content; unpacking stops at the first byte past it.
    /// - Throws: `UnknownContentCoding`; `PlatformError`: `tooLarge`, `invalidInput` for what is not packed so, or damaged.
    public static func unpacked(_ body: [UInt8], _ coding: String?, byteCountMax: Int) throws -> [UInt8] {
        let coding = coding?.lowercased() ?? ""
        guard !body.isEmpty else { return body }
        do {
            switch coding {
            case "", "identity": return body
            case "gzip", "x-gzip": return try GzipReader.decompress(body, byteCountMax: byteCountMax)
            case "deflate": return try GzipReader.decompressZlib(body, byteCountMax: byteCountMax)
            default: throw UnknownContentCoding(name: coding)
            }
        } catch let failure as DecodingFailure {
            if failure.isTooLong {
                throw PlatformError(
                    .tooLarge, "request body", "unpacked, it has more than the \(byteCountMax) bytes that are accepted")
            }
            throw PlatformError(
                .invalidInput, "request body", "it cannot be unpacked as 'Content-Encoding: \(coding)' says: \(failure)"
            )
        }
    }
}

/// A body is packed in a way that is not read.
public struct UnknownContentCoding: Error {
    /// The field `Content-Encoding`, in lower case.
    public let name: String

    /// What is said of it.
    public var error: PlatformError {
        PlatformError(
            .invalidInput, "request body",
            "Content-Encoding '\(name.prefix(32))' is not known; gzip and deflate are")
    }
}
