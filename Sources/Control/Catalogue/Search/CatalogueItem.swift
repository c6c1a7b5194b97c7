public import Definitions
import Expressions
import PlatformCore

/// Something that can be found in the catalogue.
public struct CatalogueItem: Sendable, Hashable {
    /// The kinds of things.
    public enum Kind: String, Sendable, CaseIterable {
        /// What features are about.
        case entity
        /// Raw rows.
        case source
        /// A column of a source.
        case column
        /// Features of one entity.
        case view
        /// One feature of a view.
        case feature
        /// The features that a model reads.
        case service
        /// A feature that a service computes from the others.
        case onDemand = "on_demand"
        /// How training rows are made.
        case trainingSet = "training_set"
        /// A model.
        case model
        /// Who answers a model's requests.
        case deployment
        /// What watches a model.
        case monitor
        /// A table of scores that batches wrote.
        case scores
    }
    /// What it is.
    public let kind: Kind
    /// Its name; of columns and features within their source or view.
    public let name: String
    /// The source of a column, the view of a feature, the service of one computed on demand; `nil` for others.
    public let parent: String?
    /// Team that owns it, that of the parent for columns and features.
    public let owner: String
    /// For people.
    public let description: String
    /// Words to find it by, those of the parent included.
    public let tags: [String]
    /// Type of a column or feature.
    public let type: String?
    /// Columns that it reads: of features, and of views those of all its features.
    public let columns: [String]

    init(
        kind: Kind, name: String, parent: String?, owner: String, description: String, tags: [String], type: String?,
        columns: [String]
    ) {
        self.kind = kind
        self.name = name
        self.parent = parent
        self.owner = owner
        self.description = description
        self.tags = tags
        self.type = type
        self.columns = columns
    }

    /// An item that no definition makes: a table of scores.
    public init(scores name: String, description: String, columns: [String]) {
        self.init(
            kind: .scores, name: name, parent: nil, owner: "", description: description, tags: [], type: nil,
            columns: columns)
    }

    /// `source/departures`, `feature/carrier_delays.mean_24h`: unlike for different things.
    public var identifier: String { "\(kind.rawValue)/\(qualifiedName)" }
    /// `departures`, `carrier_delays.mean_24h`.
    public var qualifiedName: String { parent.map { "\($0).\(name)" } ?? name }
}

extension CatalogueItem {
    /// Everything that a set of definitions has, by kind and name.
    public static func items(of set: DefinitionSet) -> [CatalogueItem] {
        var items: [CatalogueItem] = []
        func tags(_ identifier: String) -> [String] { set.tags[identifier] ?? [] }
        func add(
            _ kind: Kind, _ name: Name, _ tagged: String, _ owner: String, _ description: String,
            columns: [String] = []
        ) {
            items.append(
                CatalogueItem(
                    kind: kind, name: name.text, parent: nil, owner: owner, description: description,
                    tags: tags("\(tagged)/\(name)"), type: nil, columns: columns))
        }
        func add(
            _ kind: Kind, _ name: String, of parent: Name, _ tagged: String, owner: String, description: String,
            type: String, columns: [String]
        ) {
            let all = tags("\(tagged)/\(parent)") + tags("\(tagged)/\(parent).\(name)")
            var seen: Set<String> = []
            items.append(
                CatalogueItem(
                    kind: kind, name: name, parent: parent.text, owner: owner, description: description,
                    tags: all.filter { seen.insert($0).inserted }, type: type, columns: columns))
        }
        for entity in set.entities.values {
            add(.entity, entity.name, "Entity", entity.owner, entity.description, columns: entity.keys)
        }
        for source in set.sources.values {
            add(.source, source.name, "Source", source.owner, source.description, columns: source.columns.map(\.name))
            for column in source.columns {
                add(
                    .column, column.name, of: source.name, "Source", owner: source.owner,
                    description: column.unit ?? "", type: column.type.rawValue, columns: [])
            }
        }
        for view in set.featureViews.values {
            var all = view.joinKeys
            for feature in view.features {
                let columns = view.sourceColumns(of: feature)
                all += columns.filter { !all.contains($0) }
                add(
                    .feature, feature.name, of: view.name, "FeatureView", owner: view.owner,
                    description: feature.description, type: feature.type.rawValue, columns: columns)
            }
            add(.view, view.name, "FeatureView", view.owner, view.description, columns: all)
        }
        for service in set.featureServices.values {
            add(.service, service.name, "FeatureService", service.owner, service.description)
            for feature in service.onDemand {
                add(
                    .onDemand, feature.name, of: service.name, "FeatureService", owner: service.owner,
                    description: feature.description, type: feature.expression.type.rawValue,
                    columns: feature.expression.columns)
            }
        }
        for training in set.trainingSets.values {
            add(.trainingSet, training.name, "TrainingSet", training.owner, training.description)
        }
        for model in set.models.values { add(.model, model.name, "Model", model.owner, model.description) }
        for deployment in set.deployments.values {
            add(.deployment, deployment.name, "Deployment", "", "")
        }
        for monitor in set.monitors.values {
            add(.monitor, monitor.name, "Monitor", "", "")
        }
        return items.sorted { $0.identifier < $1.identifier }
    }
}
