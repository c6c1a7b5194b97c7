public import Definitions
public import PlatformCore

/// One version of a feature view with the source definition that its rows are read under.
///
/// The version in force reads under the source in force; an older one that models still use does too, as long as that
/// source gives it the same cells.
public struct HeldView: Sendable, Hashable {
    /// The view as it was defined.
    public let view: FeatureViewDefinition
    /// The source as it was defined then.
    public let source: SourceDefinition

    /// Name of the version in the online store.
    public var versionName: Name { view.versionName }

    /// Pairs a view with its source.
    public init(view: FeatureViewDefinition, source: SourceDefinition) {
        precondition(view.source == source.name, "a view is held with its own source")
        self.view = view
        self.source = source
    }

    /// The view called `name` in a checked set; `nil` if there is none.
    public init?(_ name: Name, in definitions: DefinitionSet) {
        guard let view = definitions.featureViews[name] else { return nil }
        self.init(view: view, source: definitions.source(of: view))
    }

    /// The same view under the source in force, if rows mean the same there; `nil` if they do not.
    ///
    /// Columns may be added and may move. A column that was dropped, or has another type or scale, or another column for
    /// a time, would give other values: then the version goes on under its own source and reads the log's records itself.
    public func moved(to current: SourceDefinition?) -> HeldView? {
        guard let current else { return nil }
        if current == source { return self }
        guard current.eventTimeColumn == source.eventTimeColumn, current.ingestTimeColumn == source.ingestTimeColumn
        else { return nil }
        for column in source.columns {
            guard let now = current.column(column.name), now.type == column.type, now.scale == column.scale else {
                return nil
            }
        }
        return HeldView(view: view, source: current)
    }
}

/// Where a version of a view stands.
public struct ViewVersionStatus: Sendable, Hashable {
    /// The ways it can stand.
    public enum State: String, Sendable, Codable, CaseIterable {
        /// Applies every row and answers.
        case ready = "READY"
        /// Is built from history; answers nothing yet.
        case backfilling = "BACKFILLING"
        /// Nobody uses it: its state is kept as it was, no row is applied.
        case parked = "PARKED"
    }
    /// `view.v` and the first 8 digits of the version.
    public let versionName: Name
    /// The source whose log it reads.
    public let source: Name
    /// Where it stands.
    public var state: State
    /// Log offset of the next row it wants.
    public var nextOffset: UInt64
    /// While it is built: where this run began.
    public var startOffset: UInt64 = 0
    /// While it is built: end of the log when that was last asked.
    public var endOffset: UInt64 = 0
    /// While it is built: rows of the log read in a second, in this run.
    public var rowsPerSecond: Double = 0
    /// While it is built: what went wrong last; it is tried again.
    public var failure: String?

    /// Share of the log that it has read, from 0 to 1.
    public var progress: Double {
        state != .backfilling ? 1 : endOffset == 0 ? 0 : Double(min(nextOffset, endOffset)) / Double(endOffset)
    }
    /// Seconds until it is ready, at the speed so far; `nil` while that is not known.
    public var secondsLeft: Double? {
        guard state == .backfilling else { return 0 }
        guard rowsPerSecond > 0 else { return nil }
        return Double(endOffset - min(nextOffset, endOffset)) / rowsPerSecond
    }
}
