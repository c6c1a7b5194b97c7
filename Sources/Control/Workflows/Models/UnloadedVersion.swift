public import PlatformCore

/// A version that a deployment needs and that cannot be loaded.
public struct UnloadedVersion: Sendable, Hashable {
    /// What the deployment needs it for.
    public enum Use: String, Sendable, Hashable {
        /// It is to answer requests: the fallback does.
        case answers = "answers requests"
        /// It is to see a copy of requests: each counts as failed.
        case shadows = "is in shadow"
        /// It is to stand in for others: its step is passed over.
        case standsIn = "stands in for others"
        /// A rollback would go back to it, and fails.
        case waitsForRollback = "a rollback goes back to"
    }
    /// The deployment.
    public let deployment: Name
    /// The model.
    public let model: Name
    /// Its number.
    public let version: Int
    /// What it is needed for.
    public let use: Use
    /// Why it cannot be loaded.
    public let reason: String
    /// Whether its deployment answers requests all the same, as it was defined before; it would not after a start.
    public internal(set) var isServedAsBefore = false
}
