public import PlatformCore

/// What has to be written of a series: its head, which everything else is found through, and pages by identifier.
public struct StoredSeries: Sendable {
    /// What the series is read from first.
    public let head: [UInt8]
    /// Pages that differ from what is stored.
    public let pages: [(identifier: UInt64, bytes: [UInt8])]
    /// Pages that are no longer part of it.
    public let removed: [UInt64]
}

extension EventSeries {
    /// Version of the stored form; state of another one is built again from the log.
    public static let formatVersion: UInt8 = 2

    private enum Kind: UInt8 {
        case head = 0
        case group = 1
        case chunk = 2
    }

    // MARK: Writing

    /// The head and the pages that have changed.
    public func changes(plan: AggregationPlan) -> StoredSeries { stored(plan: plan) { $0 } }

    /// The head and all pages; every page is in memory.
    public func whole(plan: AggregationPlan) -> StoredSeries { stored(plan: plan) { _ in true } }

    private func stored(plan: AggregationPlan, _ isWanted: (Bool) -> Bool) -> StoredSeries {
        var pages: [(identifier: UInt64, bytes: [UInt8])] = []
        for group in groups where isWanted(group.isChanged) {  // so is the group of a chunk that has changed
            pages.append((group.identifier, Self.bytes(of: group, plan)))
            for chunk in group.chunks where isWanted(chunk.isChanged) {
                precondition(chunk.isLoaded, "what has changed is in memory")
                var out = ByteWriter(capacity: 16 + chunk.count * (10 + 9 * plan.columns.count))
                out.write(Self.formatVersion)
                out.write(Kind.chunk.rawValue)
                Self.write(chunk, plan, to: &out)
                pages.append((chunk.identifier, out.bytes))
            }
        }
        return StoredSeries(head: headBytes(plan), pages: pages, removed: removedPages)
    }

    private func headBytes(_ plan: AggregationPlan) -> [UInt8] {
        var out = ByteWriter(capacity: 48 + tail.count * (10 + 9 * plan.columns.count) + groups.count * 128)
        out.write(Self.formatVersion)
        out.write(Kind.head.rawValue)
        out.write(varint: nextSequence)
        out.write(signed: newestIngestTime)
        out.write(varint: nextIdentifier)
        out.write(varint: UInt64(trimCount))
        out.write(varint: UInt64(plan.columns.count))
        for column in plan.columns { out.write(column.storage.rawValue) }
        out.write(varint: UInt64(groups.count))
        for group in groups {
            out.write(varint: group.identifier)
            Self.write(group.summary, to: &out)
        }
        Self.write(tail, plan, to: &out)
        return out.bytes
    }

    private static func bytes(of group: EventGroup, _ plan: AggregationPlan) -> [UInt8] {
        var out = ByteWriter(capacity: 16 + group.chunks.count * (48 + 40 * plan.columns.count))
        out.write(formatVersion)
        out.write(Kind.group.rawValue)
        out.write(varint: UInt64(group.chunks.count))
        for chunk in group.chunks {
            out.write(varint: chunk.identifier)
            write(chunk.summary, to: &out)
        }
        return out.bytes
    }

    private static func write(_ summary: SpanSummary, to out: inout ByteWriter) {
        out.write(varint: UInt64(summary.count))
        out.write(signed: summary.first.eventTime)
        // Differences wrap, and wrap back: no pair of times can overflow.
        out.write(signed: summary.first.ingestTime &- summary.first.eventTime)
        out.write(varint: summary.first.sequence)
        out.write(signed: summary.lastEventTime &- summary.first.eventTime)
        out.write(signed: summary.ingestMinimum &- summary.first.ingestTime)
        out.write(signed: summary.ingestMaximum &- summary.ingestMinimum)
        out.write(signed: summary.knownFrom &- summary.first.eventTime)
        for block in summary.blocks {
            out.write(varint: UInt64(block.count))
            write(wide: block.sum, to: &out)
            write(wide: block.squareSum, to: &out)
            write(wide: block.squares, to: &out)
            out.write(fixed: block.minimum)
            out.write(fixed: block.maximum)
        }
    }

    private static func write(wide value: Int128, to out: inout ByteWriter) {
        out.write(fixed: UInt64(truncatingIfNeeded: value))
        out.write(signed: Int64(truncatingIfNeeded: value >> 64))
    }

    private static func write(_ chunk: EventChunk, _ plan: AggregationPlan, to out: inout ByteWriter) {
        let layout = plan.layout
        out.write(varint: UInt64(chunk.count))
        var before = EventOrder(eventTime: 0, ingestTime: 0, sequence: 0)
        for event in 0..<chunk.count {
            let order = chunk.order(event, layout.stride)
            out.write(signed: order.eventTime &- before.eventTime)
            out.write(signed: order.ingestTime &- order.eventTime)
            out.write(signed: Int64(bitPattern: order.sequence &- before.sequence))
            before = order
        }
        for (index, column) in plan.columns.enumerated() {
            let slot = layout.slots[index]
            for event in 0..<chunk.count {
                switch column.storage {
                case .real: out.write(fixed: chunk.words[event * layout.stride + slot])
                case .integer:
                    let isPresent = chunk.isPresent(event, column: index, layout.stride)
                    out.write(UInt8(isPresent ? 1 : 0))
                    if isPresent { out.write(signed: chunk.words[event * layout.stride + slot]) }
                case .text:
                    let text = chunk.texts[event * layout.textCount + slot]
                    out.write(UInt8(text == nil ? 0 : 1))
                    if let text { out.write(text) }
                case .vector:
                    let isPresent = chunk.isPresent(event, column: index, layout.stride)
                    out.write(UInt8(isPresent ? 1 : 0))
                    guard isPresent else { continue }
                    let start = event * layout.stride + slot
                    for word in chunk.words[start..<(start + (column.length + 1) / 2)] { out.write(fixed: word) }
                }
            }
        }
    }

    // MARK: What is stored and what is not

    /// Notes that everything is stored as it is now.
    public mutating func markStored() {
        removedPages.removeAll()
        tail.isChanged = false
        for group in groups.indices where groups[group].isChanged {
            groups[group].isChanged = false
            for chunk in groups[group].chunks.indices { groups[group].chunks[chunk].isChanged = false }
        }
    }

    /// Notes that what `changes` gave for `taken`, an earlier state of this series, could not be stored.
    public mutating func markNotStored(_ taken: EventSeries) {
        removedPages += taken.removedPages
        // A page that was new in what failed may be gone since; removing it again changes nothing.
        for group in groups.indices {
            groups[group].isChanged = true
            for chunk in groups[group].chunks.indices where groups[group].chunks[chunk].isLoaded {
                groups[group].chunks[chunk].isChanged = true
            }
        }
    }

    /// Lets go of the events of pages that are stored; they are read again when a question or a late event needs them.
    public mutating func unloadPages() {
        for group in groups.indices {
            for chunk in groups[group].chunks.indices
            where groups[group].chunks[chunk].isLoaded && !groups[group].chunks[chunk].isChanged {
                groups[group].chunks[chunk].words = []
                groups[group].chunks[chunk].texts = []
                groups[group].chunks[chunk].values = []
                groups[group].chunks[chunk].isLoaded = false
            }
        }
    }

    // MARK: Reading

    /// Reads a head; its groups then have to be given to `load(group:)`, in order, before anything else.
    /// - Throws: `DecodingFailure` for bytes that were not written under the same plan; never traps on foreign bytes.
    public init(head bytes: [UInt8], plan: AggregationPlan) throws(DecodingFailure) {
        self.init(plan: plan)
        var reader = ByteReader(bytes)
        try Self.expect(.head, &reader)
        nextSequence = try reader.varint()
        newestIngestTime = try reader.signed()
        nextIdentifier = try reader.varint()
        trimCount = Int(clamping: try reader.varint())
        guard trimCount >= Self.trimCountMin, nextIdentifier < 1 << 48 else {
            throw DecodingFailure("entity state has impossible counts")
        }
        guard try reader.varint() == UInt64(plan.columns.count) else {
            throw DecodingFailure("entity state has other columns than its view")
        }
        for column in plan.columns where try reader.byte() != column.storage.rawValue {
            throw DecodingFailure("entity state keeps '\(column.name)' as another type")
        }
        for _ in 0..<(try reader.count(unitByteCount: 9)) {
            var group = EventGroup(identifier: try reader.varint())
            group.summary = try Self.summary(plan, &reader)
            group.isLoaded = false
            group.isChanged = false
            groupedCount += group.summary.count
            groups.append(group)
        }
        tail = try Self.chunk(plan, &reader)
        tail.isChanged = false
        if tail.count >= min(Self.summarizedCountMin, plan.sizes.chunk) { tail.summarizeColumns(plan) }
        guard tail.count > 0 || groups.isEmpty else { throw DecodingFailure("entity state has no newest events") }
        try Self.expectEnd(reader)
    }

    /// Pages of the directory that were not given to `load(group:)` yet.
    public var missingGroups: [UInt64] { groups.filter { !$0.isLoaded }.map(\.identifier) }

    /// Takes the next page of the directory.
    public mutating func load(group bytes: [UInt8], plan: AggregationPlan) throws(DecodingFailure) {
        guard let index = groups.firstIndex(where: { !$0.isLoaded }) else {
            throw DecodingFailure("entity state has all its groups")
        }
        var reader = ByteReader(bytes)
        try Self.expect(.group, &reader)
        var count = 0
        for _ in 0..<(try reader.count(unitByteCount: 9)) {
            var chunk = EventChunk()
            chunk.identifier = try reader.varint()
            chunk.summary = try Self.summary(plan, &reader)
            chunk.isLoaded = false
            chunk.isChanged = false
            let (sum, overflow) = count.addingReportingOverflow(chunk.count)
            guard !overflow else { throw DecodingFailure("a group of chunks has an impossible count") }
            count = sum
            groups[index].chunks.append(chunk)
        }
        try Self.expectEnd(reader)
        guard count == groups[index].summary.count, !groups[index].chunks.isEmpty else {
            throw DecodingFailure("a group of chunks is not the one that its series names")
        }
        groups[index].isLoaded = true
    }

    /// Takes a page of events that `evaluate`, `cells` or `pageNeeded` has named.
    public mutating func load(_ page: PageReference, _ bytes: [UInt8], plan: AggregationPlan) throws(DecodingFailure) {
        guard groups.indices.contains(page.group), groups[page.group].chunks.indices.contains(page.chunk),
            groups[page.group].chunks[page.chunk].identifier == page.identifier
        else { throw DecodingFailure("the series has no page \(page.identifier) there") }
        if groups[page.group].chunks[page.chunk].isLoaded { return }
        let chunk = try Self.chunk(page: bytes, groups[page.group].chunks[page.chunk].summary, plan)
        groups[page.group].chunks[page.chunk].words = chunk.words
        groups[page.group].chunks[page.chunk].texts = chunk.texts
        groups[page.group].chunks[page.chunk].isLoaded = true
        groups[page.group].chunks[page.chunk].summarizeValues(plan)
    }

    /// The events of a page, which are those that `known` tells of.
    static func chunk(
        page bytes: [UInt8], _ known: SpanSummary, _ plan: AggregationPlan
    ) throws(DecodingFailure) -> EventChunk {
        var reader = ByteReader(bytes)
        try expect(.chunk, &reader)
        let chunk = try chunk(plan, &reader)
        try expectEnd(reader)
        guard chunk.count == known.count, chunk.summary.first == known.first,
            chunk.summary.lastEventTime == known.lastEventTime
        else { throw DecodingFailure("a page of events is not the one that its series names") }
        return chunk
    }

    /// Reads how far a page of events goes, which is as `known` tells, up to its columns.
    static func readPageTimes(
        _ reader: inout ByteReader, _ known: SpanSummary, _ plan: AggregationPlan, into times: inout [Int64]
    ) throws(DecodingFailure) {
        try expect(.chunk, &reader)
        let count = try reader.count(unitByteCount: 3 + plan.columns.count)
        times.removeAll(keepingCapacity: true)
        var order = EventOrder(eventTime: 0, ingestTime: 0, sequence: 0)
        var first = order
        for event in 0..<count {
            order.eventTime &+= try reader.signed()
            order.ingestTime = order.eventTime &+ (try reader.signed())
            order.sequence &+= UInt64(bitPattern: try reader.signed())
            if event == 0 { first = order }
            times.append(order.eventTime)
        }
        guard count == known.count, first == known.first, times.last == known.lastEventTime else {
            throw DecodingFailure("a page of events is not the one that its series names")
        }
    }

    /// Passes over a column of a page.
    static func skip(_ column: AggregationPlan.Column, count: Int, _ reader: inout ByteReader) throws(DecodingFailure) {
        if column.storage == .real { return try reader.skip(8 * count) }
        for _ in 0..<count where try reader.byte() != 0 {
            switch column.storage {
            case .real: break
            case .integer: _ = try reader.varint()
            case .text: try reader.skip(try reader.count())
            case .vector: try reader.skip(8 * ((column.length + 1) / 2))
            }
        }
    }

    private static func expect(_ kind: Kind, _ reader: inout ByteReader) throws(DecodingFailure) {
        let version = try reader.byte()
        guard version == formatVersion else { throw DecodingFailure("entity state has unknown format \(version)") }
        guard try reader.byte() == kind.rawValue else { throw DecodingFailure("entity state is another kind of page") }
    }

    static func expectEnd(_ reader: ByteReader) throws(DecodingFailure) {
        guard reader.remaining == 0 else {
            throw DecodingFailure("entity state has \(reader.remaining) bytes too many")
        }
    }

    private static func summary(_ plan: AggregationPlan, _ reader: inout ByteReader) throws(DecodingFailure)
        -> SpanSummary
    {
        var summary = SpanSummary()
        summary.count = Int(clamping: try reader.varint())
        guard 1..<(1 << 32) ~= summary.count else { throw DecodingFailure("a run of events has an impossible count") }
        summary.first.eventTime = try reader.signed()
        summary.first.ingestTime = summary.first.eventTime &+ (try reader.signed())
        summary.first.sequence = try reader.varint()
        summary.lastEventTime = summary.first.eventTime &+ (try reader.signed())
        summary.ingestMinimum = summary.first.ingestTime &+ (try reader.signed())
        summary.ingestMaximum = summary.ingestMinimum &+ (try reader.signed())
        summary.knownFrom = summary.first.eventTime &+ (try reader.signed())
        for _ in plan.columns {
            var block = ColumnBlock()
            block.count = Int(clamping: try reader.varint())
            guard block.count <= summary.count else { throw DecodingFailure("a summary counts more than its events") }
            block.sum = try wide(&reader)
            block.squareSum = try wide(&reader)
            block.squares = try wide(&reader)
            block.minimum = try reader.fixed(Int64.self)
            block.maximum = try reader.fixed(Int64.self)
            summary.blocks.append(block)
        }
        return summary
    }

    private static func wide(_ reader: inout ByteReader) throws(DecodingFailure) -> Int128 {
        let low = try reader.fixed(UInt64.self)
        return Int128(try reader.signed()) << 64 | Int128(low)
    }

    private static func chunk(_ plan: AggregationPlan, _ reader: inout ByteReader) throws(DecodingFailure) -> EventChunk
    {
        let layout = plan.layout
        var chunk = EventChunk()
        chunk.isChanged = false
        let count = try reader.count(unitByteCount: 3 + plan.columns.count)
        chunk.words = [Int64](repeating: 0, count: count * layout.stride)
        chunk.texts = [String?](repeating: nil, count: count * layout.textCount)
        var order = EventOrder(eventTime: 0, ingestTime: 0, sequence: 0)
        for event in 0..<count {
            let before = order
            order.eventTime &+= try reader.signed()
            order.ingestTime = order.eventTime &+ (try reader.signed())
            order.sequence &+= UInt64(bitPattern: try reader.signed())
            if event > 0, order < before { throw DecodingFailure("entity state is out of order at event \(event)") }
            let start = event * layout.stride
            chunk.words[start + EventLayout.eventTime] = order.eventTime
            chunk.words[start + EventLayout.ingestTime] = order.ingestTime
            chunk.words[start + EventLayout.sequence] = Int64(bitPattern: order.sequence)
            chunk.summary.add(order)
        }
        for (index, column) in plan.columns.enumerated() {
            let slot = layout.slots[index]
            for event in 0..<count {
                let start = event * layout.stride
                switch column.storage {
                case .real: chunk.words[start + slot] = try reader.fixed(Int64.self)
                case .integer:
                    guard try reader.byte() != 0 else { continue }
                    chunk.words[start + slot] = try reader.signed()
                    chunk.words[start + EventLayout.flags + index >> 6] |= 1 << Int64(index & 63)
                case .text:
                    guard try reader.byte() != 0 else { continue }
                    chunk.texts[event * layout.textCount + slot] = try reader.text()
                case .vector:
                    guard try reader.byte() != 0 else { continue }
                    for place in 0..<((column.length + 1) / 2) {
                        chunk.words[start + slot + place] = try reader.fixed(Int64.self)
                    }
                    chunk.words[start + EventLayout.flags + index >> 6] |= 1 << Int64(index & 63)
                }
            }
        }
        return chunk
    }

    // MARK: In one piece

    /// The whole series, pages included, as one piece of bytes: equal for equal states.
    public func encoded(plan: AggregationPlan) -> [UInt8] {
        let stored = whole(plan: plan)
        var out = ByteWriter()
        out.write(varint: UInt64(stored.head.count))
        out.write(bytes: stored.head)
        for page in stored.pages {
            out.write(varint: page.identifier)
            out.write(varint: UInt64(page.bytes.count))
            out.write(bytes: page.bytes)
        }
        return out.bytes
    }

    /// Reads what `encoded` wrote under the same plan.
    /// - Throws: `DecodingFailure` for anything else; never traps on foreign bytes.
    public init(decoding bytes: [UInt8], plan: AggregationPlan) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        try self.init(head: try reader.raw(try reader.count()), plan: plan)
        var pages: [UInt64: [UInt8]] = [:]
        while reader.remaining > 0 {
            let identifier = try reader.varint()
            pages[identifier] = try reader.raw(try reader.count())
        }
        for identifier in missingGroups {
            guard let page = pages[identifier] else { throw DecodingFailure("a page of the series is missing") }
            try load(group: page, plan: plan)
        }
        for group in groups.indices {
            for chunk in groups[group].chunks.indices {
                let identifier = groups[group].chunks[chunk].identifier
                guard let page = pages[identifier] else { throw DecodingFailure("a page of the series is missing") }
                try load(PageReference(group: group, chunk: chunk, identifier: identifier), page, plan: plan)
            }
        }
    }
}
