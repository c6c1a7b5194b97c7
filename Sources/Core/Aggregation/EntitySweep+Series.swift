import Definitions
import PlatformCore

/// Functions without a pass: asked of an `EventSeries`.
extension EntitySweep {
    func ask(
        _ plan: AggregationPlan, _ outputs: [Int], _ ticks: UnsafeBufferPointer<Int64>,
        _ answers: UnsafeMutablePointer<Int64>
    ) {
        guard let base, let places = sequenceOrder else { return }
        var series = EventSeries(plan: plan)
        let size = (plan.columns.map(\.position).max() ?? -1) + 1
        var cells = [CellValue](repeating: .null, count: size)
        // Columns that only derived ones read are not here, so derived cells are taken as they came.
        for event in 0..<eventCount {
            for (column, described) in plan.columns.enumerated() {
                cells[described.position] = cell(event, column, described)
            }
            series.insert(
                eventTime: EventTime(milliseconds: eventTimes[event]),
                ingestTime: EventTime(milliseconds: ingestTimes[event]),
                sequence: UInt64(bitPattern: base[Int(places[event]) * record.width + 3]), cells: cells, isWhole: true,
                plan: plan)
        }
        for question in 0..<ticks.count {
            // A tick is the last moment that counts; the question stands one later, unless the view is inclusive.
            let time = plan.inclusive || ticks[question] == .min ? ticks[question] : ticks[question] + 1
            let found = series.cells(plan, at: EventTime(milliseconds: time))
            let place = answers + question * answer.width
            for (output, value) in zip(outputs, found.values) {
                switch value {
                case .null, .list: break
                case .integer(let value): answer.write(place, output, value)
                case .double(let value): answer.write(place, output, Int64(bitPattern: value.bitPattern))
                case .bool(let value): answer.write(place, output, value ? 1 : 0)
                case .text(let value): answer.write(place, output, texts.handle(value))
                }
            }
        }
    }

    func cell(_ event: Int, _ column: Int, _ described: AggregationPlan.Column) -> CellValue {
        guard present[column][event] != 0 else { return .null }
        let word = words[column][event]
        switch described.storage {
        case .real: return .double(Double(bitPattern: UInt64(bitPattern: word)))
        case .integer: return described.type == .bool ? .bool(word != 0) : .integer(word)
        case .text: return .text(texts.text(word))
        // Records hold one word for each column; the caller leaves such features to SQL.
        case .vector: return .null
        }
    }
}
