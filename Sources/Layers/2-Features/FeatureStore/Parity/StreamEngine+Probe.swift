import Definitions
public import PlatformCore
import Synchronization

/// One question to the online path, for comparison.
public struct OnlineQuestion: Sendable, Hashable {
    /// Join key values by name.
    public let entity: [String: String]
    /// Moment of the question.
    public let time: EventTime
    /// Makes a question.
    public init(entity: [String: String], time: EventTime) {
        self.entity = entity
        self.time = time
    }
}

extension StreamEngine {
    /// Answers many questions about a view from one state: no row is applied meanwhile.
    ///
    /// Rows wait for the time of the answers, so ask a few thousand questions at most.
    /// - Returns: the answers, and the log offset of the first row that they do not know.
    /// - Throws: `notFound` for an unknown view.
    public func answers(view name: Name, to questions: [OnlineQuestion]) async throws -> (
        features: [OnlineFeatures], nextOffset: UInt64
    ) {
        try await gate.pass {
            var answers: [OnlineFeatures] = []
            answers.reserveCapacity(questions.count)
            for question in questions {
                answers.append(try await onlineFeatures(view: name, entities: [question.entity], at: question.time))
            }
            let state = snapshot.withLock { current in
                current.definitions.featureViews[name].flatMap { current.views[$0.versionName] }
            }
            return (answers, state?.nextOffset.load(ordering: .acquiring) ?? 0)
        }
    }
}
