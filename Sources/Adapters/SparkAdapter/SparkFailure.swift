import PlatformCore
import StoragePorts

/// What the worker's words, or its death, mean for the caller.
enum SparkFailure {
    /// The error of an answer.
    static func error(_ answer: JSONValue) -> StoreError {
        let text = answer["error"]?.stringValue ?? "no words"
        let code: StoreError.Code =
            switch answer["kind"]?.stringValue {
            case "full": .full
            case "memory": .limitExceeded
            case "missing": .notFound
            case "refused": .invalidInput
            default: .unavailable
            }
        let first = text.split(whereSeparator: \.isNewline).prefix(3).joined(separator: " ")
        if answer["kind"]?.stringValue == "start" {
            return StoreError(.unavailable, "spark", "no session: \(first.prefix(1000))")
        }
        return StoreError(code, "spark", String(first.prefix(1000)))
    }

    /// The error for a worker that is gone.
    static func died(status: Int32, bySignal: Bool, words: String) -> StoreError {
        if words.contains("OutOfMemoryError") {
            return StoreError(.limitExceeded, "spark", "Spark died: its memory ran out; raise spark.memory")
        }
        let how =
            switch (bySignal, status) {
            case (true, 9): "signal 9 (SIGKILL: ended from outside, often by the kernel because memory ran out)"
            case (true, let signal): "signal \(signal)"
            case (false, let code): "exit code \(code)"
            }
        let last = words.split(whereSeparator: \.isNewline).suffix(3).joined(separator: " ")
        return StoreError(
            .unavailable, "spark", "Spark died by \(how)\(last.isEmpty ? "" : ": \(last.suffix(600))")")
    }
}
