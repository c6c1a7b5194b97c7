import CZlib
import CZstd
import Foundation
import Glibc
import StoragePorts

/// Unpacks gzip and Zstandard files, told apart by their first bytes.
enum PackedFile {
    private static let zstandardMagic: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD]

    static func unpack(_ path: String, to target: String, _ byteCountMax: Int) throws(StoreError) {
        let source = try File(path, O_RDONLY, subject: path)
        var output = Output(
            file: try File(target, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600, subject: target), path: path,
            byteCountMax: byteCountMax)
        if try source.read(4, at: 0) == zstandardMagic {
            try unpackZstandard(source, path, &output)
        } else {
            try unpackGzip(path, &output)
        }
    }

    /// What was unpacked, on its way to the disk.
    private struct Output {
        let file: File
        let path: String
        let byteCountMax: Int
        var total = 0

        mutating func write(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
            guard bytes.count <= byteCountMax - total else {
                throw StoreError(.limitExceeded, path, "holds more than \(byteCountMax) bytes when unpacked")
            }
            try file.write(bytes, at: total)
            total += bytes.count
        }
    }

    private static func unpackGzip(_ path: String, _ output: inout Output) throws(StoreError) {
        guard let input = gzopen(path, "rb") else { throw StoreError(.notFound, path, "the file cannot be read") }
        var isClosed = false
        defer { if !isClosed { gzclose_r(input) } }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            let count = Int(gzread(input, buffer.baseAddress, UInt32(buffer.count)))
            if count < 0 { throw StoreError(.corrupted, path, "the gzip file is damaged") }
            if count == 0 { break }
            try output.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
        isClosed = true
        // A file that was cut off reads like its end; only the last check says so.
        guard gzclose_r(input) == Z_OK else {
            throw StoreError(.corrupted, path, "the gzip file is damaged or cut off")
        }
    }

    private static func unpackZstandard(_ source: File, _ path: String, _ output: inout Output) throws(StoreError) {
        guard let stream = ZSTD_createDStream() else { throw StoreError(.unavailable, path, "no memory to unpack it") }
        defer { ZSTD_freeDStream(stream) }
        let packed = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer {
            packed.deallocate()
            plain.deallocate()
        }
        var position = 0
        var isInFrame = false
        while true {
            let count = try source.read(into: packed, at: position)
            if count == 0 { break }
            position += count
            var input = ZSTD_inBuffer(src: packed.baseAddress, size: count, pos: 0)
            var isFull = true
            while input.pos < input.size || isFull {
                var target = ZSTD_outBuffer(dst: plain.baseAddress, size: plain.count, pos: 0)
                let before = input.pos
                let left = ZSTD_decompressStream(stream, &target, &input)
                guard ZSTD_isError(left) == 0 else {
                    let reason = String(cString: ZSTD_getErrorName(left))
                    throw StoreError(.corrupted, path, "the Zstandard file is damaged: \(reason)")
                }
                // At the end of all input a call that does nothing asks for the next frame, which need not come.
                if input.pos > before || target.pos > 0 { isInFrame = left != 0 }
                isFull = target.pos == target.size
                try output.write(UnsafeRawBufferPointer(rebasing: plain[..<target.pos]))
            }
        }
        guard !isInFrame else { throw StoreError(.corrupted, path, "the Zstandard file is cut off") }
    }
}
