import PlatformCore
import StoragePorts

/// Points of one metric as bytes: times and steps as differences in few bytes, then the values as they are.
///
/// A curve of regular steps takes about eleven bytes a point.
enum MetricChunk {
    /// Most points in one chunk.
    static let pointCountMax = 4096
    private static let formatVersion: UInt8 = 1

    static func encode(_ points: ArraySlice<MetricPoint>) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(16 + points.count * 12)
        out.append(formatVersion)
        append(UInt64(points.count), to: &out)
        var previous: (time: Int64, step: Int64) = (0, 0)
        for point in points {
            append(signed: point.milliseconds &- previous.time, to: &out)
            append(signed: point.step &- previous.step, to: &out)
            previous = (point.milliseconds, point.step)
        }
        for point in points {
            withUnsafeBytes(of: point.value.bitPattern.littleEndian) { out.append(contentsOf: $0) }
        }
        return out
    }

    /// Appends the points of a chunk to `points`.
    /// - Throws: `corrupted`.
    static func decode(_ bytes: [UInt8], to points: inout [MetricPoint]) throws(StoreError) {
        let isSound = bytes.withUnsafeBytes { bytes -> Bool in
            guard bytes.count >= 2, bytes[0] == formatVersion else { return false }
            var at = 1
            guard let count = varint(bytes, &at), count <= UInt64(pointCountMax) else { return false }
            let valuesStart = bytes.count - Int(count) * 8
            guard valuesStart >= at else { return false }
            var (time, step): (Int64, Int64) = (0, 0)
            for index in 0..<Int(count) {
                guard let first = varint(bytes, &at), let second = varint(bytes, &at), at <= valuesStart else {
                    return false
                }
                time &+= Int64(bitPattern: first >> 1) ^ -Int64(bitPattern: first & 1)
                step &+= Int64(bitPattern: second >> 1) ^ -Int64(bitPattern: second & 1)
                let bits = UInt64(
                    littleEndian: bytes.loadUnaligned(fromByteOffset: valuesStart + index * 8, as: UInt64.self))
                points.append(MetricPoint(milliseconds: time, step: step, value: Double(bitPattern: bits)))
            }
            return at == valuesStart
        }
        guard isSound else {
            throw StoreError(.corrupted, "metric", "a stored piece of a metric's history is damaged")
        }
    }

    private static func append(_ value: UInt64, to out: inout [UInt8]) {
        var rest = value
        while rest >= 0x80 {
            out.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        out.append(UInt8(rest))
    }

    private static func append(signed value: Int64, to out: inout [UInt8]) {
        append(UInt64(bitPattern: (value << 1) ^ (value >> 63)), to: &out)
    }

    @inline(__always)
    private static func varint(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> UInt64? {
        guard at < bytes.count else { return nil }
        let first = bytes[at]
        at += 1
        if first < 0x80 { return UInt64(first) }
        var value = UInt64(first & 0x7F)
        var shift: UInt64 = 7
        while at < bytes.count, shift < 64 {
            let byte = bytes[at]
            at += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        return nil
    }
}
