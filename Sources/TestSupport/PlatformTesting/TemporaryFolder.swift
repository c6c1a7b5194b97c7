import Foundation

/// A new empty folder that is removed with everything in it when the last reference goes.
public final class TemporaryFolder: Sendable {
    /// Where it is.
    public let path: String

    /// Makes the folder in the system's place for temporary files.
    public init(_ purpose: String = "test") throws {
        path = FileManager.default.temporaryDirectory.path + "/bottega-\(purpose)-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
