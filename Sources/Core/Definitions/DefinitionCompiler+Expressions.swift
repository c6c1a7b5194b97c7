import Expressions
import PlatformCore

/// Row-wise expressions in definitions.
extension DefinitionCompiler {
    /// Compiles the expression under `key`; a fault names file, line, and the place in the expression.
    func expression(_ key: String, _ columns: [ExpressionColumn], _ reader: FieldReader) throws(PlatformError)
        -> Expression?
    {
        guard let text = try reader.optionalText(key) else { return nil }
        return try expression(text, key, columns, reader)
    }

    private func expression(_ text: String, _ key: String, _ columns: [ExpressionColumn], _ reader: FieldReader)
        throws(PlatformError) -> Expression
    {
        do {
            return try Expression.compile(text, columns: columns)
        } catch {
            throw reader.error(key, "'\(key)': \(error.message)")
        }
    }

    /// A condition under `key`; it must be a truth value.
    func condition(_ key: String, _ columns: [ExpressionColumn], _ reader: FieldReader) throws(PlatformError)
        -> Expression?
    {
        guard let condition = try expression(key, columns, reader) else { return nil }
        guard condition.type == .bool else {
            throw reader.error(key, "'\(key)' must be true or false, and this is \(condition.type.rawValue)")
        }
        return condition
    }

    // MARK: Views

    /// The `columns` of a view; each may read the source's columns and those before it.
    func derivedColumns(_ fields: FieldReader, of source: SourceDefinition) throws(PlatformError)
        -> [DerivedColumnDefinition]
    {
        var derived: [DerivedColumnDefinition] = []
        for reader in try fields.mappings("columns", of: "column") {
            let name = try reader.text("name")
            try checkColumnName(name, "name", reader)
            guard source.column(name) == nil, !derived.contains(where: { $0.name == name }) else {
                throw reader.error("name", "there is a column '\(name)' already")
            }
            let known = source.expressionColumns + derived.map(\.column.expressionColumn)
            guard let expression = try expression("expression", known, reader) else {
                throw reader.error(nil, "'expression' is missing")
            }
            derived.append(
                DerivedColumnDefinition(
                    column: ColumnDefinition(
                        name: name, type: expression.type, nullable: expression.nullable, unit: nil,
                        scale: try reader.integer("scale", default: 6, in: 0...9), length: 0,
                        isSensitive: source.columns.contains { $0.isSensitive && expression.columns.contains($0.name) }),
                    expression: expression, position: known.count,
                    description: try reader.text("description", default: "")))
            try reader.finish()
        }
        guard derived.count <= 200 else { throw fields.error("columns", "'columns' must list at most 200 columns") }
        return derived
    }

    /// The feature as it counts only rows where `condition` holds: it reads a column that is null elsewhere.
    func only(
        where condition: Expression, _ feature: FeatureDefinition, _ reader: FieldReader, of source: SourceDefinition,
        into derived: inout [DerivedColumnDefinition]
    ) throws(PlatformError) -> FeatureDefinition {
        guard feature.ratio == nil else {
            throw reader.error("where", "a ratio has the rows of the features that it divides; put 'where' there")
        }
        guard feature.window != nil else {
            throw reader.error("where", "'where' needs a 'window'")
        }
        var feature = feature
        feature.condition = condition
        // `last` and `first` choose an event, whose cell may be null: what is masked is the choice.
        let isChoice = feature.aggregate == .last || feature.aggregate == .first
        let column = isChoice ? nil : feature.column
        guard column.flatMap(source.column)?.type != .vector else {
            throw reader.error(
                "where",
                "the vector '\(column ?? "")' cannot be counted under a condition; leave out 'column' to count the rows for which it holds, or choose a vector with 'last' or 'first', which take 'where'"
            )
        }
        let text = "if(\(condition.text)\n, \(column.map { "`\($0)`" } ?? "true"), null)"
        let masked = try expression(text, "where", source.expressionColumns, reader)
        let name = hidden("where", masked, like: column.flatMap(source.column), among: source, into: &derived)
        if isChoice { feature.gateColumn = name } else { feature.maskedColumn = name }
        return feature
    }

    /// The feature with the column of coupons that it counts beside its values.
    func withCoupons(
        _ feature: FeatureDefinition, _ reader: FieldReader, of source: SourceDefinition,
        into derived: inout [DerivedColumnDefinition]
    ) throws(PlatformError) -> FeatureDefinition {
        guard let precision = feature.precision, let column = feature.inputColumn else { return feature }
        func known() -> [ExpressionColumn] {
            source.expressionColumns
                + derived.filter { source.column($0.name) == nil }.map(\.column.expressionColumn)
        }
        // Hashed once, read often.
        let hash = try expression(DistinctEstimate.hash(of: "`\(column)`"), "column", known(), reader)
        let hashed = hidden("hash", hash, like: nil, among: source, into: &derived)
        let text = DistinctEstimate.coupon(of: "`\(hashed)`", precision: precision)
        let coupon = try expression(text, "precision", known(), reader)
        var feature = feature
        feature.couponColumn = hidden("coupon", coupon, like: nil, among: source, into: &derived)
        return feature
    }

    /// The name of a derived column that nobody wrote, made unless there is one of the same meaning.
    private func hidden(
        _ word: String, _ expression: Expression, like described: ColumnDefinition?, among source: SourceDefinition,
        into derived: inout [DerivedColumnDefinition]
    ) -> String {
        if let known = derived.first(where: { $0.expression == expression && $0.isHidden }) { return known.name }
        let name = "__\(word)\(derived.count)"  // nobody may write a name that begins so
        let position = derived.last.map { $0.position + 1 } ?? source.columns.count
        derived.append(
            DerivedColumnDefinition(
                column: ColumnDefinition(
                    name: name, type: expression.type, nullable: true, unit: described?.unit,
                    scale: described?.scale ?? 6, length: 0, isSensitive: described?.isSensitive ?? false),
                expression: expression, position: position, description: "")
        )
        return name
    }

    // MARK: Services

    /// What on-demand features and fallbacks may read: what the request brings, and numbers of views.
    func inputs(_ request: [RequestFeatureDefinition], _ features: [ServedFeature]) -> [ExpressionColumn] {
        let requested = request.map { feature in
            switch feature.kind {
            case .number: ExpressionColumn(name: feature.name, type: .float64, nullable: feature.nullable)
            case .category: ExpressionColumn(name: feature.name, type: .string, nullable: true)
            }
        }
        let served = features.compactMap { served -> ExpressionColumn? in
            guard let view = set.featureViews[served.view],
                let feature = view.features.first(where: { $0.name == served.feature }),
                feature.type.isNumeric || feature.type == .timestamp
            else { return nil }
            return ExpressionColumn(name: served.servedName, type: feature.type)
        }
        return requested + served
    }

    /// The `on_demand` features of a service, over its request and view features.
    mutating func onDemandFeatures(
        _ fields: FieldReader, request: [RequestFeatureDefinition], features: [ServedFeature]
    )
        throws(PlatformError) -> [OnDemandFeatureDefinition]
    {
        var result: [OnDemandFeatureDefinition] = []
        let known = inputs(request, features)
        try each(try fields.mappings("on_demand", of: "on-demand feature")) { compiler, reader throws(PlatformError) in
            let name = try reader.text("name")
            try compiler.checkColumnName(name, "name", reader)
            guard let expression = try compiler.expression("expression", known, reader) else {
                throw reader.error(nil, "'expression' is missing")
            }
            guard expression.type.isNumeric || expression.type == .timestamp else {
                throw reader.error(
                    "expression",
                    "an on-demand feature must be a number, and this is \(expression.type.rawValue); use hash or if")
            }
            let description = try reader.text("description", default: "")
            try reader.finish()
            result.append(
                OnDemandFeatureDefinition(name: name, expression: expression, inputs: known, description: description))
        }
        return result
    }
}
