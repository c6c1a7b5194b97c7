import Definitions
import PlatformCore

/// Reads one cell strictly by its column's type, or says in one reason why not.
enum CellReader {
    /// A value as it is shown in a reason: in quotes, cut, without control characters.
    static func shown(_ text: some StringProtocol) -> String {
        let cut = text.unicodeScalars.prefix(41)
        var out = String.UnicodeScalarView()
        for scalar in cut.prefix(40) { out.append(scalar.value < 0x20 || scalar.value == 0x7F ? "?" : scalar) }
        return "'\(String(out))\(cut.count > 40 ? "…" : "")'"
    }

    /// A cell of a pushed row; `nil` after a reason was added.
    static func cell(_ value: JSONValue, as column: ColumnDefinition, _ breaches: inout [ContractBreach]) -> CellValue?
    {
        switch (column.type, value) {
        case (_, .null): return .null
        case (.string, .string(let text)): return accepted(text, column, &breaches)
        case (.bool, .bool(let flag)): return .bool(flag)
        case (.float64, .integer(let whole)): return .double(Double(whole))
        case (.float64, .number(let number)) where number.isFinite: return .double(number == 0 ? 0 : number)
        case (.vector, .array(let elements)): return vector(elements, column, &breaches)
        case (.int64, .integer(let whole)): return .integer(whole)
        case (.int64, .number(let number)): return whole(number, shownAs: number.description, column, &breaches)
        case (.timestamp, .string(let text)): return time(text, column, &breaches)
        case (.timestamp, .integer(let whole)):
            return accepted(EventTime(milliseconds: whole), shownAs: String(whole), column, &breaches)
        default:
            let shown = if case .string(let text) = value { shown(text) } else { value.kindName }
            return refuse(column, shown, "is not \(expected(column.type))", &breaches)
        }
    }

    /// A cell of a file, where everything is text; `nil` after a reason was added.
    static func cell(
        text: String, as column: ColumnDefinition, from origin: RowOrigin, _ breaches: inout [ContractBreach]
    ) -> CellValue? {
        if origin == .csv, text.isEmpty || text == "NA" { return .null }  // what a CSV file has for null
        switch column.type {
        case .string: return accepted(text, column, &breaches)
        case .bool:
            switch text {
            case "true", "True", "TRUE", "t", "1": return .bool(true)
            case "false", "False", "FALSE", "f", "0": return .bool(false)
            default: return refuse(column, shown(text), "is not true or false", &breaches)
            }
        case .int64:
            if let whole = Int64(text) { return .integer(whole) }
            // Programs that know only doubles write whole numbers as 12.0; the value is exact, so it is no guess.
            if let number = number(text) { return Self.whole(number, shownAs: text, column, &breaches) }
            return refuse(column, shown(text), "is not a whole number", &breaches)
        case .float64:
            if let number = number(text) { return .double(number) }
            if origin == .parquet, text == "nan" || text == "-nan" { return .null }
            return refuse(column, shown(text), "is not a number", &breaches)
        case .timestamp: return time(text, column, &breaches)
        case .vector:
            guard text.utf8.count <= 64 * column.length, let value = try? JSONValue.parse(Array(text.utf8)),
                case .array(let elements) = value
            else { return refuse(column, shown(text), "is not \(expected(column.type))", &breaches) }
            return vector(elements, column, &breaches)
        case .list: return refuse(column, shown(text), "is not \(expected(column.type))", &breaches)
        }
    }

    private static func expected(_ type: ColumnType) -> String {
        switch type {
        case .string: "text"
        case .int64: "a whole number"
        case .float64: "a number"
        case .bool: "true or false"
        case .timestamp: "a time"
        case .vector: "a list of numbers"
        case .list: "a list"
        }
    }

    /// As many numbers as the column says, each rounded to single precision.
    private static func vector(
        _ elements: [JSONValue], _ column: ColumnDefinition, _ breaches: inout [ContractBreach]
    ) -> CellValue? {
        guard elements.count == column.length else {
            return refuse(
                column, "a list of \(elements.count)", "has not the length \(column.length) of the vector", &breaches)
        }
        var cells: [CellValue] = []
        cells.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() {
            let number: Double? =
                switch element {
                case .integer(let whole): Double(whole)
                case .number(let number): number
                default: nil
                }
            guard let number, Float(number).isFinite else {
                let shown = if case .string(let text) = element { shown(text) } else { element.kindName }
                return refuse(
                    column, "element \(index) (\(number.map(\.description) ?? shown))",
                    "is not a finite number of single precision", &breaches)
            }
            cells.append(.double(Double(Float(number) + 0)))
        }
        return .list(cells)
    }

    private static func refuse(
        _ column: ColumnDefinition, _ shown: String, _ what: String, _ breaches: inout [ContractBreach]
    ) -> CellValue? {
        breaches.append(
            ContractBreach(rule: "\(column.name): \(what)", message: "\(column.name): \(shown) \(what)"))
        return nil
    }

    /// A finite decimal number; Swift's reader alone would also take `inf`, `nan` and hexadecimal.
    private static func number(_ text: String) -> Double? {
        guard 1...64 ~= text.utf8.count,
            text.utf8.allSatisfy({ 48...57 ~= $0 || $0 == 43 || $0 == 45 || $0 == 46 || $0 == 69 || $0 == 101 }),
            let value = Double(text), value.isFinite
        else { return nil }
        return value == 0 ? 0 : value  // one zero: -0 and 0 are the same row
    }

    private static func whole(
        _ number: Double, shownAs text: String, _ column: ColumnDefinition, _ breaches: inout [ContractBreach]
    ) -> CellValue? {
        if let whole = Int64(exactly: number), whole.magnitude <= 1 << 53 { return .integer(whole) }
        let isWhole = number.rounded() == number
        return refuse(column, shown(text), isWhole ? "does not fit in 64 bits" : "is not a whole number", &breaches)
    }

    private static func accepted(
        _ text: String, _ column: ColumnDefinition, _ breaches: inout [ContractBreach]
    ) -> CellValue? {
        guard text.utf8.count <= SourceContract.textByteCountMax else {
            return refuse(column, shown(text), "is longer than \(SourceContract.textByteCountMax) bytes", &breaches)
        }
        return .text(text)
    }

    private static func time(_ text: String, _ column: ColumnDefinition, _ breaches: inout [ContractBreach])
        -> CellValue?
    {
        let inZone = column.assumesUTC && isWithoutZone(text) ? EventTime(text: text + "Z") : nil
        guard text.utf8.count <= 40, let time = inZone ?? EventTime(text: text) else {
            return refuse(
                column, shown(text), "is not a time with a zone, such as 2013-07-01T09:15:00Z", &breaches)
        }
        return accepted(time, shownAs: text, column, &breaches)
    }

    /// Whether text is a date with a time of day and nothing behind it.
    private static func isWithoutZone(_ text: String) -> Bool {
        let bytes = text.utf8
        guard bytes.count >= 16, let last = bytes.last, 48...57 ~= last else { return false }
        return !bytes.dropFirst(11).contains { $0 == 43 || $0 == 45 } && bytes.contains(58)
    }

    private static func accepted(
        _ time: EventTime, shownAs text: String, _ column: ColumnDefinition, _ breaches: inout [ContractBreach]
    ) -> CellValue? {
        guard time.isAccepted else {
            return refuse(column, shown(text), "lies outside of the years 1900 to 2199", &breaches)
        }
        return .integer(time.milliseconds)
    }
}
