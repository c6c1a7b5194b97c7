public import PlatformCore

extension SpineDefinition {
    /// Questions for a feature service: their moment, its join keys and its request features.
    ///
    /// - Parameters:
    ///   - name: what the questions are called; no source may have the name.
    ///   - eventTime: the column of their moment.
    ///   - labelKeys: columns that a label is joined by.
    ///   - labelColumn: a number column that is the label.
    ///   - carried: further columns that go with the questions as they are.
    public init(
        origin: SpineOrigin, name: Name, eventTime: String, service: FeatureServiceDefinition, in set: DefinitionSet,
        labelKeys: [ColumnDefinition] = [], labelColumn: String? = nil, carried: [String] = []
    ) {
        var columns = [ColumnDefinition(addedColumn: eventTime, type: .timestamp)]
        func add(_ name: String, _ type: ColumnType) {
            if !columns.contains(where: { $0.name == name }) {
                columns.append(ColumnDefinition(addedColumn: name, type: type))
            }
        }
        for key in labelKeys { add(key.name, key.type) }
        for key in service.joinKeys { add(key, Self.keyType(key, service, set)) }
        for request in service.request {
            if case .number = request.kind { add(request.name, .float64) } else { add(request.name, .string) }
        }
        if let labelColumn { add(labelColumn, .float64) }
        for name in carried { add(name, .string) }
        self.init(
            origin: origin,
            contract: SourceDefinition(
                name: name, eventTimeColumn: eventTime, ingestTimeColumn: eventTime, key: [eventTime], columns: columns,
                expectations: [], loadChecks: [], schemaChange: .ignore, origin: nil, every: nil, filter: nil,
                sample: 1, versionRetention: nil, description: "", owner: ""))
        self.carried = Set(carried)
    }

    /// The type of a join key in the sources of the service's views; text where they do not agree.
    private static func keyType(_ key: String, _ service: FeatureServiceDefinition, _ set: DefinitionSet) -> ColumnType
    {
        let types = Set(
            service.features.compactMap { served -> ColumnType? in
                guard let view = set.featureViews[served.view], view.joinKeys.contains(key) else { return nil }
                return set.sources[view.source]?.column(key)?.type
            })
        return types.count == 1 ? types.first ?? .string : .string
    }
}

extension TrainingSetDefinition {
    /// Questions alone, all in the slice `train`: what a batch that is scored asks.
    public init(asking spine: SpineDefinition, name: Name, service: Name) {
        self.init(
            name: name, service: service, spine: spine.contract.name, outsideSpine: spine, label: nil, labelSource: nil,
            labelKeys: [], labelColumn: "", labelExpression: .value, labelHorizon: TimeSpan(milliseconds: 0),
            split: .random(validation: 0, test: 0, seed: 0), description: "", owner: "")
    }
}
