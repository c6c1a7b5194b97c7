import PlatformCore
import StoragePorts

/// A run that a search found.
public struct RunReference: Sendable, Hashable {
    /// What is known of the run itself.
    public let info: RunInfo
    /// Rises with every change of the run or of what it logged: equal revisions, equal content.
    public let revision: Int64
}

/// One page of found runs.
public struct RunReferencePage: Sendable {
    /// The runs, in order.
    public let runs: [RunReference]
    /// The page behind this one; `nil` when there is none.
    public let nextPageToken: String?
    let places: [JSONValue]
    let question: JSONValue
    let seal: PageSeal

    /// The page behind the first `count` runs of this one; `nil` when there is none.
    public func token(behind count: Int) -> String? {
        count >= runs.count || count < 1 ? nextPageToken : seal.token(places[count - 1], question: question)
    }
}

extension TrackingStore {
    /// Runs of some experiments that pass a filter, with all that they logged.
    ///
    /// The one that started last comes first unless `orders` says otherwise; of runs that the order does not tell apart
    /// too.
    public func searchRuns(
        experiments: [String], filter: SearchFilter = .all, orders: [SearchOrder] = [], view: LifecycleView = .active,
        pageToken: String? = nil, countMax: Int = 1000
    ) async throws -> (runs: [TrackedRun], nextPageToken: String?) {
        let page = try await findRuns(
            experiments: experiments, filter: filter, orders: orders, view: view, pageToken: pageToken,
            countMax: countMax)
        return (try await runs(page.runs).map(\.run), page.nextPageToken)
    }

    /// Runs as `searchRuns` finds them, without what they logged.
    public func findRuns(
        experiments: [String], filter: SearchFilter = .all, orders: [SearchOrder] = [], view: LifecycleView = .active,
        pageToken: String? = nil, countMax: Int = 1000
    ) async throws -> RunReferencePage {
        guard experiments.count <= 10_000 else {
            throw PlatformError(
                .invalidInput, "experiment_ids", "\(experiments.count) experiments, 10000 are accepted")
        }
        let numbers = try experiments.map(Self.experimentNumber)
        let query = try RunQuery(experiments: numbers, filter: filter, orders: orders, view: view)
        let question = Self.question(experiments, filter, orders, view)
        let place = try pageToken.flatMap { $0.isEmpty ? nil : $0 }.map { token throws(PlatformError) in
            try Self.place(pageSeal.place(token, question: question), termCount: query.terms.count)
        }
        if numbers.isEmpty {
            return RunReferencePage(runs: [], nextPageToken: nil, places: [], question: question, seal: pageSeal)
        }
        try await settle()
        let found = try await metadata.read { transaction in
            try query.runs(behind: place, countMax: countMax + 1, transaction).map {
                (RunReference(info: Self.info($0.row), revision: $0.row.integer("revision")), $0.place)
            }
        }
        let places = found.prefix(countMax).map { Self.json($0.1) }
        return RunReferencePage(
            runs: found.prefix(countMax).map(\.0),
            nextPageToken: found.count > countMax ? places.last.map { pageSeal.token($0, question: question) } : nil,
            places: places, question: question, seal: pageSeal)
    }

    /// Found runs with all that they logged, and the revision that was read, which may be later; those that have
    /// vanished are left out.
    public func runs(_ references: [RunReference]) async throws -> [(run: TrackedRun, revision: Int64)] {
        try await metadata.read { transaction in
            let rows = try transaction.query(
                "SELECT * FROM tracking_run WHERE number", in: references.map { .integer($0.info.number) })
            let byNumber = Dictionary(rows.map { ($0.integer("number"), $0) }, uniquingKeysWith: { $1 })
            let found = references.compactMap { byNumber[$0.info.number] }
            return zip(try Self.details(of: found.map { Self.info($0) }, transaction), found).map {
                ($0, $1.integer("revision"))
            }
        }
    }

    /// What a page token is bound to.
    private static func question(
        _ experiments: [String], _ filter: SearchFilter, _ orders: [SearchOrder], _ view: LifecycleView
    ) -> JSONValue {
        [
            "call": "runs", "experiments": .array(experiments.map(JSONValue.string)),
            "filter": .string(String(describing: filter.clauses)),
            "orders": .array(orders.map { .string("\($0.entity ?? "").\($0.key) \($0.isAscending)") }),
            "view": .string("\(view)"),
        ]
    }

    static func json(_ place: [MetadataValue]) -> JSONValue {
        .array(
            place.map { value in
                switch value {
                case .integer(let value): ["i": .integer(value)]
                case .real(let value): ["r": .integer(Int64(bitPattern: value.bitPattern))]
                case .text(let value): ["t": .string(value)]
                default: .null
                }
            })
    }

    static func place(_ json: JSONValue, termCount: Int) throws(PlatformError) -> [MetadataValue] {
        guard let values = json.arrayValue, values.count == termCount else {
            throw PlatformError(.invalidInput, "page_token", "Invalid page token: it belongs to another query")
        }
        return values.map { value in
            if let value = value["i"]?.integerValue { return .integer(value) }
            if let bits = value["r"]?.integerValue { return .real(Double(bitPattern: UInt64(bitPattern: bits))) }
            return MetadataValue(value["t"]?.stringValue)
        }
    }
}
