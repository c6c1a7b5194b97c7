public import NIOCore
public import NIOHPACK
import PlatformCore

/// A status that ends a call.
public struct GRPCStatus: Error, Sendable, Hashable {
    /// The number that gRPC gives it; 0 is success.
    public let code: Int
    /// For people.
    public let message: String

    /// Success.
    public static let ok = GRPCStatus(code: 0, message: "")

    /// Makes a status.
    public init(code: Int, message: String) {
        self.code = code
        self.message = message
    }

    /// The status for any error.
    public init(of error: any Error) {
        switch error {
        case let status as GRPCStatus: self = status
        case let error as PlatformError:
            let code =
                switch error.code {
                case .invalidInput, .conflict, .refused: 3
                case .deadlineExceeded: 4
                case .notFound: 5
                case .forbidden: 7
                case .tooLarge, .overloaded: 8
                case .internal, .corrupted: 13
                case .unavailable: 14
                }
            self.init(code: code, message: error.message)
        case is CancellationError: self.init(code: 14, message: "the server is shutting down")
        default: self.init(code: 13, message: "\(type(of: error))")
        }
    }

    /// The fields that say it, after the answer or instead of one.
    public func write(to headers: inout HPACKHeaders) {
        headers.add(name: "grpc-status", value: String(code))
        guard !message.isEmpty else { return }
        headers.add(name: "grpc-message", value: Self.escaped(message))
    }

    /// Text as `grpc-message` has it: percent-encoded but for printable ASCII.
    public static func escaped(_ message: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var out: [UInt8] = []
        for byte in message.utf8.prefix(4096) {
            if 0x20...0x7E ~= byte, byte != 0x25 {
                out.append(byte)
            } else {
                out += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}

extension GRPCStatus {
    /// What the last fields of a call say; `nil` where they say nothing.
    public init?(_ trailers: HPACKHeaders) {
        guard let code = trailers.first(name: "grpc-status").flatMap({ Int($0) }) else { return nil }
        self.init(code: code, message: Self.unescaped(trailers.first(name: "grpc-message") ?? ""))
    }

    /// The text of a `grpc-message`; what is no escape stays as it is.
    public static func unescaped(_ text: String) -> String {
        let bytes = Array(text.utf8.prefix(8192))
        var out: [UInt8] = []
        var at = 0
        while at < bytes.count {
            if bytes[at] == 0x25, at + 2 < bytes.count, let high = digit(bytes[at + 1]), let low = digit(bytes[at + 2])
            {
                out.append(high << 4 | low)
                at += 3
            } else {
                out.append(bytes[at])
                at += 1
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        Character(Unicode.Scalar(byte)).hexDigitValue.map { UInt8($0) }
    }
}

/// How one side packs its messages.
public enum GRPCEncoding: Sendable {
    case identity, gzip, deflate

    /// Reads `grpc-encoding`; `nil` for one that is not known.
    public init?(_ name: String?) {
        switch name {
        case nil, "identity": self = .identity
        case "gzip": self = .gzip
        case "deflate": self = .deflate
        default: return nil
        }
    }
}

/// Cuts the bytes of a call into messages: five bytes of flag and length before each.
public struct GRPCMessages {
    /// Largest message that is taken unless told otherwise.
    public static let byteCountMax = 16 << 20

    private var buffer = ByteBuffer()
    private let encoding: GRPCEncoding
    private let byteCountMax: Int

    /// Makes one for a call whose messages are packed that way and have at most so many bytes, before and after.
    public init(encoding: GRPCEncoding, byteCountMax: Int = Self.byteCountMax) {
        self.encoding = encoding
        self.byteCountMax = byteCountMax
    }

    /// Takes more bytes of the call.
    public mutating func append(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.writeImmutableBuffer(bytes)
        }
    }

    /// Whether nothing has begun.
    public var isEmpty: Bool { buffer.readableBytes == 0 }

    /// The next whole message; `nil` where more has to come.
    public mutating func next() throws -> [UInt8]? {
        guard let flag = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self),
            let length = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt32.self)
        else { return nil }
        guard Int(length) <= byteCountMax else {
            throw GRPCStatus(code: 8, message: "a message has \(length) bytes, \(byteCountMax) are accepted")
        }
        guard buffer.readableBytes >= 5 + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: 5)
        let content = buffer.readBytes(length: Int(length)) ?? []
        if buffer.readableBytes == 0 {
            buffer.clear()
        } else if buffer.readerIndex > buffer.readableBytes {  // not for each of many small messages: it moves the rest
            buffer.discardReadBytes()
        }
        switch (flag, encoding) {
        case (0, _): return content
        case (1, .gzip), (1, .deflate):
            do {
                return encoding == .gzip
                    ? try GzipReader.decompress(content, byteCountMax: byteCountMax)
                    : try GzipReader.decompressZlib(content, byteCountMax: byteCountMax)
            } catch { throw GRPCStatus(code: 3, message: "a message cannot be unpacked: \(error.description)") }
        default: throw GRPCStatus(code: 13, message: "a message is compressed in a way that is not announced")
        }
    }

    /// A message with what stands before it.
    public static func frame(_ message: [UInt8]) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(message.count + 5)
        buffer.writeInteger(UInt8(0))
        buffer.writeInteger(UInt32(truncatingIfNeeded: message.count))
        buffer.writeBytes(message)
        return buffer
    }
}

/// The field `grpc-timeout` of a call.
public enum GRPCTimeout {
    /// Reads up to eight digits and a unit: `H`, `M`, `S`, `m`, `u`, `n`; `nil` for anything else.
    ///
    /// - SeeAlso: gRPC over HTTP2, *Requests*, `Timeout`.
    public static func read(_ text: String) -> Duration? {
        let digits = text.utf8.dropLast()
        guard 1...8 ~= digits.count, digits.allSatisfy({ 48...57 ~= $0 }), let unit = text.utf8.last else {
            return nil
        }
        let count = digits.reduce(Int64(0)) { $0 * 10 + Int64($1 - 48) }
        return switch unit {
        case UInt8(ascii: "H"): .seconds(count * 3600)
        case UInt8(ascii: "M"): .seconds(count * 60)
        case UInt8(ascii: "S"): .seconds(count)
        case UInt8(ascii: "m"): .milliseconds(count)
        case UInt8(ascii: "u"): .microseconds(count)
        case UInt8(ascii: "n"): .nanoseconds(count)
        default: nil
        }
    }

    /// Writes a time in milliseconds, at least one and at most 99,999,999.
    public static func text(_ duration: Duration) -> String {
        "\(max(1, min(99_999_999, Int64(min(1e9, duration / .milliseconds(1))))))m"
    }
}
