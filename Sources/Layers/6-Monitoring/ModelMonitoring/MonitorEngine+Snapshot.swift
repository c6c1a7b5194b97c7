public import Definitions
import Foundation
import PlatformCore

extension MonitorEngine {
    private static let formatVersion: UInt8 = 1

    /// The whole state as bytes: an engine made of them goes on exactly as this one would.
    public func snapshot() throws -> [UInt8] {
        var writer = ByteWriter(capacity: 1 << 16)
        writer.write(Self.formatVersion)
        writer.write(fixed: time.milliseconds)
        try Self.write(counters, to: &writer)
        writer.write(varint: UInt64(references.count))
        for (key, reference) in references.sorted(by: {
            ($0.key.model, $0.key.version) < ($1.key.model, $1.key.version)
        }) {
            writer.write(key.model)
            writer.write(varint: UInt64(key.version))
            let bytes = try referenceBytes[key] ?? Self.encoded(reference)
            writer.write(varint: UInt64(bytes.count))
            writer.write(bytes: bytes)
        }
        writer.write(varint: UInt64(monitors.count))
        for monitor in monitors {
            writer.write(monitor.definition.name.text)
            writer.write(monitor.definition.model.text)
            try Self.write(monitor.incidents, to: &writer)
            writer.write(varint: UInt64(monitor.windows.count))
            for window in monitor.windows { window.encode(to: &writer) }
        }
        let order = waitingOrder[waitingStart...]
        writer.write(varint: UInt64(order.count))
        for entry in order {
            let label = waiting[entry.key]
            entry.key.write(to: &writer)
            writer.write(fixed: entry.time)
            writer.write(fixed: label?.time ?? entry.time)
            writer.write(label?.value ?? .nan)
            writer.write(label == nil ? UInt8(2) : label?.matched == true ? 1 : 0)
        }
        return writer.bytes
    }

    /// Goes on from a snapshot under the definitions of now; what it holds of monitors that are gone is dropped.
    /// - Throws: `DecodingFailure`, or a `DecodingError` for a broken part.
    public init(
        snapshot: [UInt8], definitions: [MonitorDefinition], rowCountMax: Int = 2_000_000,
        waitingLabelCountMax: Int = 200_000
    ) throws {
        self.init(definitions: definitions, rowCountMax: rowCountMax, waitingLabelCountMax: waitingLabelCountMax)
        var reader = ByteReader(snapshot)
        guard try reader.byte() == Self.formatVersion else {
            throw DecodingFailure("an unknown form of monitor snapshot")
        }
        time = EventTime(milliseconds: try reader.fixed(Int64.self))
        counters = try Self.read(MonitorCounters.self, from: &reader)
        guard counters.isSound else { throw DecodingFailure("the monitor's counters make no sense") }
        for _ in 0..<(try reader.count(unitByteCount: 3)) {
            let model = try reader.text()
            let version = Int(clamping: try reader.varint())
            let key = VersionKey(model: model, version: version)
            let bytes = try reader.raw(try reader.count())
            references[key] = try JSONDecoder().decode(MonitorReference.self, from: Data(bytes))
            referenceBytes[key] = bytes
        }
        for _ in 0..<(try reader.count(unitByteCount: 4)) {
            let name = try reader.text()
            let model = try reader.text()
            let incidents = try Self.read([Alert].self, from: &reader)
            guard incidents.allSatisfy({ 0...(1 << 40) ~= $0.count }) else {
                throw DecodingFailure("an incident's count before \(reader.position) makes no sense")
            }
            var windows: [OpenWindow] = []
            for _ in 0..<(try reader.count(unitByteCount: 26)) {
                windows.append(
                    try OpenWindow(from: &reader) { references[VersionKey(model: model, version: $0)]?.profile })
            }
            if let index = monitors.firstIndex(where: {
                $0.definition.name.text == name && $0.definition.model.text == model
            }) {
                monitors[index].incidents = incidents
                monitors[index].windows = windows
            }
        }
        for _ in 0..<(try reader.count(unitByteCount: 41)) {
            let key = try RowKey(from: &reader)
            let place = try reader.milliseconds()
            let labelTime = try reader.milliseconds()
            let value = try reader.double()
            let state = try reader.byte()
            waitingOrder.append((key, place))
            if state < 2 { waiting[key] = WaitingLabel(time: labelTime, value: value, matched: state == 1) }
        }
        guard reader.remaining == 0 else {
            throw DecodingFailure("the snapshot has \(reader.remaining) bytes too many")
        }
    }

    private static func write(_ value: some Encodable, to writer: inout ByteWriter) throws {
        let bytes = try encoded(value)
        writer.write(varint: UInt64(bytes.count))
        writer.write(bytes: bytes)
    }

    static func encoded(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys  // equal states give equal bytes
        return try Array(encoder.encode(value))
    }

    private static func read<Value: Decodable>(_: Value.Type, from reader: inout ByteReader) throws -> Value {
        let bytes = try reader.raw(try reader.count())
        return try JSONDecoder().decode(Value.self, from: Data(bytes))
    }
}
