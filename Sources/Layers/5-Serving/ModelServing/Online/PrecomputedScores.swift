import PlatformCore

/// Predictions that were computed before and are kept as a feature of a view.
public struct PrecomputedScores: Sendable {
    private let reader: any VectorReader
    private let joinKeys: [String]
    /// Status of the feature store: there is a value, and its event is not older than the view's time to live.
    private static let present: UInt8 = 0

    /// - Parameters:
    ///   - reader: reads that one feature.
    ///   - joinKeys: what it is read by, in the reader's order.
    public init(reader: any VectorReader, joinKeys: [String]) {
        self.reader = reader
        self.joinKeys = joinKeys
    }

    /// The prediction for an entity; `nil` if there is none, or none that is fresh, or it cannot be read.
    func score(_ vector: InputVector, _ binding: ServiceBinding, at time: EventTime) -> Float? {
        let keys = joinKeys.map { name in binding.joinKeyPositions[name].flatMap { vector.keys[$0] } }
        var (values, ages, statuses) = ([Double.nan], [Int64(-1)], [UInt8(255)])
        do {
            try values.withUnsafeMutableBufferPointer { (values) throws(PlatformError) in
                try ages.withUnsafeMutableBufferPointer { (ages) throws(PlatformError) in
                    try statuses.withUnsafeMutableBufferPointer { (statuses) throws(PlatformError) in
                        try reader.read(keys: keys, asOf: time, values: values, ages: ages, statuses: statuses)
                    }
                }
            }
        } catch { return nil }  // then the model is asked, and what it reads says what is wrong
        let score = Float(values[0])
        return statuses[0] == Self.present && score.isFinite ? score : nil
    }
}
