import CPostgreSQL
import Dispatch
import PlatformCore
public import StoragePorts
import Synchronization

/// Reads rows of a PostgreSQL database with its own client library.
///
/// Every call is a connection of its own: one read-only, repeatable-read transaction with a server-side cursor, fetched
/// in portions. The session speaks UTF-8, UTC and ISO dates. Calls run on threads of their own, since the library blocks.
public struct PostgreSQLRowSource: RowSource {
    private let portionRowCount: Int
    private let connectTimeout: Int
    private static let queue = DispatchQueue(label: "postgresql", attributes: .concurrent)

    /// Makes the source.
    ///
    /// - Parameters:
    ///   - portionRowCount: rows fetched at once.
    ///   - connectTimeout: seconds until an unanswered connection fails, unless the connection string says otherwise.
    public init(portionRowCount: Int = 2_000, connectTimeout: Int = 10) {
        self.portionRowCount = max(1, portionRowCount)
        self.connectTimeout = connectTimeout
    }

    /// Runs a query and gives its rows in portions.
    public func read(
        _ query: RowQuery, columns: @escaping @Sendable ([RowColumn]) throws -> Void,
        rows: @escaping @Sendable ([[String?]]) throws -> Void
    ) async throws {
        let isStopped = Atomic(false)
        let (portion, timeout) = (portionRowCount, connectTimeout)
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                Self.queue.async {
                    continuation.resume(
                        with: Result {
                            let session = try PostgreSQLSession(query, connectTimeout: timeout)
                            try session.read(
                                portionRowCount: portion, isStopped: { isStopped.load(ordering: .relaxed) },
                                columns: columns, rows: rows)
                        })
                }
            }
        } onCancel: {
            isStopped.store(true, ordering: .relaxed)
        }
    }
}
