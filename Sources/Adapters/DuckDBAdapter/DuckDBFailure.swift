import StoragePorts

/// What DuckDB's words on standard error, or its death, mean for the caller.
enum DuckDBFailure {
    /// The error for a child that ended with an exit code.
    static func error(_ text: String, exitCode: Int32) -> StoreError {
        let lines = text.split(whereSeparator: \.isNewline).filter { !$0.allSatisfy(\.isWhitespace) }
        guard let first = lines.first else {
            return StoreError(.unavailable, "duckdb", "DuckDB ended with exit code \(exitCode) and said nothing")
        }
        let message = String(first.prefix(1000))
        let code: StoreError.Code
        if contains(text, "No space left on device") || contains(text, "max_temp_directory_size") {
            code = .full
        } else if message.hasPrefix("Out of Memory") {
            code = .limitExceeded
        } else if message.hasPrefix("IO Error: No files found") || message.hasPrefix("IO Error: Cannot open file") {
            code = .notFound
        } else if ["IO Error", "INTERNAL Error", "FATAL Error", "Fatal Error", "Error: "].contains(
            where: message.hasPrefix)
        {
            code = .unavailable
        } else {  // parser, binder, catalog, conversion, invalid input, constraint, out of range, …
            code = .invalidInput
        }
        return StoreError(code, "duckdb", message)
    }

    /// The error for a child that a signal ended.
    static func died(signal: Int32) -> StoreError {
        let why =
            switch signal {
            case 9: "SIGKILL: ended from outside, often by the kernel because memory ran out"
            case 11: "SIGSEGV: it crashed"
            case 6: "SIGABRT: it gave up"
            case 7: "SIGBUS: it crashed, often on a full disk"
            default: "signal \(signal)"
            }
        return StoreError(.unavailable, "duckdb", "DuckDB died by signal \(signal) (\(why))")
    }

    private static func contains(_ text: String, _ part: String) -> Bool { text.contains(part) }
}
