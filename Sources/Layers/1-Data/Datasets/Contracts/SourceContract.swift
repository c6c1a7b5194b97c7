public import Definitions
public import PlatformCore

/// Where a raw row comes from, hence how its cells are written.
public enum RowOrigin: String, Sendable, Hashable, CaseIterable {
    /// JSON that somebody sent: numbers are numbers, text is text.
    case push
    /// A CSV file: every cell is text; an empty cell and `NA` are null.
    case csv
    /// A Parquet file read as text: every cell is text or null; `nan` in a number column is null.
    case parquet
    /// A database's answer as text: every cell is text or null.
    case database
}

/// One reason why a row breaks its source's contract.
public struct ContractBreach: Sendable, Hashable {
    /// The reason without the row's value, for counting: `dep_delay: is not a number`.
    public let rule: String
    /// The reason with the value, for people: `dep_delay: 'abc' is not a number`.
    public let message: String
    /// Makes a reason.
    public init(rule: String, message: String) {
        self.rule = rule
        self.message = message
    }
}

/// A row that satisfies its contract.
public struct CheckedRow: Sendable, Hashable {
    /// When it happened.
    public let eventTime: EventTime
    /// When we could have known, where the row says so.
    public let ingestTime: EventTime?
    /// Cells in the order of the source's columns.
    public let cells: [CellValue]
    /// Expectations of severity `warn` that it breaks.
    public let warnings: [ContractBreach]
}

/// What a contract says of a row.
public enum RowVerdict: Sendable, Hashable {
    /// The row may be stored.
    case accepted(CheckedRow)
    /// The row goes to quarantine; there is at least one reason.
    case refused([ContractBreach])
}

/// What every row of a source must satisfy, compiled once: the one implementation for files and pushes.
///
/// It checks types strictly and guesses nothing: text in a number column is refused, not read; a time without a zone is
/// refused. It does not look at other rows; duplicates are the ingestion's business.
public struct SourceContract: Sendable {
    /// The definition it was made from.
    public let definition: SourceDefinition
    private let eventTimeIndex: Int
    private let ingestTimeIndex: Int?
    private let positions: [String: Int]
    /// The columns' names in UTF-8.
    let names: [[UInt8]]
    /// The columns' types: apart from the definitions, whose copies count references.
    let types: [ColumnType]
    private let expectations: [CompiledExpectation]

    /// Longest accepted text in one cell, in UTF-8 bytes.
    public static let textByteCountMax = 64 << 10

    /// Compiles a contract.
    ///
    /// A checked definition always has its time columns.
    public init(_ definition: SourceDefinition) {
        self.definition = definition
        var positions: [String: Int] = [:]
        for (index, column) in definition.columns.enumerated() { positions[column.name] = index }
        self.positions = positions
        names = definition.columns.map { Array($0.name.utf8) }
        types = definition.columns.map(\.type)
        guard let eventTimeIndex = positions[definition.eventTimeColumn] else {
            preconditionFailure("a checked source has its event time column")
        }
        self.eventTimeIndex = eventTimeIndex
        ingestTimeIndex = definition.ingestTimeColumn.flatMap { positions[$0] }
        expectations = definition.expectations.compactMap { expectation in
            positions[expectation.column].map { CompiledExpectation(expectation, at: $0, positions: positions) }
        }
    }

    /// The position of a column in `definition.columns`.
    public func position(of column: String) -> Int? { positions[column] }

    /// Checks one row that arrived as a JSON object (from a push, or from a Parquet file as text or null).
    public func check(_ row: JSONValue, from origin: RowOrigin) -> RowVerdict {
        guard case .object(let members) = row else {
            return .refused([
                ContractBreach(
                    rule: "row: is not an object", message: "row: \(row.kindName) stands where an object is expected")
            ])
        }
        var check = RowCheck(columnCount: definition.columns.count)
        var knownCount = 0
        for (index, column) in definition.columns.enumerated() {
            let raw = members[column.name]
            if raw != nil { knownCount += 1 }
            let cell: CellValue?
            switch (origin, raw) {
            case (_, .none), (_, .some(.null)): cell = .null
            case (.push, .some(let value)): cell = CellReader.cell(value, as: column, &check.breaches)
            case (_, .some(.string(let text))):
                cell = CellReader.cell(text: text, as: column, from: origin, &check.breaches)
            case (_, .some(let value)):
                cell = CellReader.cell(text: value.text, as: column, from: origin, &check.breaches)
            }
            take(cell, at: index, isPresent: raw != nil, &check)
        }
        // The columns of files and queries are compared once, before their rows.
        if knownCount < members.count, definition.schemaChange == .refuse, origin == .push {
            for name in members.keys.sorted() where positions[name] == nil {
                let shown = CellReader.shown(name)
                let near = nearestName(to: name, among: definition.columns.map(\.name))
                check.breaches.append(
                    ContractBreach(
                        rule: "row: has an unknown column",
                        message: "row: the column \(shown) is unknown" + (near.map { "; did you mean '\($0)'?" } ?? ""))
                )
                if check.breaches.count >= 16 { break }
            }
        }
        return verdict(check)
    }

    /// Checks one row of text cells.
    ///
    /// `order[i]` is the position among the source's columns of the i-th field, or `nil` for a
    /// field that is dropped; fields and order have the same length.
    func check(fields: [String], order: [Int?], isPresent: [Bool], from origin: RowOrigin) -> RowVerdict {
        var check = RowCheck(columnCount: definition.columns.count)
        for (field, position) in zip(fields, order) {
            guard let position else { continue }
            let column = definition.columns[position]
            let cell = CellReader.cell(text: field, as: column, from: origin, &check.breaches)
            take(cell, at: position, isPresent: true, &check)
        }
        for (index, present) in isPresent.enumerated() where !present {
            take(.null, at: index, isPresent: false, &check)
        }
        return verdict(check)
    }

    /// Columns of a row that the schema does not name.
    func unknownColumns(of row: JSONValue) -> [String] {
        guard case .object(let members) = row else { return [] }
        return members.keys.filter { positions[$0] == nil }
    }

    /// The rules of uniqueness, which only the door to the log can check.
    var uniqueRules: [UniqueRule] {
        definition.expectations.compactMap { expectation in
            guard case .unique(let columns) = expectation.check else { return nil }
            return UniqueRule(
                name: expectation.name, columns: columns, indexes: columns.compactMap { positions[$0] },
                severity: expectation.severity)
        }
    }

    /// For each expectation on rows the rule under which its breaches are counted.
    var rules: [(expectation: ExpectationDefinition, rule: String)] {
        definition.expectations.compactMap { expectation in
            if case .unique(let columns) = expectation.check {
                return (expectation, UniqueRule.text(columns, expectation.name))
            }
            return positions[expectation.column].map {
                (expectation, CompiledExpectation(expectation, at: $0, positions: positions).rule)
            }
        }
    }

    /// `int64` columns to which a row brings a number with a fraction, so that only `float64` can hold it.
    func fractions(in row: JSONValue, from origin: RowOrigin) -> [String] {
        guard case .object(let members) = row else { return [] }
        var found: [String] = []
        for column in definition.columns where column.type == .int64 && !definition.key.contains(column.name) {
            switch members[column.name] {
            case .some(.number(let number)) where number.isFinite && number.rounded() != number:
                found.append(column.name)
            case .some(.string(let text)) where origin != .push:
                if Int64(text) == nil, let number = Double(text), number.isFinite, number.rounded() != number {
                    found.append(column.name)
                }
            default: break
            }
        }
        return found
    }

    struct RowCheck {
        var cells: [CellValue]
        var breaches: [ContractBreach] = []
        init(columnCount: Int) { cells = Array(repeating: .null, count: columnCount) }
    }

    func take(_ cell: CellValue?, at index: Int, isPresent: Bool, _ check: inout RowCheck) {
        guard let cell else { return }  // its reason is noted
        check.cells[index] = cell
        guard cell.isNull, index != ingestTimeIndex else { return }
        let column = definition.columns[index]
        if !column.nullable || index == eventTimeIndex {
            let what = isPresent ? "is null" : "is missing"
            check.breaches.append(ContractBreach(rule: "\(column.name): \(what)", message: "\(column.name): \(what)"))
        }
    }

    func verdict(_ check: RowCheck) -> RowVerdict {
        guard check.breaches.isEmpty else { return .refused(check.breaches) }
        guard case .integer(let eventTime) = check.cells[eventTimeIndex] else {
            return .refused([ContractBreach(rule: "row: has no event time", message: "row: has no event time")])
        }
        var breaches: [ContractBreach] = []
        var warnings: [ContractBreach] = []
        for expectation in expectations {
            guard let breach = expectation.breach(in: check.cells) else { continue }
            if expectation.severity == .reject { breaches.append(breach) } else { warnings.append(breach) }
        }
        guard breaches.isEmpty else { return .refused(breaches) }
        var ingestTime: EventTime?
        if let ingestTimeIndex, case .integer(let value) = check.cells[ingestTimeIndex] {
            ingestTime = EventTime(milliseconds: value)
        }
        return .accepted(
            CheckedRow(
                eventTime: EventTime(milliseconds: eventTime), ingestTime: ingestTime, cells: check.cells,
                warnings: warnings))
    }
}
