import PlatformCore
import Synchronization

/// What others told of their datasets and jobs, as OpenLineage events: kept as a graph of its own that joins ours.
///
/// A dataset of our namespace (`bottega`) is the thing of that name here; any other becomes a node `external/…`, its fields
/// nodes of their own where the event says which field is made from which.
public final class ExternalLineage: Sendable {
    /// Most nodes; what comes after is counted and left out.
    public static let nodeCountMax = 100_000

    private struct State {
        var nodes: [String: LineageNode] = [:]
        var edges: Set<LineageEdge> = []
        var droppedCount = 0
    }
    private let state = Mutex(State())

    /// Knows nothing yet.
    public init() {}

    /// Nodes and edges known.
    public var counts: (nodes: Int, edges: Int, dropped: Int) {
        state.withLock { ($0.nodes.count, $0.edges.count, $0.droppedCount) }
    }

    /// Adds what is known to a graph.
    public func extend(_ graph: inout LineageGraph) {
        let (nodes, edges) = state.withLock { ($0.nodes, $0.edges) }
        for node in nodes.values where !graph.contains(node.identifier) { graph.add(node) }
        for edge in edges { graph.add(edge) }
    }

    /// Takes one checked event.
    public func take(_ event: OpenLineageEvent) {
        var nodes: [LineageNode] = []
        var edges: [LineageEdge] = []
        func name(_ dataset: OpenLineageEvent.Dataset) -> String {
            let identifier = Self.identifier(dataset.namespace, dataset.name)
            if identifier.hasPrefix("external/") {
                nodes.append(
                    LineageNode(
                        identifier: identifier, label: dataset.name,
                        detail: dataset.fields.isEmpty
                            ? dataset.namespace : "\(dataset.fields.count) columns, \(dataset.namespace)"))
            }
            return identifier
        }
        let inputs = event.inputs.map(name)
        let outputs = event.outputs.map(name)
        if let job = event.job {
            let identifier = "job/\(job.namespace)/\(job.name)"
            nodes.append(LineageNode(identifier: identifier, label: job.name, detail: "job of \(job.namespace)"))
            edges += inputs.map { LineageEdge(from: $0, to: identifier, detail: "read by") }
            edges += outputs.map { LineageEdge(from: identifier, to: $0, detail: "written by") }
        }
        for (dataset, output) in zip(event.outputs, outputs) {
            for link in dataset.columnLinks {
                let from = Self.field(link.namespace, link.name, link.field)
                let to = Self.field(dataset.namespace, dataset.name, link.column)
                for (end, owner, label) in [
                    (from, Self.identifier(link.namespace, link.name), "\(link.name).\(link.field)"),
                    (to, output, "\(dataset.name).\(link.column)"),
                ] where end.hasPrefix("external/") {
                    nodes.append(LineageNode(identifier: end, label: label, detail: "column"))
                    edges.append(LineageEdge(from: owner, to: end, kind: .part))
                }
                edges.append(
                    LineageEdge(from: from, to: to, kind: link.isDirect ? .value : .condition, detail: link.detail))
            }
        }
        state.withLock { state in
            for node in nodes {
                guard state.nodes.count < Self.nodeCountMax || state.nodes[node.identifier] != nil else {
                    state.droppedCount += 1
                    continue
                }
                state.nodes[node.identifier] = node
            }
            for edge in edges where state.edges.count < 4 * Self.nodeCountMax { state.edges.insert(edge) }
        }
    }

    private static func identifier(_ namespace: String, _ name: String) -> String {
        namespace == OpenLineage.namespace ? name : "external/\(namespace)/\(name)"
    }

    private static func field(_ namespace: String, _ name: String, _ field: String) -> String {
        guard namespace == OpenLineage.namespace else { return "external/\(namespace)/\(name)#\(field)" }
        if name.hasPrefix("source/") { return "column/\(name.dropFirst(7)).\(field)" }
        if name.hasPrefix("view/") { return "feature/\(name.dropFirst(5)).\(field)" }
        return "\(name)#\(field)"
    }
}
