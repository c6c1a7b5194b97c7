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

    struct Estimate {
        let column: Int
        let coupons: Int
        let precision: Int
        var windows: [(window: Int64, output: Int)]
    }

    let plan: AggregationPlan
    var steps: [WindowStep] = []
    /// Distinct counts by column.
    var countedColumns: [(column: Int, windows: [(window: Int64, output: Int)])] = []
    var estimates: [Estimate] = []
    var picks: [Pick] = []
    /// Features that only `EventSeries` computes, and their places.
    let generic: (plan: AggregationPlan, outputs: [Int])?
    let texts: TextHandles

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
    var eventCapacity = 0
    var questionCapacity = 0
    var eventTimes = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    var ingestTimes = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    var seen = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    var order = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    var packed = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
    var queue = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    var secondQueue = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    var words: [UnsafeMutablePointer<Int64>] = []
    var present: [UnsafeMutablePointer<UInt8>] = []
    var scaled: [UnsafeMutablePointer<Int64>] = []
    var rising: [UnsafeMutablePointer<Int64>] = []
    var newest = UnsafeMutablePointer<Int32>.allocate(capacity: 1)

    var base: UnsafePointer<Int64>?
    var eventCount = 0
    var sequenceOrder: UnsafeMutablePointer<UInt32>?

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
            case (.approxCountDistinct, let column?, let window?):
                guard let coupons = feature.coupons else { preconditionFailure("an estimate counts coupons") }
                let index = estimates.firstIndex { $0.column == column && $0.coupons == coupons.column }
                if index == nil {
                    estimates.append(
                        Estimate(column: column, coupons: coupons.column, precision: coupons.precision, windows: []))
                }
                estimates[index ?? estimates.count - 1].windows.append((window, output))
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

    static func add(
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

    func reserve(events: Int, questions: Int) {
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
}
