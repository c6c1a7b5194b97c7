import PlatformCore

/// Which metrics are shown where there is room for few: those that tell how good models of their kind are.
enum HeadlineMetrics {
    /// For each kind of model; the first metric of a row says whether it is of that kind.
    private static let kinds = [["auc", "ece"], ["rmse", "mae"], ["accuracy", "log_loss"]]

    /// The metrics that say something of some of the rows.
    static func names(in rows: [JSONValue?]) -> [String] {
        let found = rows.map { row in kinds.first { row?[$0[0]]?.doubleValue != nil } ?? [] }
        return kinds.filter(found.contains).flatMap(\.self)
    }
}
