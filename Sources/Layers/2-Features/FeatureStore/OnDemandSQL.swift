import Definitions
import Expressions
import PlatformCore

/// A feature that a service computes on demand, as SQL over a table with a column for each of its inputs.
struct OnDemandSQL {
    let feature: OnDemandFeatureDefinition
    let service: FeatureServiceDefinition
    let dialect: SQLDialect

    /// The value.
    /// - Parameters:
    ///   - requested: the SQL of a request feature: a double, or the text of a category.
    ///   - served: the SQL of a view's feature of this type, in the type that the expression reads it as.
    func value(requested: (String) -> String, served: (_ name: String, ColumnType) -> String) -> String {
        let known = Set(service.request.map(\.name))
        let types = Dictionary(feature.inputs.map { ($0.name, $0.type) }, uniquingKeysWith: { first, _ in first })
        return feature.expression.sql(dialect) { name in
            known.contains(name) ? requested(name) : served(name, types[name] ?? .float64)
        }
    }
}
