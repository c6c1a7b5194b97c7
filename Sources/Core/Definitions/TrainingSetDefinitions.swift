public import PlatformCore

/// When a label is positive, or what its value is.
public enum LabelExpression: Sendable, Hashable {
    /// The column's number.
    case value
    /// 1 where the column is greater than the bound, else 0; no label where it is null.
    case greaterThan(Double)
}

/// How a training set is cut.
public enum SplitDefinition: Sendable, Hashable {
    /// By time: the last `test` share of the span is the test slice, the `validation` share before it validates.
    case time(validation: Double, test: Double)
    /// By a hash of the question's place in the log and the seed: rows of one entity may stand in several slices.
    case random(validation: Double, test: Double, seed: Int)
    /// By a hash of these join keys and the seed: an entity stands in one slice only.
    case entity(keys: [String], validation: Double, test: Double, seed: Int)
}

/// Where the questions of a training set come from, if not from a source.
public enum SpineOrigin: Sendable, Hashable {
    /// Files: one, those of a folder, or those that a pattern matches; absolute.
    case files(location: String, format: String?)
    /// DuckDB's SQL over the tables of these sources, each under its own name.
    case sql(query: String, sources: [Name])
    /// A query against PostgreSQL: the name of the environment variable with the connection string, and the query.
    case postgreSQL(connection: String, query: String, timeout: TimeSpan)
}

/// Questions that come from outside of the sources, and what they must bring.
public struct SpineDefinition: Sendable, Hashable {
    /// Where they come from.
    public let origin: SpineOrigin
    /// Their moment, keys, request features and label; other columns are left out.
    ///
    /// It carries the training set's `spine` as its name.
    public let contract: SourceDefinition
    /// Columns that are copied as they are, whatever their cells hold; they are in the contract, too.
    public var carried: Set<String> = []
}

/// Point-in-time rows for training: spine, features as they could have been known, label.
public struct TrainingSetDefinition: Sendable, Hashable {
    /// Its name.
    public let name: Name
    /// Service whose features become columns.
    public let service: Name
    /// Where the questions come from; their event time is the moment of prediction.
    ///
    /// The name of a source, unless there is an `outsideSpine`: then a name that no source can have.
    public let spine: Name
    /// Where the questions come from, if not from a source.
    public let outsideSpine: SpineDefinition?
    /// The label's column name in the training set; `nil` for a set without labels.
    public let label: String?
    /// Source that brings the label; `nil` where the spine's own row brings it.
    public let labelSource: Name?
    /// Columns that join spine and label source.
    public let labelKeys: [String]
    /// Column of the label source, or of the spine.
    public let labelColumn: String
    /// How the column becomes a label.
    public let labelExpression: LabelExpression
    /// How long after the question a label may still arrive; 0 for one that stands in the spine.
    public let labelHorizon: TimeSpan
    /// How rows are cut into slices.
    public let split: SplitDefinition
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String

    /// Sources that its questions and labels are read from.
    public var ownSources: Set<Name> {
        var names = Set([labelSource].compactMap(\.self))
        switch outsideSpine?.origin {
        case nil: names.insert(spine)
        case .sql(_, let sources): names.formUnion(sources)
        case .files, .postgreSQL: break
        }
        return names
    }
}

extension DefinitionSet {
    /// The rows of a training set's questions: its source, or what they must bring from outside.
    public func spine(of definition: TrainingSetDefinition) -> SourceDefinition {
        guard let spine = definition.outsideSpine?.contract ?? sources[definition.spine] else {
            preconditionFailure("a checked training set has a spine")
        }
        return spine
    }
}
