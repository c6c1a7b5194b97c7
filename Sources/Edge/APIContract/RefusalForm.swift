public import PlatformCore

/// How a group of routes words what the server refuses in their place: no access, no such path, a body that is too large,
/// a file that is gone.
///
/// What a route's handler refuses, it words itself.
public struct RefusalForm: Sendable {
    /// What kind of refusal it is.
    public enum Reason: Sendable {
        /// The caller does not say who it is, or says it wrongly.
        case unauthenticated
        /// No route has the path.
        case unknownPath
        /// The path's routes take other methods.
        case otherMethod
        /// The body is packed in a way that is not read.
        case otherContentCoding
        /// What the error says.
        case failure
    }

    /// Beginnings of the paths that are the group's, also of those that no route has.
    public let prefixes: [String]
    /// Writes the answer, with its status.
    public let answer: @Sendable (PlatformError, Reason) -> APIResponse

    /// Makes a form.
    public init(prefixes: [String], answer: @escaping @Sendable (PlatformError, Reason) -> APIResponse) {
        self.prefixes = prefixes
        self.answer = answer
    }
}
