public import Definitions
public import PlatformCore

extension Predictor {
    /// An answer, and what has to reach the log before it may leave.
    public struct Answer: Sendable {
        /// HTTP status.
        public let status: Int
        /// JSON.
        public let body: [UInt8]
        /// For the log; empty for refused requests.
        public let entries: [PredictionLogEntry]
        /// What the answer owes the log.
        public let logPolicy: PredictionLogPolicy
        /// Header fields beside its length; empty for those of JSON.
        public var headers: [(name: String, value: String)] { wording?.headers ?? [] }
        /// Seconds after which a refused caller may try again; 0 where that is not said.
        public var retryAfterSeconds = 0
        /// Until when it has to be given; `nil` for no bound.
        public internal(set) var deadline: ContinuousClock.Instant?
        /// The request's place among those in hand; to be kept until the answer is given.
        var ticket: AdmissionTicket?
        /// Whether this is no answer: the request is to be answered elsewhere (`Explaining.left`, `prepare`).
        public var isLeft: Bool { status == 0 }

        /// Says a failure after the prediction in the words of the call.
        func failureBody(_ error: PlatformError) -> [UInt8] {
            wording?.failureBody(error) ?? Predictor.errorBody(error)
        }

        /// The words of another call than `/predict`, together: what is copied with each answer are references.
        private final class Wording: Sendable {
            let headers: [(name: String, value: String)]
            let failureBody: @Sendable (PlatformError) -> [UInt8]

            init(headers: [(name: String, value: String)], failureBody: @escaping @Sendable (PlatformError) -> [UInt8])
            {
                self.headers = headers
                self.failureBody = failureBody
            }
        }
        private var wording: Wording?

        /// No answer: the request is to be answered elsewhere.
        public static let left = Answer(status: 0, body: [], entries: [], logPolicy: .shed)

        init(
            status: Int, body: [UInt8], entries: [PredictionLogEntry], logPolicy: PredictionLogPolicy
        ) {
            self.status = status
            self.body = body
            self.entries = entries
            self.logPolicy = logPolicy
        }

        /// An answer in other words than those of `/predict`.
        ///
        /// - Parameters:
        ///   - columns: what was predicted; `nil` for a request that was refused.
        ///   - failureBody: how a failure after the prediction is worded.
        public init(
            status: Int, headers: [(name: String, value: String)], body: [UInt8], columns: ColumnAnswer?,
            failureBody: @escaping @Sendable (PlatformError) -> [UInt8]
        ) {
            self.init(
                status: status, body: body, entries: columns?.entries ?? [], logPolicy: columns?.logPolicy ?? .shed)
            wording = Wording(headers: headers, failureBody: failureBody)
            deadline = columns?.deadline
            ticket = columns?.ticket
        }
    }
}
