import Definitions
import PlatformCore

/// Answers many questions about one entity in one pass over its events: the batch side of `EventSeries`.
///
/// Questions come in the order of time. For each window two pointers walk the events, one in the order in which they become
/// visible (happened and known), one in the order in which they leave; sums are exact integers, so what enters and leaves
/// again leaves nothing behind. Extremes stand in a queue that holds only values which can still win. The cost is one step
/// for each event, question and window, whatever the width of the window; late events are no special case.
///
/// Functions without such a pass are asked of an `EventSeries`, event by event and question by question.
///
/// One object for each thread: it keeps its memory from entity to entity.
public final class EntitySweep {
    /// How events are handed over.
    public let record: EventRecord
    /// How answers are given.
    public let answer: AnswerRecord

    struct WindowStep {
        let column: Int?
        let window: Int64
        var outputs: [(function: AggregateFunction, output: Int)]
        var needsSum = false
        var needsSquares = false
        var needsMinimum = false
        var needsMaximum = false
    }
    struct Pick {
        let isLast: Bool
        let column: Int
        let window: Int64?
        let output: Int
    }

    let plan: AggregationPlan
    private var steps: [WindowStep] = []
    /// Distinct counts by column.
    private var countedColumns: [(column: Int, windows: [(window: Int64, output: Int)])] = []
    private var picks: [Pick] = []
    /// Features that only `EventSeries` computes, and their places.
    private let generic: (plan: AggregationPlan, outputs: [Int])?
    private let texts: TextHandles

    /// What texts are called in records: handles that the caller gives and understands.
    public struct TextHandles: Sendable {
        /// The text of a handle.
        public let text: @Sendable (Int64) -> String
        /// The handle of a text.
        public let handle: @Sendable (String) -> Int64
        /// Makes handles.
        public init(text: @escaping @Sendable (Int64) -> String, handle: @escaping @Sendable (String) -> Int64) {
            self.text = text
            self.handle = handle
        }
    }

    // Grown, never shrunk.
    private var eventCapacity = 0
    private var questionCapacity = 0
    private(set) var eventTimes = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    private(set) var ingestTimes = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    private var seen = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    private var order = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    private var packed = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
    private var queue = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    private var secondQueue = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    private var words: [UnsafeMutablePointer<Int64>] = []
    private var present: [UnsafeMutablePointer<UInt8>] = []
    private var scaled: [UnsafeMutablePointer<Int64>] = []
    private var rising: [UnsafeMutablePointer<Int64>] = []
    private var newest = UnsafeMutablePointer<Int32>.allocate(capacity: 1)

    private var base: UnsafePointer<Int64>?
    private var eventCount = 0
    private var sequenceOrder: UnsafeMutablePointer<UInt32>?

    /// Prepares for a plan.
    public init(plan: AggregationPlan, texts: TextHandles) {
        self.plan = plan
        self.texts = texts
        record = EventRecord(columnCount: plan.columns.count)
        answer = AnswerRecord(featureCount: plan.features.count)
        var slow: [Int] = []
        for (output, feature) in plan.features.enumerated() {
            if feature.gate != nil {
                slow.append(output)
                continue
            }
            switch (feature.function, feature.column, feature.window) {
            case (.last, let column?, let window):
                picks.append(Pick(isLast: true, column: column, window: window, output: output))
            case (.first, let column?, let window?):
                picks.append(Pick(isLast: false, column: column, window: window, output: output))
            case (.count, let column, let window?): Self.add(feature.function, output, column, window, &steps)
            case (.sum, let column?, let window?), (.mean, let column?, let window?),
                (.stddev, let column?, let window?),
                (.min, let column?, let window?), (.max, let column?, let window?):
                Self.add(feature.function, output, column, window, &steps)
            case (.distinctCount, let column?, let window?):
                let index = countedColumns.firstIndex { $0.column == column } ?? countedColumns.count
                if index == countedColumns.count { countedColumns.append((column, [])) }
                countedColumns[index].windows.append((window, output))
            default: slow.append(output)
            }
        }
        generic = slow.isEmpty ? nil : (plan.selecting(slow), slow)
        for _ in plan.columns {
            words.append(.allocate(capacity: 1))
            present.append(.allocate(capacity: 1))
            scaled.append(.allocate(capacity: 1))
            rising.append(.allocate(capacity: 1))
        }
    }

    deinit {
        for pointer in [eventTimes, ingestTimes, seen] + words + scaled + rising { pointer.deallocate() }
        for pointer in [order, queue, secondQueue] { pointer.deallocate() }
        for pointer in present { pointer.deallocate() }
        packed.deallocate()
        newest.deallocate()
    }

    private static func add(
        _ function: AggregateFunction, _ output: Int, _ column: Int?, _ window: Int64, _ steps: inout [WindowStep]
    ) {
        let index = steps.firstIndex { $0.column == column && $0.window == window } ?? steps.count
        if index == steps.count { steps.append(WindowStep(column: column, window: window, outputs: [])) }
        steps[index].outputs.append((function, output))
        switch function {
        case .sum, .mean: steps[index].needsSum = true
        case .stddev: steps[index].needsSquares = true
        case .min: steps[index].needsMinimum = true
        case .max: steps[index].needsMaximum = true
        default: break
        }
    }

    private func reserve(events: Int, questions: Int) {
        if events > eventCapacity {
            let size = max(events, eventCapacity * 2, 256)
            eventCapacity = size
            func renew<Element>(_ pointer: inout UnsafeMutablePointer<Element>) {
                pointer.deallocate()
                pointer = .allocate(capacity: size)
            }
            renew(&eventTimes)
            renew(&ingestTimes)
            renew(&seen)
            renew(&order)
            renew(&packed)
            renew(&queue)
            renew(&secondQueue)
            for column in words.indices {
                renew(&words[column])
                renew(&present[column])
                renew(&scaled[column])
                renew(&rising[column])
            }
        }
        if questions > questionCapacity {
            questionCapacity = max(questions, questionCapacity * 2, 64)
            newest.deallocate()
            newest = .allocate(capacity: questionCapacity)
        }
    }

    // MARK: Loading

    /// Takes the events of an entity, sorts them by the tie rule, and lays them out column by column.
    /// - Parameters:
    ///   - records: memory that holds the records.
    ///   - places: which of them are this entity's; left in the order of the tie rule.
    public func load(_ records: UnsafePointer<Int64>, places: UnsafeMutableBufferPointer<UInt32>) {
        let count = places.count
        reserve(events: count, questions: 0)
        let width = record.width
        base = records
        sequenceOrder = places.baseAddress
        eventCount = count
        sort(records, places)
        for index in 0..<count {
            let event = records + Int(places[index]) * width
            eventTimes[index] = event[1]
            ingestTimes[index] = event[2]
            seen[index] = max(event[1], event[2])
        }
        for (column, described) in plan.columns.enumerated() {
            let (words, present) = (words[column], present[column])
            let place = EventRecord.headWidth + column
            if described.storage == .real {
                for index in 0..<count {
                    let event = records + Int(places[index]) * width
                    // Adding zero makes a negative zero positive.
                    let value = Double(bitPattern: UInt64(bitPattern: event[place])) + 0.0
                    words[index] = Int64(bitPattern: value.bitPattern)
                    present[index] = record.hasValue(event, column: column) && !value.isNaN ? 1 : 0
                }
            } else {
                for index in 0..<count {
                    let event = records + Int(places[index]) * width
                    words[index] = event[place]
                    present[index] = record.hasValue(event, column: column) ? 1 : 0
                }
            }
            guard described.storage != .text else { continue }
            if described.needsSum || described.needsSquares {
                let scaled = scaled[column]
                if described.storage == .real {
                    for index in 0..<count where present[index] != 0 {
                        scaled[index] = ExactArithmetic.scaled(
                            Double(bitPattern: UInt64(bitPattern: words[index])), by: described.power)
                    }
                } else {
                    scaled.update(from: words, count: count)
                }
            }
            if described.needsExtremes {
                let rising = rising[column]
                // The order of doubles is that of their bits, with those of negative ones turned round.
                if described.storage == .real {
                    for index in 0..<count { rising[index] = words[index] ^ ((words[index] >> 63) & Int64.max) }
                } else {
                    rising.update(from: words, count: count)
                }
            }
        }
        var isInOrder = true
        for index in 0..<count {
            order[index] = UInt32(truncatingIfNeeded: index)
            if index > 0, seen[index] < seen[index - 1] { isInOrder = false }
        }
        if !isInOrder {
            let seen = seen
            sortIndices(order, count) { seen[Int($0)] }
        }
    }

    private func sort(_ records: UnsafePointer<Int64>, _ places: UnsafeMutableBufferPointer<UInt32>) {
        guard let start = places.baseAddress, places.count > 1 else { return }
        let width = record.width
        var isSorted = true
        var hasTies = false
        var last = records[Int(places[0]) * width + 1]
        for index in 1..<places.count {
            let next = records[Int(places[index]) * width + 1]
            if next < last { isSorted = false }
            if next == last { hasTies = true }
            last = next
        }
        if !isSorted { sortIndices(start, places.count) { records[Int($0) * width + 1] } }
        guard hasTies || !isSorted else { return }
        var from = 0
        while from < places.count {
            let time = records[Int(places[from]) * width + 1]
            var to = from + 1
            while to < places.count, records[Int(places[to]) * width + 1] == time { to += 1 }
            if to - from > 1 {
                var ties = UnsafeMutableBufferPointer(rebasing: places[from..<to])
                ties.sort { left, right in
                    let (left, right) = (records + Int(left) * width, records + Int(right) * width)
                    return left[2] != right[2]
                        ? left[2] < right[2] : UInt64(bitPattern: left[3]) < UInt64(bitPattern: right[3])
                }
            }
            from = to
        }
    }

    /// Sorts indices by a key, equal keys in the order in which they stand.
    private func sortIndices(_ indices: UnsafeMutablePointer<UInt32>, _ count: Int, _ key: (UInt32) -> Int64) {
        var (low, high) = (Int64.max, Int64.min)
        for index in 0..<count {
            let value = key(indices[index])
            low = min(low, value)
            high = max(high, value)
        }
        let (span, overflow) = high.subtractingReportingOverflow(low)
        let indexBits = Int.bitWidth - count.leadingZeroBitCount
        let spanBits = overflow ? 64 : Int64.bitWidth - span.leadingZeroBitCount
        guard spanBits + indexBits <= 64 else {
            let whole = (0..<count).map { (key(indices[$0]), $0, indices[$0]) }
                .sorted { ($0.0, $0.1) < ($1.0, $1.1) }
            for (index, entry) in whole.enumerated() { indices[index] = entry.2 }
            return
        }
        // Key and place in one word: the sort compares single integers, and is stable by itself.
        for index in 0..<count {
            packed[index] = UInt64(key(indices[index]) - low) << UInt64(indexBits) | UInt64(index)
        }
        let mask = (UInt64(1) << UInt64(indexBits)) - 1
        if count <= 40 {
            for index in 1..<max(1, count) {
                let value = packed[index]
                var place = index
                while place > 0, packed[place - 1] > value {
                    packed[place] = packed[place - 1]
                    place -= 1
                }
                packed[place] = value
            }
        } else {
            var keys = UnsafeMutableBufferPointer(start: packed, count: count)
            keys.sort()
        }
        // `queue` is free while events are loaded.
        queue.update(from: indices, count: count)
        for index in 0..<count { indices[index] = queue[Int(packed[index] & mask)] }
    }

    // MARK: Answering

    /// Answers questions about the entity that was loaded.
    /// - Parameters:
    ///   - ticks: the questions' ticks (`AggregationPlan.tick(at:)`), rising.
    ///   - answers: `answer.width` words for each question.
    public func answer(_ ticks: UnsafeBufferPointer<Int64>, into answers: UnsafeMutablePointer<Int64>) {
        guard !ticks.isEmpty else { return }
        reserve(events: 0, questions: ticks.count)
        let width = answer.width
        answers.update(repeating: 0, count: ticks.count * width)
        findNewest(ticks)
        for step in steps {
            if step.column.map({ plan.columns[$0].storage == .text }) ?? true {
                count(step, ticks, answers)
            } else {
                sweep(step, ticks, answers)
            }
        }
        for counted in countedColumns { countValues(counted.column, counted.windows, ticks, answers) }
        for pick in picks {
            if pick.isLast { last(pick, ticks, answers) } else { first(pick, ticks, answers) }
        }
        if let generic { ask(generic.plan, generic.outputs, ticks, answers) }
        guard let limit = plan.timeToLive else { return }
        for question in 0..<ticks.count where newest[question] >= 0 {
            if leaves(Int(newest[question]), limit) <= ticks[question] {
                (answers + question * width).update(repeating: 0, count: width)
            }
        }
    }

    @inline(__always)
    private func leaves(_ event: Int, _ window: Int64) -> Int64 {
        let (moment, overflow) = eventTimes[event].addingReportingOverflow(window)
        return overflow ? .max : moment
    }

    /// For each question the newest visible event, or -1.
    private func findNewest(_ ticks: UnsafeBufferPointer<Int64>) {
        var (enter, found) = (0, Int32(-1))
        for question in 0..<ticks.count {
            while enter < eventCount, seen[Int(order[enter])] <= ticks[question] {
                found = max(found, Int32(bitPattern: order[enter]))
                enter += 1
            }
            newest[question] = found
        }
    }

    private func count(_ step: WindowStep, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>)
    {
        let flags = step.column.map { present[$0] }
        var (enter, exit, count) = (0, 0, Int64(0))
        for question in 0..<ticks.count {
            let tick = ticks[question]
            while enter < eventCount {
                let event = Int(order[enter])
                guard seen[event] <= tick else { break }
                enter += 1
                if seen[event] < leaves(event, step.window), flags.map({ $0[event] != 0 }) ?? true { count += 1 }
            }
            while exit < eventCount {
                let end = leaves(exit, step.window)
                guard end <= tick else { break }
                if seen[exit] < end, flags.map({ $0[exit] != 0 }) ?? true { count -= 1 }
                exit += 1
            }
            for output in step.outputs { answer.write(answers + question * answer.width, output.output, count) }
        }
    }

    /// How many different values a column has in windows: a value counts while one of its events is in the window.
    private func countValues(
        _ column: Int, _ windows: [(window: Int64, output: Int)], _ ticks: UnsafeBufferPointer<Int64>,
        _ answers: UnsafeMutablePointer<Int64>
    ) {
        let (present, words) = (present[column], words[column])
        // The events' values by number, from 0; `queue` is free here.
        let codes = queue
        var tally = ValueTally()
        let isText = plan.columns[column].storage == .text
        for event in 0..<eventCount where present[event] != 0 {
            let code: Int
            if isText {
                let text = texts.text(words[event])
                code = tally.add(text, hash: ValueTally.hash(text))
            } else {
                code = tally.add(words[event], hash: ValueTally.hash(words[event]))
            }
            codes[event] = UInt32(truncatingIfNeeded: code)
        }
        for (window, output) in windows {
            var occurrences = [Int32](repeating: 0, count: tally.count)
            var (enter, exit, count) = (0, 0, Int64(0))
            for question in 0..<ticks.count {
                let tick = ticks[question]
                while enter < eventCount {
                    let event = Int(order[enter])
                    guard seen[event] <= tick else { break }
                    enter += 1
                    guard present[event] != 0, seen[event] < leaves(event, window) else { continue }
                    occurrences[Int(codes[event])] += 1
                    if occurrences[Int(codes[event])] == 1 { count += 1 }
                }
                while exit < eventCount {
                    let end = leaves(exit, window)
                    guard end <= tick else { break }
                    if present[exit] != 0, seen[exit] < end {
                        occurrences[Int(codes[exit])] -= 1
                        if occurrences[Int(codes[exit])] == 0 { count -= 1 }
                    }
                    exit += 1
                }
                answer.write(answers + question * answer.width, output, count)
            }
        }
    }

    private func sweep(_ step: WindowStep, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>)
    {
        guard let index = step.column else { return }
        let column = plan.columns[index]
        let (words, present, scaled, rising) = (words[index], present[index], scaled[index], rising[index])
        let (seen, order, eventTimes, total) = (seen, order, eventTimes, eventCount)
        let (needsSum, needsSquares) = (step.needsSum, step.needsSquares)
        let needsValue = needsSum || needsSquares
        var low = ExtremeQueue(storage: queue)
        var high = ExtremeQueue(storage: secondQueue)
        var (enter, exit, count) = (0, 0, 0)
        var (sum, squareSum, squares) = (Int128(0), Int128(0), Int128(0))
        for question in 0..<ticks.count {
            let tick = ticks[question]
            while enter < total {
                let event = Int(order[enter])
                guard seen[event] <= tick else { break }
                enter += 1
                guard present[event] != 0, seen[event] < leaves(event, step.window) else { continue }
                count += 1
                if needsValue {
                    let value = scaled[event]
                    if needsSum { sum &+= Self.term(value) }
                    if needsSquares {
                        let (plain, square) = Self.squareTerms(value)
                        squareSum &+= plain
                        squares &+= square
                    }
                }
                if step.needsMinimum { low.insert(event) { rising[$0] } }
                if step.needsMaximum { high.insert(event) { ~rising[$0] } }
            }
            while exit < total {
                let (moment, overflow) = eventTimes[exit].addingReportingOverflow(step.window)
                let end = overflow ? Int64.max : moment
                guard end <= tick else { break }
                if present[exit] != 0, seen[exit] < end {
                    count -= 1
                    if needsValue {
                        let value = scaled[exit]
                        if needsSum { sum &-= Self.term(value) }
                        if needsSquares {
                            let (plain, square) = Self.squareTerms(value)
                            squareSum &-= plain
                            squares &-= square
                        }
                    }
                }
                exit += 1
            }
            let place = answers + question * answer.width
            if count == 0 {
                for output in step.outputs where output.function == .count { answer.write(place, output.output, 0) }
                low.clear()
                high.clear()
                continue
            }
            low.drop(before: exit)
            high.drop(before: exit)
            for output in step.outputs {
                let value: Double?
                switch output.function {
                case .count:
                    answer.write(place, output.output, Int64(count))
                    continue
                case .min:
                    answer.write(place, output.output, words[low.first])
                    continue
                case .max:
                    answer.write(place, output.output, words[high.first])
                    continue
                case .sum: value = ExactArithmetic.sum(sum, power: column.power)
                case .mean: value = ExactArithmetic.mean(sum, count: count, power: column.power)
                default:
                    value = ExactArithmetic.standardDeviation(
                        squareSum, squares: squares, count: count, power: column.power)
                }
                if let value { answer.write(place, output.output, Int64(bitPattern: value.bitPattern)) }
            }
        }
    }

    @inline(__always)
    private static func term(_ value: Int64) -> Int128 {
        value == ExactArithmetic.unsummable ? ExactArithmetic.poison : Int128(value)
    }

    @inline(__always)
    private static func squareTerms(_ value: Int64) -> (Int128, Int128) {
        guard value != ExactArithmetic.unsummable, value.magnitude < UInt64(ExactArithmetic.squareBound) else {
            return (ExactArithmetic.poison, 0)
        }
        return (Int128(value), Int128(value) &* Int128(value))
    }

    private func write(_ event: Int, _ column: Int, _ place: UnsafeMutablePointer<Int64>, _ output: Int) {
        if present[column][event] != 0 { answer.write(place, output, words[column][event]) }
    }

    private func last(_ pick: Pick, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>) {
        for question in 0..<ticks.count {
            let event = Int(newest[question])
            guard event >= 0, pick.window.map({ leaves(event, $0) > ticks[question] }) ?? true else { continue }
            write(event, pick.column, answers + question * answer.width, pick.output)
        }
    }

    private func first(_ pick: Pick, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>) {
        guard let window = pick.window else { return }
        // `queue` marks the events that are visible.
        queue.update(repeating: 0, count: eventCount)
        var (enter, low, top) = (0, 0, -1)
        // No visible event lies in low ..< found.
        var found = eventCount
        for question in 0..<ticks.count {
            let tick = ticks[question]
            while low < eventCount, leaves(low, window) <= tick { low += 1 }
            while enter < eventCount {
                let event = Int(order[enter])
                guard seen[event] <= tick else { break }
                enter += 1
                queue[event] = 1
                top = max(top, event)
                if event >= low { found = min(found, event) }
            }
            if found < low {
                found = low
                while found <= top, queue[found] == 0 { found += 1 }
                if found > top { found = eventCount }
            }
            if found < eventCount { write(found, pick.column, answers + question * answer.width, pick.output) }
        }
    }

    // MARK: Functions without a pass

    private func ask(
        _ plan: AggregationPlan, _ outputs: [Int], _ ticks: UnsafeBufferPointer<Int64>,
        _ answers: UnsafeMutablePointer<Int64>
    ) {
        guard let base, let places = sequenceOrder else { return }
        var series = EventSeries(plan: plan)
        let size = (plan.columns.map(\.position).max() ?? -1) + 1
        var cells = [CellValue](repeating: .null, count: size)
        for event in 0..<eventCount {
            for (column, described) in plan.columns.enumerated() {
                cells[described.position] = cell(event, column, described)
            }
            series.insert(
                eventTime: EventTime(milliseconds: eventTimes[event]),
                ingestTime: EventTime(milliseconds: ingestTimes[event]),
                sequence: UInt64(bitPattern: base[Int(places[event]) * record.width + 3]), cells: cells, plan: plan)
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

    private func cell(_ event: Int, _ column: Int, _ described: AggregationPlan.Column) -> CellValue {
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

/// Events that can still be the smallest of a sliding window, by place; their values rise from front to back.
private struct ExtremeQueue {
    let storage: UnsafeMutablePointer<UInt32>
    var head = 0
    var tail = 0

    init(storage: UnsafeMutablePointer<UInt32>) { self.storage = storage }

    var first: Int { Int(storage[head]) }

    mutating func clear() {
        head = 0
        tail = 0
    }

    @inline(__always)
    mutating func drop(before event: Int) { while head < tail, Int(storage[head]) < event { head += 1 } }

    /// Adds an event, usually the newest; an older one that became known late goes to its place, if it can ever win.
    @inline(__always)
    mutating func insert(_ event: Int, _ value: (Int) -> Int64) {
        let added = value(event)
        guard head < tail, Int(storage[tail - 1]) > event else {
            while head < tail, value(Int(storage[tail - 1])) >= added { tail -= 1 }
            storage[tail] = UInt32(truncatingIfNeeded: event)
            tail += 1
            return
        }
        var (low, high) = (head, tail)
        while low < high {
            let middle = (low + high) / 2
            if Int(storage[middle]) < event { low = middle + 1 } else { high = middle }
        }
        // Values rise, so the next one is the smallest of those that leave later.
        if value(Int(storage[low])) <= added { return }
        var from = low
        while from > head, value(Int(storage[from - 1])) >= added { from -= 1 }
        if from == low {
            (storage + low + 1).update(from: storage + low, count: tail - low)
            tail += 1
        } else if from + 1 < low {
            (storage + from + 1).update(from: storage + low, count: tail - low)
            tail -= low - from - 1
        }
        storage[from] = UInt32(truncatingIfNeeded: event)
    }
}
