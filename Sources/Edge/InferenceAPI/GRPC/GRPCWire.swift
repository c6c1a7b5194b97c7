import NIOCore
import NIOHPACK
import PlatformCore

/// A status that ends a call.
struct GRPCStatus: Error, Sendable, Hashable {
    let code: Int
    let message: String

    static let ok = GRPCStatus(code: 0, message: "")

    init(code: Int, message: String) {
        self.code = code
        self.message = message
    }

    /// The status for any error.
    init(of error: any Error) {
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
    func write(to headers: inout HPACKHeaders) {
        headers.add(name: "grpc-status", value: String(code))
        guard !message.isEmpty else { return }
        headers.add(name: "grpc-message", value: Self.escaped(message))
    }

    /// Text as `grpc-message` has it: percent-encoded but for printable ASCII.
    static func escaped(_ message: String) -> String {
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

/// How a caller packs its messages.
enum GRPCEncoding: Sendable {
    case identity, gzip, deflate

    init?(_ name: String?) {
        switch name {
        case nil, "identity": self = .identity
        case "gzip": self = .gzip
        case "deflate": self = .deflate
        default: return nil
        }
    }
}

/// Cuts the bytes of a call into messages: five bytes of flag and length before each.
struct GRPCMessages {
    /// Largest message.
    static let byteCountMax = 16 << 20

    private var buffer = ByteBuffer()
    let encoding: GRPCEncoding

    init(encoding: GRPCEncoding) { self.encoding = encoding }

    mutating func append(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.writeImmutableBuffer(bytes)
        }
    }

    /// Whether nothing has begun.
    var isEmpty: Bool { buffer.readableBytes == 0 }

    /// The next whole message; `nil` where more has to come.
    mutating func next() throws -> [UInt8]? {
        guard let flag = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self),
            let length = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt32.self)
        else { return nil }
        guard length <= UInt32(Self.byteCountMax) else {
            throw GRPCStatus(code: 8, message: "a message has \(length) bytes, \(Self.byteCountMax) are accepted")
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
                    ? try GzipReader.decompress(content, byteCountMax: Self.byteCountMax)
                    : try GzipReader.decompressZlib(content, byteCountMax: Self.byteCountMax)
            } catch { throw GRPCStatus(code: 3, message: "a message cannot be unpacked: \(error.description)") }
        default: throw GRPCStatus(code: 13, message: "a message is compressed in a way that is not announced")
        }
    }

    /// A message with what stands before it.
    static func frame(_ message: [UInt8]) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(message.count + 5)
        buffer.writeInteger(UInt8(0))
        buffer.writeInteger(UInt32(truncatingIfNeeded: message.count))
        buffer.writeBytes(message)
        return buffer
    }
}
