import Definitions
import Foundation
import ModelServing
import PlatformCore
import PlatformTesting
import SQLiteAdapter
import StoragePorts
import Testing
import Workflows

/// Definitions of one model, compiled from their YAML, and a database in a folder of its own.
enum WorkflowFixture {
    static let start = EventTime(milliseconds: 1_372_670_100_000)
    static let model = Name(static: "delay")

    static func files(
        window: String = "1h", description: String = "",
        canary: String = "[{share: 10%, at_least: 1d}, {share: 50%, at_least: 2d}]",
        retrain: String = "retrain: {on: [drift, quality], cooldown: 7d, train_on: 90d}"
    ) -> [DefinitionFile] {
        let text = """
            kind: Entity
            name: plane
            keys: [tailnum]
            ---
            kind: Source
            name: departures
            event_time: at
            key: [id]
            schema:
              - {name: id, type: string}
              - {name: at, type: timestamp}
              - {name: tailnum, type: string}
              - {name: delay, type: float64}
            ---
            kind: FeatureView
            name: planes
            description: "\(description)"
            entities: [plane]
            source: departures
            features: [{name: mean, aggregate: mean, column: delay, window: \(window)}]
            ---
            kind: FeatureService
            name: delay
            views: [planes]
            ---
            kind: TrainingSet
            name: delay
            service: delay
            spine: departures
            label: {name: late, source: departures, join: [id], column: delay, horizon: 1d}
            ---
            kind: Model
            name: delay
            service: delay
            training_set: delay
            training: {command: [train]}
            ---
            kind: Deployment
            name: delay
            model: delay
            sticky_by: [tailnum]
            rollout:
              shadow: {at_least: 2d, pairs_min: 1000}
              canary: \(canary)
            guardrails: {prediction_psi_max: 0.25, error_rate_max: 1%, latency_p99_max: 100ms}
            ---
            kind: Monitor
            name: delay
            model: delay
            window: 7d
            label_horizon: 2d
            rules:
              - {name: drift, measure: psi, above: 0.2, severity: P2}
              - {name: quality, measure: metric, metric: auc, worse_than_reference_by: 0.1, severity: P1}
              - {name: nulls, measure: null_rate, above_reference_by: 0.1, severity: P3}
            \(retrain)
            """
        return [DefinitionFile(path: "delay.yaml", folder: "/", text: text)]
    }

    static func policy(
        canary: String = "[{share: 10%, at_least: 1d}, {share: 50%, at_least: 2d}]", pairsMin: Int = 1000
    ) throws -> DeploymentDefinition {
        let files = files(canary: canary).map {
            DefinitionFile(
                path: $0.path, folder: $0.folder,
                text: $0.text.replacing("pairs_min: 1000", with: "pairs_min: \(pairsMin)"))
        }
        return try #require(try DefinitionCompiler.compile(files).deployments[model])
    }

    static func monitor(retrain: String = "retrain: {on: [drift, quality], cooldown: 7d, train_on: 90d}") throws
        -> MonitorDefinition
    { try #require(try DefinitionCompiler.compile(files(retrain: retrain)).monitors[model]) }

    static func store(in folder: TemporaryFolder) throws -> SQLiteMetadataStore {
        try SQLiteMetadataStore(path: "\(folder.path)/metadata.sqlite")
    }
}
