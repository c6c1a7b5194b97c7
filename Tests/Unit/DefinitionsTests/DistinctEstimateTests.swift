import Crypto
import Expressions
import Foundation
import PlatformCore
import Testing

@testable import Definitions

/// Counting different values by coupons.
struct DistinctEstimateTests {
    /// Engines' power functions differ in the last bits: none of the mantissas may be so near a half that it matters.
    @Test func noMantissaCanBeRoundedInTwoWays() {
        for precision in DistinctEstimate.precisions {
            for rest in 0..<DistinctEstimate.registerCount(precision) {
                let mantissa = DistinctEstimate.scaledMantissa(rest, precision)
                let distance = abs(mantissa - mantissa.rounded(.down) - 0.5)
                #expect(distance > 64 * mantissa.ulp, "\(rest) of precision \(precision)")
            }
        }
    }

    @Test func estimatesRiseAndNeverTrap() {
        for precision in DistinctEstimate.precisions {
            let exact = DistinctEstimate.exactCouponCountMax(precision)
            #expect(DistinctEstimate.count(exact: 7, coupons: exact, precision: precision) == 7)
            var last: Int64 = exact
            for coupons in stride(
                from: exact + 1, through: Int64(32 - precision) << Int64(precision), by: 1 + (1 << precision) / 64)
            {
                let count = DistinctEstimate.count(exact: 7, coupons: coupons, precision: precision)
                #expect(count > last)
                last = count
            }
            for coupons in [Int64.max, .min, -1] {
                _ = DistinctEstimate.estimate(coupons: coupons % (1 << 50), precision: precision)
            }
        }
    }

    /// Coupons of numbers from the expressions that a view's hidden columns have.
    private func coupons(_ numbers: some Sequence<Int64>, precision: Int) throws -> Int64 {
        let value = ExpressionColumn(name: "x", type: .int64, nullable: true)
        let hash = try Expression.compile(DistinctEstimate.hash(of: "x"), columns: [value])
        let hashed = ExpressionColumn(name: "h", type: .int64, nullable: true)
        let coupon = try Expression.compile(DistinctEstimate.coupon(of: "h", precision: precision), columns: [hashed])
        var different: Set<CellValue> = []
        for number in numbers { different.insert(coupon.evaluate([hash.evaluate([.integer(number)])])) }
        return Int64(different.count)
    }

    /// The mean of many estimates lies by the true number, and they scatter as stated.
    @Test(arguments: [(6, Int64(4000)), (8, Int64(16_000))])
    func estimatesErrAsStated(precision: Int, count: Int64) throws {
        var errors: [Double] = []
        for trial in 0..<Int64(precision == 6 ? 60 : 12) {
            let from = trial * count
            let coupons = try coupons(from..<(from + count), precision: precision)
            #expect(coupons > DistinctEstimate.exactCouponCountMax(precision))
            errors.append(Double(DistinctEstimate.estimate(coupons: coupons, precision: precision)) / Double(count) - 1)
        }
        let stated = DistinctEstimate.standardError(precision)
        let mean = errors.reduce(0, +) / Double(errors.count)
        let scatter = (errors.reduce(0) { $0 + $1 * $1 } / Double(errors.count)).squareRoot()
        #expect(abs(mean) < 4 * stated / Double(errors.count).squareRoot(), "mean error \(mean)")
        #expect(scatter < 1.6 * stated && scatter > 0.5 * stated, "scatter \(scatter) of stated \(stated)")
    }

    // MARK: Definitions

    private func view(_ feature: String) throws -> FeatureViewDefinition? {
        let text = """
            kind: Entity
            name: card
            keys: [card]
            ---
            kind: Source
            name: payments
            event_time: at
            key: [card]
            schema:
              - {name: at, type: timestamp}
              - {name: card, type: string}
              - {name: shop, type: string}
              - {name: amount, type: float64}
            ---
            kind: FeatureView
            name: shops
            entities: [card]
            source: payments
            features:
              - \(feature)
            """
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "shops.yaml", folder: "/", text: text)])
        return set.featureViews[Name(static: "shops")]
    }

    @Test func itCountsColumnsThatNobodyWrote() throws {
        let base = "name: n, aggregate: approx_count_distinct, column: shop, window: [1h, 7d]"
        let made = try #require(try view("{\(base)}"))
        #expect(made.features.map(\.precision) == [10, 10])
        #expect(made.features.map(\.type) == [.int64, .int64])
        #expect(made.derivedColumns.map(\.name) == ["__hash0", "__coupon1"])
        #expect(made.features.map(\.couponColumn) == ["__coupon1", "__coupon1"])
        #expect(made.derivedColumns.filter(\.isHidden).count == 2)
        #expect(made.sourceColumns(of: made.features[0]) == ["shop"])
        let other = try #require(try view("{\(base), precision: 12}"))
        #expect(other.version != made.version)
        let some = try #require(try view("{\(base), where: amount > 3}"))
        #expect(some.derivedColumns.map(\.name) == ["__where0", "__hash1", "__coupon2"])
        #expect(some.sourceColumns(of: some.features[0]) == ["amount", "shop"])
    }

    @Test(arguments: [
        ("column: amount, window: 1h", "hashes its values, and 'amount' is float64"),
        ("column: shop, window: 1h, precision: 3", "'precision' must be"),
        ("column: shop", "needs a 'window'"),
        ("window: 1h", "needs a 'column'"),
    ])
    func whatItCannotCountIsSaid(_ rest: String, _ words: String) {
        var text = ""
        do { _ = try view("{name: n, aggregate: approx_count_distinct, \(rest)}") } catch { text = "\(error)" }
        #expect(text.contains(words), "\(text)")
    }
}
