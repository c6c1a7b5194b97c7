import Datasets
import Definitions
import FeatureStore
import Foundation
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import StoragePorts
import TrainingJobs
import Workflows

/// The Prometheus page.
enum MetricsPage {
    static func text(_ services: PlatformServices) async throws -> String {
        var page = Page()
        page.gauge("bottega_uptime_seconds", "Seconds since the process started.")
        page.sample(
            "bottega_uptime_seconds", [:], Double((ContinuousClock.now - services.startedAt).components.seconds))

        let latencies = services.predictor.metrics.latencies().sorted { "\($0.key)" < "\($1.key)" }
        page.header("bottega_prediction_duration_seconds", "histogram", "Time from the parsed request to the answer.")
        for (key, histogram) in latencies {
            let labels = ["model": key.model, "version": String(key.version), "variant": key.choice.word]
            var seen: UInt64 = 0
            for bucket in stride(from: 7, to: LatencyHistogram.bucketCount, by: 4) {
                seen = histogram.counts[0...bucket].reduce(0, +)
                page.sample(
                    "bottega_prediction_duration_seconds_bucket",
                    labels.merging(["le": number(LatencyHistogram.upperBound(of: bucket) / 1e6)]) { $1 }, Double(seen))
            }
            page.sample(
                "bottega_prediction_duration_seconds_bucket", labels.merging(["le": "+Inf"]) { $1 },
                Double(histogram.count))
            page.sample("bottega_prediction_duration_seconds_sum", labels, Double(histogram.sumMicroseconds) / 1e6)
            page.sample("bottega_prediction_duration_seconds_count", labels, Double(histogram.count))
        }
        page.header(
            "bottega_prediction_requests_refused_total", "counter",
            "Requests refused for a fault of the caller, by status.")
        for (model, statuses) in services.predictor.metrics.refused().sorted(by: { $0.key < $1.key }) {
            for (status, count) in statuses.sorted(by: { $0.key < $1.key }) {
                page.sample(
                    "bottega_prediction_requests_refused_total", ["model": model, "status": String(status)],
                    Double(count))
            }
        }
        promises(services.predictor, &page)
        let log = services.predictor.log
        page.gauge("bottega_prediction_log_pending", "Predictions answered but not yet in the log.")
        page.sample("bottega_prediction_log_pending", [:], Double(log.pending))
        page.counter(
            "bottega_prediction_log_written_total", "Prediction records written, shadows included.", Double(log.written)
        )
        page.counter("bottega_prediction_log_shed_total", "Prediction records dropped by policy.", Double(log.shed))
        page.counter(
            "bottega_prediction_log_failures_total", "Attempts to write to the prediction log that failed.",
            Double(log.failures))
        let dropped = services.retention.counters.map { ($0.key.text, $0.value) }
        page.counter(
            "bottega_log_dropped_records_total", "Records of the log that were let go because they were old.",
            by: "topic", dropped.map { ($0.0, Double($0.1.records)) })
        page.counter(
            "bottega_log_dropped_bytes_total", "Their bytes.", by: "topic", dropped.map { ($0.0, Double($0.1.bytes)) })
        page.counter("bottega_shadow_failures_total", "Shadow answers that failed.", Double(log.shadowFailures))

        page.gauge("bottega_rollouts", "Rollouts under way, by phase; halted ones wait for people.")
        let active = services.lifecycle.rollouts.values.filter { !$0.phase.isOver }
        for word in ["shadow", "canary", "experiment", "halted"] {
            let count = active.count { ($0.halted == nil ? $0.phase.word : "halted") == word }
            page.sample("bottega_rollouts", ["phase": word], Double(count))
        }
        page.gauge("bottega_workflow_leader", "1 where this process carries workflows out.")
        page.sample("bottega_workflow_leader", [:], services.lifecycle.isLeading ? 1 : 0)
        page.gauge(
            "bottega_unloaded_versions", "1 for each version that a deployment needs and that cannot be loaded.")
        for version in services.desk.unloadedVersions {
            page.sample(
                "bottega_unloaded_versions",
                [
                    "deployment": version.deployment.text, "version": String(version.version),
                    "use": version.use.rawValue,
                ], 1)
        }
        page.runtimes(services.measurements())

        let stream = services.stream.statistics
        page.counter("bottega_feature_rows_applied_total", "Rows applied to feature views.", Double(stream.rowsApplied))
        page.counter("bottega_feature_rows_failed_total", "Rows that could not be applied.", Double(stream.rowsFailed))
        page.counter(
            "bottega_feature_rows_too_late_total", "Rows that became known later than a view's lateness allows.",
            by: "view", stream.rowsTooLateByView.map { ($0.key.text, Double($0.value)) })
        page.gauge("bottega_feature_state_bytes", "Memory of the entities, about.")
        page.sample("bottega_feature_state_bytes", [:], Double(stream.stateByteCount))
        page.gauge("bottega_feature_entities", "Entities in memory, over all views.")
        page.sample("bottega_feature_entities", [:], Double(stream.entities))
        page.counter(
            "bottega_feature_cache_hits_total", "Answers about an entity that were remembered.",
            Double(stream.cache.hits))
        page.counter(
            "bottega_feature_cache_misses_total", "Answers that could have been remembered and were computed.",
            Double(stream.cache.misses))
        page.counter(
            "bottega_feature_cache_evictions_total", "Remembered answers that made room for others.",
            Double(stream.cache.evictions))
        page.counter(
            "bottega_feature_cache_invalidations_total", "Remembered answers forgotten because a row was applied.",
            Double(stream.cache.invalidations))
        page.gauge("bottega_feature_cache_entities", "Remembered answers.")
        page.sample("bottega_feature_cache_entities", [:], Double(stream.cache.entities))
        page.gauge("bottega_feature_cache_bytes", "Memory of remembered answers, about.")
        page.sample("bottega_feature_cache_bytes", [:], Double(stream.cache.byteCount))
        page.gauge("bottega_source_rows", "Rows in a source's log.")
        var quarantined: [(String, Int)] = []
        for source in services.catalog.current.sources.keys.sorted() {
            let counts = try await services.ingest.counts(of: source)
            page.sample("bottega_source_rows", ["source": source.text], Double(counts.rows))
            quarantined.append((source.text, counts.quarantined))
        }
        page.gauge("bottega_source_rows_quarantined", "Rows that a source's contract refused.")
        for (source, count) in quarantined {
            page.sample("bottega_source_rows_quarantined", ["source": source], Double(count))
        }

        try await services.monitoring.refresh()
        page.gauge("bottega_alerts_open", "Incidents that are open.")
        let open = await services.monitoring.alerts(of: nil).filter { $0["state"]?.stringValue == "open" }
        page.sample("bottega_alerts_open", [:], Double(open.count))
        if let progress = await services.monitoring.progress() {
            page.gauge("bottega_monitor_heartbeat_age_seconds", "Seconds since the monitor process last spoke.")
            page.sample("bottega_monitor_heartbeat_age_seconds", [:], Double(progress.age.components.seconds))
        }
        if let labels = await services.monitoring.labels() {
            page.gauge("bottega_monitor_labels_waiting", "Labels whose prediction the monitor has not read.")
            page.sample("bottega_monitor_labels_waiting", [:], Double(labels.waiting))
            page.counter(
                "bottega_monitor_labels_total",
                "Labels that the monitor read, by what became of them; unmatched: no prediction of theirs came.",
                by: "result",
                [
                    ("joined", Double(labels.joined)), ("repeated", Double(labels.repeated)),
                    ("late", Double(labels.late)), ("unmatched", Double(labels.unmatched)),
                ])
        }
        return page.text
    }

    /// What answered in the place of models, and who was not let in.
    private static func promises(_ predictor: Predictor, _ page: inout Page) {
        page.header(
            "bottega_prediction_fallbacks_total", "counter",
            "Predictions whose own model did not answer, by cause and the step that answered; no step: an error.")
        for (key, count) in predictor.metrics.fallbacks().sorted(by: { "\($0.key)" < "\($1.key)" }) {
            page.sample(
                "bottega_prediction_fallbacks_total",
                ["model": key.model, "cause": key.cause.rawValue, "step": key.step], Double(count))
        }
        page.header(
            "bottega_predictions_looked_up_total", "counter",
            "Predictions that were remembered (cache) or read from a feature (precomputed).")
        for (key, count) in predictor.metrics.origins().sorted(by: { "\($0.key)" < "\($1.key)" }) {
            page.sample(
                "bottega_predictions_looked_up_total", ["model": key.model, "origin": key.origin.word], Double(count))
        }
        page.header(
            "bottega_predictions_overload_refused_total", "counter", "Requests refused because there were too many.")
        for (key, count) in predictor.metrics.shed().sorted(by: { "\($0.key)" < "\($1.key)" }) {
            page.sample(
                "bottega_predictions_overload_refused_total",
                ["model": key.model, "priority": key.priority.rawValue], Double(count))
        }
        page.gauge(
            "bottega_prediction_pressure",
            "Share of low-priority predictions that is refused, from 0 to 1; beyond 1 also of normal ones.")
        page.sample("bottega_prediction_pressure", [:], Double(predictor.admission.pressure) / 1000)
        page.gauge("bottega_predictions_waiting", "Predictions that wait for the log, a worker or a large body.")
        page.sample("bottega_predictions_waiting", [:], Double(predictor.admission.waiting))
    }

    private static let runtimeSeries = [
        ("bottega_worker_processes", "gauge", "Worker processes of models, by state: starting, idle, busy."),
        ("bottega_worker_queue_length", "gauge", "Calls that wait for a worker process."),
        ("bottega_worker_breakers_open", "gauge", "Models whose workers are left alone after failures."),
        (
            "bottega_worker_events_total", "counter",
            "Calls, starts and ends of worker processes, by what became of them."
        ),
        ("bottega_worker_printed_bytes_total", "counter", "Bytes that worker processes printed."),
        ("bottega_remote_calls_total", "counter", "Calls of remote model servers, by what became of them."),
        ("bottega_remote_breakers_open", "gauge", "Remote models that are left alone after failures."),
    ]

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : "\(value)"
    }

    private struct Page {
        var text = ""

        mutating func header(_ name: String, _ type: String, _ help: String) {
            text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
        }
        mutating func gauge(_ name: String, _ help: String) { header(name, "gauge", help) }
        mutating func counter(_ name: String, _ help: String, _ value: Double) {
            header(name, "counter", help)
            sample(name, [:], value)
        }
        mutating func counter(_ name: String, _ help: String, by label: String, _ values: [(String, Double)]) {
            header(name, "counter", help)
            for (key, value) in values.sorted(by: { $0.0 < $1.0 }) { sample(name, [label: key], value) }
        }
        /// Series of model runtimes: one header for all samples of a name.
        mutating func runtimes(_ measurements: [RuntimeMeasurement]) {
            for (name, type, help) in MetricsPage.runtimeSeries {
                header(name, type, help)
                for measurement in measurements where measurement.name == name {
                    let labels = measurement.labels.map { ($0.name, $0.value) }
                    sample(name, Dictionary(labels, uniquingKeysWith: { $1 }), measurement.value)
                }
            }
        }
        mutating func sample(_ name: String, _ labels: [String: String], _ value: Double) {
            let list = labels.sorted { $0.key < $1.key }.map { key, value in
                let escaped = value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing(
                    "\n", with: "\\n")
                return "\(key)=\"\(escaped)\""
            }
            text += name + (list.isEmpty ? "" : "{\(list.joined(separator: ","))}") + " \(MetricsPage.number(value))\n"
        }
    }
}
