import PlatformCore

/// Training sets: their questions, labels and slices.
extension DefinitionCompiler {
    mutating func trainingSet(_ name: Name, _ fields: FieldReader, folder: String) throws -> TrainingSetDefinition {
        let serviceName = try fields.name("service")
        let service = try need("FeatureService", serviceName, in: set.featureServices, for: "service", fields)
        var label = Label()
        let labelReader = try fields.mapping("label")
        var labelSource: SourceDefinition?
        if let reader = labelReader, let given = try reader.optionalName("source") {
            labelSource = try need("Source", given, in: set.sources, for: "source", reader)
            label.keys = try reader.texts("join")
            guard !label.keys.isEmpty else { throw reader.error("join", "'join' must name at least one column") }
        }
        let spine: SourceDefinition
        var outside: SpineDefinition?
        if fields.isMapping("spine"), let reader = try fields.mapping("spine") {
            let labelColumn = labelSource == nil ? try labelReader?.text("column") : nil
            let made = try self.outsideSpine(
                name, reader, service, labelKeys: label.keys, labelSource, labelColumn: labelColumn, folder: folder)
            outside = made
            spine = made.contract
        } else {
            let spineName = try fields.name("spine")
            spine = try need("Source", spineName, in: set.sources, for: "spine", fields)
            for column in service.joinKeys + service.request.map(\.name) where spine.column(column) == nil {
                throw fields.error(
                    "spine",
                    "the spine '\(spineName)' has no column '\(column)', which the service '\(serviceName)' needs")
            }
        }
        if let reader = labelReader {
            try read(&label, reader, spine: spine, of: outside == nil ? "'\(spine.name)'" : "the spine", labelSource)
        }
        var split = SplitDefinition.time(validation: 0.2, test: 0.2)
        if let reader = try fields.mapping("split") {
            split = try self.split(reader, joinKeys: service.joinKeys)
            try reader.finish()
        }
        let labelMeaning =
            label.name.map {
                "\($0) \(labelSource?.name.text ?? "") \(label.keys) \(label.column) \(label.expression.meaning) \(label.horizon)"
            } ?? ""
        let definition = TrainingSetDefinition(
            name: name, service: serviceName, spine: spine.name, outsideSpine: outside, label: label.name,
            labelSource: labelSource?.name, labelKeys: label.keys, labelColumn: label.column,
            labelExpression: label.expression, labelHorizon: label.horizon, split: split,
            description: try fields.text("description", default: ""), owner: try fields.text("owner", default: ""))
        try check(definition, service, fields)
        record(
            "TrainingSet", name,
            meaning: .object([
                "service": .string(service.version.hex),
                "spine": .string(
                    outside.map { "\($0.origin.meaning) \($0.contract.eventTimeColumn)" } ?? spine.name.text),
                "label": .string(labelMeaning), "split": .string(split.meaning),
            ]),
            uses: ["FeatureService/\(serviceName)"] + definition.ownSources.sorted().map { "Source/\($0)" })
        return definition
    }

    // MARK: Labels

    private struct Label {
        var name: String?
        var keys: [String] = []
        var column = ""
        var expression = LabelExpression.value
        var horizon = TimeSpan(milliseconds: 0)
    }

    private func read(
        _ label: inout Label, _ reader: FieldReader, spine: SourceDefinition, of spineName: String,
        _ source: SourceDefinition?
    ) throws(PlatformError) {
        for key in label.keys {
            guard let left = spine.column(key), let right = source?.column(key), left.type == right.type else {
                throw reader.error(
                    "join",
                    "'\(key.prefix(60))' must be a column of the same type in \(spineName) and '\(source?.name.text ?? "")'"
                )
            }
        }
        label.column = try reader.text("column")
        guard let column = (source ?? spine).column(label.column), column.type.isNumeric else {
            throw reader.error(
                "column",
                "'\(label.column.prefix(60))' must be a number column of \(source.map { "'\($0.name)'" } ?? spineName)")
        }
        label.expression = try reader.optionalNumber("greater_than").map(LabelExpression.greaterThan) ?? .value
        if source != nil {
            label.horizon = try reader.span("horizon")
        } else {
            for key in ["join", "horizon"] where reader.has(key) {
                throw reader.error(key, "'\(key)' is for a label that another source brings; name it with 'source'")
            }
        }
        let name = try reader.text("name")
        try checkColumnName(name, "name", reader)
        label.name = name
        try reader.finish()
    }

    // MARK: Spines from outside

    private func outsideSpine(
        _ name: Name, _ reader: FieldReader, _ service: FeatureServiceDefinition, labelKeys: [String],
        _ labelSource: SourceDefinition?, labelColumn: String?, folder: String
    ) throws -> SpineDefinition {
        let given = ["files", "sql", "postgres"].filter(reader.has)
        guard given.count == 1 else {
            throw reader.error(
                given.last,
                given.isEmpty
                    ? "needs 'files', 'sql' or 'postgres'" : "questions come from one of 'files', 'sql', 'postgres'")
        }
        let origin: SpineOrigin
        switch given[0] {
        case "files":
            let location = try reader.text("files")
            guard !location.isEmpty else { throw reader.error("files", "'files' is empty") }
            origin = .files(location: Self.absolute(location, in: folder), format: try fileFormat(reader))
        case "sql":
            let query = try statement("sql", reader)
            let sources = try reader.names("sources")
            guard 1...100 ~= sources.count, Set(sources).count == sources.count else {
                throw reader.error(
                    "sources", "'sources' must name the 1 to 100 sources that the query reads, each once")
            }
            for source in sources { _ = try need("Source", source, in: set.sources, for: "sources", reader) }
            origin = .sql(query: query, sources: sources)
        default:
            guard let postgres = try reader.mapping("postgres") else {
                throw reader.error("postgres", "'postgres' must be a mapping")
            }
            let (connection, query, timeout) = try self.query(postgres)
            try postgres.finish()
            origin = .postgreSQL(connection: connection, query: query, timeout: timeout)
        }
        let time = try reader.text("event_time")
        guard ColumnDefinition.isName(time) else {
            throw reader.error("event_time", "'event_time' must be the name of a column")
        }
        if let labelColumn, !ColumnDefinition.isName(labelColumn) || labelColumn == time {
            throw reader.error(nil, "the label's column '\(labelColumn.prefix(60))' is no name of a number column")
        }
        try reader.finish()
        guard let spineName = Name("spine.\(name.text)") else {
            throw reader.error(nil, "the training set's name is too long for a spine of its own")
        }
        return SpineDefinition(
            origin: origin, name: spineName, eventTime: time, service: service, in: set,
            labelKeys: labelKeys.compactMap { labelSource?.column($0) }, labelColumn: labelColumn)
    }
}
