import PlatformCore

extension SQLWriter {
    // MARK: Numbers and time

    func numberOrTime(_ node: Int) -> SQLValue {
        let step = program.nodes[node]
        switch step.operation {
        case .addInteger, .subtractInteger, .multiplyInteger: return checked(node)
        case .quotient, .remainder: return quotient(node)
        case .absolute:
            if dialect == .duckdb { return made("TRY_CAST(ABS(CAST(\(operand(node, 0).text) AS HUGEINT)) AS BIGINT)") }
            return reals.bind(operand(node, 0)) {
                made("CASE WHEN \($0.text) <> \(SQLReals.integer(.min)) THEN ABS(\($0.text)) END")
            }
        case .sign:
            func number(_ value: Int64) -> String { SQLReals.integer(value) }
            return reals.bind(operand(node, 0)) {
                made(
                    "CASE WHEN \($0.text) > 0 THEN \(number(1)) WHEN \($0.text) < 0 THEN \(number(-1)) WHEN \($0.text) = 0 THEN \(number(0)) END"
                )
            }
        case .floor: return whole(operand(node, 0), "FLOOR")
        case .ceiling: return whole(operand(node, 0), "CEIL")
        case .round:
            let power = reals.constant(program.constant(node).number ?? 1)
            return reals.bind(operand(node, 0)) { value in
                let scaled = reals.multiply(value, power)
                let rounded = reals.divide(made("ROUND(\(scaled.text))"), power)
                return made(
                    "CASE WHEN \(reals.absolute(scaled).text) < \(reals.constant(0x1p52).text) THEN \(rounded.text) ELSE \(value.text) END"
                )
            }
        case .logarithm, .logarithm10:
            return reals.bind(operand(node, 0)) { value in
                let result = reals.logarithm(value)
                let scaled =
                    step.operation == .logarithm
                    ? result : reals.multiply(result, reals.constant(Natural.inverseLogarithmOf10))
                return made("CASE WHEN \(value.text) > 0 THEN \(scaled.text) END")
            }
        case .exponential: return reals.bind(operand(node, 0), exponential)
        case .integerPower: return integerPower(operand(node, 0), integerConstant(node))
        case .power:
            return reals.bind(operand(node, 0)) { base in
                reals.bind(operand(node, 1)) { exponent in
                    let product = reals.finite(reals.multiply(exponent, reals.logarithm(base)))
                    let power = reals.bind(product, exponential)
                    return made(
                        "CASE WHEN \(base.text) > 0 THEN \(power.text) WHEN \(base.text) = 0 AND \(exponent.text) > 0 THEN \(reals.constant(0).text) END"
                    )
                }
            }
        case .haversine: return haversine(node)
        case .bucketize:
            return reals.bind(operand(node, 0)) { value in
                var text = "CASE"
                for (bucket, edge) in program.constants(of: node).enumerated() {
                    text +=
                        " WHEN \(value.text) < \(constant(edge, .real).text) THEN \(SQLReals.integer(Int64(bucket)))"
                }
                let count = Int64(program.nodes[node].constantCount)
                return made("\(text) WHEN \(value.text) IS NOT NULL THEN \(SQLReals.integer(count)) END")
            }
        case .integerFromReal:
            if dialect == .duckdb { return made("TRY_CAST(trunc(\(operand(node, 0).text)) AS BIGINT)") }
            return reals.bind(operand(node, 0)) {
                made(
                    "CASE WHEN \($0.text) >= \(reals.constant(-0x1p63).text) AND \($0.text) < \(reals.constant(0x1p63).text) THEN CAST(\($0.text) AS BIGINT) END"
                )
            }
        case .integerFromBool:
            if dialect != .flink { return made("CAST(\(operand(node, 0).text) AS BIGINT)") }
            return made(
                "CASE \(operand(node, 0).text) WHEN TRUE THEN \(SQLReals.integer(1)) WHEN FALSE THEN \(SQLReals.integer(0)) END"
            )
        case .boolFromInteger: return made("(\(operand(node, 0).text) <> 0)")
        case .integerFromTime: return operand(node, 0)
        case .timeFromInteger: return accepted(operand(node, 0))
        default: return time(node)
        }
    }

    /// Sums and products of 64-bit integers; null when they do not fit.
    private func checked(_ node: Int) -> SQLValue {
        let operation = program.nodes[node].operation
        let (left, right) = (operand(node, 0).text, operand(node, 1).text)
        let symbol = operation == .addInteger ? "+" : operation == .subtractInteger ? "-" : "*"
        let result: SQLValue
        switch dialect {
        case .duckdb:
            result = made("TRY_CAST((CAST(\(left) AS HUGEINT) \(symbol) CAST(\(right) AS HUGEINT)) AS BIGINT)")
        case .spark:
            let name = operation == .addInteger ? "add" : operation == .subtractInteger ? "subtract" : "multiply"
            result = made("try_\(name)(\(left), \(right))")
        case .flink:
            let wide = "CAST(\(left) AS DECIMAL(19, 0)) \(symbol) CAST(\(right) AS DECIMAL(19, 0))"
            result = made("TRY_CAST(CAST((\(wide)) AS STRING) AS BIGINT)")
        }
        return program.nodes[node].type == .time ? accepted(result) : result
    }

    /// The moment where it is accepted, else null.
    private func accepted(_ value: SQLValue) -> SQLValue {
        let range =
            "BETWEEN \(SQLReals.integer(EventTime.earliestAccepted.milliseconds)) AND \(SQLReals.integer(EventTime.latestAccepted.milliseconds - 1))"
        return reals.bind(value) { made("CASE WHEN \($0.text) \(range) THEN \($0.text) END") }
    }

    private func quotient(_ node: Int) -> SQLValue {
        let isQuotient = program.nodes[node].operation == .quotient
        if dialect == .duckdb {
            let (left, right) = (operand(node, 0).text, operand(node, 1).text)
            return made(
                "TRY_CAST((CAST(\(left) AS HUGEINT) \(isQuotient ? "//" : "%") CAST(\(right) AS HUGEINT)) AS BIGINT)")
        }
        return reals.bind(operand(node, 0)) { left in
            reals.bind(operand(node, 1)) { right in
                guard isQuotient else {
                    return made("CASE WHEN \(right.text) <> 0 THEN \(left.text) % \(right.text) END")
                }
                let division = dialect == .spark ? "div" : "/"
                return made(
                    "CASE WHEN \(right.text) <> 0 AND NOT (\(right.text) = -1 AND \(left.text) = \(SQLReals.integer(.min))) THEN \(left.text) \(division) \(right.text) END"
                )
            }
        }
    }

    private func whole(_ value: SQLValue, _ function: String) -> SQLValue {
        guard dialect == .spark else { return made("\(function)(\(value.text))") }
        // Spark's result is a BIGINT.
        return reals.bind(value) {
            made(
                "CASE WHEN ABS(\($0.text)) < \(reals.constant(0x1p52).text) THEN CAST(\(function)(\($0.text)) AS DOUBLE) ELSE \($0.text) END"
            )
        }
    }

    private func exponential(_ value: SQLValue) -> SQLValue {
        made(
            "CASE WHEN \(value.text) < \(reals.constant(-745).text) THEN \(reals.constant(0).text) WHEN \(value.text) <= \(reals.constant(710).text) THEN \(reals.exponential(value).text) END"
        )
    }

    private func integerPower(_ base: SQLValue, _ exponent: Int64) -> SQLValue {
        reals.bind(base) { base in
            guard exponent != 0 else {
                return made("CASE WHEN \(base.text) IS NOT NULL THEN \(reals.constant(1).text) END")
            }
            var result = base
            for _ in 1..<max(2, abs(exponent)) where abs(exponent) > 1 { result = reals.multiply(result, base) }
            guard exponent < 0 else { return result }
            if abs(exponent) > 1 { result = reals.finite(result) }
            let one = reals.constant(1)
            return dialect == .spark ? made("try_divide(\(one.text), \(result.text))") : reals.divide(one, result)
        }
    }

    private func haversine(_ node: Int) -> SQLValue {
        reals.bind(operand(node, 0)) { latitude1 in
            reals.bind(operand(node, 1)) { longitude1 in
                reals.bind(operand(node, 2)) { latitude2 in
                    reals.bind(operand(node, 3)) { longitude2 in
                        let bounds = [(latitude1, 90.0), (longitude1, 180), (latitude2, 90), (longitude2, 180)].map {
                            "ABS(\($0.0.text)) <= \(reals.constant($0.1).text)"
                        }
                        let distance = reals.haversine(latitude1, longitude1, latitude2, longitude2)
                        return made("CASE WHEN \(bounds.joined(separator: " AND ")) THEN \(distance.text) END")
                    }
                }
            }
        }
    }

    // MARK: Time

    /// Whole `unit`s since 1900, which is not negative.
    private func units(_ time: SQLValue, _ unit: Int64) -> String {
        let shifted = "(\(time.text) + \(SQLReals.integer(Calendar.shift)))"
        return switch dialect {
        case .duckdb: "(\(shifted) // \(SQLReals.integer(unit)))"
        case .spark: "(\(shifted) div \(SQLReals.integer(unit)))"
        case .flink: "(\(shifted) / \(SQLReals.integer(unit)))"
        }
    }

    private func startOf(_ time: SQLValue, _ unit: Int64) -> String {
        "(\(units(time, unit)) * \(SQLReals.integer(unit)) - \(SQLReals.integer(Calendar.shift)))"
    }

    /// A calendar field of the engine itself.
    private func field(_ time: SQLValue, _ duckdb: String, _ spark: String, _ flink: String) -> String {
        switch dialect {
        case .duckdb: "CAST(\(duckdb)(epoch_ms(\(time.text))) AS BIGINT)"
        case .spark: "CAST(\(spark)(timestamp_millis(\(time.text))) AS BIGINT)"
        case .flink: "CAST(EXTRACT(\(flink) FROM TO_TIMESTAMP_LTZ(\(time.text), 3)) AS BIGINT)"
        }
    }

    private func time(_ node: Int) -> SQLValue {
        let time = operand(node, 0)
        switch program.nodes[node].operation {
        case .year: return made(field(time, "year", "year", "YEAR"))
        case .month: return made(field(time, "month", "month", "MONTH"))
        case .day: return made(field(time, "day", "day", "DAY"))
        case .dayOfYear: return made(field(time, "dayofyear", "dayofyear", "DOY"))
        case .week: return made(field(time, "weekofyear", "weekofyear", "WEEK"))
        case .dayOfWeek: return made("(\(units(time, Calendar.day)) % 7 + 1)")
        case .hour: return made("(\(units(time, 3_600_000)) % 24)")
        case .minute: return made("(\(units(time, 60_000)) % 60)")
        case .second: return made("(\(units(time, 1000)) % 60)")
        case .truncate:
            let unit = integerConstant(node, 1)
            if unit > 0 { return made(startOf(time, unit)) }
            return reals.bind(time) { time in
                let days =
                    textConstant(node) == "year"
                    ? field(time, "dayofyear", "dayofyear", "DOY") : field(time, "day", "day", "DAY")
                return made(
                    "(\(startOf(time, Calendar.day)) - (\(days) - 1) * \(SQLReals.integer(Calendar.day)))")
            }
        default: preconditionFailure("\(program.nodes[node].operation) has no SQL")
        }
    }

    // MARK: Text

    func text(_ node: Int) -> SQLValue {
        let first = operand(node, 0)
        func part(_ index: Int = 0) -> String { reals.literal(textConstant(node, index)) }
        switch program.nodes[node].operation {
        case .lower:
            return made("translate(\(first.text), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')")
        case .upper:
            return made("translate(\(first.text), 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')")
        case .trim:
            return made(dialect == .duckdb ? "trim(\(first.text), ' ')" : "TRIM(BOTH ' ' FROM \(first.text))")
        case .length: return made("CAST(\(dialect == .duckdb ? "length" : "CHAR_LENGTH")(\(first.text)) AS BIGINT)")
        case .substring:
            let count = program.nodes[node].constantCount > 1 ? ", \(integerConstant(node, 1))" : ""
            return made("substring(\(first.text), \(integerConstant(node))\(count))")
        case .concat:
            let pieces = program.operands(of: node).map { value($0).text }
            return made("(\(pieces.joined(separator: " || ")))")
        case .replace: return made("replace(\(first.text), \(part()), \(part(1)))")
        case .startsWith:
            return made("\(dialect == .duckdb ? "starts_with" : "startswith")(\(first.text), \(part()))")
        case .endsWith: return made("\(dialect == .duckdb ? "ends_with" : "endswith")(\(first.text), \(part()))")
        case .contains:
            return made(
                dialect == .flink ? "(POSITION(\(part()) IN \(first.text)) > 0)" : "contains(\(first.text), \(part()))")
        case .splitPart:
            let number = integerConstant(node, 1)
            guard dialect == .flink else { return made("split_part(\(first.text), \(part()), \(number))") }
            return made(
                "COALESCE(SPLIT_INDEX(\(first.text), \(part()), \(number - 1)), CASE WHEN \(first.text) IS NOT NULL THEN '' END)"
            )
        case .hash: return hash(first, integerConstant(node))
        case .integerFromText: return made("\(tryCast)(\(extract(first, "^[+-]?[0-9]{1,19}\\z")) AS BIGINT)")
        case .realFromText:
            let pattern = "^[+-]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][+-]?[0-9]{1,3})?\\z"
            return made("\(tryCast)(\(extract(first, pattern)) AS DOUBLE)")
        case .textFromInteger: return made("CAST(\(first.text) AS \(reals.textType))")
        case .textFromBool: return made("CASE \(first.text) WHEN TRUE THEN 'true' WHEN FALSE THEN 'false' END")
        default: preconditionFailure("\(program.nodes[node].operation) has no SQL")
        }
    }

    private var tryCast: String { "TRY_CAST" }

    private func extract(_ text: SQLValue, _ pattern: String) -> String {
        dialect == .duckdb
            ? "regexp_extract(\(text.text), \(reals.literal(pattern)))"
            : "regexp_extract(\(text.text), \(reals.literal(pattern)), 0)"
    }

    /// The first eight hexadecimal digits of the MD5.
    private func hash(_ text: SQLValue, _ buckets: Int64) -> SQLValue {
        let modulus = SQLReals.integer(buckets)
        switch dialect {
        case .duckdb: return made("(CAST('0x' || substring(md5(\(text.text)), 1, 8) AS BIGINT) % \(modulus))")
        case .spark: return made("(CAST(conv(substring(md5(\(text.text)), 1, 8), 16, 10) AS BIGINT) % \(modulus))")
        case .flink:
            let digits = (0..<8).map { index in
                let digit = "POSITION(SUBSTRING(MD5(\(text.text)) FROM \(index + 1) FOR 1) IN '123456789abcdef')"
                return "\(digit) * \(SQLReals.integer(1 << Int64(4 * (7 - index))))"
            }
            return made("MOD(\(digits.joined(separator: " + ")), \(modulus))")
        }
    }
}
