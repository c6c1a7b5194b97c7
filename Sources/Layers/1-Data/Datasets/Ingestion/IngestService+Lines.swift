public import Definitions
public import PlatformCore

extension IngestService {
    /// Checks and stores rows that come as JSON lines: one object a line, empty lines are skipped.
    ///
    /// As `push` of the same objects; plain lines of a source whose schema is fixed are read without building documents.
    /// - Throws: `invalidInput` for a line that is no JSON, naming it, and what `push` throws.
    public func push(_ source: SourceDefinition, lines: [UInt8], idempotencyKey: String?, now: EventTime)
        async throws -> IngestReport
    {
        if idempotencyKey == nil, source.schemaChange == .refuse || source.schemaChange == .ignore,
            let request = plainRequest(source, lines, now)
        {
            return try await intake(of: source.name).submit(request)
        }
        var rows: [JSONValue] = []
        for (index, line) in lines.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
            if line.allSatisfy({ $0 == 32 || $0 == 13 || $0 == 9 }) { continue }
            do { rows.append(try JSONValue.parse(line)) } catch {
                throw PlatformError(.invalidInput, "request body, line \(index + 1)", error.description)
            }
        }
        return try await push(source, rows: rows, idempotencyKey: idempotencyKey, now: now)
    }

    /// The request of lines that are all plain; `nil` if one is not, or if there are too many.
    private func plainRequest(_ source: SourceDefinition, _ lines: [UInt8], _ now: EventTime) -> IntakeRequest? {
        var batch = pushBuilder(for: source, now: now)
        let contract = contract(of: source)
        let isPlain = lines.withUnsafeBufferPointer { bytes in
            var (start, count) = (0, 0)
            while start < bytes.count {
                var end = start
                var isBlank = true
                while end < bytes.count, bytes[end] != 10 {
                    if bytes[end] != 32, bytes[end] != 13, bytes[end] != 9 { isBlank = false }
                    end += 1
                }
                if !isBlank {
                    count += 1
                    let line = UnsafeBufferPointer(rebasing: bytes[start..<end])
                    guard count <= limits.pushRowCountMax, let verdict = contract.check(line: line) else {
                        return false
                    }
                    batch.add(verdict, at: count, from: .push) { String(decoding: line, as: UTF8.self) }
                }
                start = end + 1
            }
            return true
        }
        return isPlain ? batch.finish(idempotencyKey: nil) : nil
    }
}
