public import Definitions
public import PlatformCore

/// Decides which alerts start a retraining.
///
/// Decides; does nothing.
public struct RetrainingTrigger: Sendable {
    /// An alert as the trigger needs it.
    public struct Alert: Sendable, Hashable {
        /// The monitor that raised it.
        public let monitor: Name
        /// The rule.
        public let rule: String
        /// What it says.
        public let message: String
        /// When, on the platform's clock.
        public let time: EventTime
        /// Version that the alert is about.
        public let version: Int
        /// Makes an alert.
        public init(monitor: Name, rule: String, message: String, time: EventTime, version: Int) {
            self.monitor = monitor
            self.rule = rule
            self.message = message
            self.time = time
            self.version = version
        }
    }

    /// What the trigger says.
    public enum Verdict: Sendable, Hashable {
        /// Train on this span.
        case start(from: EventTime, to: EventTime, cause: String)
        /// Do not, and why.
        case ignore(String)
    }

    /// Judges an alert.
    /// - Parameters:
    ///   - alert: the alert.
    ///   - monitor: its monitor's definition.
    ///   - earlier: retrainings of the model so far.
    ///   - champion: the version in production, if any.
    public static func judge(
        _ alert: Alert, monitor: MonitorDefinition, earlier: [RetrainingState], champion: Int?
    ) -> Verdict {
        guard let retrain = monitor.retrain else { return .ignore("the monitor has no retrain rule") }
        guard retrain.on.contains(alert.rule) else { return .ignore("the retrain rule does not name '\(alert.rule)'") }
        guard champion == nil || champion == alert.version else {
            return .ignore("version \(alert.version) is not in production any more")
        }
        let ofModel = earlier.filter { $0.model == monitor.model }
        if let running = ofModel.first(where: { $0.outcome == nil }) {
            return .ignore("a retraining since \(running.startedAt.dateText) is under way")
        }
        if let last = ofModel.map(\.startedAt).max(), alert.time.since(last) < retrain.cooldown {
            return .ignore("the last retraining began on \(last.dateText), within the cooldown of \(retrain.cooldown)")
        }
        let back = TimeSpan(milliseconds: -retrain.trainOn.milliseconds)
        return .start(from: alert.time.advanced(by: back), to: alert.time, cause: alert.message)
    }
}
