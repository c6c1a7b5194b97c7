import PlatformCore

/// The features of a view, one entry of the file at a time.
extension DefinitionCompiler {
    /// The features of one entry: one, or one for each of its windows.
    func features(_ reader: FieldReader, of source: SourceDefinition) throws(PlatformError) -> [FeatureDefinition] {
        let base = try reader.text("name")
        try checkColumnName(base, "name", reader)
        _ = try reader.text("description", default: "")
        let windows = try self.windows(reader)
        var features: [FeatureDefinition] = []
        if let operands = try reader.optionalTexts("ratio") {
            guard operands.count == 2 else {
                throw reader.error("ratio", "'ratio' must name two features of the view, [numerator, denominator]")
            }
            for key in ["aggregate", "column", "n"] where reader.has(key) {
                throw reader.error(key, "a ratio has no '\(key)': it divides one feature by another")
            }
            guard windows.isEmpty || reader.isList("window") else {
                throw reader.error("window", "a ratio has the windows of the features that it divides")
            }
            for suffix in windows.isEmpty ? [""] : windows.map({ "_\($0.text)" }) {
                let (name, ratio) = (
                    base + suffix, RatioDefinition(numerator: operands[0] + suffix, denominator: operands[1] + suffix)
                )
                try checkColumnName(name, "name", reader)
                features.append(
                    FeatureDefinition(
                        name: name, aggregate: .ratio, column: nil, window: nil, ratio: ratio, countMax: 1,
                        type: .float64, elementType: .float64,
                        description: try reader.text("description", default: "")))
            }
        } else {
            let isExpanded = reader.isList("window")
            for window in windows {
                let name = isExpanded ? "\(base)_\(window.text)" : base
                try checkColumnName(name, "name", reader)
                features.append(try feature(name, window.span, reader, of: source))
            }
            if windows.isEmpty { features.append(try feature(base, nil, reader, of: source)) }
        }
        _ = try reader.optionalTexts("tags")
        try reader.finish()
        return features
    }

    /// The spans under `window`, as they are written and as they are.
    private func windows(_ reader: FieldReader) throws(PlatformError) -> [(text: String, span: TimeSpan)] {
        guard reader.isList("window") else {
            guard let span = try reader.optionalSpan("window") else { return [] }
            return [(try reader.text("window"), span)]
        }
        var windows: [(text: String, span: TimeSpan)] = []
        for text in try reader.texts("window") {
            guard let span = TimeSpan(text: text), span.milliseconds > 0 else {
                throw reader.error("window", "'window' must list spans such as [5m, 1h, 30d], not '\(text.prefix(60))'")
            }
            if let twice = windows.first(where: { $0.span == span }) {
                throw reader.error("window", "'\(twice.text)' and '\(text)' are the same window")
            }
            windows.append((text, span))
        }
        guard 1...20 ~= windows.count else { throw reader.error("window", "'window' must list 1 to 20 spans") }
        return windows
    }

    private func feature(_ name: String, _ window: TimeSpan?, _ reader: FieldReader, of source: SourceDefinition)
        throws(PlatformError) -> FeatureDefinition
    {
        let aggregate = try reader.choice("aggregate", AggregateFunction.self, hidden: [.ratio])
        guard aggregate != .ratio else {
            throw reader.error("aggregate", "a ratio is written 'ratio: [numerator, denominator]', without 'aggregate'")
        }
        let columnName = try reader.optionalText("column")
        guard columnName != nil || aggregate == .count else {
            throw reader.error("aggregate", "'\(aggregate.rawValue)' needs a 'column'")
        }
        var column: ColumnDefinition?
        if let columnName {
            guard let found = source.column(columnName) else {
                let near = nearestName(to: columnName, among: source.columns.map(\.name))
                throw reader.error(
                    "column",
                    "the source '\(source.name)' has no column '\(columnName.prefix(60))'"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            column = found
            let needsNumber = [.sum, .mean, .stddev, .min, .max].contains(aggregate)
            guard !needsNumber || found.type.isNumeric else {
                throw reader.error(
                    "column", "'\(aggregate.rawValue)' needs a number column; '\(columnName)' is \(found.type.rawValue)"
                )
            }
        }
        guard column?.type != .vector || [.count, .last, .first].contains(aggregate) else {
            throw reader.error(
                "aggregate", "a vector has 'last', 'first' and 'count'; '\(aggregate.rawValue)' does not read it")
        }
        guard window != nil || aggregate == .last else {
            throw reader.error(nil, "'\(aggregate.rawValue)' needs a 'window' such as 1h or 7d")
        }
        guard window ?? .days(1) <= .days(400) else { throw reader.error("window", "a window is at most 400d") }
        var countMax = 1
        if aggregate.isList {
            guard reader.has("n") else {
                throw reader.error(nil, "'\(aggregate.rawValue)' needs 'n', the most values it may hold")
            }
            countMax = try reader.integer("n", default: 1, in: 1...FeatureDefinition.listCountMax)
        }
        var precision: Int?
        if aggregate == .approxCountDistinct {
            guard column?.type != .float64 else {
                throw reader.error(
                    "column",
                    "'\(aggregate.rawValue)' hashes its values, and '\(columnName ?? "")' is float64: count it exactly with 'distinct_count', or round it in a derived column"
                )
            }
            precision = try reader.integer(
                "precision", default: DistinctEstimate.precisionByDefault, in: DistinctEstimate.precisions)
        }
        let elementType: ColumnType =
            switch aggregate {
            case .count, .distinctCount, .approxCountDistinct: .int64
            case .sum, .mean, .stddev, .ratio: .float64
            case .min, .max, .last, .first, .mode, .lastN, .lastNDistinct: column?.type ?? .float64
            }
        var feature = FeatureDefinition(
            name: name, aggregate: aggregate, column: columnName, window: window, ratio: nil, countMax: countMax,
            type: aggregate.isList ? .list : elementType, elementType: elementType,
            description: try reader.text("description", default: ""))
        feature.precision = precision
        return feature
    }

    /// What a ratio divides must be single numbers of the same view, and no ratios themselves.
    func check(ratio: FeatureDefinition, among features: [FeatureDefinition], _ reader: FieldReader)
        throws(PlatformError)
    {
        guard let names = ratio.ratio else { return }
        for name in [names.numerator, names.denominator] {
            guard let operand = features.first(where: { $0.name == name }) else {
                let near = nearestName(to: name, among: features.filter { $0.ratio == nil }.map(\.name))
                throw reader.error(
                    "ratio",
                    "the view has no feature '\(name.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            guard operand.ratio == nil else { throw reader.error("ratio", "'\(name)' is itself a ratio") }
            guard operand.type.isNumeric else {
                throw reader.error("ratio", "'\(name)' is no number but \(operand.type.rawValue)")
            }
        }
    }

    /// What decides a feature's values, for the view's version.
    static func meaning(of feature: FeatureDefinition, column: ColumnDefinition?) -> JSONValue {
        var parts: [JSONValue] = [
            .string(feature.name), .string(feature.aggregate.rawValue),
            feature.column.map(JSONValue.string) ?? .null,
            feature.window.map { .integer($0.milliseconds) } ?? .null,
            column.map { .string($0.type.rawValue) } ?? .null,
            column.map { .integer(Int64($0.scale)) } ?? .null,
        ]
        // Said only where it matters: what was defined before keeps its version.
        if let column, column.type == .vector { parts.append(.integer(Int64(column.length))) }
        if feature.aggregate.isList { parts.append(.integer(Int64(feature.countMax))) }
        if let precision = feature.precision { parts.append(.integer(Int64(precision))) }
        if let ratio = feature.ratio { parts += [.string(ratio.numerator), .string(ratio.denominator)] }
        return .array(parts)
    }
}
