public import Definitions
public import ModelServing
public import PlatformCore
public import Statistics

/// What a version's training slice says: the profile of its inputs and predictions, and its metrics on the test slice.
public struct MonitorReference: Sendable, Hashable, Codable {
    /// Profiles in the order of the version's inputs.
    public let profile: ReferenceProfile
    /// Metrics on the version's own test slice, by `MetricName`'s raw value.
    public let metrics: [String: Double]

    /// Takes a version's profile, puts its inputs into the order of `inputNames` (that of `PredictionRecord.inputs`), and
    /// leaves an input without a profile unwatched.
    public init(profile: ReferenceProfile, inputNames: [String], metrics: [MetricName: Double]) {
        let byName = Dictionary(profile.inputs.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        self.profile = ReferenceProfile(
            inputs: inputNames.map { byName[$0] ?? InputProfile(name: $0, numbers: []) },
            prediction: profile.prediction, rowCount: profile.rowCount)
        self.metrics = Dictionary(metrics.map { ($0.rawValue, $1) }, uniquingKeysWith: { first, _ in first })
    }
}

/// What the monitor has seen since its state began.
public struct MonitorCounters: Sendable, Hashable, Codable {
    /// Prediction records read, shadows and fallbacks included.
    public var predictions = 0
    /// Of these, fallback answers.
    public var fallbacks = 0
    /// Prediction records that came after their window's inputs were final; they count for performance alone.
    public var predictionsLate = 0
    /// Prediction records whose window was final altogether.
    public var predictionsDropped = 0
    /// Prediction records that were there already.
    public var predictionsRepeated = 0
    /// Rows beyond the number that a window keeps; they count for drift alone.
    public var rowsNotKept = 0
    /// Label records read.
    public var labels = 0
    /// Labels joined to a prediction.
    public var labelsJoined = 0
    /// Labels for a prediction that had one; the newer one holds.
    public var labelsRepeated = 0
    /// Labels that came after the horizon.
    public var labelsLate = 0
    /// Labels whose prediction never came within the horizon, or that had to make room.
    public var labelsUnmatched = 0
    /// Reports of closed windows.
    public var windowsClosed = 0
    /// Alerts raised.
    public var alertsRaised = 0
    /// Records that could not be decoded.
    public var undecodable = 0

    /// Nothing seen.
    public init() {}

    /// Whether these are numbers that counting leads to.
    var isSound: Bool {
        [
            predictions, fallbacks, predictionsLate, predictionsDropped, predictionsRepeated, rowsNotKept, labels,
            labelsJoined, labelsRepeated, labelsLate, labelsUnmatched, windowsClosed, alertsRaised, undecodable,
        ].allSatisfy { 0...(1 << 60) ~= $0 }
    }
}

/// Watches predictions and labels in log order and says what it finds; does no I/O and reads no clock.
///
/// Time is the log's: the latest time of a prediction or label, or what `advance(to:)` says. It only moves forward. A
/// window's inputs are final when time has reached its end, its performance when time has reached its end plus the label
/// horizon. Whether a label is within the horizon is decided by its own time and the prediction's, not by when it is read.
///
/// Rules are evaluated on the rows that a `primary` answered; canaries, shadows and fallbacks get reports alone.
public struct MonitorEngine: Sendable {
    struct VersionKey: Hashable, Sendable {
        let model: String
        let version: Int
    }
    struct MonitorState: Sendable {
        var definition: MonitorDefinition
        var windows: [OpenWindow] = []
        var incidents: [Alert] = []
    }
    struct WaitingLabel: Sendable {
        let time: Int64
        let value: Double
        var matched: Bool
    }

    var monitors: [MonitorState] = []
    var references: [VersionKey: MonitorReference] = [:]
    /// The references as a snapshot holds them; they never change, so they are encoded once.
    var referenceBytes: [VersionKey: [UInt8]] = [:]
    var waiting: [RowKey: WaitingLabel] = [:]
    var waitingOrder: [(key: RowKey, time: Int64)] = []
    var waitingStart = 0
    /// The log's time.
    public internal(set) var time = EventTime(milliseconds: .min)
    /// What was seen.
    public internal(set) var counters = MonitorCounters()
    let rowCountMax: Int
    let waitingLabelCountMax: Int

    /// Watches by `definitions`; keeps at most `rowCountMax` rows per version, role and window for performance, and at
    /// most `waitingLabelCountMax` labels whose prediction has not come.
    public init(
        definitions: [MonitorDefinition], rowCountMax: Int = 2_000_000, waitingLabelCountMax: Int = 200_000
    ) {
        self.rowCountMax = rowCountMax
        self.waitingLabelCountMax = waitingLabelCountMax
        update(definitions)
    }

    /// Takes changed definitions: new rules hold from the next report, a new window length for windows not begun yet; a
    /// monitor that is gone forgets its windows and incidents.
    public mutating func update(_ definitions: [MonitorDefinition]) {
        monitors = definitions.map { definition in
            guard var state = monitors.first(where: { $0.definition.name == definition.name }),
                state.definition.model == definition.model
            else { return MonitorState(definition: definition) }
            state.definition = definition
            return state
        }
    }

    /// Whether the reference of this version should be given before its records: the model is watched and the version
    /// has none.
    public func needsReference(model: String, version: Int) -> Bool {
        version > 0 && watches(model)
            && references[VersionKey(model: model, version: version)] == nil
    }

    /// Gives the reference of a version; the first one given holds.
    ///
    /// Windows that have rows of it already do without.
    public mutating func add(_ reference: MonitorReference, model: String, version: Int) {
        let key = VersionKey(model: model, version: version)
        guard references[key] == nil else { return }
        references[key] = reference
        referenceBytes[key] = try? Self.encoded(reference)
    }

    /// The open incidents.
    public var incidents: [Alert] { monitors.flatMap(\.incidents) }
    /// Labels whose prediction has not come.
    public var waitingLabelCount: Int { waiting.count { !$0.value.matched } }

    // MARK: Records

    /// Whether a model has a monitor.
    func watches(_ model: String) -> Bool { monitors.contains { $0.definition.model.text == model } }

    /// Counts one prediction of a model that nobody watches; gives what its time closes.
    mutating func pass(_ head: PredictionView) -> [MonitorEffect] {
        let effects = advance(to: head.time)
        counters.predictions += 1
        if head.choice == .fallback { counters.fallbacks += 1 }
        return effects
    }

    /// What is kept of a prediction apart from its inputs.
    private struct Row {
        let key: RowKey
        let time: EventTime
        let model: String
        let version: Int
        let choice: PredictionRecord.Choice
        let value: Float?
    }

    /// Reads one prediction; gives what its time closes.
    ///
    /// One whose time is outside of 1900 to 2200 counts as undecodable, and so does such a label.
    public mutating func consume(_ record: PredictionRecord) -> [MonitorEffect] {
        record.inputs.withUnsafeBytes { inputs in
            consume(
                Row(
                    key: RowKey(record.id), time: record.time, model: record.model, version: record.version,
                    choice: record.choice, value: Self.scalar(record.output)),
                inputs)
        }
    }

    /// Reads one prediction where it lies, after its rest was read; `model` is its model's name.
    mutating func consume(_ record: PredictionView, of model: String) -> [MonitorEffect] {
        let count = record.outputCount
        let value: Float? =
            if count > 2 {
                Self.scalar((0..<count).map(record.output))
            } else if count > 0, record.output(count - 1).isFinite { record.output(count - 1) } else { nil }
        return consume(
            Row(
                key: RowKey(record.identifier), time: record.time, model: model, version: record.version,
                choice: record.choice, value: value),
            record.inputs)
    }

    private mutating func consume(_ row: Row, _ inputs: UnsafeRawBufferPointer) -> [MonitorEffect] {
        guard row.time.isAccepted else {
            counters.undecodable += 1
            return []
        }
        let effects = advance(to: row.time)
        counters.predictions += 1
        if row.choice == .fallback { counters.fallbacks += 1 }
        for index in monitors.indices where monitors[index].definition.model.text == row.model {
            guard let window = openWindow(at: row.time, of: index) else {
                counters.predictionsDropped += 1
                continue
            }
            let group = self.group(of: row, window: window, monitor: index)
            keep(row, inputs, monitor: index, window: window, group: group)
        }
        return effects
    }

    private mutating func keep(
        _ row: Row, _ inputs: UnsafeRawBufferPointer, monitor: Int, window: Int, group: Int
    ) {
        let time = row.time.milliseconds
        if let value = row.value, monitors[monitor].windows[window].groups[group].keys.count < rowCountMax {
            guard monitors[monitor].windows[window].groups[group].keep(row.key, prediction: value, time: time) else {
                counters.predictionsRepeated += 1
                return
            }
            if let label = knownLabel(of: row.key, time: time, monitor: monitor, window: window, group: group) {
                let row = monitors[monitor].windows[window].groups[group].labels.count - 1
                monitors[monitor].windows[window].groups[group].labels[row] = label
            }
        } else {
            counters.rowsNotKept += 1
        }
        if monitors[monitor].windows[window].inputsAreFinal {
            counters.predictionsLate += 1
        } else {
            monitors[monitor].windows[window].groups[group].count(
                inputs, prediction: row.value.map(Double.init) ?? .nan)
        }
    }

    /// A label that came before this row: it waits, or the row's twin (answer and shadow share an identifier) has it.
    private mutating func knownLabel(
        of key: RowKey, time: Int64, monitor: Int, window: Int, group: Int
    ) -> Double? {
        if !waiting.isEmpty, let label = waiting[key] {
            if !label.matched {
                waiting[key]?.matched = true
                counters.labelsJoined += 1
            }
            let horizon = monitors[monitor].definition.labelHorizon.milliseconds
            if label.time - time <= horizon { return label.value }
        }
        guard monitors[monitor].windows[window].groups.count > 1 else { return nil }
        for (index, other) in monitors[monitor].windows[window].groups.enumerated() where index != group {
            if let row = other.place(of: key), !other.labels[row].isNaN { return other.labels[row] }
        }
        return nil
    }

    /// Reads one label; gives what its time closes.
    public mutating func consume(_ label: LabelRecord) -> [MonitorEffect] {
        let effects = advance(to: label.time)
        counters.labels += 1
        guard label.value.isFinite, label.time.isAccepted else {
            counters.undecodable += 1
            return effects
        }
        let key = RowKey(label.predictionID)
        let time = label.time.milliseconds
        var (joined, repeated, late) = (false, false, false)
        for index in monitors.indices {
            let horizon = monitors[index].definition.labelHorizon.milliseconds
            for window in monitors[index].windows.indices {
                for group in monitors[index].windows[window].groups.indices {
                    guard let row = monitors[index].windows[window].groups[group].place(of: key) else { continue }
                    if time - monitors[index].windows[window].groups[group].times[row] > horizon {
                        late = true
                        continue
                    }
                    if !monitors[index].windows[window].groups[group].labels[row].isNaN { repeated = true }
                    monitors[index].windows[window].groups[group].labels[row] = label.value
                    joined = true
                }
            }
        }
        let horizonMax = monitors.map(\.definition.labelHorizon.milliseconds).max() ?? 0
        if repeated {
            counters.labelsRepeated += 1
        } else if joined {
            counters.labelsJoined += 1
        } else if late {
            counters.labelsLate += 1
        } else if let predicted = IdentifierSource.time(of: label.predictionID),
            label.time.since(predicted).milliseconds > horizonMax
        {
            counters.labelsLate += 1  // its window is final and forgotten; its identifier still says when it was made
        } else {
            keepWaiting(key, time: time, value: label.value)
        }
        return effects
    }

    private mutating func keepWaiting(_ key: RowKey, time: Int64, value: Double) {
        if waiting.updateValue(WaitingLabel(time: time, value: value, matched: false), forKey: key) == nil {
            waitingOrder.append((key, time))
        } else {
            counters.labelsRepeated += 1
        }
        while waitingOrder.count - waitingStart > waitingLabelCountMax { forgetOldestLabel() }
    }

    private mutating func forgetOldestLabel() {
        if let label = waiting.removeValue(forKey: waitingOrder[waitingStart].key), !label.matched {
            counters.labelsUnmatched += 1
        }
        waitingStart += 1
        if waitingStart > 1024, waitingStart * 2 > waitingOrder.count {
            waitingOrder.removeFirst(waitingStart)
            waitingStart = 0
        }
    }

    /// The output as one number: the only one, the second of two (the positive class), or of more the called class, as
    /// reference profiles count it; `nil` for none.
    private static func scalar(_ output: [Float]) -> Float? {
        guard output.count > 2 else { return output.last.flatMap { $0.isFinite ? $0 : nil } }
        guard output.allSatisfy(\.isFinite) else { return nil }
        return output.indices.max { output[$0] < output[$1] }.map(Float.init)
    }

    // MARK: Windows

    /// Start of the aligned window that holds `time`: from a Monday 00:00 UTC for whole weeks, else from midnight UTC
    /// (the epoch's, for windows that do not divide a day).
    public static func windowStart(of time: EventTime, length: TimeSpan) -> EventTime {
        let size = max(1, length.milliseconds)
        let week: Int64 = 604_800_000
        let origin: Int64 = size % week == 0 ? 345_600_000 : 0  // 1970-01-05 was a Monday
        let distance = time.milliseconds &- origin
        let into = (distance % size + size) % size
        return EventTime(milliseconds: time.milliseconds - into)
    }

    /// The open window for a moment, made if there is none; `nil` if it is final altogether.
    private mutating func openWindow(at moment: EventTime, of index: Int) -> Int? {
        let at = moment.milliseconds
        if let known = monitors[index].windows.lastIndex(where: { $0.from <= at && at < $0.to }) { return known }
        let definition = monitors[index].definition
        let from = Self.windowStart(of: moment, length: definition.window)
        let to = from.advanced(by: definition.window)
        let until = to.advanced(by: definition.labelHorizon)
        guard until > time else { return nil }
        var window = OpenWindow(
            from: from.milliseconds, to: to.milliseconds, labelsUntil: until.milliseconds)
        window.inputsAreFinal = to <= time
        let place = monitors[index].windows.firstIndex { $0.from > window.from } ?? monitors[index].windows.count
        monitors[index].windows.insert(window, at: place)
        return place
    }

    private mutating func group(of row: Row, window: Int, monitor: Int) -> Int {
        let count = monitors[monitor].windows[window].groups.count
        for index in 0..<count
        where monitors[monitor].windows[window].groups[index].version == row.version
            && monitors[monitor].windows[window].groups[index].choice == row.choice.rawValue
        {
            return index
        }
        let reference = references[VersionKey(model: row.model, version: row.version)]
        monitors[monitor].windows[window].groups.append(
            VersionRows(
                version: row.version, choice: row.choice.rawValue,
                histograms: reference.map { InputHistograms(profile: $0.profile) }))
        return count
    }

    /// Moves the log's time forward; gives what that closes, in the order of its time.
    ///
    /// An earlier time changes nothing.
    ///
    /// A time outside of 1900 to 2200 is ignored, so that one broken record cannot close everything.
    public mutating func advance(to moment: EventTime) -> [MonitorEffect] {
        guard moment > time, moment.isAccepted else { return [] }
        time = moment
        let now = moment.milliseconds
        var effects: [MonitorEffect] = []
        for index in monitors.indices {
            while let window = monitors[index].windows.indices.min(by: {
                Self.due(monitors[index].windows[$0]) < Self.due(monitors[index].windows[$1])
            }), Self.due(monitors[index].windows[window]) <= now {
                if monitors[index].windows[window].inputsAreFinal {
                    let closed = monitors[index].windows.remove(at: window)
                    effects += measure(closed, monitor: index)
                } else {
                    monitors[index].windows[window].inputsAreFinal = true
                    effects += close(monitors[index].windows[window], monitor: index)
                }
            }
        }
        let horizon = monitors.map(\.definition.labelHorizon.milliseconds).max() ?? 0
        while waitingStart < waitingOrder.count, waitingOrder[waitingStart].time + horizon < now { forgetOldestLabel() }
        if !effects.isEmpty { forgetReferences() }
        return effects
    }

    private static func due(_ window: OpenWindow) -> Int64 { window.inputsAreFinal ? window.labelsUntil : window.to }

    /// Keeps the references of versions with open windows, and of others only the 64 newest.
    private mutating func forgetReferences() {
        guard references.count > 64 else { return }
        var used: Set<VersionKey> = []
        for monitor in monitors {
            for group in monitor.windows.flatMap(\.groups) {
                used.insert(VersionKey(model: monitor.definition.model.text, version: group.version))
            }
        }
        for key in references.keys.filter({ !used.contains($0) }).sorted(by: { $0.version < $1.version })
            .prefix(references.count - 64)
        {
            references[key] = nil
            referenceBytes[key] = nil
        }
    }
}
