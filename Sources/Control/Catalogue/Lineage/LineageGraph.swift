public import Definitions
import Expressions
import PlatformCore

/// Something that data comes from, goes through, or ends in.
public struct LineageNode: Sendable, Hashable {
    /// `column/departures.dep_delay`, `feature/carrier_delays.mean_24h`, `dataset/5f2a…`, `external/postgres://db/public.orders`.
    public let identifier: String
    /// What stands before the first slash.
    public var kind: String { String(identifier.prefix { $0 != "/" }) }
    /// For people, short.
    public let label: String
    /// For people: a type, a window, a number of rows.
    public let detail: String

    /// Makes a node.
    public init(identifier: String, label: String, detail: String = "") {
        self.identifier = identifier
        self.label = label
        self.detail = detail
    }
}

/// That one thing is made from another.
public struct LineageEdge: Sendable, Hashable {
    /// How the one decides the other.
    public enum Kind: String, Sendable {
        /// Its values go into the other's values.
        case value
        /// It decides which rows count, or for whom, or when.
        case condition
        /// It is a part of the other.
        case part
    }
    /// What it is made from.
    public let from: String
    /// What is made.
    public let to: String
    /// How.
    public let kind: Kind
    /// What is done, for people: `mean over 24h`.
    public let detail: String

    /// Makes an edge.
    public init(from: String, to: String, kind: Kind = .value, detail: String = "") {
        self.from = from
        self.to = to
        self.kind = kind
        self.detail = detail
    }
}

/// What is made from what, from source columns to deployments.
///
/// A value: made from definitions, then extended by what was built and registered, and by what others told.
public struct LineageGraph: Sendable {
    /// Which way to walk.
    public enum Direction: String, Sendable, CaseIterable {
        /// To what it is made from.
        case up
        /// To what is made from it.
        case down
        /// Both ways.
        case both
    }
    /// A part of the graph around one thing.
    public struct Slice: Sendable {
        /// What was asked about.
        public let root: String
        /// Nodes, the root first, then by distance and name.
        public let nodes: [LineageNode]
        /// Steps from the root, negative upwards; by identifier.
        public let distances: [String: Int]
        /// Edges between them.
        public let edges: [LineageEdge]
        /// Whether there is more than was asked for.
        public let isCut: Bool
    }

    private var nodes: [String: LineageNode] = [:]
    private var up: [String: [LineageEdge]] = [:]
    private var down: [String: [LineageEdge]] = [:]

    /// An empty graph.
    public init() {}

    /// Nodes in all.
    public var count: Int { nodes.count }
    /// Nodes by kind.
    public var kinds: [String: Int] { Dictionary(nodes.values.map { ($0.kind, 1) }, uniquingKeysWith: +) }
    /// Whether a node is known.
    public func contains(_ identifier: String) -> Bool { nodes[identifier] != nil }
    /// The node with an identifier.
    public func node(_ identifier: String) -> LineageNode? { nodes[identifier] }
    /// All identifiers, in no order.
    public var identifiers: some Collection<String> { nodes.keys }

    /// Adds a node; one that is known keeps its place in the graph and is described anew.
    public mutating func add(_ node: LineageNode) { nodes[node.identifier] = node }

    /// Adds an edge between nodes; an end that is not known becomes a node without detail.
    public mutating func add(_ edge: LineageEdge) {
        guard edge.from != edge.to, !(up[edge.to]?.contains(edge) ?? false) else { return }
        for end in [edge.from, edge.to] where nodes[end] == nil {
            let label = end.drop { $0 != "/" }.dropFirst()
            nodes[end] = LineageNode(identifier: end, label: String(label), detail: "no longer defined")
        }
        up[edge.to, default: []].append(edge)
        down[edge.from, default: []].append(edge)
    }

    /// What a thing is made from, or what is made from it, up to `depth` steps and `countMax` nodes.
    public func slice(around root: String, _ direction: Direction, depth: Int, countMax: Int = 2000) -> Slice? {
        guard nodes[root] != nil else { return nil }
        var distances = [root: 0]
        var edges: Set<LineageEdge> = []
        var isCut = false
        for (walks, table, sign) in [
            (direction != .down, up, -1), (direction != .up, down, 1),
        ] where walks {
            var queue = [root]
            var seen: Set<String> = [root]
            for step in 1...max(1, depth) where !queue.isEmpty {
                var next: [String] = []
                for current in queue {
                    for edge in table[current] ?? [] {
                        let other = sign < 0 ? edge.from : edge.to
                        if !seen.contains(other) {
                            guard distances.count < countMax else {
                                isCut = true
                                continue
                            }
                            seen.insert(other)
                            if distances[other] == nil { distances[other] = sign * step }
                            next.append(other)
                        }
                        edges.insert(edge)
                    }
                }
                queue = next
            }
            if queue.contains(where: { !(table[$0] ?? []).isEmpty }) { isCut = true }
        }
        let found = distances.keys.compactMap { nodes[$0] }.sorted {
            let (a, b) = (abs(distances[$0.identifier] ?? 0), abs(distances[$1.identifier] ?? 0))
            return a != b ? a < b : $0.identifier < $1.identifier
        }
        return Slice(
            root: root, nodes: found, distances: distances,
            edges: edges.sorted { ($0.from, $0.to, $0.detail) < ($1.from, $1.to, $1.detail) }, isCut: isCut)
    }
}

extension LineageGraph {
    /// The graph of what is defined.
    public init(_ set: DefinitionSet) {
        self.init()
        for source in set.sources.values {
            add(
                LineageNode(
                    identifier: "source/\(source.name)", label: source.name.text,
                    detail: "\(source.columns.count) columns"))
            for column in source.columns {
                let identifier = "column/\(source.name).\(column.name)"
                add(
                    LineageNode(
                        identifier: identifier, label: "\(source.name).\(column.name)", detail: column.type.rawValue))
                add(LineageEdge(from: "source/\(source.name)", to: identifier, kind: .part))
            }
        }
        for view in set.featureViews.values { add(view) }
        for service in set.featureServices.values { add(service) }
        for training in set.trainingSets.values { add(training, set) }
        for model in set.models.values {
            add(LineageNode(identifier: "model/\(model.name)", label: model.name.text, detail: "model"))
            add(LineageEdge(from: "training_set/\(model.trainingSet)", to: "model/\(model.name)", detail: "trained on"))
            add(LineageEdge(from: "service/\(model.service)", to: "model/\(model.name)", detail: "reads"))
        }
        for deployment in set.deployments.values {
            add(
                LineageNode(
                    identifier: "deployment/\(deployment.name)", label: deployment.name.text, detail: "deployment"))
            add(LineageEdge(from: "model/\(deployment.model)", to: "deployment/\(deployment.name)", detail: "serves"))
        }
    }

    private mutating func add(_ view: FeatureViewDefinition) {
        add(
            LineageNode(
                identifier: "view/\(view.name)", label: view.name.text, detail: "\(view.features.count) features"))
        for feature in view.features {
            let identifier = "feature/\(view.name).\(feature.name)"
            let window = feature.window.map { " over \($0)" } ?? ""
            add(
                LineageNode(
                    identifier: identifier, label: "\(view.name).\(feature.name)",
                    detail: "\(feature.aggregate.rawValue)\(window)"))
            for column in view.sourceColumns(of: feature) {
                add(
                    LineageEdge(
                        from: "column/\(view.source).\(column)", to: identifier,
                        detail: "\(feature.aggregate.rawValue)\(window)"))
            }
            for key in view.joinKeys {
                add(LineageEdge(from: "column/\(view.source).\(key)", to: identifier, kind: .condition, detail: "key"))
            }
            add(LineageEdge(from: identifier, to: "view/\(view.name)", kind: .part))
        }
    }

    private mutating func add(_ service: FeatureServiceDefinition) {
        let identifier = "service/\(service.name)"
        add(
            LineageNode(
                identifier: identifier, label: service.name.text, detail: "\(service.inputNames.count) inputs"))
        for feature in service.features {
            add(
                LineageEdge(
                    from: "feature/\(feature.view).\(feature.feature)", to: identifier,
                    detail: "served as \(feature.servedName)"))
        }
        for feature in service.request {
            let request = "request/\(service.name).\(feature.name)"
            add(LineageNode(identifier: request, label: feature.name, detail: "sent with the request"))
            add(LineageEdge(from: request, to: identifier, detail: "sent with the request"))
        }
        for feature in service.onDemand {
            let computed = "on_demand/\(service.name).\(feature.name)"
            add(
                LineageNode(
                    identifier: computed, label: "\(service.name).\(feature.name)",
                    detail: "\(feature.expression.type.rawValue), computed on demand"))
            for input in service.inputs(of: feature) {
                let from =
                    switch input {
                    case .request(let name): "request/\(service.name).\(name)"
                    case .view(let served): "feature/\(served.view).\(served.feature)"
                    }
                add(LineageEdge(from: from, to: computed, detail: feature.expression.text))
            }
            add(LineageEdge(from: computed, to: identifier, detail: "computed on demand"))
        }
    }

    private mutating func add(_ training: TrainingSetDefinition, _ set: DefinitionSet) {
        let identifier = "training_set/\(training.name)"
        add(LineageNode(identifier: identifier, label: training.name.text, detail: "training set"))
        add(LineageEdge(from: "service/\(training.service)", to: identifier, detail: "features"))
        if let label = training.label {
            let from = training.labelSource.map { "column/\($0).\(training.labelColumn)" }
            let inSpine =
                training.outsideSpine == nil
                ? "column/\(training.spine).\(training.labelColumn)" : "spine/\(training.name)"
            add(LineageEdge(from: from ?? inSpine, to: identifier, detail: "label \(label)"))
        }
        if let outside = training.outsideSpine {
            let spine = "spine/\(training.name)"
            let detail: String
            switch outside.origin {
            case .files(let location, _): detail = "files \(location)"
            case .postgreSQL(let connection, _, _): detail = "a query against \(connection)"
            case .sql(_, let sources):
                detail = "a query over \(sources.map(\.text).joined(separator: ", "))"
                for source in sources {
                    add(LineageEdge(from: "source/\(source)", to: spine, detail: "read by its query"))
                }
            }
            add(LineageNode(identifier: spine, label: "questions of \(training.name)", detail: detail))
            add(LineageEdge(from: spine, to: identifier, kind: .condition, detail: "questions"))
            return
        }
        add(LineageEdge(from: "source/\(training.spine)", to: identifier, kind: .condition, detail: "questions"))
        guard let spine = set.sources[training.spine] else { return }
        for feature in set.featureServices[training.service]?.request ?? [] where spine.column(feature.name) != nil {
            add(
                LineageEdge(
                    from: "column/\(training.spine).\(feature.name)", to: identifier,
                    detail: "request feature \(feature.name)"))
        }
    }
}
