import APIContract
import Datasets
import Definitions
import FeatureStore
import Foundation
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import TrainingJobs
import Workflows

/// What the monitor process found.
enum MonitoringRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/api/v1/monitors/{monitor}/windows") { request in
                let monitor = try request.name("monitor")
                guard services.catalog.current.monitors[monitor] != nil else {
                    let near = nearestName(to: monitor.text, among: services.catalog.current.monitors.keys.map(\.text))
                    throw PlatformError(
                        .notFound, "monitor/\(monitor)",
                        "no such monitor is defined" + (near.map { "; did you mean '\($0)'?" } ?? ""))
                }
                try await services.monitoring.refresh()
                return .json([
                    "windows": .array(await services.monitoring.windows(of: monitor.text)),
                    "pairs": .array(await services.monitoring.pairs(of: monitor.text)),
                ])
            },
            Route("GET", "/api/v1/alerts") { request in
                try await services.monitoring.refresh()
                return .json(["alerts": .array(await services.monitoring.alerts(of: request.queryValue("monitor")))])
            },
        ]
    }
}
