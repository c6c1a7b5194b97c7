public import APIContract
import ExperimentTracking
import PlatformCore
import StoragePorts

extension MLflowRoutes {
    /// The calls that log metrics, for the gateway to answer in front of the framework.
    ///
    /// They take what an ordinary client sends for a run that is known to be active; the rest is passed on.
    public var directRoutes: [DirectRoute] {
        ["/api", "/ajax-api"].flatMap { prefix in
            ["log-metric", "log-batch"].map { call in
                DirectRoute(
                    "POST", "\(prefix)/2.0/mlflow/runs/\(call)", byteCountMax: 512 << 10,
                    lonelyHandler: call == "log-metric" ? metricHandler(mayHold: true) : nil,
                    handler: metricHandler(mayHold: false))
            }
        }
    }

    private func metricHandler(mayHold: Bool) -> DirectRoute.Handler {
        { [tracking] _, bytes, answer in
            guard let body = MetricBody(bytes) else { return false }
            do {
                return try tracking.offer(body.metrics, run: body.runID, mayHold: mayHold) { failure in
                    answer(
                        failure.map {
                            MLflowError(of: $0)?.response
                                ?? MLflowError("INTERNAL_ERROR", 500, $0.description).response
                        } ?? .json([:]))
                }
            } catch { return false }  // the ordinary route words the error
        }
    }
}
