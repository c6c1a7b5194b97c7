public import Definitions
import Expressions
public import PlatformCore

/// How the events of an entity are cut into pages; part of the stored form.
public struct SeriesSizes: Sendable, Hashable {
    /// Events of a chunk when it is cut off; late events make it up to twice as long.
    public var chunk: Int
    /// Chunks of a group, likewise.
    public var group: Int
    /// Makes sizes of at least 2.
    public init(chunk: Int = 64, group: Int = 128) {
        self.chunk = max(2, chunk)
        self.group = max(2, group)
    }
}

/// What a feature view asks of its events, compiled once: which cells to keep and what to compute over which windows.
public struct AggregationPlan: Sendable {
    /// How a column's cells are kept.
    public enum Storage: UInt8, Sendable {
        /// As bits of a double; NaN for null.
        case real
        /// As an integer, with a flag for null: integers, moments, truth values.
        case integer
        /// As text.
        case text
        /// As so many floats for each event, with a flag for null.
        case vector
    }

    /// One column that features read.
    public struct Column: Sendable {
        /// Its name in the source.
        public let name: String
        /// Its position in the source's rows.
        public let position: Int
        /// Its type.
        public let type: ColumnType
        /// How its cells are kept.
        public let storage: Storage
        /// Numbers of a vector; 0 for any other type.
        public let length: Int
        /// Values are summed as whole multiples of 1 / `power`; 1 for integers and truth values.
        public let power: Double
        /// Whether a feature reads its sum.
        public internal(set) var needsSum = false
        /// Whether a feature reads its sum of squares.
        public internal(set) var needsSquares = false
        /// Whether a feature reads its smallest or largest value.
        public internal(set) var needsExtremes = false
        /// Whether a feature asks which of its values are equal.
        public internal(set) var comparesValues = false
    }

    /// One feature, its names resolved.
    public struct Feature: Sendable {
        /// Its name within the view.
        public let name: String
        /// How events become a value.
        public let function: AggregateFunction
        /// Position in `columns`; `nil` for a count of events.
        public let column: Int?
        /// Window in milliseconds; `nil` for all history, and for a ratio.
        public let window: Int64?
        /// Type of its value.
        public let type: ColumnType
        /// Most values of a list; 1 for any other feature.
        public let countMax: Int
        /// Of `last` and `first` with a condition, the position in `columns` that is null where it does not hold.
        public let gate: Int?
        /// Of `approx_count_distinct`, the position in `columns` of its values' coupons, and its precision.
        public let coupons: (column: Int, precision: Int)?
        /// What it is computed of, if it is a ratio or an estimate.
        public internal(set) var operands: Operands?
    }

    /// Two other features that one is computed of.
    public struct Operands: Sendable {
        /// Position in `computed` of a ratio's dividend, or of the exact count of an estimate.
        public let numerator: Int
        /// Position in `computed` of a ratio's divisor, or of the number of an estimate's coupons.
        public let denominator: Int
        /// Of an estimate, its precision; `nil` for a ratio.
        public let precision: Int?
    }

    /// A feature that is computed of others, and its place.
    struct Combination: Sendable {
        let operands: Operands
        let output: Int
    }

    /// The view.
    public let view: FeatureViewDefinition
    /// Positions of the join keys in the source's rows.
    public let keyPositions: [Int]
    /// Columns that features read.
    public let columns: [Column]
    /// The features, in the order in which values come out.
    public let features: [Feature]
    /// `features`, then those that only ratios and estimates among them read.
    public let computed: [Feature]
    /// Whether an event at the very moment of the question counts.
    public let inclusive: Bool
    /// Age limit of the newest event in milliseconds.
    public let timeToLive: Int64?
    /// How many milliseconds after it happened an event may become known and still count; `nil` for no limit.
    public let lateness: Int64?
    /// Longest window in milliseconds; 0 without windows.
    public let reach: Int64

    /// How a series is cut into pages.
    public var sizes = SeriesSizes()
    /// How an event lies in memory.
    let layout: EventLayout
    /// What of `columns` an insertion needs.
    let shapes: [ColumnShape]
    /// Whether the view computes columns of its own from a row.
    let isDerived: Bool
    /// Whether a feature of the view asks which values are equal.
    let comparesValues: Bool

    /// A column without its name, so that going over columns counts no references.
    struct ColumnShape: Sendable {
        let storage: Storage
        let position: Int
        /// Its first word, or its text, in an event.
        let slot: Int
        let length: Int
        let traits: Accumulator.Traits
    }

    /// Features over one column and window that one accumulation answers.
    struct WindowGroup: Sendable {
        let window: Int64
        var outputs: [(function: AggregateFunction, output: Int)]
    }
    struct ColumnGroup: Sendable {
        let column: Int?
        var windows: [WindowGroup]
    }
    /// Aggregates by column, windows rising, so that a longer window goes on where the shorter one ended.
    let groups: [ColumnGroup]
    /// `last` and `first`.
    let picks: [(isLast: Bool, column: Int, window: Int64?, output: Int)]
    /// `last` and `first` with a condition.
    let gatedPicks: [GatedPick]
    /// Features that ask which values are equal, by column, windows rising.
    let valueGroups: [ValueGroup]
    /// Columns of whose values it is asked how many are different.
    let countedColumns: [Int]
    /// For each of `countedColumns`, how many values are worth remembering.
    let countedValueMaxima: [Int]
    /// `last_n`.
    let lists: [List]
    /// Estimates and then ratios, which may divide them, computed after everything else.
    let combinations: [Combination]

    struct GatedPick: Sendable {
        let isLast: Bool
        let column: Int
        let gate: Int
        let window: Int64
        let output: Int
    }
    struct List: Sendable {
        let column: Int
        let window: Int64
        let countMax: Int
        let output: Int
    }
    struct ValueGroup: Sendable {
        let column: Int
        var windows: [ValueWindow]
        /// Whether all that is asked is how many different values there are.
        var countsOnly = true
        /// Whether only estimates ask: then nothing is counted where their coupons say that there are many.
        var isBounded = false
    }
    struct ValueWindow: Sendable {
        let window: Int64
        var outputs: [(function: AggregateFunction, countMax: Int, output: Int)]
        /// Of a bounded group, where the number of coupons stands, and how many are so many that the values do not matter.
        var coupons: [(place: Int, precision: Int)] = []
    }
    /// All features of the view: where ratios find what they divide.
    private let known: [Feature]

    /// Compiles a view over its source.
    public init(view: FeatureViewDefinition, source: SourceDefinition) {
        var columns: [Column] = []
        var features: [Feature] = []
        func place(of name: String) -> Int {
            if let index = columns.firstIndex(where: { $0.name == name }) { return index }
            columns.append(Self.column(name, of: view.columns(of: source)))
            return columns.count - 1
        }
        for feature in view.features {
            let index = feature.inputColumn.map(place)
            let gate = feature.gateColumn.map(place)
            var coupons: (column: Int, precision: Int)?
            if let column = feature.couponColumn, let precision = feature.precision {
                coupons = (place(of: column), precision)
                columns[place(of: column)].comparesValues = true
            }
            if let index {
                switch feature.aggregate {
                case .sum, .mean: columns[index].needsSum = true
                case .stddev: columns[index].needsSquares = true
                case .min, .max: columns[index].needsExtremes = true
                case .distinctCount, .approxCountDistinct, .mode, .lastNDistinct: columns[index].comparesValues = true
                case .count, .last, .first, .lastN, .ratio: break
                }
            }
            features.append(
                Feature(
                    name: feature.name, function: feature.aggregate, column: index,
                    window: feature.window?.milliseconds, type: feature.type, countMax: feature.countMax, gate: gate,
                    coupons: coupons))
        }
        self.init(
            view: view,
            keyPositions: view.joinKeys.map { key in
                guard let position = source.columns.firstIndex(where: { $0.name == key }) else {
                    preconditionFailure("a checked view's keys are columns of its source")
                }
                return position
            }, columns: columns, features: features, known: features)
    }

    private static func column(_ name: String, of known: [ColumnDefinition]) -> Column {
        guard let position = known.firstIndex(where: { $0.name == name }) else {
            preconditionFailure("a checked view's columns are columns of its source")
        }
        let column = known[position]
        let storage: Storage =
            switch column.type {
            case .float64: .real
            case .int64, .bool, .timestamp: .integer
            case .string: .text
            case .vector: .vector
            case .list: preconditionFailure("a source's column is no list")
            }
        var power = 1.0
        if storage == .real { for _ in 0..<column.scale { power *= 10 } }
        return Column(
            name: name, position: position, type: column.type, storage: storage, length: column.length, power: power)
    }

    private init(
        view: FeatureViewDefinition, keyPositions: [Int], columns: [Column], features chosen: [Feature],
        known: [Feature]
    ) {
        self.view = view
        self.keyPositions = keyPositions
        self.columns = columns
        self.known = known
        computed = Self.withOperands(chosen, of: view, among: known)
        features = Array(computed.prefix(chosen.count))
        let layout = EventLayout(columns)
        self.layout = layout
        shapes = columns.enumerated().map { index, column in
            ColumnShape(
                storage: column.storage, position: column.position, slot: layout.slots[index], length: column.length,
                traits: Accumulator.Traits(column))
        }
        isDerived = !view.derivedColumns.isEmpty
        comparesValues = columns.contains(where: \.comparesValues)
        inclusive = view.inclusive
        timeToLive = view.timeToLive?.milliseconds
        lateness = view.lateness?.milliseconds
        reach = view.features.compactMap { $0.window?.milliseconds }.max() ?? 0
        var groups: [ColumnGroup] = []
        var picks: [(isLast: Bool, column: Int, window: Int64?, output: Int)] = []
        var gatedPicks: [GatedPick] = []
        var valueGroups: [ValueGroup] = []
        var lists: [List] = []
        var combinations: [Combination] = []
        for (output, feature) in computed.enumerated() {
            if let operands = feature.operands {
                combinations.append(Combination(operands: operands, output: output))
                continue
            }
            if feature.function == .last || feature.function == .first {
                guard let column = feature.column else { preconditionFailure("last and first read a column") }
                if let gate = feature.gate, let window = feature.window {
                    gatedPicks.append(
                        GatedPick(
                            isLast: feature.function == .last, column: column, gate: gate, window: window,
                            output: output))
                    continue
                }
                picks.append((feature.function == .last, column, feature.window, output))
                continue
            }
            guard let window = feature.window else { preconditionFailure("an aggregate has a window") }
            if feature.function == .lastN, let column = feature.column {
                lists.append(List(column: column, window: window, countMax: feature.countMax, output: output))
            } else if feature.function.comparesValues, let column = feature.column {
                let group = valueGroups.firstIndex { $0.column == column } ?? valueGroups.count
                if group == valueGroups.count { valueGroups.append(ValueGroup(column: column, windows: [])) }
                let entry = (function: feature.function, countMax: feature.countMax, output: output)
                if let at = valueGroups[group].windows.firstIndex(where: { $0.window == window }) {
                    valueGroups[group].windows[at].outputs.append(entry)
                } else {
                    valueGroups[group].windows.append(ValueWindow(window: window, outputs: [entry]))
                }
            } else {
                let group = groups.firstIndex { $0.column == feature.column } ?? groups.count
                if group == groups.count { groups.append(ColumnGroup(column: feature.column, windows: [])) }
                if let at = groups[group].windows.firstIndex(where: { $0.window == window }) {
                    groups[group].windows[at].outputs.append((feature.function, output))
                } else {
                    groups[group].windows.append(WindowGroup(window: window, outputs: [(feature.function, output)]))
                }
            }
        }
        for index in groups.indices { groups[index].windows.sort { $0.window < $1.window } }
        for index in valueGroups.indices {
            valueGroups[index].windows.sort { $0.window < $1.window }
            valueGroups[index].countsOnly = valueGroups[index].windows.allSatisfy { window in
                window.outputs.allSatisfy { $0.function == .distinctCount }
            }
        }
        Self.bound(&valueGroups, by: combinations)
        countedColumns = valueGroups.filter { group in
            group.windows.contains { $0.outputs.contains { $0.function == .distinctCount } }
        }.map(\.column)
        countedValueMaxima = countedColumns.map { column in
            guard let group = valueGroups.first(where: { $0.column == column && $0.isBounded }) else { return .max }
            return group.windows.flatMap(\.coupons).map { DistinctEstimate.rememberedCountMax($0.precision) }.max() ?? 0
        }
        self.groups = groups
        self.picks = picks
        self.gatedPicks = gatedPicks
        self.valueGroups = valueGroups
        self.lists = lists
        self.combinations =
            combinations.filter { $0.operands.precision != nil }
            + combinations.filter { $0.operands.precision == nil }
    }

    /// Finds the groups that only estimates ask, and puts them behind those that count coupons.
    private static func bound(_ groups: inout [ValueGroup], by combinations: [Combination]) {
        let estimates = combinations.filter { $0.operands.precision != nil }
        guard !estimates.isEmpty else { return }
        for index in groups.indices {
            let isBounded = groups[index].windows.allSatisfy { window in
                window.outputs.allSatisfy { output in
                    estimates.contains { $0.operands.numerator == output.output }
                }
            }
            guard isBounded else { continue }
            groups[index].isBounded = true
            for place in groups[index].windows.indices {
                let outputs = groups[index].windows[place].outputs.map(\.output)
                groups[index].windows[place].coupons = estimates.filter { outputs.contains($0.operands.numerator) }
                    .map { ($0.operands.denominator, $0.operands.precision ?? 0) }
            }
        }
        groups = groups.filter { !$0.isBounded } + groups.filter(\.isBounded)
    }

    /// The chosen features, then what their ratios divide and their estimates count and nobody chose.
    private static func withOperands(_ chosen: [Feature], of view: FeatureViewDefinition, among known: [Feature])
        -> [Feature]
    {
        var computed = chosen
        func place(of name: String) -> Int {
            if let place = computed.firstIndex(where: { $0.name == name }) { return place }
            guard let feature = known.first(where: { $0.name == name }) else {
                preconditionFailure("a checked ratio divides features of its view")
            }
            computed.append(feature)
            return computed.count - 1
        }
        for index in chosen.indices where chosen[index].function == .ratio {
            guard let ratio = view.features.first(where: { $0.name == chosen[index].name })?.ratio else {
                preconditionFailure("a ratio says what it divides")
            }
            computed[index].operands = Operands(
                numerator: place(of: ratio.numerator), denominator: place(of: ratio.denominator), precision: nil)
        }
        // Those that were chosen, and those that ratios divide. Their counts are their own: nobody else is told that there
        // are none where nobody asks.
        let others = computed.count
        for index in computed.indices {
            guard let coupons = computed[index].coupons else { continue }
            let feature = computed[index]
            func count(_ column: Int?) -> Int {
                let count = Feature(
                    name: "\(feature.name) of column \(column ?? 0)", function: .distinctCount, column: column,
                    window: feature.window, type: .int64, countMax: 1, gate: nil, coupons: nil)
                let known = computed.indices.dropFirst(others).first {
                    computed[$0].column == column && computed[$0].window == feature.window
                }
                if let known { return known }
                computed.append(count)
                return computed.count - 1
            }
            computed[index].operands = Operands(
                numerator: count(feature.column), denominator: count(coupons.column), precision: coupons.precision)
        }
        return computed
    }

    /// The same columns with only the features at `positions`, in that order: what one service reads of the view.
    public func selecting(_ positions: [Int]) -> AggregationPlan {
        var plan = AggregationPlan(
            view: view, keyPositions: keyPositions, columns: columns, features: positions.map { features[$0] },
            known: known)
        plan.sizes = sizes
        return plan
    }

    /// Whether rows laid out for `other` can be read under this plan: the same columns at the same positions.
    public func reads(sameCellsAs other: AggregationPlan) -> Bool {
        keyPositions == other.keyPositions && columns.map(\.position) == other.columns.map(\.position)
            && view.derivedColumns.map(\.expression) == other.view.derivedColumns.map(\.expression)
    }

    /// The derived columns that features read, through others too, in the order in which they are computed.
    public var derivedColumns: [DerivedColumnDefinition] {
        var needed = Set(columns.map(\.name))
        var found: [DerivedColumnDefinition] = []
        for derived in view.derivedColumns.reversed() where needed.contains(derived.name) {
            needed.formUnion(derived.expression.columns)
            found.append(derived)
        }
        return found.reversed()
    }

    /// Those of `names` that the source has: what is no derived column of the view; each once.
    public func sourceColumns(of names: [String]) -> [String] {
        var found: [String] = []
        for name in names
        where !found.contains(name) && !view.derivedColumns.contains(where: { $0.name == name }) { found.append(name) }
        return found
    }

    /// Whether an event became known too late to count in this view.
    public func isTooLate(eventTime: EventTime, ingestTime: EventTime) -> Bool {
        guard let lateness else { return false }
        let (age, overflow) = ingestTime.milliseconds.subtractingReportingOverflow(eventTime.milliseconds)
        return overflow ? ingestTime > eventTime : age > lateness
    }

    /// The last moment at which an event may have happened, and become known, to be seen by a question at `time`.
    public func tick(at time: Int64) -> Int64 { inclusive || time == .min ? time : time - 1 }
}
