import Foundation
public import PlatformCore

/// One row of a stream as it was scored: what everybody may read of it, and the prediction's record.
///
/// Topic `scores.<deployment>`, partition 0, as a JSON object. The record is in it as Base64 under `record`, so that a
/// streamed prediction is explained and computed again like any other.
public struct ScoredEvent: Sendable {
    /// What is told of the row.
    public var members: [String: JSONValue]
    /// When it was scored; `nil` for a row that could not be.
    public let time: EventTime?
    private let record: [UInt8]?

    /// A row that was scored; `record` is the encoded record.
    init(members: [String: JSONValue], time: EventTime, record: [UInt8]) {
        self.members = members
        self.time = time
        self.record = record
    }

    /// A row that could not be scored.
    public init(error: JSONValue) {
        members = ["prediction": .null, "error": error]
        time = nil
        record = nil
    }

    private static let recordKey = "record"
    private static let prefix = "scores."

    /// The topic of a deployment's scored events.
    public static func topic(of deployment: Name) -> Name? { Name(prefix + deployment.text) }

    /// Whether a topic holds scored events.
    public static func isTopic(_ topic: Name) -> Bool { topic.text.hasPrefix(prefix) }

    /// The event as bytes.
    public func encoded() -> [UInt8] {
        var members = members
        if let record { members[Self.recordKey] = .string(Data(record).base64EncodedString()) }
        return JSONValue.object(members).canonicalBytes
    }

    /// What is told of a stored event; `nil` for what cannot be read.
    public static func shown(_ bytes: [UInt8]) -> JSONValue? {
        guard case .object(var members)? = try? JSONValue.parse(bytes) else { return nil }
        members[recordKey] = nil
        return .object(members)
    }

    /// The identifier of a stored event's prediction; `nil` for a row that could not be scored.
    static func identifier(in bytes: [UInt8]) -> String? {
        (try? JSONValue.parse(bytes))?["prediction_id"]?.stringValue
    }

    /// The record of a stored event if it is the prediction with this identifier.
    static func record(_ bytes: [UInt8], of id: String) throws -> PredictionRecord? {
        guard let event = try? JSONValue.parse(bytes), event["prediction_id"]?.stringValue == id,
            let text = event[recordKey]?.stringValue, let data = Data(base64Encoded: text)
        else { return nil }
        return try PredictionRecord(decoding: Array(data))
    }
}
