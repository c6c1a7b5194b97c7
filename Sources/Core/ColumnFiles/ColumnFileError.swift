/// Why a column file could not be read or written.
public struct ColumnFileError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure; callers branch on it.
    public enum Code: String, Sendable {
        /// The bytes are not what the format says.
        case corrupted
        /// The file is right, but holds what this reader does not read; another engine can rewrite it.
        case unsupported
        /// A stated limit of size was reached.
        case tooLarge
        /// The bytes could not be had.
        case unavailable
    }

    /// The kind of failure.
    public let code: Code
    /// What was expected and what was found, in one line.
    public let message: String

    /// Makes an error.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    static func corrupted(_ message: String) -> ColumnFileError { ColumnFileError(.corrupted, message) }

    /// The message.
    public var description: String { message }
}

/// Where the bytes of a file come from.
public protocol ByteSource: Sendable {
    /// Size of the file.
    var byteCount: Int { get }
    /// Fills `buffer` with the bytes from `offset` on; the range is within the file.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ColumnFileError)
}

/// A file in memory.
public struct MemoryBytes: ByteSource {
    private let bytes: [UInt8]
    /// Takes the bytes.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    /// Number of bytes.
    public var byteCount: Int { bytes.count }
    /// Copies.
    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ColumnFileError) {
        guard offset >= 0, offset <= bytes.count, buffer.count <= bytes.count - offset else {
            throw .corrupted("a read beyond the end")
        }
        bytes.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<(offset + buffer.count)]))
        }
    }
}
