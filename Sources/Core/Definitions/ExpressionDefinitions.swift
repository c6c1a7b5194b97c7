public import Expressions
public import PlatformCore

/// A column of a view that is computed from a row of its source.
public struct DerivedColumnDefinition: Sendable, Hashable {
    /// How the names begin of columns that nobody wrote.
    private static let hiddenPrefixes = ["__where", "__hash", "__coupon"]

    /// Its name, type and scale.
    public let column: ColumnDefinition
    /// What it is, over the source's columns and the derived ones before it: `FeatureViewDefinition.columns(of:)`.
    public let expression: Expression
    /// Where its cell stands in a row: after those that it may read.
    public let position: Int
    /// For people.
    public let description: String

    /// Its name.
    public var name: String { column.name }
    /// Whether it stands for what features need besides their column, as for a `where`, and was not written as a column.
    public var isHidden: Bool { Self.hiddenPrefixes.contains(where: name.hasPrefix) }
}

/// A feature that is computed from the other inputs of a service, at request time and in training sets alike.
public struct OnDemandFeatureDefinition: Sendable, Hashable {
    /// Its name in the model's input.
    public let name: String
    /// What it is, over `inputs`.
    public let expression: Expression
    /// What the expression may read: request features, then numbers of views.
    public let inputs: [ExpressionColumn]
    /// For people.
    public let description: String
}

extension ColumnDefinition {
    /// The column as expressions see it.
    public var expressionColumn: ExpressionColumn { ExpressionColumn(name: name, type: type, nullable: nullable) }
}

extension SourceDefinition {
    /// The columns as expressions see them.
    public var expressionColumns: [ExpressionColumn] { columns.map(\.expressionColumn) }
}

extension FeatureViewDefinition {
    /// The source's columns, then the derived ones: what a row is when features read it.
    public func columns(of source: SourceDefinition) -> [ColumnDefinition] {
        source.columns + derivedColumns.map(\.column)
    }

    /// The source's columns that decide a feature's value, through derived columns and its condition; sorted.
    public func sourceColumns(of feature: FeatureDefinition) -> [String] {
        var names = Set(feature.column.map { [$0] } ?? []).union(feature.condition?.columns ?? [])
        for derived in derivedColumns.reversed() where names.remove(derived.name) != nil {
            names.formUnion(derived.expression.columns)
        }
        return names.sorted()
    }

    /// A source row with the derived cells at its end.
    public func row(_ cells: [CellValue]) -> [CellValue] {
        guard let first = derivedColumns.first?.position else { return cells }
        var row = Array(cells.prefix(first))
        while row.count < first { row.append(.null) }
        for derived in derivedColumns { row.append(derived.expression.evaluate(row)) }
        return row
    }
}

extension FeatureServiceDefinition {
    /// What a feature that is computed on demand reads.
    public enum OnDemandInput: Sendable, Hashable {
        /// A feature that the request brings.
        case request(String)
        /// A feature of a view.
        case view(ServedFeature)
    }

    /// What one of the service's on-demand features reads, in the order in which its expression names it.
    public func inputs(of feature: OnDemandFeatureDefinition) -> [OnDemandInput] {
        feature.expression.columns.compactMap { name in
            if request.contains(where: { $0.name == name }) { return .request(name) }
            return features.first { $0.servedName == name }.map(OnDemandInput.view)
        }
    }
}
