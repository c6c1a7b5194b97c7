import PlatformCore
import StoragePorts

/// Metrics of one run that one call logged, as the journal keeps them.
struct MetricEntry: Sendable {
    let run: Int64
    let runID: String
    let metrics: [Metric]

    private static let formatVersion: UInt8 = 1

    init(run: Int64, runID: String, metrics: [Metric]) {
        self.run = run
        self.runID = runID
        self.metrics = metrics
    }

    var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 64 + metrics.count * 40)
        writer.write(Self.formatVersion as UInt8)
        writer.write(signed: run)
        writer.write(runID)
        writer.write(varint: UInt64(metrics.count))
        for metric in metrics {
            writer.write(metric.key)
            writer.write(signed: metric.measuredAt.milliseconds)
            writer.write(signed: metric.step)
            writer.write(metric.value)
            let isPlain = metric.modelID == nil && metric.datasetName == nil && metric.datasetDigest == nil
            writer.write(isPlain ? 0 as UInt8 : 1)
            if isPlain { continue }
            for text in [metric.modelID, metric.datasetName, metric.datasetDigest] { writer.write(text ?? "") }
        }
        return writer.bytes
    }

    /// - Throws: `DecodingFailure`.
    init(_ bytes: [UInt8]) throws {
        var reader = ByteReader(bytes)
        guard try reader.byte() == Self.formatVersion else {
            throw DecodingFailure("an entry of the metric journal has an unknown format")
        }
        run = try reader.signed()
        runID = try reader.text()
        var metrics: [Metric] = []
        for _ in 0..<(try reader.count(unitByteCount: 12)) {
            let key = try reader.text()
            let (time, step, value) = (try reader.signed(), try reader.signed(), try reader.double())
            var texts: [String?] = [nil, nil, nil]
            if try reader.byte() != 0 {
                for index in texts.indices {
                    let text = try reader.text()
                    texts[index] = text.isEmpty ? nil : text
                }
            }
            metrics.append(
                Metric(
                    key, value, measuredAt: EventTime(milliseconds: time), step: step, modelID: texts[0],
                    datasetName: texts[1], datasetDigest: texts[2]))
        }
        self.metrics = metrics
    }
}
