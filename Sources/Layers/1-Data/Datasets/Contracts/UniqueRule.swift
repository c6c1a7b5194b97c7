import Definitions
import PlatformCore

/// An expectation that no other row has the same values in some columns.
struct UniqueRule: Sendable, Hashable {
    let name: String
    let columns: [String]
    let indexes: [Int]
    let severity: ExpectationSeverity

    /// What decides which rows are compared: rules over the same columns share what they remember.
    var identifier: String { columns.joined(separator: "\u{1F}") }
    var rule: String { Self.text(columns, name) }

    static func text(_ columns: [String], _ name: String) -> String {
        "\(columns.joined(separator: ", ")): is there already (\(name))"
    }

    /// The bytes that are compared; `nil` for a row with a null among them.
    func value(of cells: [CellValue]) -> [UInt8]? {
        var bytes: [UInt8] = []
        for index in indexes {
            guard let text = cells[index].keyText else { return nil }
            bytes += text.utf8
            bytes.append(0xFF)  // in no UTF-8 text
        }
        return bytes
    }

    func breach(of cells: [CellValue]) -> ContractBreach {
        let shown = indexes.map { CellReader.shown(cells[$0].keyText ?? "null") }.joined(separator: ", ")
        return ContractBreach(
            rule: rule, message: "\(columns.joined(separator: ", ")): \(shown) is there already")
    }
}
