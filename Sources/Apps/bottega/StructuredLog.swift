import Foundation
import Logging
import PlatformCore

/// Writes one JSON object for each message to standard error.
struct StructuredLog: LogHandler {
    let label: String
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    init(label: String, level: Logger.Level) {
        self.label = label
        logLevel = level
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let (level, message, more, source) = (event.level, event.message, event.metadata, event.source)
        var fields: [String: JSONValue] = [
            "time": .string(SystemClock().now().description), "level": .string(level.rawValue),
            "message": .string("\(message)"),
            "part": .string(source),
        ]
        for (key, value) in metadata.merging(more ?? [:], uniquingKeysWith: { $1 }) {
            fields[key] = .string("\(value)")
        }
        // Nobody can be told of a log that cannot be written: a full disk, a reader that has gone.
        try? FileHandle.standardError.write(contentsOf: Data((JSONValue.object(fields).text + "\n").utf8))
    }
}
