#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import Definitions
import Expressions
import PlatformCore
import StoragePorts

@testable import ExperimentTracking
@testable import FeastAPI
@testable import ModelRegistry

/// What people write.
extension FuzzTarget {
    static let texts: [FuzzTarget] = [expression, definitions, settings, search, mlmodel, times]

    private static let columns: [ExpressionColumn] = [
        ExpressionColumn(name: "i", type: .int64), ExpressionColumn(name: "x", type: .float64),
        ExpressionColumn(name: "s", type: .string), ExpressionColumn(name: "b", type: .bool),
        ExpressionColumn(name: "t", type: .timestamp),
    ]

    private static let rows: [[CellValue]] = [
        [], [.null, .null, .null, .null, .null],
        [.integer(.min), .double(-1e308), .text(""), .bool(false), .integer(.min)],
        [.integer(.max), .double(5e300), .text("e\u{301}\u{1F600}"), .bool(true), .integer(.max)],
        [.text("1"), .text("x"), .integer(3), .list([.null]), .bool(true)],
    ]

    private static let expression = FuzzTarget(
        "expression", byteCountMax: 512,
        words: Expression.functions.map { "\($0.name)(" } + [
            " and ", " or ", "not ", " is null", " in (", " between ", "case when ", " then ", " else ", " end",
            "cast(", " as int64)", " as float64)", " as string)", " as timestamp)", "//", "||", "'", "\"", "`", "7d",
            "9223372036854775807", "1e308", "'month'", "i", "x", "s", "b", "t",
        ],
        seeds: [
            .text("case when i > 3 and s in ('a', 'b') then x / 2.5 else -i end"),
            .text("cast(s as int64) // i + length(s) % 7"), .text("t between t and t + 7d or b is null"),
        ]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        guard let expression = try? Expression.compile(text, columns: columns) else { return }
        for row in rows { _ = expression.evaluate(row) }
        for dialect in SQLDialect.allCases where expression.supports(dialect) { _ = expression.sql(dialect) { $0 } }
    }

    private static let definitions = FuzzTarget(
        "definitions", byteCountMax: 2048,
        words: [
            "kind: ", "Source", "FeatureView", "FeatureService", "Entity", "TrainingSet", "Model", "Monitor", "name: ",
            "description: ", "event_time: ", "key: [", "schema:\n  - {", "type: timestamp", "aggregate: mean",
            "window: ", "24h", "entities: [", "source: ", "features:\n  - {", "expectations:", "range: [",
            "matches: \"",
            "---\n", "&a ", "*a", "<<: ", "!!binary ", "? ", "|-\n", "~", ".nan", "99999999999999999999d",
            "expression: ",
        ],
        seeds: [
            .text(
                """
                kind: Entity
                name: plane
                join_keys: [tail]
                ---
                kind: Source
                name: departures
                event_time: at
                key: [id]
                schema:
                  - {name: id, type: string, nullable: false}
                  - {name: at, type: timestamp, nullable: false}
                  - {name: tail, type: string}
                  - {name: delay, type: int64, unit: minutes}
                expectations:
                  - {name: form, column: tail, matches: "N[0-9A-Z]{1,5}"}
                  - {name: plausible, column: delay, range: [-60, 1440]}
                ---
                kind: FeatureView
                name: delays
                entities: [plane]
                source: departures
                features:
                  - {name: mean_24h, aggregate: mean, column: delay, window: 24h}
                  - {name: twice, expression: "mean_24h * 2"}

                """)
        ]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        _ = try? DefinitionCompiler.compile([DefinitionFile(path: "a.yaml", folder: "/", text: text)])
    }

    private static let settings = FuzzTarget(
        "settings", byteCountMax: 1024,
        words: [
            "gateway:", "  port: ", "data.directory: ", "log:", "&a ", "*a", "<<: ", "!!binary ", "? ", "|-\n", "~",
        ],
        seeds: [
            .text("gateway:\n  port: 8000\n  token: 'a'\ndata.directory: /tmp/a\nlog: {level: debug}\n"),
            .text("# nothing\n"),
        ]
    ) { bytes in
        let keys = ["data.directory", "gateway.host", "gateway.port", "gateway.token", "log.level"]
        let text = String(decoding: bytes, as: UTF8.self)
        guard let values = try? SettingsText.values(of: text, path: "a.yaml", keys: keys) else { return }
        precondition(Set(keys).isSuperset(of: values.keys), "a value has no key")
    }

    private static let search = FuzzTarget(
        "search", byteCountMax: 512,
        words: [
            "metrics.", "params.", "tags.", "attributes.", "dataset.", " AND ", " = ", " != ", " >= ", " LIKE ",
            " ILIKE ",
            " IN (", " NOT IN (", " IS NULL", "'", "\"", "`", "1e400", " DESC", " ASC", "run_id", "start_time", "name",
            "version_number", "source_path", "creation_timestamp", "span.attributes.", "feedback.", "issue.id",
            "metadata.", "execution_time",
        ],
        seeds: [
            .text("metrics.auc > 0.9 AND params.\"a b\" LIKE 'x%' and tags.`k` != \"v\""),
            .text("name = 'a' AND tags.t IN ('1','2')"), .text("metrics.auc DESC"),
        ]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        let order = try? SearchOrder(text)
        _ = try? RegistryQuery(.versions, filter: .all, orders: order.map { [$0] } ?? [])
        guard let filter = try? SearchFilter(text) else { return }
        for kind in [RegistryQuery.Kind.models, .versions] { _ = try? RegistryQuery(kind, filter: filter, orders: []) }
        for orders in [[], order.map { [$0] } ?? []] {
            _ = try? RunQuery(experiments: [1, 2], filter: filter, orders: orders, view: .all)
            _ = try? TraceQuery(experiments: [1], filter: filter, orders: orders)
            _ = try? ExperimentQuery(filter: filter, orders: orders, view: .active)
            _ = try? LoggedModelQuery(
                experiments: [1], filter: filter, datasets: [], orders: orders.map { LoggedModelOrder($0) })
        }
    }

    private static let mlmodel = FuzzTarget(
        "mlmodel", byteCountMax: 2048,
        words: ["flavors:", "signature:", "inputs:", "outputs:", "[{\"type\": \"double\"", "&a ", "*a"],
        seeds: [
            .text(
                """
                flavors:
                  xgboost: {model_class: xgboost.sklearn.XGBClassifier, data: model.ubj}
                signature:
                  inputs: '[{"type": "double", "name": "a"}, {"type": "long", "name": "b", "required": false}]'
                  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}]'

                """)
        ]
    ) { bytes in _ = try? MLmodelFile(bytes) }

    private static let times = FuzzTarget(
        "times", byteCountMax: 64, words: ["T", "Z", "+00:00", "-", "292277026596"],
        seeds: [.text("2024-02-29T23:59:60.123456Z"), .text("1969-12-31 00:00:00+14:00"), .text("90d"), .text("1e3")]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        if let time = EventTime(text: text) { _ = "\(time)" }
        _ = FeastTime.moment(text)
        _ = TimeSpan(text: text)
        _ = Name(text)
    }
}

#endif
