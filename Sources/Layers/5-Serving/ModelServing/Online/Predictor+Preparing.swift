import Definitions
import PlatformCore

extension Predictor {
    /// Makes what the features of a request need, where that takes long: to be awaited before `answer` by who is on no event
    /// loop.
    ///
    /// Whatever is wrong with the request is told by `answer`.
    public func prepare(model: String, body: [UInt8]) async {
        guard let route = routes.route(model), !route.slowBindings.isEmpty,
            let request = try? JSONValue.parse(body[...], limits: JSONLimits(byteCountMax: 4 << 20, depthMax: 16))
        else { return }
        let instances = request["instances"]?.arrayValue ?? [request]
        guard instances.count <= Self.instanceCountMax else { return }
        for binding in route.slowBindings { await binding.reader.prepare(keys: binding.keys(of: instances)) }
    }

    /// The same for instances that came as columns.
    func prepare(_ route: DeploymentRoute, _ columns: InputColumns) async {
        for binding in route.slowBindings { await binding.reader.prepare(keys: columns.keys(for: binding)) }
    }
}

extension DeploymentRoute {
    /// What reads features that may take long.
    fileprivate var slowBindings: [ServiceBinding] {
        variants.map(\.version.binding).filter { $0.reader.mayTakeLong }
    }

    /// Whether the features of all instances can be read at once.
    func isReady(for instances: [JSONValue]) -> Bool {
        slowBindings.allSatisfy { $0.reader.isReady(keys: $0.keys(of: instances)) }
    }

    /// The same for instances that came as columns.
    func isReady(for columns: InputColumns) -> Bool {
        slowBindings.allSatisfy { $0.reader.isReady(keys: columns.keys(for: $0)) }
    }
}

extension ServiceBinding {
    /// The join keys of some instances, one after another; `nil` for what is no key.
    fileprivate func keys(of instances: [JSONValue]) -> [String?] {
        instances.flatMap { instance in
            definition.joinKeys.map { key in
                switch instance["entities"]?[key] {
                case .string(let text)?: text
                case .integer(let number)?: String(number)
                default: nil
                }
            }
        }
    }
}

extension InputColumns {
    /// The join keys of all instances that features are read for, one after another; none where nothing is read.
    fileprivate func keys(for binding: ServiceBinding) -> [String?] {
        let layout = layout(for: binding)
        guard layout.readsViews else { return [] }
        return (0..<rowCount).flatMap { row in
            layout.keys.map { column -> String? in
                switch column.map(values) {
                case .texts(let texts)?: texts[row]
                case .integers(let integers)?: String(integers[row])
                case .numbers?, nil: nil
                }
            }
        }
    }
}
