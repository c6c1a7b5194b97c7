/// How many servers a request has come through by calls of remote models, so that a model that asks itself, perhaps by way of
/// others, is noticed.
public enum RemoteHops {
    /// Those of the request in hand: 0 where it came from no other server.
    @TaskLocal public static var current = 0
    /// The header field, and the metadata key of gRPC.
    public static let field = "x-bottega-hops"
    /// Most of them.
    public static let countMax = 4

    /// Reads the field of a request; what is no number counts as none.
    public static func read(_ text: String?) -> Int { min(max(text.flatMap { Int($0) } ?? 0, 0), countMax) }

    /// What the next call says.
    /// - Throws: `unsupportedModel` if the request has come through as many servers as may be. It is no refusal of rows: asking
    ///   for fewer of them would only multiply the calls.
    public static func next() throws(ModelError) -> Int {
        guard current < countMax else {
            throw ModelError(
                .unsupportedModel,
                "the request came through \(countMax) calls of remote models; does the address of one lead back to it?")
        }
        return current + 1
    }
}
