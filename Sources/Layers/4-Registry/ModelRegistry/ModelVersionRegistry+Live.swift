public import Definitions
public import PlatformCore
import StoragePorts

extension ModelVersionRegistry {
    /// What was live at a moment.
    public struct LiveState: Sendable, Hashable {
        /// The last step of each version that saw traffic then: in staging, canary or production.
        public let steps: [Int: StageTransition]
        /// The last step of each version that a policy in force names though it was archived.
        public let archived: [Int: StageTransition]
        /// The policy in force for each deployment of the model.
        ///
        /// The registry knows no definitions: one of a deployment that was removed is among them.
        public let policies: [Name: PolicyRevision]

        /// The stage of each version that saw traffic.
        public var stages: [Int: ModelStage] { steps.mapValues(\.to) }
        /// The version in production.
        public var champion: Int? { steps.first { $0.value.to == .production }?.key }

        /// The state without deployments that were not defined then.
        public func without(_ removed: some Sequence<Name>) -> LiveState {
            let removed = Set(removed)
            return LiveState(steps: steps, archived: archived, policies: policies.filter { !removed.contains($0.key) })
        }
    }

    /// What was live of a model at a moment, changes of that very millisecond included.
    ///
    /// - Complexity: O(log history + answer); the history is never read whole.
    public func live(_ model: Name, at moment: EventTime) async throws -> LiveState {
        try await store.read { transaction in
            var steps: [Int: StageTransition] = [:]
            for (number, position) in try StageTransition.visible(model, at: moment, in: transaction) {
                let row = try transaction.query(
                    "SELECT * FROM model_stage_transitions WHERE position = ?", [.integer(position)]
                ).first
                steps[number] = try row.map { try StageTransition(row: $0) }
            }
            let revisions = try Self.currentRevisions(of: model, at: moment, in: transaction)
            var archived: [Int: StageTransition] = [:]
            for number in Set(revisions.flatMap { $0.policy.variants.map(\.version) + $0.policy.shadows })
            where steps[number] == nil {
                let row = try transaction.query(
                    "SELECT * FROM model_stage_transitions WHERE model = ? AND number = ? AND time <= ? "
                        + "ORDER BY position DESC LIMIT 1",
                    [.text(model.text), .integer(Int64(number)), MetadataValue(moment)]
                ).first
                archived[number] = try row.map { try StageTransition(row: $0) }
            }
            return LiveState(
                steps: steps, archived: archived,
                policies: Dictionary(revisions.map { ($0.deployment, $0) }, uniquingKeysWith: { $1 }))
        }
    }
}
