import Datasets
import Definitions
import PlatformCore
import StoragePorts

/// A seeded generator (SplitMix64): the same history on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Late, duplicate, corrected, tied, null, keyless and window-edge events of extreme sizes, with questions about them.
struct GeneratedHistory {
    /// The last two look alike and are different.
    static let notes = ["n'0", "n'1", "n'2", "", " ", "[\"a\", null]", "\\n\t", "é", "e\u{301}"]
    let definitions: DefinitionSet
    let view: FeatureViewDefinition
    let source: SourceDefinition
    let rows: [LoggedRow]
    let questions: [(keys: [String?], time: Int64)]

    /// Which functions a history's view has.
    enum Functions {
        /// All.
        case all
        /// Those with one value in a cell: what the batch kernel and Flink's batches read.
        case flat
        /// Those that Flink says of a stream.
        case streamed
        /// Estimates of how many values differ, with few registers, so that there are more values than are counted exactly.
        case estimates

        func has(_ function: some StringProtocol, _ column: String) -> Bool {
            switch self {
            case .all: true
            case .flat: column != "shape" && !function.hasPrefix("last_n")
            case .estimates: function == "approx_count_distinct"
            case .streamed:
                column != "shape" && !function.hasPrefix("last_n")
                    && !["mode", "distinct_count", "approx_count_distinct"].contains(function)
            }
        }
    }

    static let allWindows = ["2s", "10s", "1m", "5m"]

    static func yaml(
        inclusive: Bool, timeToLive: String?, lateness: String? = nil, keys: String, functions wanted: Functions = .all,
        windows names: [String] = allWindows
    ) -> String {
        var features = ""
        for window in names {
            features += "  - {name: n_\(window), aggregate: count, window: \(window)}\n"
            for (column, functions) in [
                ("delay", "count sum mean min max last first stddev distinct_count"),
                ("seats", "count sum mean min max last first stddev approx_count_distinct mode last_n"),
                ("held", "sum mean min max last first mode last_n_distinct distinct_count"),
                ("note", "count last first distinct_count approx_count_distinct mode last_n last_n_distinct"),
                ("planned", "count last first distinct_count approx_count_distinct mode last_n_distinct"),
                ("shape", "count last first"),
            ] {
                for function in functions.split(separator: " ") where wanted.has(function, column) {
                    var list = function.hasPrefix("last_n") ? ", n: \(column == "note" ? 2 : 5)" : ""
                    // The longest window counts more exactly than the shorter ones.
                    if wanted == .estimates { list = ", precision: \(window == names.last ? 6 : 4)" }
                    features +=
                        "  - {name: \(column)_\(function)_\(window), aggregate: \(function), column: \(column), window: \(window)\(list)}\n"
                }
            }
        }
        for (numerator, denominator) in [
            ("seats_sum", "delay_sum"), ("delay_min", "n"), ("note_distinct_count", "note_count"),
            ("held_mode", "delay_last"), ("planned_approx_count_distinct", "note_approx_count_distinct"),
        ]
        where wanted == .estimates
            ? numerator.contains("approx")
            : wanted != .streamed
                || !numerator.contains("approx") && !numerator.contains("_distinct_") && !numerator.contains("_mode")
        {
            features +=
                "  - {name: \(numerator)_by_\(denominator), ratio: [\(numerator), \(denominator)], window: [\(names.joined(separator: ", "))]}\n"
        }
        for column in ["delay", "note", "planned"] + (wanted == .all ? ["shape"] : []) {
            features += "  - {name: \(column)_ever, aggregate: last, column: \(column)}\n"
        }
        features += """
              - {name: pressure_sum_10s, aggregate: sum, column: pressure, window: 10s}
              - {name: pressure_max_5m, aggregate: max, column: pressure, window: 5m}
              - {name: tag_last_1m, aggregate: last, column: tag, window: 1m}
              - {name: noon_first_1m, aggregate: first, column: noon, window: 1m}
              - {name: noon_ever, aggregate: last, column: noon}
              - {name: held_n_1m, aggregate: count, window: 1m, where: "held and seats > 3"}
              - {name: held_delay_mean_5m, aggregate: mean, column: delay, window: 5m, where: "held and seats > 3"}
              - {name: held_note_last_1m, aggregate: last, column: note, window: 1m, where: "held and seats > 3"}
              - {name: held_note_first_10s, aggregate: first, column: note, window: 10s, where: "held"}
              - {name: held_delay_last_5m, aggregate: last, column: delay, window: 5m, where: "held"}
              - {name: held_delay_first_5m, aggregate: first, column: delay, window: 5m, where: "tag in ('a', 'no')"}
              - {name: noted_ratio, ratio: [held_delay_last_5m, held_n_1m]}
              - {name: tagged_seats_min_1m, aggregate: min, column: seats, window: 1m, where: "tag in ('a', 'no') or pressure < 9"}

            """
        if wanted == .estimates {
            features += """
                  - {name: planned_exact_5m, aggregate: distinct_count, column: planned, window: 5m}
                  - {name: planned_rough_5m, aggregate: approx_count_distinct, column: planned, window: 5m, precision: 4}
                  - {name: seats_rough_5m, aggregate: approx_count_distinct, column: seats, window: 5m, precision: 4}
                  - {name: planned_doubt, ratio: [planned_rough_5m, planned_exact_5m]}

                """
        }
        if wanted == .all {
            features += """
                  - {name: held_notes_1m, aggregate: last_n, column: note, n: 3, window: 1m, where: "held"}
                  - {name: held_seats_mode_5m, aggregate: mode, column: seats, window: 5m, where: "held or seats > 3"}
                  - {name: held_kinds_1m, aggregate: distinct_count, column: note, window: 1m, where: "not held"}
                  - {name: held_seats_kinds_5m, aggregate: approx_count_distinct, column: seats, window: 5m, where: held}
                  - {name: held_shape_1m, aggregate: last, column: shape, window: 1m, where: held}

                """
        }
        return """
            kind: Entity
            name: thing
            keys: [\(keys)]
            ---
            kind: Source
            name: events
            event_time: happened
            ingest_time: known
            key: [carrier, gate]
            schema:
              - {name: happened, type: timestamp}
              - {name: known, type: timestamp}
              - {name: carrier, type: string}
              - {name: gate, type: int64}
              - {name: delay, type: float64}
              - {name: seats, type: int64}
              - {name: held, type: bool}
              - {name: note, type: string}
              - {name: planned, type: timestamp}
              \(wanted == .all ? "- {name: shape, type: vector, length: 3}" : "")
            ---
            kind: FeatureView
            name: view
            entities: [thing]
            source: events
            inclusive: \(inclusive)
            \(timeToLive.map { "ttl: \($0)" } ?? "")
            \(lateness.map { "lateness: \($0)" } ?? "")
            columns:
              - {name: load, expression: "if(seats > 0, seats % 97, null) * 0.25"}
              - {name: tag, expression: "lower(substring(note, 1, 2))"}
              - {name: noon, expression: "date_trunc('day', planned) + 12h"}
              - {name: pressure, expression: "coalesce(load, -1) + hour(noon - 13h) / (load + 1)", scale: 3}
            features:
            \(features)
            """
    }

    /// The seed of a history with more values than estimates count exactly.
    static let estimating: UInt64 = 100

    /// The history of a seed, of a size that a test can compare.
    init(seed: UInt64, functions: Functions = .all) throws {
        let isMany = seed == Self.estimating
        try self.init(
            seed: seed, rowCount: isMany ? 6000 : 420, questionCount: isMany ? 40 : 150,
            functions: isMany ? .estimates : functions)
    }

    /// - Parameter isOnTime: every event is known when it happens.
    init(
        seed: UInt64, rowCount: Int, questionCount: Int, wild: Bool = true, isOnTime: Bool = false,
        functions: Functions = .all, windows: [String] = allWindows
    ) throws {
        var random = SeededGenerator(seed: seed)
        let twoKeys = seed % 2 == 1
        let text = Self.yaml(
            inclusive: seed % 4 >= 2, timeToLive: seed % 3 == 0 ? "30s" : nil,
            lateness: seed % 5 == 1 ? "1m" : nil,
            keys: twoKeys ? "carrier, gate" : "carrier", functions: functions, windows: windows)
        definitions = try DefinitionCompiler.compile([
            DefinitionFile(path: "generated.yaml", folder: "/", text: text)
        ])
        guard let view = definitions.featureViews[Name(static: "view")] else { preconditionFailure("defined above") }
        self.view = view
        source = definitions.source(of: view)
        let start: Int64 = 1_372_636_800_000
        let span: Int64 = 900_000
        let edges: [Int64] = [0, 2000, 10_000, 60_000, 300_000, 30_000]
        let carriers = ["UA", "DL", "é", "e\u{301}", ""]
        func carrier(_ random: inout SeededGenerator) -> String? {
            let pick = Int.random(in: 0..<20, using: &random)
            return pick == 0 ? nil : pick < 12 ? "UA" : carriers[pick % carriers.count]
        }
        var rows: [LoggedRow] = []
        for index in 0..<rowCount {
            var event = start + Int64.random(in: 0..<span, using: &random)
            if Bool.random(using: &random) { event -= event % 1000 }
            // A tie, or exactly one window before or after another event.
            if let other = rows.randomElement(using: &random), Int.random(in: 0..<3, using: &random) == 0 {
                event = other.row.eventTime.milliseconds + (edges.randomElement(using: &random) ?? 0)
            }
            var late: Int64 =
                switch Int.random(in: 0..<20, using: &random) {
                case 0..<9: 0
                case 9..<14: Int64.random(in: 1...3000, using: &random)
                case 14..<17: Int64.random(in: 1...120_000, using: &random)
                case 17: Int64.random(in: 1...900_000, using: &random)
                case 18: -Int64.random(in: 1...5000, using: &random)
                default: 60_000
                }
            if isOnTime { late = min(late, 0) }
            var cells: [CellValue] = [
                .integer(event), .integer(event + late), carrier(&random).map(CellValue.text) ?? .null,
                .integer(Int64.random(in: 0..<2, using: &random)),
                Self.real(&random, wild: wild), Self.whole(&random, wild: wild),
                Int.random(in: 0..<5, using: &random) == 0 ? .null : .bool(Bool.random(using: &random)),
                Int.random(in: 0..<4, using: &random) == 0
                    ? .null : .text(Self.notes[Int.random(in: 0..<9, using: &random)]),
                Int.random(in: 0..<4, using: &random) == 0 ? .null : .integer(event + 5),
                Int.random(in: 0..<4, using: &random) == 0 ? .null : Self.shape(&random),
            ]
            // A duplicate, or a correction of an earlier row: the same keys and event time, another value.
            if let other = rows.randomElement(using: &random), index % 9 == 0 {
                let value = cells[4]
                cells = other.row.cells
                if index % 2 == 0 { cells[4] = value }
            }
            guard case .integer(let happened) = cells[0], case .integer(let known) = cells[1] else { continue }
            rows.append(
                LoggedRow(
                    row: SourceRow(
                        eventTime: EventTime(milliseconds: happened), ingestTime: EventTime(milliseconds: known),
                        cells: cells),
                    sequence: UInt64(index), whole: view.row(cells)))
        }
        self.rows = rows
        var questions: [(keys: [String?], time: Int64)] = []
        for _ in 0..<questionCount {
            var time = start + Int64.random(in: 0..<(span + 400_000), using: &random)
            if let row = rows.randomElement(using: &random), Int.random(in: 0..<3, using: &random) > 0 {
                let from = Bool.random(using: &random) ? row.row.eventTime : row.row.ingestTime
                time =
                    from.milliseconds + (edges.randomElement(using: &random) ?? 0)
                    + Int64.random(in: -1...1, using: &random)
            }
            let unknown = Int.random(in: 0..<12, using: &random) == 0
            var keys: [String?] = [unknown ? "XX" : carrier(&random)]
            if twoKeys { keys.append(String(Int.random(in: 0..<2, using: &random))) }
            questions.append((keys, time))
        }
        self.questions = questions
    }

    private static func shape(_ random: inout SeededGenerator) -> CellValue {
        let odd: [Float] = [0, -0.0, 0.1, .leastNonzeroMagnitude, .greatestFiniteMagnitude, -1e-20]
        return .list(
            (0..<3).map { _ in
                let number =
                    Bool.random(using: &random)
                    ? Float.random(in: -1...1, using: &random) : odd.randomElement(using: &random) ?? 0
                return .double(Double(number))
            })
    }

    private static func real(_ random: inout SeededGenerator, wild: Bool) -> CellValue {
        switch Int.random(in: 0..<(wild ? 14 : 8), using: &random) {
        case 0: .null
        case 1: .double(-0.0)
        case 2: .double(0)
        case 3: .double(Double(Int.random(in: -9...9, using: &random)) * 0.0000005)
        case 4..<8: .double(Double.random(in: -500...500, using: &random))
        case 8: .double(Int.random(in: 0..<8, using: &random) == 0 ? 1e15 : 12.5)
        case 9: .double(9.1e12 * Double.random(in: -1...1, using: &random))
        case 10: .double(9_223_372_036_854.775)
        case 11: .double(562_949_953.421311)
        case 12: .double(Int.random(in: 0..<8, using: &random) == 0 ? 562_949_953.421312 : 1)
        default: .double(Double.random(in: -500_000_000...500_000_000, using: &random))
        }
    }

    private static func whole(_ random: inout SeededGenerator, wild: Bool) -> CellValue {
        switch Int.random(in: 0..<(wild ? 12 : 6), using: &random) {
        case 0: .null
        case 1..<6: .integer(Int64.random(in: -300...300, using: &random))
        case 6: .integer(.max)
        case 7: .integer(Int.random(in: 0..<8, using: &random) == 0 ? .min : .min + 1)
        case 8: .integer((1 << 49) - Int64.random(in: 0...1, using: &random))
        case 9: .integer(1 - (1 << 49))
        default: .integer(Int64.random(in: .min...Int64.max, using: &random))
        }
    }

    /// The history as a SQL table expression.
    var table: String {
        func text(_ cell: CellValue, _ type: ColumnType) -> String {
            switch cell {
            case .null: "NULL"
            case .integer(let value): type == .timestamp ? "make_timestamptz(\(value * 1000))" : "'\(value)'::BIGINT"
            case .double(let value): "'\(value)'::DOUBLE"
            case .bool(let value): value ? "true" : "false"
            case .text(let value): SQLText.literal(value)
            case .list(let values): "[\(values.map { text($0, type) }.joined(separator: ", "))]::FLOAT[]"
            }
        }
        let lines = rows.map { logged in
            let cells = zip(logged.row.cells, source.columns).map { text($0, $1.type) }
            return
                "(\((cells + ["\(logged.row.eventTime.milliseconds)", "\(logged.row.ingestTime.milliseconds)", "\(logged.sequence)"]).joined(separator: ",")))"
        }
        let names = source.columns.map(\.name) + ["__event_time", "__ingest_time", "__sequence"]
        return "(VALUES \(lines.joined(separator: ",\n"))) AS history(\(names.joined(separator: ", ")))"
    }

    /// Statements that make the table `questions`.
    var questionTable: String {
        let lines = questions.enumerated().map { index, question in
            let keys = question.keys.map { $0.map(SQLText.literal) ?? "NULL" }
            return "(\(index)::BIGINT, \(question.time)::BIGINT, \(keys.joined(separator: ", ")))"
        }
        let names = ["__row", "__time"] + view.joinKeys
        return
            "CREATE TEMP TABLE questions AS SELECT * FROM (VALUES \(lines.joined(separator: ",\n"))) AS q(\(names.joined(separator: ", ")))"
    }
}
