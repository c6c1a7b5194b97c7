import Definitions
import PlatformCore

/// One pass for each window.
extension EntitySweep {
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
        for counted in countedColumns {
            countValues(counted.column, counted.windows, ticks) { question, output, count in
                answer.write(answers + question * width, output, count)
            }
        }
        for estimate in estimates { self.estimate(estimate, ticks, answers) }
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
    func leaves(_ event: Int, _ window: Int64) -> Int64 {
        let (moment, overflow) = eventTimes[event].addingReportingOverflow(window)
        return overflow ? .max : moment
    }

    /// For each question the newest visible event, or -1.
    func findNewest(_ ticks: UnsafeBufferPointer<Int64>) {
        var (enter, found) = (0, Int32(-1))
        for question in 0..<ticks.count {
            while enter < eventCount, seen[Int(order[enter])] <= ticks[question] {
                found = max(found, Int32(bitPattern: order[enter]))
                enter += 1
            }
            newest[question] = found
        }
    }

    func count(_ step: WindowStep, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>) {
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
        write: (_ question: Int, _ output: Int, _ count: Int64) -> Void
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
                write(question, output, count)
            }
        }
    }

    /// The same where the number of coupons decides whether a count stands as it is.
    private func estimate(
        _ estimate: Estimate, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>
    ) {
        let (answer, windows) = (answer, estimate.windows)
        let exactMax = DistinctEstimate.exactCouponCountMax(estimate.precision)
        countValues(estimate.coupons, windows, ticks) { question, output, coupons in
            let isMany = coupons > exactMax
            answer.write(
                answers + question * answer.width, output,
                isMany ? -DistinctEstimate.estimate(coupons: coupons, precision: estimate.precision) : 0)
        }
        // What is negative is estimated already.
        countValues(estimate.column, windows, ticks) { question, output, count in
            let place = answers + question * answer.width
            let known = answer.word(place, output)
            answer.write(place, output, known < 0 ? -known : count)
        }
    }

    func sweep(_ step: WindowStep, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>) {
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
    static func term(_ value: Int64) -> Int128 {
        value == ExactArithmetic.unsummable ? ExactArithmetic.poison : Int128(value)
    }

    @inline(__always)
    static func squareTerms(_ value: Int64) -> (Int128, Int128) {
        guard value != ExactArithmetic.unsummable, value.magnitude < UInt64(ExactArithmetic.squareBound) else {
            return (ExactArithmetic.poison, 0)
        }
        return (Int128(value), Int128(value) &* Int128(value))
    }

    func write(_ event: Int, _ column: Int, _ place: UnsafeMutablePointer<Int64>, _ output: Int) {
        if present[column][event] != 0 { answer.write(place, output, words[column][event]) }
    }

    func last(_ pick: Pick, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>) {
        for question in 0..<ticks.count {
            let event = Int(newest[question])
            guard event >= 0, pick.window.map({ leaves(event, $0) > ticks[question] }) ?? true else { continue }
            write(event, pick.column, answers + question * answer.width, pick.output)
        }
    }

    func first(_ pick: Pick, _ ticks: UnsafeBufferPointer<Int64>, _ answers: UnsafeMutablePointer<Int64>) {
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
}
