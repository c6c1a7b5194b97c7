import Definitions
import PlatformCore
import Testing

/// The hash of a meaning is stored: what a definition means today must have the same hash tomorrow.
struct DefinitionMeaningTests {
    private static let text = #"""
        kind: Entity
        name: shop
        keys: [shop]
        ---
        kind: Source
        name: sales
        event_time: at
        key: [sale]
        schema:
          - {name: sale, type: string, nullable: false}
          - {name: at, type: timestamp}
          - {name: shop, type: string}
          - {name: amount, type: float64}
          - {name: pieces, type: int64}
          - {name: kind, type: string}
          - {name: known, type: timestamp}
        expectations:
          - {column: sale, unique: true}
          - {name: pair, unique: [sale, pieces], severity: warn}
          - {column: amount, range: [0, 10.5]}
          - {column: pieces, range: [~, 9]}
          - {column: kind, in: [a, 'b "c"']}
          - {column: kind, matches: '[a-z]+\d'}
          - {column: amount, not_null: true}
          - {column: known, not_before: at}
          - {freshness: 2h}
          - {name: volume, row_count_change: [50%, ~], loads: 3}
          - {column: amount, distribution: {mean: [0, 10], p99: [~, 1e3], null_share: [0, 5%], max: [1, 2]}}
          - {name: none_negative, sql: "SELECT * FROM batch WHERE amount < 0"}
        from: {every: 5m, postgres: {connection: SHOP, query: "SELECT \"a\"", cursor: at, overlap: 1m}}
        ---
        kind: Source
        name: files
        event_time: at
        key: [sale]
        schema: [{name: sale, type: string}, {name: at, type: timestamp}]
        from: {files: in/*.csv, format: csv}
        ---
        kind: FeatureView
        name: shops
        entities: [shop]
        source: sales
        features: [{name: mean, aggregate: mean, column: amount, window: 1h}]
        ---
        kind: FeatureService
        name: shops
        request:
          - {name: pieces, type: number, range: [~, 100]}
          - {name: kind, type: category, values: [a, 'b "c"'], nullable: true}
        views: [shops]
        ---
        kind: TrainingSet
        name: plain
        service: shops
        spine: sales
        label: {name: large, source: sales, join: [sale], column: amount, greater_than: 30, horizon: 1d}
        ---
        kind: TrainingSet
        name: random
        service: shops
        spine: {files: /data/q.csv, event_time: at}
        label: {name: amount, column: amount}
        split: {by: random, validation: 10%, test: 20%, seed: 3}
        ---
        kind: TrainingSet
        name: entity
        service: shops
        spine: {sql: "SELECT 1 AS \"x\"", sources: [sales, files], event_time: at}
        split: {by: entity, validation: 10%, test: 20%}
        ---
        kind: TrainingSet
        name: postgres
        service: shops
        spine: {postgres: {connection: SHOP, query: SELECT 1}, event_time: at}
        split: {by: time, validation: 10%, test: 20%}

        """#

    private func meanings(_ more: String = "") throws -> DefinitionSet {
        try DefinitionCompiler.compile([
            DefinitionFile(path: "m.yaml", folder: "/definitions", text: Self.text + more)
        ])
    }

    /// Hashes as they were first stored: models and datasets name them, so no later program may find others.
    @Test func versionsStayWhatTheyAre() throws {
        let set = try meanings()
        #expect(
            set.meanings.mapValues(\.hex) == [
                "Entity/shop": "8943f635cb58363235a2f47d13f1de120cc31dec69f07dad3c770b957f5400f9",
                "FeatureService/shops": "c574082f84f2006e9340757b31a4ae70a50c4d18686e8f06cfff183af5d60ae7",
                "FeatureView/shops": "c80fe35b00bdd99c6d0b074b79361eed78d3f399292ae759322b4ed0f729e663",
                "Source/files": "8a6eb03150a5baee7ad7d4e232b3175c5e2347ebe0cd016256f1463db90c0eac",
                "Source/sales": "a4e64177eb149b6ca5cb826a38e03df78c3a68076797f9e9931be266de911f42",
                "TrainingSet/entity": "03bd58590f69de13a9145bc487a6b8fab1c72795849af6248fd7c13261865a63",
                "TrainingSet/plain": "7a1a884b42a1c3d83eeb8a4aa100783a85eb7ebec27dd676f9587a2b187b1d2d",
                "TrainingSet/postgres": "11371f5b2f6315d6d59e8b93737223c089656ccb3971d8c77303df02c3b33eda",
                "TrainingSet/random": "8c920ef3d72fe4c3b8bcccd7c0e2553517eaf407ca5bd240bad77b939e4015c8",
            ])
    }

    // MARK: Deployments and monitors

    private static let served = """
        ---
        kind: Source
        name: other_sales
        event_time: at
        key: [shop]
        schema:
          - {name: at, type: timestamp}
          - {name: shop, type: string}
          - {name: pieces, type: int64}
          - {name: kind, type: string}
        ---
        kind: FeatureView
        name: scores
        entities: [shop]
        source: sales
        features:
          - {name: mean, aggregate: mean, column: amount, window: 1h}
          - {name: most, aggregate: max, column: amount, window: 1h}
        ---
        kind: Model
        name: amount
        service: shops
        training_set: plain
        training: {command: [train]}

        """

    private func deployment(_ more: String) throws -> (hash: String, fields: [String: String]) {
        let sticky = more.contains("sticky_by") ? "" : "sticky_by: [shop]\n"
        let set = try meanings(Self.served + "---\nkind: Deployment\nname: amount\nmodel: amount\n" + sticky + more)
        let definition = try #require(set.deployments[Name(static: "amount")])
        return (try #require(set.meanings["Deployment/amount"]).hex, Self.fields(definition))
    }

    private func monitor(_ more: String) throws -> (hash: String, fields: [String: String]) {
        let set = try meanings(
            Self.served
                + "---\nkind: Monitor\nname: amount\nmodel: amount\nwindow: 7d\nlabel_horizon: 2d\n" + more)
        let definition = try #require(set.monitors[Name(static: "amount")])
        return (try #require(set.meanings["Monitor/amount"]).hex, Self.fields(definition))
    }

    /// Every field of a value and of the values in it, by its path.
    private static func fields(_ value: Any, _ path: String = "") -> [String: String] {
        var found: [String: String] = [:]
        for child in Mirror(reflecting: value).children {
            let inner = Mirror(reflecting: child.value)
            let whole = inner.displayStyle == .optional ? inner.children.first?.value ?? child.value : child.value
            let name = path + (child.label ?? "")
            if Mirror(reflecting: whole).displayStyle == .struct, !(whole is TimeSpan), !(whole is Name) {
                found.merge(fields(whole, name + ".")) { $1 }
            } else {
                found[name] = "\(whole)"
            }
        }
        return found
    }

    /// What says nothing is left out: `plain` is the SHA-256 of `{"model":"amount","sticky_by":["shop"]}`.
    @Test func aFieldAtItsDefaultIsLeftOut() throws {
        let plain = "cb517db389098699331864d57b39a9f5f7d9d767282636222cc3b8d5c4354496"
        #expect(try deployment("").hash == plain)
        #expect(
            try deployment(
                """
                prediction_log: block
                priority: normal
                holdout: 0
                rollout:
                  shadow: {at_least: 1d, pairs_min: 1000, share: 100%}
                  canary:
                    - {share: 1%, at_least: 1d}
                    - {share: 5%, at_least: 1d}
                    - {share: 10%, at_least: 1d}
                    - {share: 25%, at_least: 1d}
                    - {share: 50%, at_least: 1d}
                guardrails: {prediction_psi_max: 0.25, error_rate_max: 1%, latency_p99_max: 50ms, sample_ratio_alpha: 0.1%}
                workers: {min: 1, max: 1, memory: 4GiB, timeout: 10s, requirements: warn}
                """
            ).hash == plain)
        let every = "features_unreadable, missing_features, model_error, no_number, timeout, breaker_open"
        #expect(
            try deployment("fallback: {constant: 1}").hash
                == deployment("fallback: {constant: 1}\nfallback_on: [\(every)]").hash)
        #expect(
            try monitor("rules: [{name: a, measure: psi, above: 0.2, severity: P2}]").hash
                == monitor("rules: [{name: a, measure: psi, above: 0.2, severity: P2, rows_min: 500}]").hash)
    }

    private static let deployed = """
        sticky_by: [shop]
        prediction_log: shed
        fallback: [{version: 3}, {constant: 0.2}]
        fallback_on: [timeout, missing_features]
        required_features: [kind]
        deadline: 250ms
        priority: high
        concurrency_max: 100
        cache: {for: 60s, entries_max: 500}
        precomputed: scores.mean
        rollout:
          shadow: {at_least: 2d, pairs_min: 501, share: 50%}
          canary: [{share: 10%, at_least: 3d}]
          metric: {measure: brier, alpha: 1%, effect: 0.2, labels_min: 102}
          experiment: {share: 40%, at_least: 4d, at_most: 9d, goal: not_worse, margin: 0.03}
        guardrails: {prediction_psi_max: 0.3, error_rate_max: 2%, latency_p99_max: 60ms, disagreement_max: 5%, mean_difference_max: 0.1, sample_ratio_alpha: 4%}
        salt: salty
        holdout: 6%
        stream: {source: sales}
        workers: {min: 2, max: 3, memory: 1GiB, timeout: 5s, environment: /venv, requirements: match}
        batching: {size_max: 32, wait_max: 7ms}
        """

    @Test func everyFieldOfADeploymentIsPartOfItsMeaning() throws {
        let before = try deployment(Self.deployed)
        var changed: Set<String> = []
        var hashes: Set<String> = [before.hash]
        let changes = [
            ("sticky_by: [shop]", "sticky_by: [shop, kind]"), ("shed", "block"), ("version: 3", "version: 4"),
            ("version: 3", "version: previous"),
            ("version: 3", "expression: shops__mean"), ("version: 3", "expression: shops__mean * 2"),
            ("constant: 0.2", "constant: 0.3"), ("[timeout, ", "[model_error, "), ("[kind]", "[shops__mean]"),
            ("250ms", "251ms"), ("high", "low"), ("concurrency_max: 100", "concurrency_max: 101"),
            ("for: 60s", "for: 61s"),
            ("entries_max: 500", "entries_max: 499"), ("scores.mean", "shops.mean"), ("scores.mean", "scores.most"),
            ("at_least: 2d", "at_least: 5d"), ("pairs_min: 501", "pairs_min: 502"), ("share: 50%", "share: 51%"),
            ("share: 10%", "share: 11%"), ("at_least: 3d", "at_least: 5d"), ("brier", "log_loss"),
            ("alpha: 1%", "alpha: 2%"), ("effect: 0.2", "effect: 0.3"), ("labels_min: 102", "labels_min: 103"),
            ("share: 40%", "share: 41%"), ("at_least: 4d", "at_least: 5d"), ("at_most: 9d", "at_most: 8d"),
            ("not_worse", "better"), ("margin: 0.03", "margin: 0.04"), ("psi_max: 0.3", "psi_max: 0.4"),
            ("rate_max: 2%", "rate_max: 3%"), ("p99_max: 60ms", "p99_max: 61ms"),
            ("disagreement_max: 5%", "disagreement_max: 6%"),
            ("difference_max: 0.1", "difference_max: 0.2"), ("ratio_alpha: 4%", "ratio_alpha: 5%"), ("salty", "sweet"),
            ("holdout: 6%", "holdout: 7%"), ("source: sales", "source: other_sales"), ("min: 2,", "min: 1,"),
            ("max: 3,", "max: 4,"), ("1GiB", "2GiB"), ("timeout: 5s", "timeout: 6s"), ("/venv", "/other"),
            ("match", "warn"), ("size_max: 32", "size_max: 33"), ("wait_max: 7ms", "wait_max: 8ms"),
        ]
        for (old, new) in changes {
            let text = Self.deployed.replacing(old, with: new, maxReplacements: 1)
            let after = try deployment(text)
            let fields = before.fields.filter { after.fields[$0.key] != $0.value }.map(\.key)
            #expect(!fields.isEmpty, "'\(new)' says nothing new")
            #expect(hashes.insert(after.hash).inserted, "'\(new)' has the hash of another meaning")
            changed.formUnion(fields)
        }
        #expect(Set(before.fields.keys).subtracting(changed) == ["name", "model"])
    }

    private static let watched = """
        rules:
          - {name: drift, measure: psi, feature: kind, above: 0.2, severity: P2, rows_min: 100}
        retrain: {on: [drift], cooldown: 3d, train_on: 30d}
        """

    @Test func everyFieldOfAMonitorIsPartOfItsMeaning() throws {
        let before = try monitor(Self.watched)
        var hashes: Set<String> = [before.hash]
        let changes = [
            ("measure: psi", "measure: ks"), ("measure: psi, feature: kind", "measure: psi"),
            ("feature: kind", "feature: pieces"),
            ("above: 0.2", "above: 0.3"), ("P2", "P1"), ("rows_min: 100", "rows_min: 101"),
            ("measure: psi, feature: kind, above", "measure: prediction_psi, above"),
            ("psi, feature: kind, above", "null_rate, feature: kind, above_reference_by"),
            ("psi, feature: kind, above", "metric, metric: auc, worse_than_reference_by"),
            ("psi, feature: kind, above", "metric, metric: ece, worse_than_reference_by"), ("3d", "4d"), ("30d", "31d"),
        ]
        for (old, new) in changes {
            let after = try monitor(Self.watched.replacing(old, with: new, maxReplacements: 1))
            #expect(hashes.insert(after.hash).inserted, "'\(new)' has the hash of another meaning")
        }
        let renamed = try monitor(Self.watched.replacing("drift", with: "moved"))
        #expect(hashes.insert(renamed.hash).inserted)
        #expect(
            Set(before.fields.keys) == [
                "name", "model", "window", "labelHorizon", "rules", "retrain.on", "retrain.cooldown", "retrain.trainOn",
            ])
    }
}
