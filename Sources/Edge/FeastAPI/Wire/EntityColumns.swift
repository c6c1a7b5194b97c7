import FeatureStore
import PlatformCore

/// The entities of a request: a column of values for each join key, all of one length.
struct EntityColumns {
    /// Most entities of one request.
    static let countMax = 10_000

    let count: Int
    /// Entity by entity, a value for each join key; `nil` where there is none.
    let keys: [String?]
    /// Column by column, in the order of the join keys: what goes back to the caller.
    let echoes: [[JSONValue]]

    /// Takes the columns of the join keys; others are left out, as Feast does.
    init(_ value: JSONValue?, joinKeys: [FeatureSelection.Key]) throws {
        guard let value, case .object(let columns) = value else {
            throw FeastError.invalid(
                "'entities' must be an object of lists, one for each join key, not \(value?.kindName ?? "missing")")
        }
        var count: Int?
        for (name, column) in columns.sorted(by: { $0.key < $1.key }) {
            guard let list = column.arrayValue else {
                throw FeastError.invalid("'entities.\(name.prefix(64))' must be a list, not \(column.kindName)")
            }
            if let count, count != list.count {
                throw FeastError.invalid(
                    "All entity rows must have the same columns: 'entities.\(name.prefix(64))' has \(list.count) values,"
                        + " others have \(count)")
            }
            count = list.count
        }
        guard let count, 1...Self.countMax ~= count else {
            throw FeastError.invalid("'entities' must hold 1 to \(Self.countMax) entities, not \(count ?? 0)")
        }
        var echoes: [[JSONValue]] = []
        for key in joinKeys {
            guard let column = columns[key.name]?.arrayValue else {
                throw FeastError.invalid(
                    "Missing join key values for keys: ['\(key.name)']. Given are \(columns.keys.sorted().prefix(20))"
                )
            }
            echoes.append(try column.map { try Self.echo($0, key) })
        }
        self.count = count
        self.echoes = echoes
        var keys: [String?] = []
        keys.reserveCapacity(count * joinKeys.count)
        for entity in 0..<count {
            for column in echoes { keys.append(Self.text(column[entity])) }
        }
        self.keys = keys
    }

    /// The value in the type of the join key, where it can be read as one.
    private static func echo(_ value: JSONValue, _ key: FeatureSelection.Key) throws -> JSONValue {
        switch (value, key.type) {
        case (.string(let text), .int64): return Int64(text).map(JSONValue.integer) ?? value
        case (.number(let number), .int64): return Int64(exactly: number).map(JSONValue.integer) ?? value
        case (.array, _), (.object, _):
            throw FeastError.invalid("'entities.\(key.name)' holds \(value.kindName); a join key is text or a number")
        default: return value
        }
    }

    private static func text(_ value: JSONValue) -> String? {
        switch value {
        case .string(let text): text
        case .integer(let number): String(number)
        case .number(let number): number.description
        case .bool(let flag): flag ? "true" : "false"
        case .null, .array, .object: nil
        }
    }
}
