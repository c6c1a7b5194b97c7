import Definitions
import PlatformCore

/// Rows as Feast sends them: a list for each column, all of one length.
struct DataFrame {
    let columns: [String: [JSONValue]]
    let rowCount: Int

    init(_ value: JSONValue?, rowCountMax: Int = 1_000_000) throws {
        guard let value, case .object(let members) = value else {
            throw FeastError.invalid("'df' must be an object of lists, not \(value?.kindName ?? "missing")")
        }
        var columns: [String: [JSONValue]] = [:]
        var count: Int?
        for (name, column) in members.sorted(by: { $0.key < $1.key }) {
            guard let list = column.arrayValue else {
                throw FeastError.invalid("'df.\(name.prefix(64))' must be a list, not \(column.kindName)")
            }
            if let count, count != list.count {
                throw FeastError.invalid(
                    "All arrays must be of the same length: 'df.\(name.prefix(64))' has \(list.count) values, others have"
                        + " \(count)")
            }
            count = list.count
            columns[name] = list
        }
        guard let count, 1...rowCountMax ~= count else {
            throw FeastError.invalid("'df' holds no row, or more than \(rowCountMax)")
        }
        self.columns = columns
        rowCount = count
    }

    /// Rows of a source: each of its columns from the frame's column of the same name, or of the name in `renamed`.
    ///
    /// Feast's client calls times `event_timestamp` and `created` whatever the source calls them; integers in moments are
    /// seconds, as Feast has them.
    func rows(of source: SourceDefinition, renamed: [String: String]) throws -> [JSONValue] {
        var taken: [(name: String, values: [JSONValue])] = []
        var used: Set<String> = []
        var alternatives: [String: String] = [source.eventTimeColumn: "event_timestamp"]
        if let ingestTime = source.ingestTimeColumn, ingestTime != source.eventTimeColumn {
            alternatives[ingestTime] = "created"
        }
        for column in source.columns {
            let own = renamed[column.name] ?? column.name
            guard let name = [own, alternatives[column.name]].compactMap({ $0 }).first(where: { columns[$0] != nil }),
                let values = columns[name]
            else { continue }
            used.insert(name)
            taken.append((column.name, column.type == .timestamp ? values.map(Self.moment) : values))
        }
        guard taken.contains(where: { $0.name == source.eventTimeColumn }) else {
            throw FeastError.invalid(
                "'df' has no times: column '\(source.eventTimeColumn)' or 'event_timestamp' is missing")
        }
        // What is left goes to the source's contract, which knows what other columns mean; but for Feast's own.
        let names = Set(taken.map { $0.name }).union(alternatives.values).union(["created"])
        let left = columns.filter { !used.contains($0.key) && !names.contains($0.key) }
        return (0..<rowCount).map { row in
            var members: [String: JSONValue] = [:]
            for (name, values) in taken { members[name] = values[row] }
            for (name, values) in left { members[name] = values[row] }
            return .object(members)
        }
    }

    private static func moment(_ value: JSONValue) -> JSONValue {
        switch value {
        case .string(let text): return .string(FeastTime.zoned(text))
        case .integer, .number:
            guard let seconds = value.doubleValue, abs(seconds) < 1e12 else { return value }
            return .integer(Int64((seconds * 1000).rounded()))
        default: return value
        }
    }
}
