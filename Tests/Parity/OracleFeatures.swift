import Aggregation
import Crypto
import Datasets
import Definitions
import Expressions
import Foundation
import PlatformCore

/// A row with its place in the log.
struct LoggedRow: Sendable {
    let row: SourceRow
    let sequence: UInt64
    /// The row with the view's derived cells, computed once.
    var whole: [CellValue]?

    func whole(_ view: FeatureViewDefinition) -> [CellValue] { whole ?? view.row(row.cells) }
}

/// What a feature value is, written as the definition says it: filter, sort, loop.
///
/// The meaning that engines must share.
enum OracleFeatures {
    enum Status: Sendable, Equatable { case notFound, outsideMaxAge, known }

    static func answer(
        _ view: FeatureViewDefinition, _ source: SourceDefinition, rows: [LoggedRow], keys: [String?], at time: Int64
    ) -> (status: Status, values: [CellValue]) {
        let nothing = view.features.map { feature -> CellValue in
            [.count, .distinctCount, .approxCountDistinct].contains(feature.aggregate) ? .integer(0) : .null
        }
        let entity = keys.compactMap { $0 }
        guard entity.count == keys.count else { return (.notFound, nothing) }
        let columns = view.columns(of: source)
        let places = Dictionary(
            columns.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
        func cell(_ logged: LoggedRow, _ name: String) -> CellValue {
            places[name].map { $0 < source.columns.count ? logged.row.cells[$0] : logged.whole(view)[$0] } ?? .null
        }
        func seenBefore(_ moment: EventTime) -> Bool {
            view.inclusive ? moment.milliseconds <= time : moment.milliseconds < time
        }
        let visible = rows.filter { logged in
            view.joinKeys.map { cell(logged, $0).keyText } == entity.map(Optional.some)
                && seenBefore(logged.row.eventTime) && seenBefore(logged.row.ingestTime)
                && view.lateness.map {
                    logged.row.ingestTime.milliseconds - logged.row.eventTime.milliseconds <= $0.milliseconds
                } ?? true
        }.sorted {
            ($0.row.eventTime.milliseconds, $0.row.ingestTime.milliseconds, $0.sequence)
                < ($1.row.eventTime.milliseconds, $1.row.ingestTime.milliseconds, $1.sequence)
        }
        guard let newest = visible.last else { return (.notFound, nothing) }
        func within(_ span: TimeSpan, _ moment: EventTime) -> Bool {
            view.inclusive
                ? time - span.milliseconds < moment.milliseconds : time - span.milliseconds <= moment.milliseconds
        }
        if let limit = view.timeToLive, !within(limit, newest.row.eventTime) {
            return (.outsideMaxAge, view.features.map { _ in .null })
        }
        func value(_ feature: FeatureDefinition) -> CellValue {
            if let ratio = feature.ratio {
                let parts = [ratio.numerator, ratio.denominator].map { name in
                    view.features.first { $0.name == name }.flatMap { value($0).number }
                }
                guard let upper = parts[0], let lower = parts[1], lower != 0, (upper / lower).isFinite else {
                    return .null
                }
                return positive(.double(upper / lower))
            }
            let events = visible.filter { logged in
                (feature.window.map { within($0, logged.row.eventTime) } ?? true)
                    && feature.condition?.holds(logged.whole(view)) ?? true
            }
            guard let name = feature.column, let column = columns.first(where: { $0.name == name })
            else {
                return .integer(Int64(events.count))
            }
            let cells = events.map { positive(cell($0, name)) }
            if let precision = feature.precision { return estimate(cells, precision) }
            return aggregate(feature.aggregate, cells, column, atMost: feature.countMax)
        }
        return (.known, view.features.map(value))
    }

    /// How many different values, by their registers and levels written as strings.
    private static func estimate(_ all: [CellValue], _ precision: Int) -> CellValue {
        let texts = Set(all.compactMap(\.keyText).map { Array($0.utf8) })
        let coupons = Set(
            texts.map { text in
                let digest = Insecure.MD5.hash(data: text).prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                let bits = String(digest & 0x7FFF_FFFF, radix: 2)
                let padded = String(repeating: "0", count: 31 - bits.count) + bits
                let level = padded.dropLast(precision).drop { $0 == "0" }.count
                return "\(padded.suffix(precision)) \(level)"
            })
        let registers = pow(2, Double(precision))
        guard Double(coupons.count) > (5.6 * registers).rounded(.down) else { return .integer(Int64(texts.count)) }
        let (whole, rest) = (coupons.count / Int(registers), coupons.count % Int(registers))
        let mantissa = (0.7940236163830469 * pow(2, 24) * pow(2, Double(rest) / registers)).rounded()
        return .integer(Int64((mantissa * registers * pow(2, Double(whole)) / pow(2, 24)).rounded(.down)))
    }

    /// Values in the order of their newest events, newest first, and how often each occurs; texts are equal by their bytes.
    private static func different(_ cells: [CellValue]) -> [(cell: CellValue, count: Int)] {
        var found: [(cell: CellValue, count: Int)] = []
        for cell in cells.reversed() {
            let place = found.firstIndex { other in
                if case (.text(let left), .text(let right)) = (other.cell, cell) {
                    Array(left.utf8) == Array(right.utf8)
                } else {
                    other.cell == cell
                }
            }
            if let place { found[place].count += 1 } else { found.append((cell, 1)) }
        }
        return found
    }

    private static func positive(_ cell: CellValue) -> CellValue {
        switch cell {
        case .double(let value) where value == 0: .double(0)
        case .list(let values): .list(values.map(positive))
        default: cell
        }
    }

    private static func aggregate(
        _ function: AggregateFunction, _ all: [CellValue], _ column: ColumnDefinition, atMost countMax: Int
    ) -> CellValue {
        switch function {
        case .last: return all.last ?? .null
        case .first: return all.first ?? .null
        default: break
        }
        let cells = all.filter { !$0.isNull }
        if function == .count { return .integer(Int64(cells.count)) }
        if function == .distinctCount { return .integer(Int64(different(cells).count)) }
        guard !cells.isEmpty else { return .null }
        if function == .lastN { return .list(Array(cells.reversed().prefix(countMax))) }
        if function == .lastNDistinct { return .list(different(cells).prefix(countMax).map(\.cell)) }
        if function == .mode {
            let values = different(cells)
            let most = values.map(\.count).max()
            return values.first { $0.count == most }?.cell ?? .null
        }
        func less(_ left: CellValue, _ right: CellValue) -> Bool {
            switch (left, right) {
            case (.integer(let left), .integer(let right)): left < right
            default: (left.number ?? 0) < (right.number ?? 0)
            }
        }
        if function == .min { return cells.min(by: less) ?? .null }
        if function == .max { return cells.max(by: less) ?? .null }
        var power = 1.0
        if column.type == .float64 { for _ in 0..<column.scale { power *= 10 } }
        var multiples: [Int128] = []
        for cell in cells {
            switch cell {
            case .integer(let value) where value != .min: multiples.append(Int128(value))
            case .bool(let value): multiples.append(value ? 1 : 0)
            case .double(let value):
                let product = (value * power).rounded(.toNearestOrAwayFromZero)
                guard abs(product) < 0x1p63 else { return .null }
                multiples.append(Int128(product))
            default: return .null
            }
        }
        let total = multiples.reduce(0, +)
        let count = Double(multiples.count)
        switch function {
        case .sum: return .double(ExactArithmetic.double(total) / power)
        case .mean: return .double(ExactArithmetic.double(total) / (power * count))
        default:
            guard multiples.allSatisfy({ $0.magnitude < 1 << 49 }) else { return .null }
            // The whole number nearest the mean, by trying both neighbours.
            let floor = total / Int128(multiples.count)
            let middle =
                [floor - 1, floor, floor + 1].min {
                    (total - $0 * Int128(multiples.count)).magnitude < (total - $1 * Int128(multiples.count)).magnitude
                } ?? floor
            let rest = Double(total - middle * Int128(multiples.count))
            let distances = multiples.reduce(Int128(0)) { $0 + ($1 - middle) * ($1 - middle) }
            let variance = (ExactArithmetic.double(distances) - rest * rest / count) / count
            return .double(variance.squareRoot() / power)
        }
    }
}
