import Definitions
import Expressions
import PlatformCore

/// Derived columns of a view as SQL over its source's rows.
enum DerivedColumnSQL {
    /// A table expression with the rows of `events` and the derived columns that `wanted` leans on.
    static func table(
        _ events: String, view: FeatureViewDefinition, source: SourceDefinition, wanted: Set<String>,
        _ dialect: SQLDialect
    ) -> String {
        var needed = wanted
        for derived in view.derivedColumns.reversed() where needed.contains(derived.name) {
            needed.formUnion(derived.expression.columns)
        }
        let known = Dictionary(
            view.columns(of: source).map { ($0.name, $0.type) }, uniquingKeysWith: { first, _ in first })
        var table = events
        for (index, derived) in view.derivedColumns.enumerated() where needed.contains(derived.name) {
            let value = derived.expression.sql(dialect) { cell($0, known[$0] ?? .string, dialect) }
            table =
                "(SELECT *, \(derived.column.type == .timestamp ? dialect.moment(value) : value) "
                + "AS \(dialect.identifier(derived.name)) FROM \(table)) d\(index)"
        }
        return table
    }

    /// A column of the type that expressions expect.
    private static func cell(_ name: String, _ type: ColumnType, _ dialect: SQLDialect) -> String {
        let name = dialect.identifier(name)
        return switch type {
        case .float64: "CAST(\(name) AS DOUBLE)"
        case .int64: "CAST(\(name) AS BIGINT)"
        case .bool: "CAST(\(name) AS BOOLEAN)"
        case .timestamp: dialect.milliseconds(name)
        default: "CAST(\(name) AS \(dialect.text))"
        }
    }
}

extension SQLDialect {
    /// Milliseconds as the engine keeps a column of type timestamp: what `milliseconds` reads.
    fileprivate func moment(_ value: String) -> String {
        switch self {
        case .duckdb: "epoch_ms(\(value))"
        case .spark: "timestamp_millis(\(value))"
        case .flink: value
        }
    }
}
