import Dispatch
import Foundation
public import Logging
public import PlatformCore
public import StoragePorts
import Synchronization

/// Runs SQL in Spark, through one Python worker that keeps the session between calls.
///
/// A session takes seconds to start, so the first call starts it and later ones find it; calls take turns, each in a session
/// of its own, so views and cached tables of one are never seen by another. Deadline and cancellation end the worker with its
/// Java process, and the next call starts a new one. Memory is the session's (`SparkConfiguration.memoryByteCount`); the
/// limit of a single call cannot change it.
public final class SparkEngine: OfflineEngine {
    private let configuration: SparkConfiguration
    private let logger: Logger
    private let turns = CallSlots(count: 1)
    private struct State {
        var child: SparkChild?
        var identifier: Int32 = 0
    }
    private let state = Mutex(State())  // held for one copy

    /// Makes an engine; nothing is started before the first call.
    public init(configuration: SparkConfiguration, logger: Logger = Logger(label: "bottega.spark")) {
        self.configuration = configuration
        self.logger = logger
    }

    deinit { stop() }

    /// Spark's own SQL.
    public var dialect: SQLDialect { .spark }

    /// Ends the session; a later call starts another.
    public func stop() {
        let identifier = state.withLock { state in
            defer { state = State() }
            return state.identifier
        }
        SparkChild.kill(identifier)
    }

    /// Runs statements.
    public func execute(_ sql: String, limits: QueryLimits) async throws(StoreError) {
        do {
            try await call(SQLStatements.split(sql), nil, limits) { _ in }
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.unavailable, "spark", "the call failed: \(error)", cause: error)
        }
    }

    /// Runs `setup`, then the query, row by row.
    public func query(
        _ sql: String, setup: String, limits: QueryLimits, _ body: @escaping @Sendable (JSONValue) throws -> Void
    ) async throws {
        try await call(SQLStatements.split(setup), sql, limits, body)
    }

    /// The engine's name and version, `Spark 4.3.0`; starts the session if there is none.
    public func version() async throws(StoreError) -> String {
        do {
            try await call([], nil, QueryLimits(deadline: configuration.startDeadline)) { _ in }
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.unavailable, "spark", "the call failed: \(error)", cause: error)
        }
        guard let child = state.withLock({ $0.child }) else {
            throw StoreError(.unavailable, "spark", "the session ended")
        }
        return "Spark \(child.version)"
    }

    // MARK: One call

    private func call(
        _ statements: [String], _ query: String?, _ limits: QueryLimits,
        _ body: @escaping @Sendable (JSONValue) throws -> Void
    ) async throws {
        try await turns.acquire()
        defer { turns.release() }
        try await within(configuration.startDeadline, "has no session after") { _ = try self.running() }
        try await within(limits.deadline, "was stopped after its deadline of") {
            try self.running().run(statements, query: query, body)
        }
    }

    /// The worker, started if there is none; blocks the thread.
    private func running() throws(StoreError) -> SparkChild {
        if let child = state.withLock({ $0.child }), child.isRunning { return child }
        logger.debug("starting Spark", metadata: ["master": "\(configuration.master)"])
        let child = try SparkChild(configuration) { identifier in
            self.state.withLock { $0 = State(child: nil, identifier: identifier) }
        }
        state.withLock { $0.child = child }
        return child
    }

    /// Runs blocking work on a thread that may wait, and ends the worker when time is up or nobody waits any more.
    private func within(_ deadline: Duration, _ words: String, _ work: @escaping @Sendable () throws -> Void)
        async throws
    {
        let end = ContinuousClock.now + deadline
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await withTaskCancellationHandler {
                        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
                            DispatchQueue.global().async { done.resume(with: Result { try work() }) }
                        }
                    } onCancel: {
                        self.stop()
                    }
                }
                group.addTask {
                    try await Task.sleep(until: end)
                    self.stop()
                }
                defer { group.cancelAll() }
                try await group.next()
            }
        } catch {
            try Task.checkCancellation()
            if ContinuousClock.now < end { throw error }
        }
        if ContinuousClock.now >= end {
            throw StoreError(.limitExceeded, "spark", "the query \(words) \(deadline)")
        }
    }
}
