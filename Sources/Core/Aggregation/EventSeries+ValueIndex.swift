import PlatformCore

/// Distinct counts of long series without looking at their events.
extension EventSeries {
    /// Chunks from which on a series that is asked for distinct counts keeps a `ValueIndex`.
    static let indexedChunkCountMin = 16

    /// Whether a distinct count is about to look at many events each time.
    public func wantsValueIndexes(_ plan: AggregationPlan) -> Bool {
        valueIndexes.isEmpty && count >= Self.indexedChunkCountMin * plan.sizes.chunk && !plan.countedColumns.isEmpty
    }

    /// Whether it keeps what distinct counts go by.
    public var hasValueIndexes: Bool { !valueIndexes.isEmpty }

    /// Makes what distinct counts go by: each event is looked at once, and the index kept up from then on.
    ///
    /// It is not part of the stored form, and pages that are read for it do not stay in memory.
    /// - Parameter page: gives the bytes of a page that is not in memory.
    /// - Throws: what `page` throws, and `DecodingFailure` for a page that is not the series'.
    public mutating func makeValueIndexes(
        plan: AggregationPlan, page: (PageReference) throws -> [UInt8]
    ) throws {
        var made: [ValueIndex] = []
        for column in plan.countedColumns {
            made.append(ValueIndex(column: column, isText: plan.columns[column].storage == .text))
        }
        for index in made.indices {
            try made[index].build { index in
                for group in groups.indices {
                    for chunk in groups[group].chunks.indices {
                        if groups[group].chunks[chunk].isLoaded {
                            groups[group].chunks[chunk].note(in: &index, plan)
                        } else {
                            let bytes = try page(reference(group, chunk))
                            try Self.chunk(page: bytes, groups[group].chunks[chunk].summary, plan).note(
                                in: &index, plan)
                        }
                    }
                }
                tail.note(in: &index, plan)
            }
        }
        valueIndexes = made
    }

    /// Lets go of what distinct counts go by; the next of them asks for it again.
    public mutating func dropValueIndexes() { valueIndexes = [] }

    /// Notes an event that is being inserted.
    mutating func noteValues(
        of row: UnsafeMutableBufferPointer<Int64>, _ texts: [String?], at eventTime: Int64, _ plan: AggregationPlan
    ) {
        for index in valueIndexes.indices {
            let column = valueIndexes[index].column
            let shape = plan.shapes[column]
            switch shape.storage {
            case .real:
                if !Accumulator.real(row[shape.slot]).isNaN { valueIndexes[index].note(row[shape.slot], at: eventTime) }
            case .integer:
                if row[EventLayout.flags + column >> 6] >> Int64(column & 63) & 1 != 0 {
                    valueIndexes[index].note(row[shape.slot], at: eventTime)
                }
            case .text: if let text = texts[shape.slot] { valueIndexes[index].note(text, at: eventTime) }
            case .vector: break
            }
        }
    }

    /// What answers distinct counts of a column at `tick`; `nil` if there is no index, or an event that is not visible yet.
    func valueIndex(of column: Int, at tick: Int64) -> Int? {
        guard !valueIndexes.isEmpty, newestIngestTime <= tick, newestEventTime.map({ $0 <= tick }) == true else {
            return nil
        }
        return valueIndexes.firstIndex { $0.column == column }
    }
}

extension EventChunk {
    fileprivate func note(in index: inout ValueIndex, _ plan: AggregationPlan) {
        let (shape, stride) = (plan.shapes[index.column], plan.layout.stride)
        for event in 0..<count {
            let time = eventTime(event, stride)
            switch shape.storage {
            case .real:
                let word = words[event * stride + shape.slot]
                if !Accumulator.real(word).isNaN { index.note(word, at: time) }
            case .integer:
                if isPresent(event, column: index.column, stride) {
                    index.note(words[event * stride + shape.slot], at: time)
                }
            case .text:
                if let text = texts[event * plan.layout.textCount + shape.slot] { index.note(text, at: time) }
            case .vector: break
            }
        }
    }
}
