/// Double arithmetic written once and carried out twice: on numbers here, and as text in an engine's SQL.
///
/// Only operations that IEEE 754 rounds exactly are in it, so both give the same bits; the libraries' own `sin`, `exp` and
/// `log` differ in the last place from one engine to the next.
protocol RealAlgebra {
    /// A number, or the text that computes it.
    associatedtype Value

    func constant(_ value: Double) -> Value
    func add(_ left: Value, _ right: Value) -> Value
    func subtract(_ left: Value, _ right: Value) -> Value
    func multiply(_ left: Value, _ right: Value) -> Value
    /// `right` is not zero.
    func divide(_ left: Value, _ right: Value) -> Value
    func absolute(_ value: Value) -> Value
    /// Of a value below 2^52 in magnitude.
    func floor(_ value: Value) -> Value
    /// Of a value that is not negative.
    func squareRoot(_ value: Value) -> Value
    /// `yes` where `left` < `right`, else `no`.
    func less(_ left: Value, _ right: Value, _ yes: Value, _ no: Value) -> Value
    /// `body` of a value that it reads several times.
    func bind(_ value: Value, _ body: (Value) -> Value) -> Value
}

/// The numbers themselves.
struct NativeReals: RealAlgebra {
    @inline(__always) func constant(_ value: Double) -> Double { value }
    @inline(__always) func add(_ left: Double, _ right: Double) -> Double { left + right }
    @inline(__always) func subtract(_ left: Double, _ right: Double) -> Double { left - right }
    @inline(__always) func multiply(_ left: Double, _ right: Double) -> Double { left * right }
    @inline(__always) func divide(_ left: Double, _ right: Double) -> Double { left / right }
    @inline(__always) func absolute(_ value: Double) -> Double { abs(value) }
    @inline(__always) func floor(_ value: Double) -> Double { value.rounded(.down) }
    @inline(__always) func squareRoot(_ value: Double) -> Double { value.squareRoot() }
    @inline(__always) func less(_ left: Double, _ right: Double, _ yes: Double, _ no: Double) -> Double {
        left < right ? yes : no
    }
    @inline(__always) func bind(_ value: Double, _ body: (Double) -> Double) -> Double { body(value) }
}

extension RealAlgebra {
    /// `c₀ + z·(c₁ + z·(c₂ + …))`.
    @inline(__always)
    private func polynomial(_ z: Value, _ coefficients: [Double]) -> Value {
        var result = constant(coefficients[coefficients.count - 1])
        for coefficient in coefficients.dropLast().reversed() {
            result = add(constant(coefficient), multiply(z, result))
        }
        return result
    }

    // MARK: Logarithm

    /// The natural logarithm of a finite number above zero.
    ///
    /// `x = m · 2^e` with `0.7 < m < 1.5` by exact multiplications; `ln m = 2 · artanh((m − 1) / (m + 1))` by its series.
    func logarithm(_ x: Value) -> Value {
        // Below 1, multiply by 2^600 up to twice: then every value, subnormal ones too, lies in 1 ..< 2^1024.
        bind(x) { x in
            let lift = constant(0x1p600)
            let one = constant(1)
            return bind(less(x, constant(0x1p-600), multiply(x, lift), x)) { raised in
                bind(less(raised, one, multiply(raised, lift), raised)) { whole in
                    let lifted = add(
                        less(x, constant(0x1p-600), constant(-600), constant(0)),
                        less(raised, one, constant(-600), constant(0)))
                    return normalize(whole, lifted, 512)
                }
            }
        }
    }

    private func normalize(_ m: Value, _ exponent: Value, _ step: Int) -> Value {
        guard step > 0 else {
            // Around 1 rather than above it: no cancellation between exponent and fraction.
            let root = constant(1.4142)
            let exponent = add(exponent, less(root, m, constant(1), constant(0)))
            return bind(less(root, m, multiply(m, constant(0.5)), m)) { m in
                bind(divide(subtract(m, constant(1)), add(m, constant(1)))) { t in
                    bind(multiply(t, t)) { z in
                        let series = (0...12).map { 1 / Double(2 * $0 + 1) }
                        let fraction = multiply(multiply(constant(2), t), polynomial(z, series))
                        return add(multiply(exponent, constant(Natural.logarithmOf2)), fraction)
                    }
                }
            }
        }
        let bound = constant(Double(sign: .plus, exponent: step, significand: 1))
        let inverse = constant(Double(sign: .plus, exponent: -step, significand: 1))
        return bind(less(m, bound, m, multiply(m, inverse))) { next in
            normalize(next, add(exponent, less(m, bound, constant(0), constant(Double(step)))), step / 2)
        }
    }

    // MARK: Exponential

    /// e to a power between −745 and 709.
    ///
    /// `x = k · ln 2 + r`; the power of two is a product of exact powers chosen by the bits of `k + 1100`.
    func exponential(_ x: Value) -> Value {
        bind(x) { x in
            let k = floor(add(multiply(x, constant(Natural.inverseLogarithmOf2)), constant(0.5)))
            return bind(k) { k in
                let high = subtract(x, multiply(k, constant(Natural.logarithmOf2High)))
                return bind(subtract(high, multiply(k, constant(Natural.logarithmOf2Low)))) { r in
                    var coefficients = [1.0]
                    for index in 1...14 { coefficients.append(coefficients[index - 1] / Double(index)) }
                    // Two halves, so that a power below the normal range is reached by one rounding at the end.
                    return bind(floor(multiply(k, constant(0.5)))) { half in
                        multiply(
                            multiply(polynomial(r, coefficients), powerOfTwo(half)), powerOfTwo(subtract(k, half)))
                    }
                }
            }
        }
    }

    /// 2 to a whole power between −540 and 540.
    private func powerOfTwo(_ k: Value) -> Value {
        bind(absolute(k)) { magnitude in
            bind(bits(magnitude, 512)) { power in
                less(k, constant(0), divide(constant(1), power), power)
            }
        }
    }

    private func bits(_ rest: Value, _ step: Int) -> Value {
        guard step > 0 else { return constant(1) }
        let bound = constant(Double(step))
        let factor = constant(Double(sign: .plus, exponent: step, significand: 1))
        return multiply(
            less(rest, bound, constant(1), factor),
            bind(less(rest, bound, rest, subtract(rest, bound))) { bits($0, step / 2) })
    }

    // MARK: Distance on a sphere

    /// Sine of an angle between −π/2 and π/2, by its series.
    private func sine(_ x: Value) -> Value {
        var coefficients = [1.0]
        for index in 1...11 { coefficients.append(-coefficients[index - 1] / Double(2 * index * (2 * index + 1))) }
        return bind(x) { x in bind(multiply(x, x)) { multiply(x, polynomial($0, coefficients)) } }
    }

    /// Arc sine of the root of a number between 0 and 1, by its series up to 1/4 and by halving the angle above.
    private func arcSineOfRoot(_ square: Value) -> Value {
        var coefficients = [1.0]
        var central = 1.0  // (2k)! / (4^k k!²)
        for index in 1...22 {
            central *= Double(2 * index - 1) / Double(2 * index)
            coefficients.append(central / Double(2 * index + 1))
        }
        func small(_ square: Value) -> Value { multiply(squareRoot(square), polynomial(square, coefficients)) }
        return bind(square) { square in
            less(
                constant(0.25), square,
                bind(multiply(subtract(constant(1), squareRoot(square)), constant(0.5))) {
                    subtract(constant(Double.pi / 2), multiply(constant(2), small($0)))
                }, small(square))
        }
    }

    /// Great-circle distance in kilometres on a sphere of radius 6371.0088 km, by the haversine formula.
    ///
    /// Angles in degrees, latitudes within ±90 and longitudes within ±180.
    func haversine(_ latitude1: Value, _ longitude1: Value, _ latitude2: Value, _ longitude2: Value) -> Value {
        let radian = constant(Double.pi / 180)
        let halfRadian = constant(Double.pi / 360)
        func square(_ value: Value) -> Value { bind(value) { multiply($0, $0) } }
        func cosine(_ latitude: Value) -> Value {
            sine(multiply(subtract(constant(90), absolute(latitude)), radian))
        }
        let north = square(sine(multiply(absolute(subtract(latitude2, latitude1)), halfRadian)))
        // The short way round.
        let around = bind(absolute(subtract(longitude2, longitude1))) {
            less(constant(180), $0, subtract(constant(360), $0), $0)
        }
        let east = square(sine(multiply(around, halfRadian)))
        return bind(add(north, multiply(multiply(cosine(latitude1), cosine(latitude2)), east))) { sum in
            multiply(constant(2 * 6371.0088), arcSineOfRoot(less(constant(1), sum, constant(1), sum)))
        }
    }
}

enum Natural {
    static let logarithmOf2 = 0.6931471805599453
    static let inverseLogarithmOf2 = 1.4426950408889634
    /// ln 2 with its last 32 bits cleared, and the rest (fdlibm, e_exp.c).
    static let logarithmOf2High = 6.93147180369123816490e-01
    static let logarithmOf2Low = 1.90821492927058770002e-10
    static let inverseLogarithmOf10 = 0.4342944819032518
}
