import APIContract
import ExperimentTracking
import PlatformCore
import Workflows

/// A run's metrics as server-sent events: what is there already, then what comes, until the run ends.
enum RunEvents {
    /// Points of each metric in the first event.
    static let pointCountMax = 2000
    /// Metrics in the first event; a run with more shows those whose names come first.
    static let metricCountMax = 200

    static func answer(_ id: String, _ services: PlatformServices) async throws -> APIResponse {
        let info = try await services.tracking.runInfo(id)
        return APIResponse(
            headers: [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")],
            body: .stream { send in try await follow(info.id, services.tracking, send) })
    }

    private static func follow(_ id: String, _ tracking: TrackingStore, _ send: @Sendable ([UInt8]) -> Void)
        async throws
    {
        // Listening begins before the histories are read, so that nothing falls between the two.
        let updates = try await tracking.updates(ofRun: id)
        let run = try await tracking.run(id)
        send(
            event(
                "snapshot",
                [
                    "status": .string(run.info.status.rawValue),
                    "metrics": .object(try await histories(of: run, tracking)),
                ]))
        if run.info.status.isTerminal { return send(event("end", [:])) }
        for await update in updates {
            if !update.metrics.isEmpty {
                send(
                    event(
                        "metrics",
                        [
                            "metrics": .array(
                                update.metrics.map { metric in
                                    [
                                        "key": .string(metric.key), "step": .integer(metric.step),
                                        "time": .integer(metric.measuredAt.milliseconds),
                                        "value": RunReport.json(metric.value),
                                    ]
                                })
                        ], id: update.number))
            }
            if let status = update.status {
                send(event("status", ["status": .string(status.rawValue)], id: update.number))
                if status.isTerminal { return send(event("end", [:])) }
            }
        }
    }

    /// Curves by name, each a list of `[step, milliseconds, value]`.
    static func histories(
        of run: TrackedRun, _ tracking: TrackingStore, pointCountMax: Int = pointCountMax
    ) async throws -> [String: JSONValue] {
        var histories: [String: JSONValue] = [:]
        for metric in run.metrics.prefix(metricCountMax) {
            histories[metric.key] = .array(
                try await tracking.sampledHistory(run: run.info.id, key: metric.key, pointCountMax: pointCountMax).map {
                    [.integer($0.step), .integer($0.milliseconds), RunReport.json($0.value)]
                })
        }
        return histories
    }

    private static func event(_ name: String, _ data: JSONValue, id: UInt64? = nil) -> [UInt8] {
        // JSON text holds no line break, so one `data` line is enough.
        Array("event: \(name)\n\(id.map { "id: \($0)\n" } ?? "")data: \(data.text)\n\n".utf8)
    }
}
