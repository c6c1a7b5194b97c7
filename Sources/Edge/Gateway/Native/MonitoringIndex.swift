import APIContract
import Foundation
import PlatformCore
public import StoragePorts

/// What the monitor has written, read from its topic as it grows: windows, comparisons, incidents, its heartbeat.
public actor MonitoringIndex {
    private let log: any EventLog
    private var offset: UInt64 = 0
    private var seen: Set<String> = []
    private var windows: [String: [String: JSONValue]] = [:]
    private var order: [String] = []
    private var pairs: [JSONValue] = []
    private var alerts: [String: JSONValue] = [:]
    private var alertOrder: [String] = []
    private(set) var heartbeat: JSONValue = .null
    private var heartbeatAt: ContinuousClock.Instant?

    /// Reads `log`.
    public init(log: any EventLog) { self.log = log }

    /// Reads what is new.
    func refresh() async throws {
        while true {
            let records = try await log.read(PlatformTopic.monitoring, from: offset)
            guard let last = records.last else { return }
            guard last.offset >= offset else { return }  // another caller read on meanwhile
            for stored in records where stored.offset >= offset {
                if let event = try? JSONValue.parse(stored.record.value) { take(event) }
            }
            offset = last.offset + 1
        }
    }

    private func take(_ event: JSONValue) {
        let kind = event["kind"]?.stringValue ?? ""
        let details = event["details"] ?? .null
        if kind == "monitor.heartbeat" {
            heartbeat = details
            heartbeatAt = .now
            return
        }
        guard let id = details["event_id"]?.stringValue, seen.insert(id).inserted else { return }
        switch kind {
        case "monitor.window.closed", "monitor.performance.measured": takeWindow(details)
        case "monitor.pair.compared":
            var members = details.objectValue ?? [:]
            members["scope"] = Self.scope(details["scope"])
            pairs.append(.object(members))
        case "monitor.alert.raised", "monitor.alert.continued", "monitor.alert.resolved":
            guard let alert = details["id"]?.stringValue else { return }
            var members = details.objectValue ?? [:]
            members["state"] = kind == "monitor.alert.resolved" ? "resolved" : "open"
            members["scope"] = Self.scope(details["scope"])
            // The event has the moment up to which everything was counted before: a window is over first.
            let times = [event["time"], details["scope"]?["to"]].compactMap { $0?.integerValue }
            members["time"] =
                alerts[alert]?["time"] ?? .string(times.max().map { EventTime(milliseconds: $0).description } ?? "")
            for key in ["last_seen", "resolved_at"] {
                if let value = details[key]?.integerValue {
                    members[key] = .string(EventTime(milliseconds: value).description)
                }
            }
            if alerts.updateValue(.object(members), forKey: alert) == nil { alertOrder.append(alert) }
        default: break
        }
    }

    private static func scope(_ scope: JSONValue?) -> JSONValue {
        var members = scope?.objectValue ?? [:]
        for key in ["from", "to"] {
            if let value = members[key]?.integerValue {
                members[key] = .string(EventTime(milliseconds: value).description)
            }
        }
        return .object(members)
    }

    /// An inputs report and a performance report of the same rows become one window.
    private func takeWindow(_ report: JSONValue) {
        let scope = Self.scope(report["scope"]).objectValue ?? [:]
        let key = ["monitor", "from", "version", "choice"].map { scope[$0].map(\.text) ?? "" }.joined(separator: " ")
        if windows[key] == nil { order.append(key) }
        var window = windows[key] ?? scope
        if window["rows"] == nil || report["kind"] == "inputs" { window["rows"] = report["rows"] }
        if report["kind"] == "inputs" {
            window["inputs"] = report["inputs"]
            window["prediction_psi"] = report["prediction"]?["psi"] ?? .null
            window["prediction_mean"] = report["prediction"]?["mean"] ?? .null
        } else if let performance = report["performance"] {
            window["labelled"] = performance["labelled"]
            window["unlabelled"] = performance["unlabelled"]
            window["metrics"] = performance["metrics"]
            window["auc_interval"] = performance["auc_interval"]
            window["label_mean"] = performance["label_mean"]
            window["reliability"] = performance["reliability"]
        }
        windows[key] = window
    }

    /// The windows of a monitor, oldest first.
    func windows(of monitor: String) -> [JSONValue] {
        order.compactMap { windows[$0] }.filter { $0["monitor"]?.stringValue == monitor }.map(JSONValue.object)
    }

    /// Comparisons of challengers with their champions.
    func pairs(of monitor: String) -> [JSONValue] { pairs.filter { $0["scope"]?["monitor"]?.stringValue == monitor } }

    /// Incidents, oldest first.
    func alerts(of monitor: String?) -> [JSONValue] {
        alertOrder.compactMap { alerts[$0] }.filter {
            monitor == nil || $0["scope"]?["monitor"]?.stringValue == monitor
        }
    }

    /// What became of labels, as the monitor last said; `nil` before its first word.
    func labels() -> MonitoredLabels? {
        guard heartbeatAt != nil, let waiting = heartbeat["labels_waiting"]?.integerValue else { return nil }
        func count(_ key: String) -> Int64 { heartbeat["counters"]?[key]?.integerValue ?? 0 }
        return MonitoredLabels(
            waiting: waiting, joined: count("labelsJoined"), repeated: count("labelsRepeated"),
            late: count("labelsLate"),
            unmatched: count("labelsUnmatched"))
    }

    /// Offsets that the monitor has consumed, and how long ago it said so.
    func progress() -> (predictions: UInt64, labels: UInt64, age: Duration)? {
        guard let heartbeatAt, let predictions = heartbeat["predictions"]?.integerValue,
            let labels = heartbeat["labels"]?.integerValue
        else { return nil }
        return (UInt64(clamping: predictions), UInt64(clamping: labels), ContinuousClock.now - heartbeatAt)
    }
}

/// What became of labels, as the monitor last said.
struct MonitoredLabels: Sendable {
    /// Those whose prediction has not been read; it may come yet.
    let waiting: Int64
    let joined: Int64
    let repeated: Int64
    let late: Int64
    /// Those whose prediction never came.
    let unmatched: Int64
}
