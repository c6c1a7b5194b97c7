import Aggregation
import Datasets
import Definitions
import PlatformCore
import Synchronization
import Testing

/// The batch kernel answers as the oracle does, bit for bit, on the same histories as the other readers.
struct SweepParityTests {
    /// Texts by number.
    private final class Texts: Sendable {
        private let list = Mutex<[String]>([])
        var texts: [String] { list.withLock { $0 } }
        func handle(_ text: String) -> Int64 {
            list.withLock { texts in
                if let known = texts.firstIndex(where: { Array($0.utf8) == Array(text.utf8) }) { return Int64(known) }
                texts.append(text)
                return Int64(texts.count - 1)
            }
        }
    }

    private static func key(_ history: GeneratedHistory, _ row: SourceRow) -> [UInt8]? {
        let parts = history.view.joinKeys.map { name in
            history.source.columns.firstIndex { $0.name == name }.flatMap { row.cells[$0].keyText }
        }
        let whole = parts.compactMap { $0 }
        return whole.count == parts.count ? EntityKey(values: whole).map { Array($0.joined.utf8) } : nil
    }

    private static func records(_ rows: [LoggedRow], _ plan: AggregationPlan, _ layout: EventRecord, _ texts: Texts)
        -> [Int64]
    {
        var words = [Int64](repeating: 0, count: rows.count * layout.width)
        words.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return }
            for (index, logged) in rows.enumerated() {
                let record = base + index * layout.width
                EventRecord.writeHead(
                    record, entity: 3, eventTime: logged.row.eventTime.milliseconds,
                    ingestTime: logged.row.ingestTime.milliseconds, sequence: Int64(logged.sequence))
                let cells = plan.view.row(logged.row.cells)
                for (place, column) in plan.columns.enumerated() {
                    switch cells[column.position] {
                    case .null, .list: break
                    case .integer(let value): layout.write(record, column: place, value)
                    case .bool(let value): layout.write(record, column: place, value ? 1 : 0)
                    case .double(let value): layout.write(record, column: place, Int64(bitPattern: value.bitPattern))
                    case .text(let value): layout.write(record, column: place, texts.handle(value))
                    }
                }
            }
        }
        return words
    }

    private static func cell(_ word: Int64, _ type: ColumnType, _ texts: Texts) -> CellValue {
        switch type {
        case .float64: .double(Double(bitPattern: UInt64(bitPattern: word)))
        case .bool: .bool(word != 0)
        case .string: .text(texts.texts[Int(word)])
        default: .integer(word)
        }
    }

    @Test(arguments: Array(0..<6) + [GeneratedHistory.estimating])
    func sweepIsTheOracle(seed: UInt64) throws {
        let history = try GeneratedHistory(seed: seed, functions: .flat)
        let plan = AggregationPlan(view: history.view, source: history.source)
        let texts = Texts()
        let sweep = EntitySweep(
            plan: plan, texts: EntitySweep.TextHandles(text: { texts.texts[Int($0)] }, handle: { texts.handle($0) }))
        var random = SeededGenerator(seed: seed + 1000)
        var entities: [[UInt8]: [LoggedRow]] = [:]
        for logged in history.rows.shuffled(using: &random) {
            // The sweep is given the events that count in its view.
            guard !plan.isTooLate(eventTime: logged.row.eventTime, ingestTime: logged.row.ingestTime) else { continue }
            if let key = Self.key(history, logged.row) { entities[key, default: []].append(logged) }
        }
        var asked: [[UInt8]: [(keys: [String?], time: Int64)]] = [:]
        for question in history.questions {
            let whole = question.keys.compactMap { $0 }
            let key = whole.count == question.keys.count ? EntityKey(values: whole).map { Array($0.joined.utf8) } : nil
            asked[key ?? [], default: []].append(question)
        }
        var compared = 0
        for (key, questions) in asked {
            let events = entities[key] ?? []
            let words = Self.records(events, plan, sweep.record, texts)
            var places = (0..<UInt32(events.count)).map { $0 }
            let sorted = questions.sorted { $0.time < $1.time }
            let ticks = sorted.map { plan.tick(at: $0.time) }
            var answers = [Int64](repeating: -1, count: ticks.count * sweep.answer.width)
            words.withUnsafeBufferPointer { records in
                places.withUnsafeMutableBufferPointer { places in
                    ticks.withUnsafeBufferPointer { ticks in
                        answers.withUnsafeMutableBufferPointer { answers in
                            guard let from = records.baseAddress ?? ticks.baseAddress, let to = answers.baseAddress
                            else { return }
                            sweep.load(from, places: places)
                            sweep.answer(ticks, into: to)
                        }
                    }
                }
            }
            for (index, question) in sorted.enumerated() {
                let expected = OracleFeatures.answer(
                    history.view, history.source, rows: events, keys: question.keys, at: question.time)
                for (place, feature) in plan.features.enumerated() {
                    let found: CellValue = answers.withUnsafeBufferPointer { answers in
                        guard let base = answers.baseAddress else { return .null }
                        let answer = base + index * sweep.answer.width
                        guard sweep.answer.hasValue(answer, place) else { return .null }
                        return Self.cell(sweep.answer.word(answer, place), feature.type, texts)
                    }
                    #expect(
                        WindowParityTests.exactText(found) == WindowParityTests.exactText(expected.values[place]),
                        "\(feature.name) of \(question.keys) at \(question.time), seed \(seed)")
                    compared += 1
                }
            }
        }
        #expect(compared == history.questions.count * plan.features.count)
    }
}
