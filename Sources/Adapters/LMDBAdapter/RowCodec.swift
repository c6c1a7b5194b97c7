import ContentHashing
import PlatformCore
import StoragePorts

/// How rows lie in LMDB.
///
/// The key is the view's name, a NUL, and the entity's key. LMDB takes 511 bytes: a longer one keeps a beginning, followed
/// by the SHA-256 of the whole, and the value then begins with the whole entity key. Only such keys have the full length,
/// so the two kinds cannot meet.
///
/// The value is a version byte (1, or 2 with an entity key and its byte count of 4 bytes in front), event time, ingest
/// time and sequence in 8 bytes each, little end first, and the payload.
enum RowCodec {
    static let keyByteCountMax = 511
    private static let hashByteCount = 64
    private static let fixedByteCount = 24

    /// What every key of a view begins with.
    static func prefix(of view: Name) -> [UInt8] { Array(view.text.utf8) + [0] }

    /// How many bytes of a long entity key are kept in front of its hash.
    static func keptByteCount(prefixByteCount: Int) -> Int { keyByteCountMax - prefixByteCount - hashByteCount }

    /// Whether an entity key is stored as its beginning and its hash.
    static func isLong(_ entity: EntityKey, prefixByteCount: Int) -> Bool {
        prefixByteCount + entity.joined.utf8.count >= keyByteCountMax
    }

    /// Makes `key`, which begins with a view's prefix, the key of `entity`.
    static func setKey(_ key: inout [UInt8], prefixByteCount: Int, to entity: EntityKey) {
        key.removeSubrange(prefixByteCount...)
        var text = entity.joined
        if isLong(entity, prefixByteCount: prefixByteCount) {
            key.append(contentsOf: text.utf8.prefix(keptByteCount(prefixByteCount: prefixByteCount)))
            key.append(contentsOf: ContentHasher.hash(text).hex.utf8)
        } else {
            text.withUTF8 { unsafe key.append(contentsOf: $0) }
        }
    }

    /// Bytes of a row's value.
    static func byteCount(of row: OnlineRow, entity: EntityKey, isLong: Bool) -> Int {
        1 + fixedByteCount + row.payload.count + (isLong ? 4 + entity.joined.utf8.count : 0)
    }

    /// Writes the value of a row into `byteCount(of:entity:isLong:)` bytes.
    static func write(_ row: OnlineRow, entity: EntityKey, isLong: Bool, to bytes: UnsafeMutableRawBufferPointer) {
        unsafe bytes[0] = isLong ? 2 : 1
        var at = 1
        func put(_ value: some FixedWidthInteger) {
            unsafe bytes.storeBytes(of: value.littleEndian, toByteOffset: at, as: type(of: value))
            at += value.bitWidth / 8
        }
        if isLong {
            put(UInt32(entity.joined.utf8.count))
            unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[at...]).copyBytes(from: entity.joined.utf8)
            at += entity.joined.utf8.count
        }
        put(row.eventTime.milliseconds)
        put(row.ingestTime.milliseconds)
        put(row.sequence)
        unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[at...]).copyBytes(from: row.payload)
    }

    /// A value taken apart: where it lies, not yet copied.
    @safe struct Parts {
        private let bytes: UnsafeRawBufferPointer
        private let start: Int
        private let entityByteCount: Int

        /// - Throws: `corrupted` for bytes that `value` did not make.
        init(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
            unsafe self.bytes = bytes
            switch unsafe bytes.first {
            case 1:
                start = 1
                entityByteCount = 0
            case 2 where bytes.count >= 5:
                let count = unsafe UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
                entityByteCount = Int(count)
                start = 5 + Int(count)
            default: throw StoreError(.corrupted, "online store", "a row has no known version")
            }
            guard bytes.count - start >= fixedByteCount else {
                throw StoreError(.corrupted, "online store", "a row is too short")
            }
        }

        private func integer<Integer: FixedWidthInteger>(_ at: Int, _: Integer.Type) -> Integer {
            // The initializer has checked that the fixed part is there.
            unsafe Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: start + at, as: Integer.self))
        }

        var sequence: UInt64 { integer(16, UInt64.self) }
        /// The whole entity key, where the row's key does not hold it.
        var entity: EntityKey? {
            guard start > 1 else { return nil }
            return unsafe EntityKey(joined: String(decoding: bytes[5..<(5 + entityByteCount)], as: UTF8.self))
        }
        var row: OnlineRow {
            unsafe OnlineRow(
                eventTime: EventTime(milliseconds: integer(0, Int64.self)),
                ingestTime: EventTime(milliseconds: integer(8, Int64.self)), sequence: sequence,
                payload: Array(bytes[(start + fixedByteCount)...]))
        }

        /// Makes sure that the row is the entity's and not one with the same hash.
        func require(_ entity: EntityKey) throws(StoreError) {
            if let stored = self.entity, stored != entity {
                throw StoreError(.corrupted, "online store", "two entities have keys with the same hash")
            }
        }
    }

    // MARK: Checkpoints

    static func value(of checkpoint: OnlineCheckpoint) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(1 as UInt8)
        writer.write(varint: UInt64(checkpoint.offsets.count))
        for (topic, offset) in checkpoint.offsets.sorted(by: { $0.key < $1.key }) {
            writer.write(topic)
            writer.write(varint: offset)
        }
        return writer.bytes
    }

    /// - Throws: `corrupted` for bytes that `value` did not make.
    static func checkpoint(_ name: Name, from bytes: [UInt8]) throws(StoreError) -> OnlineCheckpoint {
        var reader = ByteReader(bytes)
        do throws(DecodingFailure) {
            guard try reader.byte() == 1 else { throw DecodingFailure("the version is unknown") }
            var offsets: [String: UInt64] = [:]
            for _ in 0..<(try reader.count(unitByteCount: 2)) { offsets[try reader.text()] = try reader.varint() }
            return OnlineCheckpoint(name: name, offsets: offsets)
        } catch {
            throw StoreError(.corrupted, "checkpoint/\(name)", "the stored bytes cannot be read", cause: error)
        }
    }
}
