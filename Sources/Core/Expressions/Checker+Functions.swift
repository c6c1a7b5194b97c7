import PlatformCore

extension Checker {
    /// Every function with what it takes, for messages and documentation.
    static let signatures: [(name: String, usage: String)] = [
        ("abs", "abs(x)"), ("bucketize", "bucketize(x, [b0, b1, …])"), ("ceil", "ceil(x)"),
        ("clip", "clip(x, low, high)"), ("coalesce", "coalesce(a, b, …)"), ("concat", "concat(a, b, …)"),
        ("contains", "contains(s, 'text')"), ("date_trunc", "date_trunc('month', t)"), ("day", "day(t)"),
        ("day_of_week", "day_of_week(t)"), ("day_of_year", "day_of_year(t)"),
        ("days_between", "days_between(from, to)"),
        ("ends_with", "ends_with(s, 'text')"), ("epoch_ms", "epoch_ms(t)"), ("exp", "exp(x)"), ("floor", "floor(x)"),
        ("greatest", "greatest(a, b, …)"), ("hash", "hash(x, buckets)"),
        ("haversine_km", "haversine_km(lat1, lon1, lat2, lon2)"), ("hour", "hour(t)"),
        ("hours_between", "hours_between(from, to)"), ("if", "if(condition, a, b)"), ("least", "least(a, b, …)"),
        ("length", "length(s)"), ("ln", "ln(x)"), ("log10", "log10(x)"), ("lower", "lower(s)"),
        ("minute", "minute(t)"), ("minutes_between", "minutes_between(from, to)"), ("month", "month(t)"),
        ("nullif", "nullif(a, b)"), ("pow", "pow(x, y)"), ("replace", "replace(s, 'from', 'to')"),
        ("round", "round(x, digits)"), ("second", "second(t)"), ("seconds_between", "seconds_between(from, to)"),
        ("sign", "sign(x)"), ("split_part", "split_part(s, ',', 1)"), ("sqrt", "sqrt(x)"),
        ("starts_with", "starts_with(s, 'text')"), ("substring", "substring(s, start, count)"),
        ("timestamp", "timestamp('2024-01-31T09:00:00Z')"), ("trim", "trim(s)"), ("upper", "upper(s)"),
        ("week", "week(t)"), ("year", "year(t)"),
    ]

    /// The arguments of one call, asked for one by one.
    private struct Call {
        let name: String
        let arguments: [SyntaxNode]
        let offset: Int

        func fault(_ message: String) -> ExpressionFault {
            let usage = Checker.signatures.first { $0.name == name }?.usage ?? name
            return ExpressionFault(offset, "\(message); it is written \(usage)")
        }
        func expect(_ counts: ClosedRange<Int>) throws(ExpressionFault) {
            guard counts.contains(arguments.count) else {
                let wanted =
                    counts.upperBound == Int.max
                    ? "at least \(counts.lowerBound)"
                    : counts.count == 1 ? "\(counts.lowerBound)" : "\(counts.lowerBound) or \(counts.upperBound)"
                throw fault("'\(name)' takes \(wanted) arguments, not \(arguments.count)")
            }
        }
    }

    mutating func call(_ name: String, _ arguments: [SyntaxNode], _ offset: Int) throws(ExpressionFault) -> Int {
        let call = Call(name: name, arguments: arguments, offset: offset)
        switch name {
        case "abs", "sign", "floor", "ceil", "round", "sqrt", "ln", "log10", "exp", "pow", "least", "greatest", "clip",
            "bucketize", "haversine_km", "hash":
            return try number(call)
        case "lower", "upper", "trim", "length", "substring", "concat", "replace", "starts_with", "ends_with",
            "contains",
            "split_part":
            return try text(call)
        case "year", "month", "day", "hour", "minute", "second", "day_of_week", "day_of_year", "week", "date_trunc",
            "minutes_between", "seconds_between", "hours_between", "days_between", "epoch_ms", "timestamp":
            return try time(call)
        case "coalesce":
            try call.expect(1...Int.max)
            let nodes = try unified(try all(call), "'coalesce'", at: offset)
            return add(.coalesce, type(nodes[0]), nodes, canBeNull: nodes.allSatisfy { nullable[$0] })
        case "nullif":
            try call.expect(2...2)
            let nodes = try unified(try all(call), "'nullif'", at: offset)
            return add(.nullIf, type(nodes[0]), nodes, canBeNull: true)
        case "if":
            try call.expect(3...3)
            return try choose(arguments[0], arguments[1], arguments[2], offset)
        default:
            let near = nearestName(to: name, among: Self.signatures.map(\.name))
            throw ExpressionFault(
                offset, "no function is called '\(name.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
    }

    // MARK: Arguments

    private mutating func all(_ call: Call) throws(ExpressionFault) -> [Int] {
        var nodes: [Int] = []
        for argument in call.arguments { nodes.append(try check(argument)) }
        return nodes
    }

    private mutating func argument(_ call: Call, _ index: Int, _ type: ValueType) throws(ExpressionFault) -> Int {
        let node = try check(call.arguments[index])
        guard let adapted = adapted(node, to: type) else {
            throw ExpressionFault(
                call.arguments[index].offset,
                "argument \(index + 1) of '\(call.name)' must be \(type.name), and this is \(self.type(node).name)")
        }
        return adapted
    }

    private mutating func constant(_ call: Call, _ index: Int, _ type: ValueType, _ what: String)
        throws(ExpressionFault) -> CellValue
    {
        let node = try argument(call, index, type)
        guard program.isLiteral(node), program.constant(node) != .null else {
            throw ExpressionFault(call.arguments[index].offset, "\(what) of '\(call.name)' must be a constant")
        }
        return program.constant(node)
    }

    private mutating func integer(_ call: Call, _ index: Int, _ what: String, _ range: ClosedRange<Int64>)
        throws(ExpressionFault) -> CellValue
    {
        let value = try constant(call, index, .integer, what)
        guard case .integer(let number) = value, range.contains(number) else {
            throw ExpressionFault(
                call.arguments[index].offset,
                "\(what) of '\(call.name)' must be from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    private mutating func text(_ call: Call, _ index: Int, _ what: String, mayBeEmpty: Bool = false)
        throws(ExpressionFault) -> CellValue
    {
        let value = try constant(call, index, .text, what)
        guard mayBeEmpty || value != .text("") else {
            throw ExpressionFault(call.arguments[index].offset, "\(what) of '\(call.name)' must not be empty")
        }
        return value
    }

    /// A number, int64 staying int64.
    private mutating func anyNumber(_ call: Call, _ index: Int) throws(ExpressionFault) -> Int {
        let node = try check(call.arguments[index])
        return type(node) == .integer ? node : try need(node, .real, "what '\(call.name)' reads", at: call.offset)
    }

    // MARK: Numbers

    private mutating func number(_ call: Call) throws(ExpressionFault) -> Int {
        switch call.name {
        case "abs", "sign":
            try call.expect(1...1)
            let node = try anyNumber(call, 0)
            if call.name == "sign" { return add(.sign, .integer, [node]) }
            return add(.absolute, type(node), [node], canBeNull: nullable[node] || type(node) == .integer)
        case "floor", "ceil":
            try call.expect(1...1)
            return add(call.name == "floor" ? .floor : .ceiling, .real, [try argument(call, 0, .real)])
        case "round":
            try call.expect(1...2)
            let value = try argument(call, 0, .real)
            var power = 1.0
            if call.arguments.count == 2,
                case .integer(let digits) = try integer(call, 1, "the number of digits", 0...9)
            {
                for _ in 0..<digits { power *= 10 }
            }
            return add(.round, .real, [value], [.double(power)])
        case "sqrt", "ln", "log10", "exp":
            try call.expect(1...1)
            let operation: Operation =
                switch call.name {
                case "sqrt": .squareRoot
                case "ln": .logarithm
                case "log10": .logarithm10
                default: .exponential
                }
            return add(operation, .real, [try argument(call, 0, .real)], canBeNull: true)
        case "pow": return try power(call)
        case "least", "greatest":
            try call.expect(1...Int.max)
            let nodes = try unified(try all(call), "'\(call.name)'", at: call.offset)
            guard type(nodes[0]) != .bool else { throw call.fault("truth values have no order") }
            return add(call.name == "least" ? .least : .greatest, type(nodes[0]), nodes)
        case "clip":
            try call.expect(3...3)
            let nodes = try unified(try all(call), "'clip'", at: call.offset)
            guard type(nodes[0]) == .real || type(nodes[0]) == .integer else {
                throw call.fault("'clip' needs numbers")
            }
            return add(.least, type(nodes[0]), [add(.greatest, type(nodes[0]), [nodes[0], nodes[1]]), nodes[2]])
        case "bucketize": return try bucketize(call)
        case "haversine_km":
            try call.expect(4...4)
            var nodes: [Int] = []
            for index in 0..<4 { nodes.append(try argument(call, index, .real)) }
            return add(.haversine, .real, nodes, canBeNull: true)
        default: return try hash(call)
        }
    }

    private mutating func power(_ call: Call) throws(ExpressionFault) -> Int {
        try call.expect(2...2)
        let base = try argument(call, 0, .real)
        let exponent = try check(call.arguments[1])
        if program.isLiteral(exponent), let value = program.constant(exponent).number, abs(value) <= 32,
            let whole = Int64(exactly: value)
        {
            return add(.integerPower, .real, [base], [.integer(whole)], canBeNull: true)
        }
        return add(.power, .real, [base, try argument(call, 1, .real)], canBeNull: true)
    }

    private mutating func bucketize(_ call: Call) throws(ExpressionFault) -> Int {
        try call.expect(2...2)
        let value = try argument(call, 0, .real)
        guard case .list(let items) = call.arguments[1].kind, 1...256 ~= items.count else {
            throw call.fault("the second argument of 'bucketize' must be a list of 1 to 256 numbers")
        }
        var edges: [CellValue] = []
        for item in items {
            let node = try need(try check(item), .real, "an edge of 'bucketize'", at: item.offset)
            guard program.isLiteral(node), let edge = program.constant(node).number else {
                throw ExpressionFault(item.offset, "an edge of 'bucketize' must be a constant")
            }
            if let before = edges.last?.number, edge <= before {
                throw ExpressionFault(item.offset, "the edges of 'bucketize' must rise")
            }
            edges.append(.double(edge))
        }
        return add(.bucketize, .integer, [value], edges)
    }

    private mutating func hash(_ call: Call) throws(ExpressionFault) -> Int {
        try call.expect(2...2)
        var node = try check(call.arguments[0])
        switch type(node) {
        case .text: break
        case .integer: node = add(.textFromInteger, .text, [node])
        case .time: node = add(.textFromInteger, .text, [add(.integerFromTime, .integer, [node])])
        case .bool: node = add(.textFromBool, .text, [node])
        case .real, .unknown:
            throw ExpressionFault(
                call.arguments[0].offset, "'hash' does not read \(type(node).name): cast it to int64 or round it first")
        }
        let buckets = try integer(call, 1, "the number of buckets", 1...(1 << 31))
        return add(.hash, .integer, [node], [buckets])
    }

    // MARK: Text

    private mutating func text(_ call: Call) throws(ExpressionFault) -> Int {
        if call.name == "concat" {
            try call.expect(1...Int.max)
            var nodes: [Int] = []
            for index in call.arguments.indices { nodes.append(try argument(call, index, .text)) }
            return add(.concat, .text, nodes)
        }
        let counts: ClosedRange<Int> =
            switch call.name {
            case "lower", "upper", "trim", "length": 1...1
            case "substring": 2...3
            case "replace", "split_part": 3...3
            default: 2...2
            }
        try call.expect(counts)
        let value = try argument(call, 0, .text)
        switch call.name {
        case "lower": return add(.lower, .text, [value])
        case "upper": return add(.upper, .text, [value])
        case "trim": return add(.trim, .text, [value])
        case "length": return add(.length, .integer, [value])
        case "substring":
            var constants = [try integer(call, 1, "the start", 1...1_000_000)]
            if call.arguments.count == 3 { constants.append(try integer(call, 2, "the count", 0...1_000_000)) }
            return add(.substring, .text, [value], constants)
        case "replace":
            let constants = [
                try text(call, 1, "what is replaced"), try text(call, 2, "the replacement", mayBeEmpty: true),
            ]
            return add(.replace, .text, [value], constants)
        case "split_part":
            let constants = [
                try text(call, 1, "the separator"), try integer(call, 2, "the number of the part", 1...1_000_000),
            ]
            return add(.splitPart, .text, [value], constants)
        default:
            let operation: Operation =
                call.name == "starts_with" ? .startsWith : call.name == "ends_with" ? .endsWith : .contains
            return add(operation, .bool, [value], [try text(call, 1, "the text")])
        }
    }

    // MARK: Time

    private static let units: [String: Int64] = [
        "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": Calendar.day, "week": 7 * Calendar.day, "month": 0,
        "year": 0,
    ]

    private mutating func time(_ call: Call) throws(ExpressionFault) -> Int {
        switch call.name {
        case "timestamp":
            try call.expect(1...1)
            guard case .text(let text) = try text(call, 0, "the moment"), let time = EventTime(text: text),
                time.isAccepted
            else {
                throw call.fault("the moment must be from 1900 up to 2200, with a zone")
            }
            return literal(.integer(time.milliseconds), .time)
        case "date_trunc":
            try call.expect(2...2)
            let unit = try text(call, 0, "the unit")
            guard case .text(let name) = unit, let length = Self.units[name] else {
                throw call.fault("the unit is one of second, minute, hour, day, week, month, year")
            }
            return add(.truncate, .time, [try argument(call, 1, .time)], [unit, .integer(length)])
        case "seconds_between", "minutes_between", "hours_between", "days_between":
            try call.expect(2...2)
            let (from, to) = (try argument(call, 0, .time), try argument(call, 1, .time))
            let length: Double =
                switch call.name {
                case "seconds_between": 1000
                case "minutes_between": 60_000
                case "hours_between": 3_600_000
                default: 86_400_000
                }
            let span = add(.realFromInteger, .real, [add(.subtractInteger, .integer, [to, from])])
            return add(.divideReal, .real, [span, literal(.double(length), .real)])
        default:
            try call.expect(1...1)
            let operation: Operation =
                switch call.name {
                case "year": .year
                case "month": .month
                case "day": .day
                case "hour": .hour
                case "minute": .minute
                case "second": .second
                case "day_of_week": .dayOfWeek
                case "day_of_year": .dayOfYear
                case "week": .week
                default: .integerFromTime
                }
            return add(operation, .integer, [try argument(call, 0, .time)])
        }
    }
}
