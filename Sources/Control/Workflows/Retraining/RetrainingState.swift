public import PlatformCore

/// One run of the loop that drift starts: train on newer data, judge, and bring the challenger in, or say why not.
public struct RetrainingState: Sendable, Hashable, Codable {
    /// The steps, in order.
    public enum Step: String, Sendable, Codable, CaseIterable {
        /// Build the training set.
        case dataset
        /// Run the training job.
        case train
        /// Register and evaluate the version.
        case register
        /// Ask the gates of staging.
        case gates
        /// Shadow and canary; ends with the rollout.
        case rollout
    }

    /// How a retraining ends.
    public enum Outcome: String, Sendable, Codable {
        /// The challenger is in production.
        case promoted
        /// A gate or a guardrail said no; the champion stays.
        case rejected
        /// A step failed.
        case failed
    }

    /// A step that was taken.
    public struct Taken: Sendable, Hashable, Codable {
        /// Which.
        public let step: Step
        /// When it ended, on the platform's clock.
        public let time: EventTime
        /// Wall time in seconds.
        public let seconds: Double
        /// What came of it, in one line.
        public let result: String
    }

    /// Identifier.
    public let id: String
    /// The monitor whose alert started it, or `manual`.
    public let monitor: String
    /// The model.
    public let model: Name
    /// What started it, in one sentence.
    public let cause: String
    /// When it started.
    public let startedAt: EventTime
    /// Span of the training set.
    public let from: EventTime
    /// End of the span.
    public let to: EventTime
    /// Steps taken.
    public private(set) var taken: [Taken] = []
    /// Hash of the training set once built.
    public var dataset: String?
    /// The training job once run.
    public var job: String?
    /// The version once registered.
    public var version: Int?
    /// What people have to say before it goes on, in one sentence; `nil` while it waits for nobody.
    public private(set) var waitingFor: String?
    /// How it ended; `nil` while it goes on.
    public private(set) var outcome: Outcome?
    /// Why it ended so.
    public private(set) var conclusion = ""

    /// Begins.
    public init(
        id: String, monitor: String, model: Name, cause: String, startedAt: EventTime, from: EventTime, to: EventTime
    ) {
        self.id = id
        self.monitor = monitor
        self.model = model
        self.cause = cause
        self.startedAt = startedAt
        self.from = from
        self.to = to
    }

    /// The step to take next; `nil` when it is over.
    public var next: Step? {
        guard outcome == nil else { return nil }
        let done = Set(taken.map(\.step))
        return Step.allCases.first { !done.contains($0) }
    }

    /// Whether a step computes now, rather than waits for traffic and time.
    public var isComputing: Bool { waitingFor == nil && (next.map { $0 != .rollout } ?? false) }

    /// Stops until people have agreed; the next step taken, or an end, ends the wait.
    public mutating func wait(for approvals: String) { waitingFor = approvals }

    /// Records a step.
    public mutating func take(_ step: Step, at time: EventTime, seconds: Double, result: String) {
        taken.append(Taken(step: step, time: time, seconds: seconds, result: result))
        waitingFor = nil
    }

    /// Ends it.
    public mutating func conclude(_ outcome: Outcome, _ conclusion: String) {
        self.outcome = outcome
        self.conclusion = conclusion
        waitingFor = nil
    }
}
