import PlatformCore
import Statistics

/// A prediction's identifier in 16 bytes: two independent hashes of its text, the same in every process.
struct RowKey: Hashable, Sendable {
    let high: UInt64
    let low: UInt64

    init(_ identifier: String) {
        var identifier = identifier
        (high, low) = identifier.withUTF8 { bytes in
            var (left, right): (UInt64, UInt64) = (0xCBF2_9CE4_8422_2325, 0x9E37_79B9_7F4A_7C15)
            for byte in bytes {
                left = (left ^ UInt64(byte)) &* 0x100_0000_01B3
                right = (right &+ UInt64(byte)) &* 0xD6E8_FEB8_6659_FD93
                right ^= right >> 32
            }
            return (left ^ left >> 29, right)
        }
    }

    func write(to writer: inout ByteWriter) {
        writer.write(fixed: high)
        writer.write(fixed: low)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        high = try reader.fixed(UInt64.self)
        low = try reader.fixed(UInt64.self)
    }
}

extension ByteReader {
    /// A time that can be added to and subtracted from without a thought.
    mutating func milliseconds() throws(DecodingFailure) -> Int64 {
        let value = try fixed(Int64.self)
        guard value.magnitude <= 1 << 53 else { throw DecodingFailure("a time before \(position) makes no sense") }
        return value
    }
}

/// The rows of one version in one role in one window, as compact arrays.
struct VersionRows: Sendable, Equatable {
    let version: Int
    let choice: UInt8
    /// Rows that came before the window's inputs were final.
    var rows = 0
    /// Drift counts; `nil` if the version had no reference profile when its first row came.
    var histograms: InputHistograms?
    var keys: [RowKey] = []
    var predictions: [Float] = []
    /// NaN until a label comes.
    var labels: [Double] = []
    var times: [Int64] = []
    private var places: [RowKey: Int32] = [:]

    init(version: Int, choice: UInt8, histograms: InputHistograms?) {
        self.version = version
        self.choice = choice
        self.histograms = histograms
    }

    func place(of key: RowKey) -> Int? { places[key].map(Int.init) }

    /// Keeps a row; `false` if it is here already.
    mutating func keep(_ key: RowKey, prediction: Float, time: Int64) -> Bool {
        if let first = places.updateValue(Int32(keys.count), forKey: key) {
            places[key] = first
            return false
        }
        keys.append(key)
        predictions.append(prediction)
        labels.append(.nan)
        times.append(time)
        return true
    }

    func encode(to writer: inout ByteWriter) {
        writer.write(varint: UInt64(version))
        writer.write(choice)
        writer.write(varint: UInt64(rows))
        writer.write(histograms == nil ? UInt8(0) : UInt8(1))
        histograms?.encode(to: &writer)
        writer.write(varint: UInt64(keys.count))
        for row in keys.indices {
            keys[row].write(to: &writer)
            writer.write(fixed: predictions[row].bitPattern)
            writer.write(labels[row])
            writer.write(fixed: times[row])
        }
    }

    init(
        from reader: inout ByteReader, reference: (Int) -> ReferenceProfile?
    ) throws(DecodingFailure) {
        version = Int(clamping: try reader.varint())
        choice = try reader.byte()
        let rows = try reader.varint()
        guard rows <= 1 << 40 else { throw DecodingFailure("a count before \(reader.position) is too large") }
        self.rows = Int(rows)
        if try reader.byte() != 0 {
            guard let profile = reference(version) else {
                throw DecodingFailure("version \(version) has counts but no reference profile")
            }
            histograms = try InputHistograms(from: &reader, profile: profile)
        }
        let count = try reader.count(unitByteCount: 36)
        guard count < Int32.max else { throw DecodingFailure("a window holds too many rows") }
        for _ in 0..<count {
            guard
                keep(
                    try RowKey(from: &reader), prediction: Float(bitPattern: try reader.fixed(UInt32.self)), time: 0)
            else { throw DecodingFailure("a window holds the same prediction twice") }
            labels[keys.count - 1] = try reader.double()
            times[keys.count - 1] = try reader.milliseconds()
        }
    }

    static func == (left: VersionRows, right: VersionRows) -> Bool {
        left.version == right.version && left.choice == right.choice && left.rows == right.rows
            && left.histograms == right.histograms && left.keys == right.keys
            && left.predictions.map(\.bitPattern) == right.predictions.map(\.bitPattern)
            && left.labels.map(\.bitPattern) == right.labels.map(\.bitPattern) && left.times == right.times
    }
}

/// A window that is not final yet.
struct OpenWindow: Sendable, Equatable {
    let from: Int64
    let to: Int64
    /// When its labels are final.
    let labelsUntil: Int64
    var inputsAreFinal = false
    var groups: [VersionRows] = []

    func encode(to writer: inout ByteWriter) {
        for time in [from, to, labelsUntil] { writer.write(fixed: time) }
        writer.write(inputsAreFinal ? UInt8(1) : UInt8(0))
        writer.write(varint: UInt64(groups.count))
        for group in groups { group.encode(to: &writer) }
    }

    init(from: Int64, to: Int64, labelsUntil: Int64) {
        (self.from, self.to, self.labelsUntil) = (from, to, labelsUntil)
    }

    init(
        from reader: inout ByteReader, reference: (Int) -> ReferenceProfile?
    ) throws(DecodingFailure) {
        from = try reader.milliseconds()
        to = try reader.milliseconds()
        labelsUntil = try reader.milliseconds()
        inputsAreFinal = try reader.byte() != 0
        for _ in 0..<(try reader.count(unitByteCount: 5)) {
            groups.append(try VersionRows(from: &reader, reference: reference))
        }
    }
}
