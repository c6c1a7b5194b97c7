public import Catalogue
public import Datasets
public import Definitions
import Expressions
import FeatureStore
import PlatformCore

/// What runs of the platform's own jobs read and wrote, as lineage events say it.
public enum RunLineage {
    /// A file that rows are loaded from.
    public static func file(_ name: String) -> LineageDataset {
        var dataset = LineageDataset(name.isEmpty ? "file" : name)
        dataset.namespace = "file"
        return dataset
    }

    /// Where a source's rows are fetched: files, or a query against the database behind a connection's name.
    public static func origin(of definition: SourceDefinition) -> [LineageDataset] {
        switch definition.origin {
        case .files(let location, _): return [file(location)]
        case .postgreSQL(let query):
            var dataset = LineageDataset(definition.name.text)
            dataset.namespace = "postgres://\(query.connection)"
            return [dataset]
        case nil: return []
        }
    }

    /// What loads read and wrote; those that changed nothing are left out.
    public static func loads(_ reports: [LoadReport], into definition: SourceDefinition) -> (
        inputs: [LineageDataset], outputs: [LineageDataset]
    ) {
        let isQuery = if case .postgreSQL = definition.origin { true } else { false }
        let inputs = reports.map { report -> LineageDataset in
            let query = report.file.hasPrefix("query at ") && isQuery ? origin(of: definition).first : nil
            var input = query ?? file(report.file)
            input.version = report.contentHash.hex
            input.rowCount = report.rowsRead
            return input
        }
        var output = source(definition)
        output.rowCount = reports.reduce(0) { $0 + $1.rows.accepted }
        return (inputs, [output])
    }

    /// What building a version of a feature view from history reads and writes, feature by feature.
    static func built(_ held: HeldView, rows: Int) -> (inputs: [LineageDataset], outputs: [LineageDataset]) {
        var input = source(held.source)
        input.rowCount = rows
        var output = LineageDataset("view/\(held.view.name)")
        output.version = held.view.version.hex
        for feature in held.view.features {
            let window = feature.window.map { " over \($0)" } ?? ""
            for field in held.view.sourceColumns(of: feature) {
                output.origins.append(
                    LineageDataset.Origin(
                        column: feature.name, dataset: "source/\(held.source.name)", field: field,
                        detail: "\(feature.aggregate.rawValue)\(window)"))
            }
        }
        return ([input], [output])
    }

    static func source(_ source: SourceDefinition) -> LineageDataset {
        var dataset = LineageDataset("source/\(source.name)")
        dataset.fields = source.columns.map { LineageDataset.Field(name: $0.name, type: $0.type.rawValue) }
        return dataset
    }

    /// The sources that a training set will read.
    static func inputs(of definition: TrainingSetDefinition, in set: DefinitionSet) -> [LineageDataset] {
        var names = definition.ownSources
        for feature in set.featureServices[definition.service]?.features ?? [] {
            if let view = set.featureViews[feature.view] { names.insert(view.source) }
        }
        return names.sorted().compactMap { set.sources[$0].map(source) }
            + (definition.outsideSpine.map { [spine($0, of: definition)] } ?? [])
    }

    /// Questions from outside of the sources.
    private static func spine(_ spine: SpineDefinition, of definition: TrainingSetDefinition) -> LineageDataset {
        var dataset = LineageDataset("spine/\(definition.name)")
        dataset.fields = spine.contract.columns.map { LineageDataset.Field(name: $0.name, type: $0.type.rawValue) }
        return dataset
    }

    /// What a build read and wrote, column by column.
    static func build(_ build: DatasetBuild, in set: DefinitionSet) -> (
        inputs: [LineageDataset], outputs: [LineageDataset]
    ) {
        let manifest = build.manifest
        var inputs = manifest.tableVersions.sorted { $0.key < $1.key }.map { table, version -> LineageDataset in
            var dataset = Name(table).flatMap { set.sources[$0] }.map(source) ?? LineageDataset("source/\(table)")
            dataset.version = String(version)
            return dataset
        }
        var output = LineageDataset("dataset/\(build.hash.hex)")
        output.version = build.hash.hex
        output.fields = manifest.columns.map { LineageDataset.Field(name: $0.name, type: $0.type) }
        output.rowCount = manifest.rows
        output.byteCount = manifest.slices.reduce(0) { $0 + $1.byteCount }
        output.fileCount = manifest.slices.count { $0.rows > 0 }
        let definition = set.trainingSets[manifest.trainingSet]
        if let definition, let outside = definition.outsideSpine, let read = manifest.spine {
            var dataset = spine(outside, of: definition)
            dataset.version = read.part.hex
            inputs.append(dataset)
        }
        let spineName = definition.map { $0.outsideSpine == nil ? "source/\($0.spine)" : "spine/\($0.name)" } ?? ""
        for column in manifest.columns {
            switch column.role {
            case .question: break
            case .request:
                guard definition != nil else { break }
                output.origins.append(
                    LineageDataset.Origin(
                        column: column.name, dataset: spineName, field: column.name,
                        detail: "as it stands in the question"))
            case .label:
                guard let definition else { break }
                output.origins.append(
                    LineageDataset.Origin(
                        column: column.name, dataset: definition.labelSource.map { "source/\($0)" } ?? spineName,
                        field: definition.labelColumn,
                        detail: "label"))
            case .feature:
                guard let service = set.featureServices[manifest.service] else { break }
                if let served = service.features.first(where: { $0.servedName == column.name }) {
                    output.origins += origins(of: column.name, served, in: set)
                } else if let computed = service.onDemand.first(where: { $0.name == column.name }) {
                    output.origins += origins(of: computed, service, questions: spineName, in: set)
                }
            }
        }
        return (inputs, [output])
    }

    /// The source columns behind a view's feature.
    private static func origins(of column: String, _ served: ServedFeature, through: String = "", in set: DefinitionSet)
        -> [LineageDataset.Origin]
    {
        guard let view = set.featureViews[served.view],
            let feature = view.features.first(where: { $0.name == served.feature })
        else { return [] }
        let window = feature.window.map { " over \($0)" } ?? ""
        return view.sourceColumns(of: feature).map { field in
            LineageDataset.Origin(
                column: column, dataset: "source/\(view.source)", field: field,
                detail: "\(feature.aggregate.rawValue)\(window)\(through)")
        }
    }

    /// The source columns behind a feature that is computed on demand, through the features that it reads.
    private static func origins(
        of computed: OnDemandFeatureDefinition, _ service: FeatureServiceDefinition, questions: String,
        in set: DefinitionSet
    ) -> [LineageDataset.Origin] {
        service.inputs(of: computed).flatMap { input -> [LineageDataset.Origin] in
            switch input {
            case .view(let served):
                return origins(
                    of: computed.name, served, through: ", as \(served.servedName) in \(computed.expression.text)",
                    in: set)
            case .request(let name):
                guard !questions.isEmpty else { return [] }
                return [
                    LineageDataset.Origin(
                        column: computed.name, dataset: questions, field: name,
                        detail: "as it stands in the question, in \(computed.expression.text)")
                ]
            }
        }
    }
}
