import ContentHashing
import Expressions
import PlatformCore

extension DefinitionCompiler {
    mutating func featureView(_ name: Name, _ fields: FieldReader) throws(PlatformError) -> FeatureViewDefinition {
        let entityNames = try fields.names("entities")
        guard !entityNames.isEmpty else { throw fields.error("entities", "'entities' must name at least one entity") }
        let sourceName = try fields.name("source")
        let source = try need("Source", sourceName, in: set.sources, for: "source", fields)
        var joinKeys: [String] = []
        for entityName in entityNames {
            let entity = try need("Entity", entityName, in: set.entities, for: "entities", fields)
            for key in entity.keys where !joinKeys.contains(key) {
                guard let column = source.column(key) else {
                    throw fields.error(
                        "entities",
                        "the source '\(sourceName)' has no column '\(key)', the key of entity '\(entityName)'")
                }
                guard column.type != .vector else {
                    throw fields.error("entities", "'\(key)' of the source '\(sourceName)' is a vector and no key")
                }
                joinKeys.append(key)
            }
        }
        var derived = try derivedColumns(fields, of: source)
        var wide = source
        wide.columns += derived.map(\.column)
        var features: [FeatureDefinition] = []
        var ratios: [(feature: FeatureDefinition, reader: FieldReader)] = []
        try each(try fields.mappings("features", of: "feature")) { compiler, reader throws(PlatformError) in
            let condition = try compiler.condition("where", wide.expressionColumns, reader)
            for var feature in try compiler.features(reader, of: wide) {
                if let condition {
                    feature = try compiler.only(where: condition, feature, reader, of: wide, into: &derived)
                }
                feature = try compiler.withCoupons(feature, reader, of: wide, into: &derived)
                guard !features.contains(where: { $0.name == feature.name }) else {
                    throw reader.error("name", "the feature '\(feature.name)' appears twice")
                }
                features.append(feature)
                try compiler.note(tagsOf: reader, as: "FeatureView/\(name).\(feature.name)")
                if feature.ratio != nil { ratios.append((feature, reader)) }
            }
        }
        for (feature, reader) in ratios { try check(ratio: feature, among: features, reader) }
        guard !features.isEmpty, features.count <= 1000 else {
            throw fields.error("features", "'features' must list 1 to 1000 features")
        }
        let timeToLive = try fields.optionalSpan("ttl")
        let inclusive = try fields.flag("inclusive", default: false)
        let lateness = try fields.optionalSpan("lateness")
        // Only where there is one, so that a view without keeps the version that it has always had.
        let latenessMeaning = lateness.map { [JSONValue.integer($0.milliseconds)] } ?? []
        var meaning: [String: JSONValue] = [
            "keys": .array(joinKeys.map(JSONValue.string)), "source": .string(sourceName.text),
            "times": .array(
                [.string(source.eventTimeColumn), source.ingestTimeColumn.map(JSONValue.string) ?? .null]
                    + latenessMeaning),
            "ttl": timeToLive.map { .integer($0.milliseconds) } ?? .null, "inclusive": .bool(inclusive),
            "features": .array(
                features.map { Self.meaning(of: $0, column: $0.column.flatMap(wide.column)) }),
        ]
        if !derived.isEmpty {
            meaning["columns"] = .array(
                derived.map {
                    .array([.string($0.name), .string($0.expression.canonicalText), .integer(Int64($0.column.scale))])
                })
            meaning["masked"] = .array(
                features.map { ($0.maskedColumn ?? $0.gateColumn).map(JSONValue.string) ?? .null })
        }
        let version = record(
            "FeatureView", name, meaning: .object(meaning),
            uses: ["Source/\(sourceName)"] + entityNames.map { "Entity/\($0)" })
        var view = FeatureViewDefinition(
            name: name, entities: entityNames, joinKeys: joinKeys, source: sourceName, features: features,
            timeToLive: timeToLive, inclusive: inclusive, lateness: lateness,
            description: try fields.text("description", default: ""),
            owner: try fields.text("owner", default: ""), version: version)
        view.derivedColumns = derived
        view.maxStaleness = try fields.optionalSpan("max_staleness")
        try check(view, against: source, fields)
        return view
    }

    // MARK: Services

    /// Compiles a service after those that it includes.
    mutating func resolveService(_ name: Name) throws -> FeatureServiceDefinition {
        if let done = set.featureServices[name] { return done }
        guard let (fields, _) = services[name] else {
            throw PlatformError(.notFound, "FeatureService/\(name)", "not defined")
        }
        if let start = servicesInProgress.firstIndex(of: name) {
            let cycle = (servicesInProgress[start...] + [name]).map(\.text).joined(separator: " → ")
            throw fields.error("includes", "feature services include each other in a cycle: \(cycle)")
        }
        servicesInProgress.append(name)
        defer { servicesInProgress.removeLast() }

        var request: [RequestFeatureDefinition] = []
        var features: [ServedFeature] = []
        var onDemand: [OnDemandFeatureDefinition] = []
        var uses: [String] = []
        for included in try fields.optionalTexts("includes") ?? [] {
            guard let includedName = Name(included), services[includedName] != nil else {
                if isIncomplete { throw Self.consequence }
                let near = nearestName(to: included, among: services.keys.map(\.text))
                throw fields.error(
                    "includes",
                    "no FeatureService is called '\(included.prefix(60))'"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            let service = try resolveService(includedName)
            request += service.request
            features += service.features
            onDemand += service.onDemand
            uses.append("FeatureService/\(includedName)")
        }
        try each(try fields.mappings("request", of: "request feature")) { compiler, reader throws(PlatformError) in
            request.append(try compiler.requestFeature(reader))
        }
        try each(try fields.elements("views", of: "view")) { compiler, element throws(PlatformError) in
            let viewName = try element.fields?.name("view") ?? Name(element.text)
            guard let viewName else { throw fields.error("views", "'\(element.text.prefix(60))' is not a name") }
            let view = try compiler.need(
                "FeatureView", viewName, in: compiler.set.featureViews, for: "views", fields)
            for feature in try element.fields?.optionalTexts("features") ?? view.features.map(\.name) {
                guard view.features.contains(where: { $0.name == feature }) else {
                    let near = nearestName(to: feature, among: view.features.map(\.name))
                    throw fields.error(
                        "views",
                        "the view '\(viewName)' has no feature '\(feature.prefix(60))'"
                            + (near.map { "; did you mean '\($0)'?" } ?? ""))
                }
                features.append(ServedFeature(view: viewName, feature: feature))
            }
            try element.fields?.finish()
            uses.append("FeatureView/\(viewName)")
        }
        onDemand += try onDemandFeatures(fields, request: request, features: features)
        let description = try fields.text("description", default: "")
        let owner = try fields.text("owner", default: "")
        try fields.finish()
        let inputs = request.map(\.name) + features.map(\.servedName) + onDemand.map(\.name)
        guard !inputs.isEmpty, Set(inputs).count == inputs.count else {
            let twice = Dictionary(grouping: inputs, by: { $0 }).filter { $0.value.count > 1 }.keys.sorted().first
            throw fields.error(nil, twice.map { "the feature '\($0)' appears twice" } ?? "the service has no features")
        }
        let views = features.compactMap { set.featureViews[$0.view] }
        var meaning: [String: JSONValue] = [
            "request": .array(request.map { .string($0.meaning) }),
            "features": .array(features.map { .string($0.servedName) }),
            "views": .array(views.map { .string($0.version.hex) }),
        ]
        if !onDemand.isEmpty {
            meaning["on_demand"] = .array(
                onDemand.map { .array([.string($0.name), .string($0.expression.canonicalText)]) })
        }
        let version = record("FeatureService", name, meaning: .object(meaning), uses: uses)
        var service = FeatureServiceDefinition(
            name: name, request: request, features: features, joinKeys: Set(views.flatMap(\.joinKeys)).sorted(),
            description: description, owner: owner, version: version)
        service.onDemand = onDemand
        set.featureServices[name] = service
        return service
    }

    private func requestFeature(_ reader: FieldReader) throws(PlatformError) -> RequestFeatureDefinition {
        enum Kind: String, CaseIterable { case number, category }
        let featureName = try reader.text("name")
        try checkColumnName(featureName, "name", reader)
        let kind: RequestFeatureDefinition.Kind
        switch try reader.choice("type", Kind.self) {
        case .number:
            let bounds = try reader.optionalTexts("range") ?? ["~", "~"]
            func bound(_ text: String) throws(PlatformError) -> Double? {
                if ["", "null", "~"].contains(text) { return nil }
                guard let value = Double(text), value.isFinite else {
                    throw reader.error("range", "'range' must be two numbers [from, to]; '~' leaves a side open")
                }
                return value
            }
            guard bounds.count == 2 else { throw reader.error("range", "'range' must be two numbers [from, to]") }
            let (low, high) = (try bound(bounds[0]), try bound(bounds[1]))
            guard low ?? -.infinity <= high ?? .infinity else { throw reader.error("range", "'range' is empty") }
            kind = .number(minimum: low, maximum: high)
        case .category:
            let values = try reader.texts("values")
            guard 1...65_536 ~= values.count, Set(values).count == values.count else {
                throw reader.error("values", "'values' must list different values")
            }
            kind = .category(values)
        }
        let nullable = try reader.flag("nullable", default: false)
        _ = try reader.optionalText("description")
        try reader.finish()
        return RequestFeatureDefinition(name: featureName, kind: kind, nullable: nullable)
    }

    // MARK: Training sets

    func split(_ reader: FieldReader, joinKeys: [String]) throws(PlatformError) -> SplitDefinition {
        enum Kind: String, CaseIterable { case time, random, entity }
        let kind = try reader.choice("by", Kind.self)
        let (validation, test) = (try reader.number("validation"), try reader.number("test"))
        guard validation >= 0, test >= 0, validation + test < 1 else {
            throw reader.error(nil, "'validation' and 'test' must be shares that leave something to train on")
        }
        if kind == .time { return .time(validation: validation, test: test) }
        let seed = try reader.integer("seed", default: 0, in: 0...Int(Int32.max))
        if kind == .random { return .random(validation: validation, test: test, seed: seed) }
        let keys = try reader.optionalTexts("keys") ?? joinKeys
        guard !keys.isEmpty else { throw reader.error("keys", "'keys' must name at least one join key") }
        for key in keys where !joinKeys.contains(key) {
            let near = nearestName(to: key, among: joinKeys)
            throw reader.error(
                "keys",
                "'\(key.prefix(60))' is no join key of the service; known: \(joinKeys.joined(separator: ", "))"
                    + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        return .entity(keys: keys, validation: validation, test: test, seed: seed)
    }
}
