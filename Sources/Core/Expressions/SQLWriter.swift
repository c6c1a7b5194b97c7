public import PlatformCore

extension Expression {
    /// The expression in SQL: int64 as `BIGINT`, float64 as `DOUBLE`, string as `VARCHAR`, bool as `BOOLEAN`, and **moments as
    /// `BIGINT` milliseconds since the epoch**.
    ///
    /// The text is one scalar expression and may stand wherever a column may. Sessions run in UTC; Spark in ANSI mode.
    ///
    /// - Parameters:
    ///   - dialect: the engine; for Flink ask `supports` first.
    ///   - column: SQL for a column by its name, of the type above; a name or something as short.
    public func sql(_ dialect: SQLDialect, column: (String) -> String) -> String {
        let names = Dictionary(uniqueKeysWithValues: columns.map { ($0, column($0)) })
        let writer = SQLWriter(program: program, reals: SQLReals(dialect), names: names)
        let text = writer.result(root)
        precondition(!writer.reals.isTooLong, "ask supports(_:) whether the dialect can say it")
        return text
    }

    /// Whether the dialect can say it: Flink cannot where a value that is read several times would make the text too long.
    public func supports(_ dialect: SQLDialect) -> Bool {
        let writer = SQLWriter(program: program, reals: SQLReals(dialect), names: [:])
        _ = writer.result(root)
        return !writer.reals.isTooLong
    }
}

/// Writes a program as SQL.
struct SQLWriter {
    let program: Program
    let reals: SQLReals
    /// SQL for each column.
    let names: [String: String]

    var dialect: SQLDialect { reals.dialect }

    /// The value with non-finite ones and negative zeros gone.
    func result(_ node: Int) -> String {
        let value = self.value(node)
        return program.nodes[node].type == .real ? reals.positiveZero(value).text : value.text
    }

    /// The value of a node, for reals a finite one.
    func value(_ node: Int) -> SQLValue {
        let raw = self.raw(node)
        return mayBeInfinite(node) ? reals.finite(raw) : raw
    }

    /// What is not finite stays so through these, so it is enough to look at the end of a chain.
    private func mayBeInfinite(_ node: Int) -> Bool {
        guard program.nodes[node].type == .real else { return false }
        return switch program.nodes[node].operation {
        case .addReal, .subtractReal, .multiplyReal, .divideReal, .realFromText, .integerPower, .exponential, .power,
            .squareRoot:
            true
        case .absolute: mayBeInfinite(program.operand(node, 0))
        default: false
        }
    }

    func operand(_ node: Int, _ index: Int) -> SQLValue { value(program.operand(node, index)) }
    private func rawOperand(_ node: Int, _ index: Int) -> SQLValue { raw(program.operand(node, index)) }
    private func operandTexts(_ node: Int) -> [String] { program.operands(of: node).map { value($0).text } }

    func integerConstant(_ node: Int, _ index: Int = 0) -> Int64 {
        guard case .integer(let value) = program.constant(node, index) else { return 0 }
        return value
    }
    func textConstant(_ node: Int, _ index: Int = 0) -> String {
        guard case .text(let value) = program.constant(node, index) else { return "" }
        return value
    }

    func made(_ text: String) -> SQLValue { reals.made(text) }

    func constant(_ value: CellValue, _ type: ValueType) -> SQLValue {
        let text: String
        switch value {
        case .integer(let number): text = SQLReals.integer(number)
        case .double(let number): return reals.constant(number)
        case .bool(let value): text = value ? "TRUE" : "FALSE"
        case .text(let value): text = "CAST(\(reals.literal(value)) AS \(reals.textType))"
        case .null, .list:
            let name =
                switch type {
                case .integer, .time: "BIGINT"
                case .real: "DOUBLE"
                case .bool: "BOOLEAN"
                case .text, .unknown: reals.textType
                }
            text = "CAST(NULL AS \(name))"
        }
        return SQLValue(text, isSimple: true)
    }

    private func raw(_ node: Int) -> SQLValue {
        let step = program.nodes[node]
        switch step.operation {
        case .literal: return constant(program.constant(node), step.type)
        case .column: return SQLValue(names[textConstant(node, 1)] ?? "`unnamed`", isSimple: true)
        case .realFromInteger: return made("CAST(\(operand(node, 0).text) AS DOUBLE)")
        case .addReal: return reals.add(rawOperand(node, 0), rawOperand(node, 1))
        case .subtractReal: return reals.subtract(rawOperand(node, 0), rawOperand(node, 1))
        case .multiplyReal: return reals.multiply(rawOperand(node, 0), rawOperand(node, 1))
        case .divideReal:
            let (left, right) = (rawOperand(node, 0), operand(node, 1))
            return dialect == .spark ? made("try_divide(\(left.text), \(right.text))") : reals.divide(left, right)
        case .squareRoot:
            let root = reals.squareRoot(rawOperand(node, 0))
            return dialect == .duckdb ? made("TRY(\(root.text))") : root
        case .absolute where step.type == .real: return reals.absolute(rawOperand(node, 0))
        case .equal: return made("(\(operand(node, 0).text) = \(operand(node, 1).text))")
        case .less: return made("(\(operand(node, 0).text) < \(operand(node, 1).text))")
        case .lessEqual: return made("(\(operand(node, 0).text) <= \(operand(node, 1).text))")
        case .and: return made("(\(operand(node, 0).text) AND \(operand(node, 1).text))")
        case .or: return made("(\(operand(node, 0).text) OR \(operand(node, 1).text))")
        case .not: return made("(NOT \(operand(node, 0).text))")
        case .isNull: return made("(\(operand(node, 0).text) IS NULL)")
        case .between:
            return made("(\(operand(node, 0).text) BETWEEN \(operand(node, 1).text) AND \(operand(node, 2).text))")
        case .isIn: return isIn(node)
        case .coalesce: return made("COALESCE(\(operandTexts(node).joined(separator: ", ")))")
        case .nullIf:
            let other = operand(node, 1).text
            return reals.bind(operand(node, 0)) {
                made("CASE WHEN \($0.text) = \(other) THEN \(constant(.null, step.type).text) ELSE \($0.text) END")
            }
        case .choose:
            return made(
                "CASE WHEN \(operand(node, 0).text) THEN \(operand(node, 1).text) ELSE \(operand(node, 2).text) END")
        case .least, .greatest: return extreme(node)
        default: return step.type == .text || isTextRead(step.operation) ? text(node) : numberOrTime(node)
        }
    }

    private func isTextRead(_ operation: Operation) -> Bool {
        switch operation {
        case .length, .startsWith, .endsWith, .contains, .hash, .integerFromText, .realFromText: true
        default: false
        }
    }

    private func isIn(_ node: Int) -> SQLValue {
        let type = program.nodes[program.operand(node, 0)].type
        let items = program.constants(of: node).map { constant($0, type).text }.joined(separator: ", ")
        let value = operand(node, 0)
        // A negative zero is in a hash table somewhere else than zero.
        return made("(\(type == .real ? reals.positiveZero(value).text : value.text) IN (\(items)))")
    }

    private func extreme(_ node: Int) -> SQLValue {
        let isLeast = program.nodes[node].operation == .least
        if dialect == .flink {
            // Null if any is null; elsewhere nulls would be passed over.
            return made("\(isLeast ? "LEAST" : "GREATEST")(\(operandTexts(node).joined(separator: ", ")))")
        }
        var result = operand(node, 0)
        for other in program.operands(of: node).dropFirst() {
            let next = value(other)
            result = reals.bind(result) { left in
                reals.bind(next) { right in
                    let (first, second) = isLeast ? ("<=", "<") : (">=", ">")
                    return made(
                        "CASE WHEN \(left.text) \(first) \(right.text) THEN \(left.text) WHEN \(right.text) \(second) \(left.text) THEN \(right.text) END"
                    )
                }
            }
        }
        return result
    }
}
