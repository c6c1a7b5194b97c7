import PlatformCore
import RuntimePorts

/// What one prediction is put together in, kept from request to request of a connection: its arrays are filled again and
/// again instead of being made anew.
///
/// Used by one request at a time, and by its thread alone: that no two places change a property at once is not looked at anew for
/// every access.
public final class PredictionScratch {
    @exclusivity(unchecked) var vector = InputVector()
    /// The last prediction.
    @exclusivity(unchecked) var record = PredictionRecord(
        id: "", time: EventTime(milliseconds: 0), model: "", version: 0, artifact: "", policyRevision: 0,
        choice: .primary, serviceVersion: "", entities: [], inputs: [], ages: [], statuses: [], overridden: [],
        output: [], fallbackReason: "", latency: .init(), caller: "")
    /// What read the last prediction's features.
    @exclusivity(unchecked) var binding: ServiceBinding?
    /// The vector as the model reads it.
    @exclusivity(unchecked) private(set) var row: [Float] = []

    private var companion: AnyObject?

    /// What a protocol keeps from request to request beside this; made by `make` at first.
    public func companion<Companion: AnyObject>(_ make: () -> Companion) -> Companion {
        if let known = companion as? Companion { return known }
        let made = make()
        companion = made
        return made
    }

    /// Empty arrays.
    public init() {}

    /// Works on the record where it is: reading it as a property would copy its dozen arrays and texts.
    func withRecord<Outcome>(_ body: (inout PredictionRecord) -> Outcome) -> Outcome { body(&record) }

    /// Puts the vector into `row`.
    func fillRow() {
        if row.count != vector.inputs.count { row = Array(repeating: 0, count: vector.inputs.count) }
        for position in row.indices { row[position] = Float(vector.inputs[position]) }
    }

    /// Whether nothing answered; asked of the record where it is.
    var isUnanswered: Bool { withRecord { $0.isUnanswered } }
    /// Whether nothing answered because the time of the request was over.
    var isUnansweredForTime: Bool { isUnanswered && withRecord { $0.isUnansweredForTime } }

    /// Whether every output is a finite number.
    var outputIsFinite: Bool { record.output.allSatisfy(\.isFinite) }

    /// Predicts the row into the record's output.
    func score(_ model: any LoadedModel) throws(ModelError) {
        let count = model.description.outputCount
        if record.output.count != count { record.output = Array(repeating: 0, count: count) }
        try row.withUnsafeBufferPointer { (source) throws(ModelError) in
            try record.output.withUnsafeMutableBufferPointer { (target) throws(ModelError) in
                try model.predict(source, rowCount: 1, into: target)
            }
        }
    }

    /// Puts keys and inputs into the record; the vector gets the record's old arrays to fill next time.
    func takeInputs(joinKeys: [String]) {
        if record.entities.count == joinKeys.count, zip(record.entities, joinKeys).allSatisfy({ $0.key == $1 }) {
            for position in joinKeys.indices { record.entities[position].value = vector.keys[position] }
        } else {
            record.entities = zip(joinKeys, vector.keys).map { .init(key: $0, value: $1) }
        }
        swap(&record.inputs, &vector.inputs)
        swap(&record.ages, &vector.ages)
        swap(&record.statuses, &vector.statuses)
        swap(&record.overridden, &vector.overridden)
    }
}
