import APIContract
public import ModelServing

/// Predictions in another form than that of `/predict`, answered on the event loop by the same rules: terms, admission, log.
///
/// An ordinary route of the same method and path must exist and answers whatever this one leaves.
public struct PredictionRoute: Sendable {
    /// A request as it stands in the connection's buffer; not to be kept.
    public struct Call {
        /// What stands in place of the path's parameter.
        public let name: String
        /// What the sender says of time and urgency.
        public let terms: RequestTerms
        /// How much is refused by priority, see `Admission`.
        public let pressure: Int
        /// The content.
        public let body: UnsafeRawBufferPointer
        let head: UnsafeRawBufferPointer

        /// A header field by its name in lower case; the first where there are several.
        public func field(_ name: StaticString) -> String? { WireRequest.field(name, in: head) }
    }
    /// Answers a call without waiting for anything, or leaves it (`Predictor.Answer.left`).
    public typealias Handler = @Sendable (Call, PredictionScratch) -> Predictor.Answer

    let path: DirectPath
    let handler: Handler

    /// Makes a route.
    ///
    /// - Parameter path: the exact path, with at most one parameter: `/v2/models/{model}/infer`.
    public init(_ method: String, _ path: String, byteCountMax: Int, handler: @escaping Handler) {
        self.path = DirectPath(method, path, byteCountMax: byteCountMax)
        self.handler = handler
    }
}
