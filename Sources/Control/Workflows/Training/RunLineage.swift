import Catalogue
import Definitions
import FeatureStore
import PlatformCore

/// What runs of the platform's own jobs read and wrote, as lineage events say it.
enum RunLineage {
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
                guard let range = column.name.firstRange(of: "__"),
                    let view = Name(String(column.name[..<range.lowerBound])).flatMap({ set.featureViews[$0] }),
                    let feature = view.features.first(where: { $0.name == column.name[range.upperBound...] })
                else { break }
                let window = feature.window.map { " over \($0)" } ?? ""
                for field in view.sourceColumns(of: feature) {
                    output.origins.append(
                        LineageDataset.Origin(
                            column: column.name, dataset: "source/\(view.source)", field: field,
                            detail: "\(feature.aggregate.rawValue)\(window)"))
                }
            }
        }
        return (inputs, [output])
    }
}
