import ExperimentTracking
import PlatformCore

/// The body of `log-metric` or `log-batch` with metrics alone, read in one pass.
///
/// Reads what clients write; whatever it does not know (escapes, unknown members, text for numbers, mistakes) it leaves
/// to the general reader, which also words the errors.
struct MetricBody {
    private(set) var runID = ""
    private(set) var metrics: [Metric] = []

    /// Reads a body; `nil` leaves it to the general reader.
    init?(_ bytes: [UInt8]) {
        let isRead = bytes.withUnsafeBufferPointer { buffer in
            var reader = Reader(bytes: buffer)
            return read(&reader) && reader.isAtEnd
        }
        guard isRead, !runID.isEmpty, !metrics.isEmpty else { return nil }
    }

    /// Members of one metric as far as they were read.
    private struct Members {
        var key: String?
        var value: Double?
        var timestamp: Int64?
        var step: Int64?
        var texts: (model: String?, dataset: String?, digest: String?) = (nil, nil, nil)

        var metric: Metric? {
            guard let key, !key.isEmpty, let value, let timestamp, timestamp >= 0 else { return nil }
            return Metric(
                key, value, measuredAt: EventTime(milliseconds: timestamp), step: step ?? 0, modelID: texts.model,
                datasetName: texts.dataset, datasetDigest: texts.digest)
        }
        var isEmpty: Bool { key == nil && value == nil && timestamp == nil && step == nil }
    }

    private mutating func read(_ reader: inout Reader) -> Bool {
        var members = Members()
        var seen: Set<String> = []
        var isFirst = true
        while let name = reader.member(isFirst: &isFirst) {
            guard let name, seen.insert(name).inserted else { return false }
            switch name {
            case "run_id", "run_uuid":
                guard let text = reader.text() else { return false }
                if runID.isEmpty || name == "run_id" { runID = text }
            case "metrics":
                guard readList(&reader) else { return false }
            case "params", "tags":
                guard reader.emptyList() else { return false }
            default:
                guard Self.read(name, &members, &reader) else { return false }
            }
        }
        guard !reader.isBroken else { return false }
        if members.isEmpty { return true }
        guard metrics.isEmpty, let metric = members.metric else { return false }
        metrics = [metric]
        return true
    }

    private mutating func readList(_ reader: inout Reader) -> Bool {
        guard reader.take(0x5B) else { return false }
        if reader.take(0x5D) { return true }
        while true {
            var members = Members()
            var isFirst = true
            var count = 0
            while let name = reader.member(isFirst: &isFirst) {
                count += 1
                guard let name, count <= 8, Self.read(name, &members, &reader) else { return false }
            }
            guard !reader.isBroken, let metric = members.metric else { return false }
            metrics.append(metric)
            if reader.take(0x5D) { return true }
            guard reader.take(0x2C) else { return false }
        }
    }

    /// Reads a member of a metric; a repeated one is left to the general reader.
    private static func read(_ name: String, _ members: inout Members, _ reader: inout Reader) -> Bool {
        switch name {
        case "key":
            guard members.key == nil, let text = reader.text() else { return false }
            members.key = text
        case "value":
            guard members.value == nil, let value = reader.number() else { return false }
            members.value = value
        case "timestamp":
            guard members.timestamp == nil, let value = reader.integer() else { return false }
            members.timestamp = value
        case "step":
            guard members.step == nil, let value = reader.integer() else { return false }
            members.step = value
        case "model_id":
            guard members.texts.model == nil, let text = reader.text() else { return false }
            members.texts.model = text
        case "dataset_name":
            guard members.texts.dataset == nil, let text = reader.text() else { return false }
            members.texts.dataset = text
        case "dataset_digest":
            guard members.texts.digest == nil, let text = reader.text() else { return false }
            members.texts.digest = text
        default: return false
        }
        return true
    }

    /// Walks over the bytes.
    private struct Reader {
        let bytes: UnsafeBufferPointer<UInt8>
        var at = 0
        var isBroken = false

        init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

        mutating func skipBlanks() {
            while at < bytes.count, bytes[at] == 32 || bytes[at] == 10 || bytes[at] == 13 || bytes[at] == 9 { at += 1 }
        }

        var isAtEnd: Bool {
            bytes[min(at, bytes.count)...].allSatisfy { $0 == 32 || $0 == 10 || $0 == 13 || $0 == 9 }
        }

        mutating func take(_ byte: UInt8) -> Bool {
            skipBlanks()
            guard at < bytes.count, bytes[at] == byte else { return false }
            at += 1
            return true
        }

        /// The name of an object's next member; `.some(nil)` for something else, `nil` behind the last.
        mutating func member(isFirst: inout Bool) -> String?? {
            if isFirst {
                isFirst = false
                guard take(0x7B) else { return fail() }
                if take(0x7D) { return nil }
            } else {
                if take(0x7D) { return nil }
                guard take(0x2C) else { return fail() }
            }
            guard let name = text(), take(0x3A) else { return fail() }
            return .some(name)
        }

        private mutating func fail() -> String?? {
            isBroken = true
            return .some(nil)
        }

        /// Text without escapes.
        mutating func text() -> String? {
            guard take(0x22) else { return nil }
            let start = at
            while at < bytes.count, bytes[at] != 0x22 {
                if bytes[at] == 0x5C || bytes[at] < 0x20 { return nil }
                at += 1
            }
            guard at < bytes.count else { return nil }
            at += 1
            return String(validating: UnsafeBufferPointer(rebasing: bytes[start..<(at - 1)]), as: UTF8.self)
        }

        mutating func emptyList() -> Bool { take(0x5B) && take(0x5D) }

        /// Where the next number lies, as JSON writes numbers.
        private mutating func digits() -> (range: Range<Int>, isWhole: Bool)? {
            skipBlanks()
            let start = at
            func isDigit(_ position: Int) -> Bool { position < bytes.count && 48...57 ~= bytes[position] }
            if at < bytes.count, bytes[at] == 0x2D { at += 1 }
            guard isDigit(at), !(bytes[at] == 48 && isDigit(at + 1)) else { return nil }
            while isDigit(at) { at += 1 }
            var isWhole = true
            if at < bytes.count, bytes[at] == 0x2E {
                isWhole = false
                at += 1
                guard isDigit(at) else { return nil }
                while isDigit(at) { at += 1 }
            }
            if at < bytes.count, bytes[at] == 0x65 || bytes[at] == 0x45 {
                isWhole = false
                at += 1
                if at < bytes.count, bytes[at] == 0x2B || bytes[at] == 0x2D { at += 1 }
                guard isDigit(at) else { return nil }
                while isDigit(at) { at += 1 }
            }
            return at - start <= 64 ? (start..<at, isWhole) : nil
        }

        mutating func integer() -> Int64? {
            guard let (range, isWhole) = digits(), isWhole else { return nil }
            return Int64(String(decoding: bytes[range], as: UTF8.self))
        }

        mutating func number() -> Double? {
            guard let (range, _) = digits() else { return nil }
            guard let value = Double(String(decoding: bytes[range], as: UTF8.self)), value.isFinite else { return nil }
            return value
        }
    }
}
