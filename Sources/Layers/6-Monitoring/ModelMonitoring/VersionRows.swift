import PlatformCore
import Statistics

/// A prediction's identifier in 16 bytes: two independent hashes of its text, the same in every process.
struct RowKey: Hashable, Sendable {
    let high: UInt64
    let low: UInt64

    init(_ identifier: String) {
        var identifier = identifier
        self = identifier.withUTF8 { RowKey(UnsafeRawBufferPointer($0)) }
    }

    /// The key of an identifier's UTF-8.
    init(_ bytes: UnsafeRawBufferPointer) {
        var (left, right): (UInt64, UInt64) = (0xCBF2_9CE4_8422_2325, 0x9E37_79B9_7F4A_7C15)
        for byte in bytes {
            left = (left ^ UInt64(byte)) &* 0x100_0000_01B3
            right = (right &+ UInt64(byte)) &* 0xD6E8_FEB8_6659_FD93
            right ^= right >> 32
        }
        (high, low) = (left ^ left >> 29, right)
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

/// Where keys stand in an array of keys: a table of places, half empty at least.
///
/// Keys are hashes already, of identifiers that the platform gives, so a part of one says where to look.
private struct RowPlaces: Sendable {
    /// A place, or -1; as many as a power of two.
    private var slots: [Int32] = []

    private static func first(_ key: RowKey) -> Int { Int(truncatingIfNeeded: key.high ^ key.low) }

    func place(of key: RowKey, in keys: [RowKey]) -> Int? {
        guard !slots.isEmpty else { return nil }
        let mask = slots.count - 1
        var slot = Self.first(key) & mask
        while slots[slot] >= 0 {
            if keys[Int(slots[slot])] == key { return Int(slots[slot]) }
            slot = (slot + 1) & mask
        }
        return nil
    }

    /// Notes a key that is to be the next of `keys`; `false` if it is one of them.
    mutating func add(_ key: RowKey, to keys: [RowKey]) -> Bool {
        if keys.count * 2 >= slots.count { grow(keys) }
        let mask = slots.count - 1
        var slot = Self.first(key) & mask
        while slots[slot] >= 0 {
            if keys[Int(slots[slot])] == key { return false }
            slot = (slot + 1) & mask
        }
        slots[slot] = Int32(keys.count)
        return true
    }

    private mutating func grow(_ keys: [RowKey]) {
        let count = max(64, slots.count * 2)
        slots = [Int32](repeating: -1, count: count)
        for (place, key) in keys.enumerated() {
            var slot = Self.first(key) & (count - 1)
            while slots[slot] >= 0 { slot = (slot + 1) & (count - 1) }
            slots[slot] = Int32(place)
        }
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
    private var places = RowPlaces()

    /// Bytes of a row in a snapshot.
    private static let rowByteCount = 36

    init(version: Int, choice: UInt8, histograms: InputHistograms?) {
        self.version = version
        self.choice = choice
        self.histograms = histograms
    }

    func place(of key: RowKey) -> Int? { places.place(of: key, in: keys) }

    /// Keeps a row; `false` if it is here already.
    mutating func keep(_ key: RowKey, prediction: Float, time: Int64) -> Bool {
        guard places.add(key, to: keys) else { return false }
        keys.append(key)
        predictions.append(prediction)
        labels.append(.nan)
        times.append(time)
        return true
    }

    /// Counts a row whose window's inputs are not final, kept or not.
    mutating func count(_ inputs: UnsafeRawBufferPointer, prediction: Double) {
        rows += 1
        histograms?.add(doubles: inputs, prediction: prediction)
    }

    func encode(to writer: inout ByteWriter) {
        writer.write(varint: UInt64(version))
        writer.write(choice)
        writer.write(varint: UInt64(rows))
        writer.write(histograms == nil ? UInt8(0) : UInt8(1))
        histograms?.encode(to: &writer)
        writer.write(varint: UInt64(keys.count))
        let kept = [UInt8](unsafeUninitializedCapacity: keys.count * Self.rowByteCount) { target, filled in
            let target = UnsafeMutableRawBufferPointer(target)
            for row in keys.indices {
                let at = row * Self.rowByteCount
                target.storeBytes(of: keys[row].high.littleEndian, toByteOffset: at, as: UInt64.self)
                target.storeBytes(of: keys[row].low.littleEndian, toByteOffset: at + 8, as: UInt64.self)
                let prediction = predictions[row].bitPattern
                target.storeBytes(of: prediction.littleEndian, toByteOffset: at + 16, as: UInt32.self)
                let label = labels[row].bitPattern
                target.storeBytes(of: label.littleEndian, toByteOffset: at + 20, as: UInt64.self)
                target.storeBytes(of: times[row].littleEndian, toByteOffset: at + 28, as: Int64.self)
            }
            filled = keys.count * Self.rowByteCount
        }
        writer.write(bytes: kept)
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
        let count = try reader.count(unitByteCount: Self.rowByteCount)
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
