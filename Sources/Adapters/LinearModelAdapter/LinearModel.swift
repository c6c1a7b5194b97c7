import Foundation
import RuntimePorts

/// A linear model in memory.
///
/// `sumₖ = interceptₖ + Σⱼ (xⱼ − centerⱼ) / scaleⱼ · coefficientₖⱼ` in `float64`, in the order of the features, then the
/// link. A missing value is replaced by `fillⱼ` if the file has fills, else refused, as scikit-learn refuses it.
struct LinearModel: LoadedModel {
    let description: ModelDescription
    private let link: LinearModelFile.Link
    /// Coefficients over scales; shape `[features, outputs]`.
    private let weights: [Double]
    private let centers: [Double]
    private let intercepts: [Double]
    private let fills: [Double]?
    private let outputCount: Int

    init(_ file: LinearModelFile) {
        outputCount = file.coefficients.count
        link = file.link
        let scaled = zip(file.scales.indices, file.scales)
        weights = scaled.flatMap { place, scale in file.coefficients.map { $0[place] / scale } }
        centers = file.centers
        intercepts = file.intercepts
        fills = file.fills
        description = ModelDescription(
            format: "linear-json", featureNames: file.featureNames, featureCount: file.featureNames.count,
            categoricalFeatures: [], outputCount: file.coefficients.count,
            output: file.link.hasClasses
                ? .classProbabilities
                : file.coefficients.count > 1 ? .values : file.link == .logistic ? .probability : .value,
            objective: file.link.objective, treeCount: 0)
    }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        let width = centers.count
        guard rowCount >= 0, rows.count == rowCount * width, output.count == rowCount * outputCount else {
            throw ModelError(
                .shapeMismatch,
                "\(rows.count) values and \(output.count) places for predictions are not \(rowCount) rows of \(width) "
                    + "features and \(outputCount) outputs")
        }
        if outputCount == 1 {
            for row in 0..<rowCount {
                output[row] = Float(linked(try sum(rows, row)))
            }
            return
        }
        // Classes are few: one buffer of sums serves all rows.
        try withSums { (sums: UnsafeMutableBufferPointer<Double>) throws(ModelError) in
            for row in 0..<rowCount {
                try fill(sums, rows, row)
                normalize(sums)
                for place in 0..<outputCount { output[row * outputCount + place] = Float(sums[place]) }
            }
        }
    }

    private func withSums(_ body: (UnsafeMutableBufferPointer<Double>) throws(ModelError) -> Void) throws(ModelError) {
        let outcome = withUnsafeTemporaryAllocation(of: Double.self, capacity: outputCount) { sums -> ModelError? in
            sums.initialize(repeating: 0)
            do throws(ModelError) { try body(sums) } catch { return error }
            return nil
        }
        if let outcome { throw outcome }
    }

    /// The value of a feature less its center; what is missing is filled.
    @inline(__always)
    private func centered(_ value: Float, _ row: Int, _ feature: Int) throws(ModelError) -> Double {
        if value.isFinite { return Double(value) - centers[feature] }
        guard value.isNaN, let fills else { throw refusal(of: value, row: row, feature: feature) }
        return fills[feature] - centers[feature]
    }

    @inline(__always)
    private func sum(_ rows: UnsafeBufferPointer<Float>, _ row: Int) throws(ModelError) -> Double {
        let width = centers.count
        var sum = 0.0
        for feature in 0..<width {
            sum += try centered(rows[row * width + feature], row, feature) * weights[feature]
        }
        return sum + intercepts[0]
    }

    private func fill(_ sums: UnsafeMutableBufferPointer<Double>, _ rows: UnsafeBufferPointer<Float>, _ row: Int)
        throws(ModelError)
    {
        let width = centers.count
        for place in 0..<outputCount { sums[place] = 0 }
        for feature in 0..<width {
            let value = try centered(rows[row * width + feature], row, feature)
            for place in 0..<outputCount { sums[place] += value * weights[feature * outputCount + place] }
        }
        for place in 0..<outputCount { sums[place] += intercepts[place] }
    }

    private func linked(_ sum: Double) -> Double {
        switch link {
        case .exponential: exp(sum)
        case .logistic: 1 / (1 + exp(-sum))
        case .identity, .softmax, .oneVersusRest: sum
        }
    }

    private func normalize(_ sums: UnsafeMutableBufferPointer<Double>) {
        let top = sums.max() ?? 0
        var total = 0.0
        for place in sums.indices {
            sums[place] = link == .softmax ? exp(sums[place] - top) : 1 / (1 + exp(-sums[place]))
            total += sums[place]
        }
        for place in sums.indices { sums[place] /= total }
    }

    private func refusal(of value: Float, row: Int, feature: Int) -> ModelError {
        let name = LinearModelFile.line(description.featureNames[feature])
        return ModelError(
            .shapeMismatch,
            value.isNaN
                ? "row \(row): feature \(feature) ('\(name)') is missing, and the model says nothing of missing values"
                : "row \(row): feature \(feature) ('\(name)') is infinite; a missing value is NaN")
    }
}
