import Glibc

/// Points and weights that integrate polynomials over [0, 1] exactly: Gauss–Legendre quadrature.
struct QuadratureRule: Sendable {
    /// Where the polynomial is evaluated, inside of (0, 1).
    let points: [Double]
    /// What each value counts; they sum to 1.
    let weights: [Double]

    /// The rule with `count` points, exact to degree `2·count − 1`.
    ///
    /// Roots of the Legendre polynomial by Newton's method from their asymptotic places (Abramowitz and Stegun 1964,
    /// 22.16.6 and 25.4.29).
    init(count: Int) {
        var points = [Double](repeating: 0.5, count: count)
        var weights = [Double](repeating: 1, count: count)
        for index in 0..<count {
            var x = cos(.pi * (Double(index) + 0.75) / (Double(count) + 0.5))
            var slope = 1.0
            for _ in 0..<100 {
                var (previous, current) = (1.0, x)
                for degree in stride(from: 2, through: count, by: 1) {
                    let next = (Double(2 * degree - 1) * x * current - Double(degree - 1) * previous) / Double(degree)
                    (previous, current) = (current, next)
                }
                slope = Double(count) * (x * current - previous) / (x * x - 1)
                let step = current / slope
                x -= step
                if abs(step) < 1e-15 { break }
            }
            points[index] = (1 + x) / 2
            weights[index] = 1 / ((1 - x * x) * slope * slope)
        }
        self.points = points
        self.weights = weights
    }
}
