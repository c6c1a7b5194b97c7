import PlatformCore

// Computes a program's value for one row. Every function answers for one type; a `Double` that is NaN stands for null,
// since values are always finite. Numbers need no allocation.
extension Program {
    /// The value of `node`; never a double that is not finite, never a negative zero.
    func value(_ node: Int, _ cell: (Int) -> CellValue) -> CellValue {
        switch nodes[node].type {
        case .real:
            let value = real(node, cell)
            return value.isNaN ? .null : .double(value + 0.0)
        case .integer, .time: return integer(node, cell).map(CellValue.integer) ?? .null
        case .bool: return bool(node, cell).map(CellValue.bool) ?? .null
        case .text: return text(node, cell).map(CellValue.text) ?? .null
        case .unknown: return .null
        }
    }

    @inline(__always)
    private func columnPosition(_ node: Int) -> Int {
        guard case .integer(let position) = constant(node) else { return -1 }
        return Int(position)
    }

    @inline(__always)
    private func integerConstant(_ node: Int, _ index: Int = 0) -> Int64 {
        guard case .integer(let value) = constant(node, index) else { return 0 }
        return value
    }

    private func textConstant(_ node: Int, _ index: Int = 0) -> String {
        guard case .text(let value) = constant(node, index) else { return "" }
        return value
    }

    @inline(__always)
    private func finite(_ value: Double) -> Double { value.isFinite ? value : .nan }

    // MARK: Real

    func real(_ node: Int, _ cell: (Int) -> CellValue) -> Double {
        @inline(__always) func operand(_ index: Int) -> Double { real(self.operand(node, index), cell) }
        switch nodes[node].operation {
        case .literal: return constant(node).number ?? .nan
        case .column: return finite(cell(columnPosition(node)).number ?? .nan)
        case .realFromInteger: return integer(self.operand(node, 0), cell).map(Double.init) ?? .nan
        case .addReal: return finite(operand(0) + operand(1))
        case .subtractReal: return finite(operand(0) - operand(1))
        case .multiplyReal: return finite(operand(0) * operand(1))
        case .divideReal: return finite(operand(0) / operand(1))
        case .absolute: return abs(operand(0))
        case .floor: return operand(0).rounded(.down)
        case .ceiling: return operand(0).rounded(.up)
        case .round: return round(operand(0), constant(node).number ?? 1)
        case .squareRoot: return operand(0).squareRoot()
        case .logarithm, .logarithm10:
            let value = operand(0)
            guard value > 0 else { return .nan }
            let result = NativeReals().logarithm(value)
            return nodes[node].operation == .logarithm ? result : result * Natural.inverseLogarithmOf10
        case .exponential: return exponential(operand(0))
        case .integerPower: return integerPower(operand(0), integerConstant(node))
        case .power:
            let (base, exponent) = (operand(0), operand(1))
            if base == 0, exponent > 0 { return 0 }
            guard base > 0, !exponent.isNaN else { return .nan }
            return exponential(finite(exponent * NativeReals().logarithm(base)))
        case .haversine:
            let (latitude1, longitude1, latitude2, longitude2) = (operand(0), operand(1), operand(2), operand(3))
            guard abs(latitude1) <= 90, abs(longitude1) <= 180, abs(latitude2) <= 90, abs(longitude2) <= 180 else {
                return .nan
            }
            return NativeReals().haversine(latitude1, longitude1, latitude2, longitude2)
        case .realFromText: return text(self.operand(node, 0), cell).map(TextOperations.real) ?? .nan
        case .least, .greatest:
            let isLeast = nodes[node].operation == .least
            var result = operand(0)
            for index in 1..<Int(nodes[node].count) {
                let next = operand(index)
                if result.isNaN || next.isNaN { return .nan }
                if isLeast ? next < result : next > result { result = next }
            }
            return result
        case .coalesce:
            for index in 0..<Int(nodes[node].count) {
                let value = operand(index)
                if !value.isNaN { return value }
            }
            return .nan
        case .nullIf:
            let value = operand(0)
            return value == operand(1) ? .nan : value
        case .choose: return bool(self.operand(node, 0), cell) == true ? operand(1) : operand(2)
        default: preconditionFailure("a checked expression has no \(nodes[node].operation) of float64")
        }
    }

    /// Halves away from zero at the digit that `power` (of ten) names; values from 2^52 / `power` on are whole already.
    private func round(_ value: Double, _ power: Double) -> Double {
        let scaled = value * power
        guard abs(scaled) < 0x1p52 else { return value }
        return scaled.rounded(.toNearestOrAwayFromZero) / power
    }

    private func exponential(_ value: Double) -> Double {
        guard value <= 710 else { return .nan }
        return value < -745 ? 0 : finite(NativeReals().exponential(value))
    }

    private func integerPower(_ base: Double, _ exponent: Int64) -> Double {
        guard !base.isNaN else { return .nan }
        var result = exponent == 0 ? 1.0 : base
        for _ in 1..<max(2, abs(exponent)) where exponent != 0 && abs(exponent) > 1 { result *= base }
        result = finite(result)
        return exponent < 0 ? finite(1 / result) : result
    }

    // MARK: Integer and time

    func integer(_ node: Int, _ cell: (Int) -> CellValue) -> Int64? {
        @inline(__always) func operand(_ index: Int) -> Int64? { integer(self.operand(node, index), cell) }
        @inline(__always) func checked(_ result: (partialValue: Int64, overflow: Bool)) -> Int64? {
            result.overflow ? nil : result.partialValue
        }
        let operation = nodes[node].operation
        switch operation {
        case .literal:
            guard case .integer(let value) = constant(node) else { return nil }
            return value
        case .column:
            switch cell(columnPosition(node)) {
            case .integer(let value): return value
            case .double(let value): return Int64(exactly: value)
            case .bool(let value): return value ? 1 : 0
            case .null, .text, .list: return nil
            }
        case .addInteger, .subtractInteger, .multiplyInteger, .quotient, .remainder:
            guard let left = operand(0), let right = operand(1) else { return nil }
            switch operation {
            case .addInteger:
                let sum = checked(left.addingReportingOverflow(right))
                return nodes[node].type == .time ? sum.flatMap(accepted) : sum
            case .subtractInteger:
                let difference = checked(left.subtractingReportingOverflow(right))
                return nodes[node].type == .time ? difference.flatMap(accepted) : difference
            case .multiplyInteger: return checked(left.multipliedReportingOverflow(by: right))
            case .quotient: return checked(left.dividedReportingOverflow(by: right))
            default: return right == 0 ? nil : right == -1 ? 0 : left % right
            }
        case .absolute: return operand(0).flatMap { $0 == .min ? nil : abs($0) }
        case .sign:
            let inner = self.operand(node, 0)
            if nodes[inner].type == .real {
                let value = real(inner, cell)
                return value.isNaN ? nil : value > 0 ? 1 : value < 0 ? -1 : 0
            }
            return integer(inner, cell).map { $0.signum() }
        case .bucketize:
            let value = real(self.operand(node, 0), cell)
            guard !value.isNaN else { return nil }
            var bucket: Int64 = 0
            for index in 0..<Int(nodes[node].constantCount) {
                guard let edge = constant(node, index).number, edge <= value else { break }
                bucket += 1
            }
            return bucket
        case .hash:
            return text(self.operand(node, 0), cell).map { Int64(TextOperations.hash($0)) % integerConstant(node) }
        case .integerFromReal:
            let value = real(self.operand(node, 0), cell)
            return value >= -0x1p63 && value < 0x1p63 ? Int64(value) : nil
        case .integerFromText: return text(self.operand(node, 0), cell).flatMap(TextOperations.integer)
        case .integerFromBool: return bool(self.operand(node, 0), cell).map { $0 ? 1 : 0 }
        case .integerFromTime: return operand(0)
        case .timeFromInteger: return operand(0).flatMap(accepted)
        case .length: return text(self.operand(node, 0), cell).map(TextOperations.length)
        case .year: return operand(0).map { Int64(EventTime(milliseconds: $0).civil.year) }
        case .month: return operand(0).map { Int64(EventTime(milliseconds: $0).civil.month) }
        case .day: return operand(0).map { Int64(EventTime(milliseconds: $0).civil.day) }
        case .dayOfYear: return operand(0).map(Calendar.dayOfYear)
        case .week: return operand(0).map(Calendar.week)
        case .dayOfWeek: return operand(0).map(Calendar.dayOfWeek)
        case .hour: return operand(0).map { ($0 + Calendar.shift) / 3_600_000 % 24 }
        case .minute: return operand(0).map { ($0 + Calendar.shift) / 60_000 % 60 }
        case .second: return operand(0).map { ($0 + Calendar.shift) / 1000 % 60 }
        case .truncate:
            guard let time = operand(0) else { return nil }
            switch textConstant(node) {
            case "year": return Calendar.startOfYear(time)
            case "month": return Calendar.startOfMonth(time)
            default: return Calendar.startOf(time, integerConstant(node, 1))
            }
        case .least, .greatest:
            guard var result = operand(0) else { return nil }
            for index in 1..<Int(nodes[node].count) {
                guard let next = operand(index) else { return nil }
                result = operation == .least ? min(result, next) : max(result, next)
            }
            return result
        case .coalesce:
            for index in 0..<Int(nodes[node].count) { if let value = operand(index) { return value } }
            return nil
        case .nullIf:
            guard let value = operand(0) else { return nil }
            return value == operand(1) ? nil : value
        case .choose: return bool(self.operand(node, 0), cell) == true ? operand(1) : operand(2)
        default: preconditionFailure("a checked expression has no \(operation) of int64")
        }
    }

    private func accepted(_ time: Int64) -> Int64? { Calendar.isAccepted(time) ? time : nil }

    // MARK: Truth

    func bool(_ node: Int, _ cell: (Int) -> CellValue) -> Bool? {
        @inline(__always) func operand(_ index: Int) -> Bool? { bool(self.operand(node, index), cell) }
        let operation = nodes[node].operation
        switch operation {
        case .literal:
            guard case .bool(let value) = constant(node) else { return nil }
            return value
        case .column:
            switch cell(columnPosition(node)) {
            case .bool(let value): return value
            case .integer(let value): return value != 0
            case .double(let value): return value != 0
            case .null, .text, .list: return nil
            }
        case .and:
            let left = operand(0)
            if left == false { return false }
            guard let right = operand(1) else { return nil }
            return right ? left : false
        case .or:
            let left = operand(0)
            if left == true { return true }
            guard let right = operand(1) else { return nil }
            return right ? true : left
        case .not: return operand(0).map { !$0 }
        case .isNull: return isNull(self.operand(node, 0), cell)
        case .equal, .less, .lessEqual:
            return compare(self.operand(node, 0), self.operand(node, 1), operation, cell)
        case .between:
            let value = self.operand(node, 0)
            let low = compare(self.operand(node, 1), value, .lessEqual, cell)
            if low == false { return false }
            guard let high = compare(value, self.operand(node, 2), .lessEqual, cell) else { return nil }
            return high ? low : false
        case .isIn: return isIn(node, cell)
        case .boolFromInteger: return integer(self.operand(node, 0), cell).map { $0 != 0 }
        case .startsWith, .endsWith, .contains:
            guard let text = text(self.operand(node, 0), cell) else { return nil }
            let part = textConstant(node)
            return switch operation {
            case .startsWith: TextOperations.starts(text, with: part)
            case .endsWith: TextOperations.ends(text, with: part)
            default: TextOperations.contains(text, part)
            }
        case .coalesce:
            for index in 0..<Int(nodes[node].count) { if let value = operand(index) { return value } }
            return nil
        case .nullIf:
            guard let value = operand(0) else { return nil }
            return value == operand(1) ? nil : value
        case .choose: return operand(0) == true ? operand(1) : operand(2)
        default: preconditionFailure("a checked expression has no \(operation) of bool")
        }
    }

    private func isNull(_ node: Int, _ cell: (Int) -> CellValue) -> Bool {
        switch nodes[node].type {
        case .real: real(node, cell).isNaN
        case .integer, .time: integer(node, cell) == nil
        case .bool: bool(node, cell) == nil
        case .text: text(node, cell) == nil
        case .unknown: true
        }
    }

    private func compare(_ left: Int, _ right: Int, _ operation: Operation, _ cell: (Int) -> CellValue) -> Bool? {
        switch nodes[left].type {
        case .real:
            let (a, b) = (real(left, cell), real(right, cell))
            if a.isNaN || b.isNaN { return nil }
            return operation == .equal ? a == b : operation == .less ? a < b : a <= b
        case .integer, .time:
            guard let a = integer(left, cell), let b = integer(right, cell) else { return nil }
            return operation == .equal ? a == b : operation == .less ? a < b : a <= b
        case .bool:
            guard let a = bool(left, cell), let b = bool(right, cell) else { return nil }
            return a == b
        case .text:
            guard let a = text(left, cell), let b = text(right, cell) else { return nil }
            return switch operation {
            case .equal: TextOperations.equal(a, b)
            case .less: TextOperations.precedes(a, b)
            default: !TextOperations.precedes(b, a)
            }
        case .unknown: return nil
        }
    }

    private func isIn(_ node: Int, _ cell: (Int) -> CellValue) -> Bool? {
        let value = operand(node, 0)
        let count = Int(nodes[node].constantCount)
        switch nodes[value].type {
        case .real:
            let wanted = real(value, cell)
            if wanted.isNaN { return nil }
            for index in 0..<count where constant(node, index).number == wanted { return true }
        case .integer, .time:
            guard let wanted = integer(value, cell) else { return nil }
            for index in 0..<count where integerConstant(node, index) == wanted { return true }
        case .text:
            guard let wanted = text(value, cell) else { return nil }
            for index in 0..<count where TextOperations.equal(textConstant(node, index), wanted) { return true }
        case .bool, .unknown: return nil
        }
        return false
    }

    // MARK: Text

    func text(_ node: Int, _ cell: (Int) -> CellValue) -> String? {
        func operand(_ index: Int) -> String? { text(self.operand(node, index), cell) }
        switch nodes[node].operation {
        case .literal, .column:
            let value = nodes[node].operation == .literal ? constant(node) : cell(columnPosition(node))
            guard case .text(let text) = value else { return nil }
            return text
        case .lower: return operand(0).map(TextOperations.lower)
        case .upper: return operand(0).map(TextOperations.upper)
        case .trim: return operand(0).map(TextOperations.trim)
        case .substring:
            let count = nodes[node].constantCount > 1 ? integerConstant(node, 1) : nil
            return operand(0).map { TextOperations.substring($0, from: integerConstant(node), count: count) }
        case .concat:
            var result = ""
            for index in 0..<Int(nodes[node].count) {
                guard let next = operand(index) else { return nil }
                result += next
            }
            return result
        case .replace:
            return operand(0).map { TextOperations.replace($0, textConstant(node), with: textConstant(node, 1)) }
        case .splitPart:
            return operand(0).map { TextOperations.part($0, textConstant(node), integerConstant(node, 1)) }
        case .textFromInteger: return integer(self.operand(node, 0), cell).map(String.init)
        case .textFromBool: return bool(self.operand(node, 0), cell).map { $0 ? "true" : "false" }
        case .least, .greatest:
            guard var result = operand(0) else { return nil }
            for index in 1..<Int(nodes[node].count) {
                guard let next = operand(index) else { return nil }
                let isLess = TextOperations.precedes(next, result)
                if nodes[node].operation == .least ? isLess : TextOperations.precedes(result, next) { result = next }
            }
            return result
        case .coalesce:
            for index in 0..<Int(nodes[node].count) { if let value = operand(index) { return value } }
            return nil
        case .nullIf:
            guard let value = operand(0) else { return nil }
            return operand(1).map { TextOperations.equal(value, $0) } == true ? nil : value
        case .choose: return bool(self.operand(node, 0), cell) == true ? operand(1) : operand(2)
        default: preconditionFailure("a checked expression has no \(nodes[node].operation) of string")
        }
    }
}
