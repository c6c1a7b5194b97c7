import Aggregation
import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Testing

/// Kernel, oracle and SQL give the same cells, bit for bit, on the same history.
struct WindowParityTests {
    /// Doubles by their bits; the rest as it is.
    static func exactText(_ cell: CellValue) -> String {
        if case .double(let value) = cell {
            "double \(value) \(String(value.bitPattern, radix: 16))"
        } else if case .text(let value) = cell {
            "text \(Array(value.utf8))"
        } else if case .list(let values) = cell {
            "[\(values.map(exactText).joined(separator: ", "))]"
        } else {
            "\(cell)"
        }
    }

    /// A cell of an engine's answer as a value of the feature's type.
    static func cell(_ value: JSONValue, _ type: ColumnType, of elementType: ColumnType = .string) -> CellValue {
        switch type {
        case .float64: value.doubleValue.map(CellValue.double) ?? .null
        case .int64, .timestamp: value.integerValue.map(CellValue.integer) ?? .null
        case .bool: value.boolValue.map(CellValue.bool) ?? .null
        case .string: value.stringValue.map(CellValue.text) ?? .null
        case .vector:
            if case .array(let values) = value {
                .list(values.map { .double(Double(Float($0.doubleValue ?? .nan))) })
            } else {
                .null
            }
        case .list:
            if case .array(let values) = value { .list(values.map { cell($0, elementType) }) } else { .null }
        }
    }

    /// Whether a row belongs to an entity.
    static func hasKey(_ history: GeneratedHistory, _ row: SourceRow) -> Bool { key(history, row) != nil }

    private static func key(_ history: GeneratedHistory, _ row: SourceRow) -> String? {
        let parts = history.view.joinKeys.map { name in
            history.source.columns.firstIndex { $0.name == name }.flatMap { row.cells[$0].keyText }
        }
        let whole = parts.compactMap { $0 }
        return whole.count == parts.count ? EntityKey(values: whole)?.joined : nil
    }

    private static func makeValueIndexes(of series: inout EventSeries, _ plan: AggregationPlan) throws {
        try series.makeValueIndexes(plan: plan) { _ in throw DecodingFailure("all pages are in memory") }
    }

    @Test(arguments: Array(0..<12) + [GeneratedHistory.estimating])
    func kernelIsTheOracle(seed: UInt64) throws {
        let history = try GeneratedHistory(seed: seed)
        var plan = AggregationPlan(view: history.view, source: history.source)
        // Pages so small that a history has several groups of them; the usual size for some.
        let isMany = seed == GeneratedHistory.estimating
        if seed % 4 != 3, !isMany { plan.sizes = SeriesSizes(chunk: 2 + Int(seed % 7), group: 2 + Int(seed % 3)) }
        let program = ReadProgram(plan)
        var random = SeededGenerator(seed: seed + 1000)
        // Keys compared by bytes, as the platform does, not as Swift compares letters.
        var states: [[UInt8]: EventSeries] = [:]
        for (index, logged) in history.rows.shuffled(using: &random).enumerated() {
            guard let key = Self.key(history, logged.row) else { continue }
            if plan.isTooLate(eventTime: logged.row.eventTime, ingestTime: logged.row.ingestTime) { continue }
            var series = states[Array(key.utf8)] ?? EventSeries(plan: plan)
            series.insert(
                eventTime: logged.row.eventTime, ingestTime: logged.row.ingestTime, sequence: logged.sequence,
                cells: logged.row.cells, plan: plan)
            if index % (isMany ? 1700 : 17) == 0 {
                series = try EventSeries(decoding: series.encoded(plan: plan), plan: plan)
            }
            if index % (isMany ? 1100 : 11) == 0 { try Self.makeValueIndexes(of: &series, plan) }
            states[Array(key.utf8)] = series
        }
        // In the order of time, forgetting what later questions cannot need.
        for (index, question) in history.questions.sorted(by: { $0.time < $1.time }).enumerated() {
            let expected = OracleFeatures.answer(
                history.view, history.source,
                rows: history.rows.filter { Self.bytesAgree(history, $0.row, question.keys) },
                keys: question.keys, at: question.time)
            let whole = question.keys.compactMap { $0 }
            let key = whole.count == question.keys.count ? EntityKey(values: whole).map { Array($0.joined.utf8) } : nil
            var series = key.flatMap { states[$0] } ?? EventSeries(plan: plan)
            let moment = EventTime(milliseconds: question.time)
            if index % 5 == 0 {
                series.trim(answeringFrom: moment, plan: plan)
                if let key, states[key] != nil { states[key] = series }
            }
            if index % 7 == 0 { series = try EventSeries(decoding: series.encoded(plan: plan), plan: plan) }
            if index % 2 == 0 { try Self.makeValueIndexes(of: &series, plan) }
            let found = series.cells(plan, at: moment)
            switch found.presence {
            case .notFound: #expect(expected.status == .notFound)
            case .outsideMaxAge: #expect(expected.status == .outsideMaxAge)
            case .present: #expect(expected.status == .known)
            }
            for (feature, (left, right)) in zip(history.view.features, zip(found.values, expected.values)) {
                #expect(
                    Self.exactText(left) == Self.exactText(right),
                    "\(feature.name) of \(question.keys) at \(question.time), seed \(seed)")
            }
            withUnsafeTemporaryAllocation(of: Double.self, capacity: plan.features.count) { numbers in
                var missing: [PageReference] = []
                _ = program.evaluate(series, at: moment, into: numbers, missing: &missing)
                for (number, cell) in zip(numbers, expected.values) {
                    let wanted = cell.number ?? .nan
                    #expect(number.bitPattern == wanted.bitPattern || number.isNaN && wanted.isNaN)
                }
            }
        }
    }

    static func bytesAgree(_ history: GeneratedHistory, _ row: SourceRow, _ keys: [String?]) -> Bool {
        zip(history.view.joinKeys, keys).allSatisfy { name, key in
            let cell = history.source.columns.firstIndex { $0.name == name }.flatMap { row.cells[$0].keyText }
            return cell.map { Array($0.utf8) } == key.map { Array($0.utf8) } && cell?.isEmpty == false
        }
    }

    @Test(arguments: Array(0..<12) + [GeneratedHistory.estimating])
    func sqlIsTheOracle(seed: UInt64) async throws {
        let history = try GeneratedHistory(seed: seed)
        let sql = try FeatureSQL(view: history.view, source: history.source)
        let setup =
            (SQLDialect.duckdb.preparation + [history.questionTable]
            + sql.statements(events: history.table, questions: "questions", result: "answers")).joined(separator: ";\n")
        let columns = history.view.features.map { SQLText.identifier($0.name) }
        let rows = try await CommandLineEngine().rows(
            "SELECT \(columns.joined(separator: ", ")) FROM answers ORDER BY __row", setup: setup)
        #expect(rows.count == history.questions.count)
        for (row, question) in zip(rows, history.questions) {
            let expected = OracleFeatures.answer(
                history.view, history.source,
                rows: history.rows.filter { Self.bytesAgree(history, $0.row, question.keys) },
                keys: question.keys, at: question.time)
            for (feature, wanted) in zip(history.view.features, expected.values) {
                let found = Self.cell(row[feature.name] ?? .null, feature.type, of: feature.elementType)
                #expect(
                    Self.exactText(found) == Self.exactText(wanted),
                    "\(feature.name) of \(question.keys) at \(question.time), seed \(seed)")
            }
        }
    }

    static let wideValues: [Int128] = {
        var random = SeededGenerator(seed: 7)
        var values: [Int128] = [
            0, 1, -1, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, -(1 << 63), -(1 << 63) - 1, (1 << 64) + 1,
        ]
        for shift in 60..<91 {
            let low = Int128(Int64.random(in: .min...Int64.max, using: &random))
            for value in [(Int128(1) << shift) + low, -(Int128(1) << shift) + low, (Int128(1) << shift) - 1] {
                values.append(value)
            }
        }
        return values
    }()

    @Test
    func wideSumsBecomeTheSameDoubles() async throws {
        let values = Self.wideValues
        let list = values.map { "(\($0)::HUGEINT)" }.joined(separator: ", ")
        let rows = try await CommandLineEngine().rows(
            """
            SELECT bottega_double(v) AS d, bottega_double(v) / 1e6::DOUBLE AS s,
            bottega_deviation(v % 562949953421312, 3 * (v % 562949953421312) * (v % 562949953421312) + 5, 3::HUGEINT, 1e6::DOUBLE) AS e
            FROM (VALUES \(list)) AS t(v)
            """, setup: SQLDialect.duckdb.preparation.joined(separator: ";\n"))
        // Read as JSON: a cast to text of this version prints 2^81 and 2^91 as twice what they are.
        #expect(rows.count == values.count)
        for (row, value) in zip(rows, values) {
            #expect(row["d"]?.doubleValue?.bitPattern == ExactArithmetic.double(value).bitPattern)
            #expect(row["s"]?.doubleValue == ExactArithmetic.sum(value, power: 1e6))
            let part = value % (1 << 49)
            let deviation = ExactArithmetic.standardDeviation(part, squares: 3 * part * part + 5, count: 3, power: 1e6)
            #expect(row["e"]?.doubleValue?.bitPattern == deviation?.bitPattern)
        }
    }
}
