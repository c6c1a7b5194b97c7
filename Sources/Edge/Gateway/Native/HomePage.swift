import Datasets
import Definitions
import ExperimentTracking
import FeatureStore
import Foundation
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import Statistics
import TrainingJobs
import Workflows

/// The page at `/`: what is there, what is live, what is wrong.
enum HomePage {
    static func html(_ services: PlatformServices) async throws -> String {
        try await services.monitoring.refresh()
        let set = services.catalog.current
        var body = ""
        let open = await services.monitoring.alerts(of: nil).filter { $0["state"]?.stringValue == "open" }
        body += section(
            "Live", header: ["Model", "Version", "Share", "Artifact", "Revision"],
            rows: services.predictor.routes.routes().sorted { $0.key < $1.key }.flatMap { model, route in
                route.variants.map {
                    [
                        model, "\($0.version.number)", "\(Int(($0.share * 100).rounded())) %",
                        $0.version.artifact.short, "\(route.revision)",
                    ]
                } + route.shadows.map { [model, "\($0.number)", "shadow", $0.artifact.short, "\(route.revision)"] }
            }, empty: "No model is deployed. <code>bottega deploy</code> puts a version in front of traffic.")
        body += section(
            "Answers", header: ["Model", "Version", "Variant", "Predictions", "p50", "p99"],
            rows: services.predictor.metrics.latencies().sorted { "\($0.key)" < "\($1.key)" }.map { key, histogram in
                [
                    key.model, "\(key.version)", key.choice.word, "\(histogram.count)",
                    milliseconds(histogram.quantile(0.5)),
                    milliseconds(histogram.quantile(0.99)),
                ]
            }, empty: "No prediction since this process started.")
        body += section(
            "Open alerts", header: ["Severity", "Since", "What"],
            rows: open.map {
                [$0["severity"]?.stringValue ?? "", $0["time"]?.stringValue ?? "", $0["message"]?.stringValue ?? ""]
            },
            empty: "None.")
        let rolling = services.lifecycle.rollouts.values.filter { !$0.phase.isOver }.sorted {
            $0.challenger < $1.challenger
        }
        let retraining = services.lifecycle.retrainings.filter { $0.outcome == nil && $0.next != .rollout }
        body += section(
            "Under way", header: ["Model", "Version", "Step", "Since", "Waits for"],
            rows: retraining.map {
                [
                    $0.model.text, $0.version.map(String.init) ?? "–", $0.next?.rawValue ?? "",
                    String($0.startedAt.description.prefix(16)), $0.waitingFor ?? "",
                ]
            }
                + rolling.map {
                    [
                        $0.model.text, "\($0.challenger)", $0.phase.word, String($0.since.description.prefix(16)),
                        $0.halted.map { "somebody to resume it: \($0)" } ?? $0.waitingFor ?? "traffic and time",
                    ]
                }, empty: "No retraining and no rollout.")
        let newest = try await services.registry.searchVersions(
            orders: [SearchOrder(entity: nil, key: "creation_timestamp", isAscending: false)], countMax: 50)
        let versions = newest.elements.map { state in
            let test = state.version.candidate.metrics["test"] ?? [:]
            return [
                state.modelName, "\(state.version.number)", state.stage.rawValue,
                test[.auc].map { String(format: "%.4f", $0) } ?? "–",
                test[.calibrationError].map { String(format: "%.4f", $0) } ?? "–",
                String(state.version.createdAt.description.prefix(16)),
            ]
        }
        body += section(
            "Versions", header: ["Model", "Version", "Stage", "AUC", "ECE", "Created"], rows: versions,
            empty: "None is registered. <code>bottega model register</code> registers what a job logged.")
        if newest.next != nil { body += "<p>The 50 newest; <code>bottega model list</code> lists all.</p>" }
        var sources: [[String]] = []
        for source in set.sources.keys.sorted() {
            let counts = try await services.ingest.counts(of: source)
            sources.append([source.text, "\(counts.rows)", "\(counts.quarantined)"])
        }
        body += section(
            "Sources", header: ["Source", "Rows", "Quarantined"], rows: sources,
            empty: "None is defined. <code>bottega apply examples/flights</code> defines some.")
        let now = services.clock.now().description
        return """
            <!doctype html><html lang="en"><head><meta charset="utf-8"><title>Bottega</title>
            <meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="10"><style>
            :root{color-scheme:light dark;--line:#8884;--dim:#888}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
            h1{font-size:1.4rem}h2{font-size:1rem;margin:2rem 0 .4rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
            th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--dim);font-weight:500}
            p,.dim{color:var(--dim)}div{overflow-x:auto}</style></head><body>
            <h1>Bottega</h1><p>\(set.meanings.count) definitions, revision \(services.catalog.revision) · platform time \(now) · <a href="/experiments">experiments</a> · <a href="/models">models</a> · <a href="/catalog">catalogue</a> · <a href="/rollouts">rollouts</a></p>
            \(body)<script>\(fragments)</script></body></html>
            """
    }

    /// Sends on what MLflow's clients print: links to pages of MLflow's own, which stand behind the `#` of this one.
    private static let fragments = #"""
        'use strict';
        async function follow() {
          const parts = location.hash.split('?')[0].split('/');
          if (parts[0] !== '#' || !parts[2]) return;
          const name = text => { try { return encodeURIComponent(decodeURIComponent(text)); } catch { return encodeURIComponent(text); } };
          const [, kind, id, what, which] = parts;
          let to = '';
          if (kind === 'experiments') {
            to = '/experiments/' + name(id);
            if (what === 'runs' && which) to = '/runs/' + name(which);
            if (what === 'models' && which) {
              const answer = await fetch('/api/2.0/mlflow/logged-models/' + name(which)).catch(() => null);
              const run = answer?.ok ? (await answer.json()).model?.info?.source_run_id : '';
              if (run) to = '/runs/' + name(run);
            }
          }
          if (kind === 'models') to = '/models/' + name(id) + (what === 'versions' && which ? '#version-' + name(which) : '');
          if (to) location.replace(to);
        }
        addEventListener('hashchange', follow);
        follow();
        """#

    private static func milliseconds(_ microseconds: Double) -> String {
        String(format: "%.2f ms", microseconds / 1000)
    }

    /// A table; what stands under `Model` leads to the model's page.
    private static func section(_ title: String, header: [String], rows: [[String]], empty: String) -> String {
        guard !rows.isEmpty else { return "<h2>\(title)</h2><p>\(empty)</p>" }
        let head = header.map { "<th>\($0)</th>" }.joined()
        let lines = rows.map { row in
            let cells = zip(header, row).map { title, text in
                title == "Model"
                    ? "<td><a href=\"\(ModelPage.link(text))\">\(escape(text))</a></td>" : "<td>\(escape(text))</td>"
            }
            return "<tr>\(cells.joined())</tr>"
        }.joined()
        return "<h2>\(title)</h2><div><table><thead><tr>\(head)</tr></thead><tbody>\(lines)</tbody></table></div>"
    }

    static func escape(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;").replacing(
            "\"", with: "&quot;")
    }
}
