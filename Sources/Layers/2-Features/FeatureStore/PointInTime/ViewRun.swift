import Aggregation
import ColumnFiles
import Definitions
import PlatformCore
import StoragePorts
import Synchronization

/// Computes one view for all questions: numbers, scatters, sorts, sweeps.
struct ViewRun: Sendable {
    /// Records that a partition should have: with its sorting space it stays in a processor's cache.
    private static let partitionRecordCount = 16_384

    let view: PointInTimeJoin.View
    let groups: QuestionGroups
    let time: String
    let settings: PointInTimeJoin.Settings
    let workers: Workers
    let budget: BlockBudget
    let spill: SpillFile

    /// Questions grouped by entity.
    private struct Questions: Sendable {
        var numbers: EntityNumbers
        /// Tick of each question.
        var ticks: [Int64]
        /// Rows in the order of their entities; those of entity `e` are `starts[e] ..< starts[e + 1]`.
        ///
        /// The last entity is nobody: questions without a key.
        var rows: [UInt32]
        var starts: [UInt32]
    }

    private struct EventFile: Sendable {
        let reader: ParquetReader
        let path: String
    }

    func answers() throws -> (ViewAnswers, Int) {
        let files = try view.events.map {
            EventFile(reader: try ParquetReader(FileBytes($0), limits: settings.limits), path: $0)
        }
        let questions = try number(files)
        let texts = TextHeap(byteCountMax: settings.memoryByteCountMax / 4)
        let layout = EventRecord(columnCount: view.plan.columns.count)
        let total = files.reduce(0) { $0 + $1.reader.rowCount }
        var bits = 0
        while bits < 9, total >> bits > Self.partitionRecordCount { bits += 1 }
        let records = PartitionedRecords(width: layout.width, partitionCount: 1 << bits, budget: budget, spill: spill)
        let events = try scatter(files, questions.numbers, layout, records, bits: bits, texts)
        let answer = AnswerRecord(featureCount: view.plan.features.count)
        let answers = PartitionedRecords(
            width: answer.width + 1, partitionCount: max(1, groups.groups.count), budget: budget, spill: spill)
        try sweep(questions, records, bits: bits, layout, answers, texts)
        return (ViewAnswers(view: view, layout: answer, records: answers, texts: texts), events)
    }

    // MARK: Questions

    private func milliseconds(_ vector: ColumnVector, _ kind: ColumnKind?, _ path: String, _ name: String)
        throws(ColumnFileError) -> [Int64]
    {
        guard vector.present.map({ !$0.contains(0) }) ?? true else {
            throw ColumnFileError(.unsupported, "'\(path)' has rows without '\(name)'")
        }
        switch kind {
        case .integer: return vector.words
        case .timestamp(let perSecond):
            let unit = perSecond / 1000
            return unit == 1 ? vector.words : vector.words.map { $0 / unit }
        default: throw ColumnFileError(.unsupported, "'\(name)' of '\(path)' is no moment")
        }
    }

    private func kind(_ reader: ParquetReader, _ name: String) -> ColumnKind? {
        reader.position(of: name).flatMap { reader.columns[$0].kind }
    }

    private func keys(
        _ reader: ParquetReader, _ names: [String], group: Int, path: String, types: [ColumnType]? = nil
    ) throws(ColumnFileError) -> EntityNumbers.Keys {
        var vectors: [ColumnVector] = []
        var kinds: [ColumnKind] = []
        for (index, name) in names.enumerated() {
            guard let position = reader.position(of: name) else {
                throw ColumnFileError(.unsupported, "'\(path)' has no column '\(name)'")
            }
            let kind = reader.columns[position].kind
            let fits: Bool =
                switch (types?[index], kind) {
                case (nil, .integer?), (nil, .text?), (nil, .bool?), (nil, .timestamp?): true
                case (.int64?, .integer?), (.string?, .text?), (.bool?, .bool?), (.timestamp?, .timestamp?): true
                default: false
                }
            guard fits, let kind else {
                throw ColumnFileError(
                    .unsupported, "key column '\(name)' of '\(path)' is not stored as its source's type")
            }
            vectors.append(try reader.column(position, ofRowGroup: group))
            kinds.append(kind)
        }
        return EntityNumbers.Keys(vectors: vectors, kinds: kinds)
    }

    private func number(_ files: [EventFile]) throws -> Questions {
        let keyNames = view.plan.view.joinKeys
        let isInteger =
            keyNames.count == 1 && files.allSatisfy { kind($0.reader, keyNames[0]) == .integer }
            && groups.files.allSatisfy { kind($0.reader, view.questionKeys[0]) == .integer }
        // Decoding is the work here; the numbering is a walk in order.
        let decoded = Mutex<[Int: (EntityNumbers.Keys, [Int64])]>([:])
        try workers.run(units: groups.groups.count, state: { () }) { _, unit in
            let group = groups.groups[unit]
            let file = groups.files[group.file]
            let position = try file.position(time)
            let times = try milliseconds(
                file.reader.column(position, ofRowGroup: group.index), file.reader.columns[position].kind, file.path,
                time)
            let found = try keys(file.reader, view.questionKeys, group: group.index, path: file.path)
            decoded.withLock { $0[unit] = (found, times) }
        }
        var numbers = EntityNumbers(isInteger: isInteger)
        var entities: [UInt32] = []
        var ticks: [Int64] = []
        entities.reserveCapacity(groups.rowCount)
        ticks.reserveCapacity(groups.rowCount)
        for unit in groups.groups.indices {
            guard let (found, times) = decoded.withLock({ $0.removeValue(forKey: unit) }) else { continue }
            entities.append(contentsOf: numbers.insert(found))
            for time in times { ticks.append(view.plan.tick(at: time)) }
        }
        let nobody = numbers.count
        var starts = [UInt32](repeating: 0, count: nobody + 2)
        for index in entities.indices {
            if entities[index] == EntityNumbers.none { entities[index] = UInt32(nobody) }
            starts[Int(entities[index]) + 1] += 1
        }
        for index in 1..<starts.count { starts[index] += starts[index - 1] }
        var next = starts
        var rows = [UInt32](repeating: 0, count: entities.count)
        for (row, entity) in entities.enumerated() {
            rows[Int(next[Int(entity)])] = UInt32(row)
            next[Int(entity)] += 1
        }
        return Questions(numbers: numbers, ticks: ticks, rows: rows, starts: starts)
    }

    // MARK: Events

    private func scatter(
        _ files: [EventFile], _ numbers: EntityNumbers, _ layout: EventRecord, _ records: PartitionedRecords, bits: Int,
        _ texts: TextHeap
    ) throws -> Int {
        var units: [(file: Int, group: Int)] = []
        for (index, file) in files.enumerated() {
            for group in 0..<file.reader.rowGroupCount { units.append((index, group)) }
        }
        let work = units
        let total = Atomic<Int>(0)
        try workers.run(
            units: units.count, state: { PartitionedRecords.Writer(records) },
            { writer, unit in
                let file = files[work[unit].file]
                let count = try scatter(file, work[unit].group, numbers, layout, writer, bits: bits, texts)
                total.add(count, ordering: .relaxed)
            }, finish: { try $0.finish() })
        return total.load(ordering: .relaxed)
    }

    private func scatter(
        _ file: EventFile, _ group: Int, _ numbers: EntityNumbers, _ layout: EventRecord,
        _ writer: PartitionedRecords.Writer, bits: Int, _ texts: TextHeap
    ) throws -> Int {
        let reader = file.reader
        func moments(_ name: String) throws -> [Int64] {
            guard let position = reader.position(of: name) else {
                throw ColumnFileError(.unsupported, "'\(file.path)' has no column '\(name)'")
            }
            return try milliseconds(
                reader.column(position, ofRowGroup: group), reader.columns[position].kind, file.path, name)
        }
        var entities = numbers.find(
            try keys(reader, view.plan.view.joinKeys, group: group, path: file.path, types: view.keyTypes))
        let (happened, known, sequence) = (
            try moments("__event_time"), try moments("__ingest_time"), try moments("__sequence")
        )
        if let limit = view.knownBefore {
            for row in known.indices where known[row] >= limit { entities[row] = EntityNumbers.none }
        }
        for row in entities.indices {
            let (event, ingest) = (EventTime(milliseconds: happened[row]), EventTime(milliseconds: known[row]))
            if view.plan.isTooLate(eventTime: event, ingestTime: ingest) { entities[row] = EntityNumbers.none }
        }
        let derived = try derivedColumns(reader, group, file.path, entities)
        var words: [[Int64]] = []
        var present: [[UInt8]?] = []
        for column in view.plan.columns {
            guard
                let vector = try derived[column.name]
                    ?? self.vector(column.name, column.type, reader, group, file.path)
            else {
                // An older file, of before the column was added: nulls.
                words.append([Int64](repeating: 0, count: entities.count))
                present.append([UInt8](repeating: 0, count: entities.count))
                continue
            }
            words.append(column.storage == .text ? try texts.insert(vector, where: entities) : vector.words)
            present.append(vector.present)
        }
        let mask = UInt32(truncatingIfNeeded: (1 << bits) - 1)
        var count = 0
        for row in entities.indices {
            let entity = entities[row]
            if entity == EntityNumbers.none { continue }
            let record = try writer.next(Int(entity & mask))
            for extra in (EventRecord.headWidth + words.count)..<max(EventRecord.headWidth + words.count, layout.width)
            { record[extra] = 0 }
            EventRecord.writeHead(
                record, entity: entity, eventTime: happened[row], ingestTime: known[row], sequence: sequence[row])
            for column in words.indices {
                if present[column].map({ $0[row] != 0 }) ?? true {
                    layout.write(record, column: column, words[column][row])
                } else {
                    record[EventRecord.headWidth + column] = 0
                }
            }
            count += 1
        }
        return count
    }

    // MARK: Sweeping

    private final class SweepState {
        let sweep: EntitySweep
        let writer: PartitionedRecords.Writer
        var places: [UInt32] = []
        var starts: [UInt32] = []
        var ticks: [Int64] = []
        var rows: [UInt32] = []
        var order: [Int] = []
        var answers: [Int64] = []
        init(_ sweep: EntitySweep, _ writer: PartitionedRecords.Writer) {
            self.sweep = sweep
            self.writer = writer
        }
    }

    private func sweep(
        _ questions: Questions, _ records: PartitionedRecords, bits: Int, _ layout: EventRecord,
        _ answers: PartitionedRecords, _ texts: TextHeap
    ) throws {
        // The largest first, so that no thread is left with a hot key at the end.
        let partitions = (0..<records.partitionCount).sorted { records.count($0) > records.count($1) }
        let handles = EntitySweep.TextHandles(text: { texts.text($0) }, handle: { texts.handle($0) })
        try workers.run(
            units: partitions.count,
            state: { SweepState(EntitySweep(plan: view.plan, texts: handles), PartitionedRecords.Writer(answers)) },
            { state, unit in try sweep(partitions[unit], questions, records, bits: bits, layout, state) },
            finish: { try $0.writer.finish() })
    }

    private func sweep(
        _ partition: Int, _ questions: Questions, _ records: PartitionedRecords, bits: Int, _ layout: EventRecord,
        _ state: SweepState
    ) throws {
        let (memory, count) = try records.take(partition)
        defer { memory.deallocate() }
        // Entities of this partition: partition, partition + 2^bits, …; the last of all is nobody.
        let entityCount = questions.starts.count - 1
        let localCount = entityCount > partition ? (entityCount - partition - 1) >> bits + 1 : 0
        guard localCount > 0 else { return }
        state.starts.removeAll(keepingCapacity: true)
        state.starts.append(contentsOf: repeatElement(0, count: localCount + 1))
        for index in 0..<count { state.starts[EventRecord.entity(memory + index * layout.width) >> bits + 1] += 1 }
        for index in 1...localCount { state.starts[index] += state.starts[index - 1] }
        var next = state.starts
        if state.places.count < count { state.places = [UInt32](repeating: 0, count: count) }
        for index in 0..<count {
            let local = EventRecord.entity(memory + index * layout.width) >> bits
            state.places[Int(next[local])] = UInt32(index)
            next[local] += 1
        }
        for local in 0..<localCount {
            let entity = local << bits + partition
            let range = Int(questions.starts[entity])..<Int(questions.starts[entity + 1])
            guard !range.isEmpty else { continue }
            let events = Int(state.starts[local])..<Int(state.starts[local + 1])
            state.places.withUnsafeMutableBufferPointer { places in
                state.sweep.load(memory, places: UnsafeMutableBufferPointer(rebasing: places[events]))
                ask(questions, range, state)
            }
            try write(state)
        }
    }

    /// Answers the questions of the entity that is loaded, in the order of their ticks.
    private func ask(_ questions: Questions, _ range: Range<Int>, _ state: SweepState) {
        state.rows.removeAll(keepingCapacity: true)
        state.rows.append(contentsOf: questions.rows[range])
        var isSorted = true
        for index in state.rows.indices.dropFirst()
        where questions.ticks[Int(state.rows[index])] < questions.ticks[Int(state.rows[index - 1])] {
            isSorted = false
            break
        }
        if !isSorted {
            questions.ticks.withUnsafeBufferPointer { ticks in
                state.rows.sort { (ticks[Int($0)], $0) < (ticks[Int($1)], $1) }
            }
        }
        state.ticks.removeAll(keepingCapacity: true)
        for row in state.rows { state.ticks.append(questions.ticks[Int(row)]) }
        let size = state.rows.count * state.sweep.answer.width
        if state.answers.count < size { state.answers = [Int64](repeating: 0, count: size) }
        state.ticks.withUnsafeBufferPointer { ticks in
            state.answers.withUnsafeMutableBufferPointer { answers in
                guard let base = answers.baseAddress else { return }
                state.sweep.answer(ticks, into: base)
            }
        }
    }

    private func write(_ state: SweepState) throws(StoreError) {
        let width = state.sweep.answer.width
        for (index, row) in state.rows.enumerated() {
            let record = try state.writer.next(groups.group(of: Int(row)))
            record[0] = Int64(row)
            state.answers.withUnsafeBufferPointer { answers in
                guard let base = answers.baseAddress else { return }
                (record + 1).update(from: base + index * width, count: width)
            }
        }
    }
}
