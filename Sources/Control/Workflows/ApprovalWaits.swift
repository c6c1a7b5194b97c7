import Definitions
import ModelRegistry
import PlatformCore
import Synchronization

/// Remembers which versions wait for people, so that gates are asked again after another word of somebody, else now and
/// then.
final class ApprovalWaits: Sendable {
    /// How often gates are asked again though nobody said anything: the champion or the evidence may have changed.
    private static let askAgainAfter = Duration.seconds(600)

    private struct Waiting {
        let approvalCount: Int
        let askAgain: ContinuousClock.Instant
    }
    private let registry: ModelVersionRegistry
    private let waiting = Mutex<[String: Waiting]>([:])

    init(registry: ModelVersionRegistry) { self.registry = registry }

    /// What people have to say before a version may go on, if nothing else keeps it: remembered, to be asked again.
    /// - Parameter said: how much people had said before the gates were asked.
    /// - Returns: `nil` if another gate refuses, or somebody objected.
    func waits(
        for gates: [GateResult], of model: Name, _ number: Int, _ stage: ModelStage, _ said: Int
    ) async throws -> String? {
        let open = gates.filter { !$0.passed }
        let given = try await registry.approvals(of: model, number, for: stage)
        let verdicts = Dictionary(given.map { ($0.actor, $0.verdict) }, uniquingKeysWith: { $1 })
        guard open.allSatisfy(\.isApproval), !verdicts.values.contains(.object) else { return nil }
        waiting.withLock {
            $0["\(model)/\(number)"] = Waiting(approvalCount: said, askAgain: .now + Self.askAgainAfter)
        }
        return open.map { "\($0.gate) for \(stage.rawValue): \($0.detail)" }.joined(separator: "; ")
    }

    /// Whether nobody said anything since the gates were asked.
    func isWaiting(_ model: Name, _ number: Int) async throws -> Bool {
        guard let waiting = waiting.withLock({ $0["\(model)/\(number)"] }), waiting.askAgain > .now else {
            return false
        }
        return try await registry.approvals(of: model, number).count == waiting.approvalCount
    }
}
