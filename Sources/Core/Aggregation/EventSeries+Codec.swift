public import PlatformCore

extension EventSeries {
    private static let formatVersion: UInt8 = 1

    /// The series as bytes for the online store.
    public func encoded(plan: AggregationPlan) -> [UInt8] {
        var out = ByteWriter(capacity: 32 + count * (12 + 9 * columns.count))
        out.write(Self.formatVersion)
        out.write(varint: newestSequence)
        out.write(signed: newestIngestTime)
        out.write(varint: UInt64(plan.columns.count))
        for column in plan.columns { out.write(column.storage.rawValue) }
        out.write(varint: UInt64(count))
        var (event, sequence) = (Int64(0), UInt64(0))
        for index in eventTimes.indices {
            // Differences wrap, and wrap back: no pair of times can overflow.
            out.write(signed: eventTimes[index] &- event)
            out.write(signed: ingestTimes[index] &- eventTimes[index])
            out.write(signed: Int64(bitPattern: sequences[index] &- sequence))
            (event, sequence) = (eventTimes[index], sequences[index])
        }
        for (index, column) in plan.columns.enumerated() {
            switch column.storage {
            case .real: for word in columns[index].words { out.write(fixed: word) }
            case .integer:
                for (word, present) in zip(columns[index].words, columns[index].present) {
                    out.write(UInt8(present ? 1 : 0))
                    if present { out.write(signed: word) }
                }
            case .text:
                for text in columns[index].texts {
                    out.write(UInt8(text == nil ? 0 : 1))
                    if let text { out.write(text) }
                }
            }
        }
        return out.bytes
    }

    /// Reads what `encoded` wrote under the same plan.
    /// - Throws: `DecodingFailure` for anything else; never traps on foreign bytes.
    public init(decoding bytes: [UInt8], plan: AggregationPlan) throws(DecodingFailure) {
        self.init(plan: plan)
        var reader = ByteReader(bytes)
        let version = try reader.byte()
        guard version == Self.formatVersion else { throw DecodingFailure("entity state has unknown format \(version)") }
        newestSequence = try reader.varint()
        newestIngestTime = try reader.signed()
        guard try reader.varint() == UInt64(plan.columns.count) else {
            throw DecodingFailure("entity state has other columns than its view")
        }
        for column in plan.columns where try reader.byte() != column.storage.rawValue {
            throw DecodingFailure("entity state keeps '\(column.name)' as another type")
        }
        let count = try reader.count(unitByteCount: 3 + plan.columns.count)
        eventTimes.reserveCapacity(count)
        ingestTimes.reserveCapacity(count)
        sequences.reserveCapacity(count)
        var (event, sequence) = (Int64(0), UInt64(0))
        for index in 0..<count {
            event &+= try reader.signed()
            let ingest = event &+ (try reader.signed())
            sequence &+= UInt64(bitPattern: try reader.signed())
            if index > 0,
                (eventTimes[index - 1], ingestTimes[index - 1], sequences[index - 1]) > (event, ingest, sequence)
            {
                throw DecodingFailure("entity state is out of order at event \(index)")
            }
            eventTimes.append(event)
            ingestTimes.append(ingest)
            sequences.append(sequence)
        }
        for (index, column) in plan.columns.enumerated() {
            switch column.storage {
            case .real:
                columns[index].words.reserveCapacity(count)
                for _ in 0..<count { columns[index].words.append(try reader.fixed(Int64.self)) }
            case .integer:
                columns[index].words.reserveCapacity(count)
                columns[index].present.reserveCapacity(count)
                for _ in 0..<count {
                    let present = try reader.byte() != 0
                    columns[index].present.append(present)
                    columns[index].words.append(present ? try reader.signed() : 0)
                }
            case .text:
                columns[index].texts.reserveCapacity(count)
                for _ in 0..<count {
                    let present = try reader.byte() != 0
                    columns[index].texts.append(present ? try reader.text() : nil)
                }
            }
        }
        guard reader.remaining == 0 else {
            throw DecodingFailure("entity state has \(reader.remaining) bytes too many")
        }
        for (index, column) in plan.columns.enumerated() where column.needsCodes {
            columns[index].encodeAll(storage: column.storage)
        }
        countAfterTrim = count
        settle(plan: plan)
    }
}
