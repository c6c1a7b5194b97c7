extension ModelSignature {
    /// What callers of a version with the signature `older` would notice if this one answered them; empty if nothing.
    ///
    /// A caller sends what the older version took: every value of it must still be accepted, nothing new may be demanded,
    /// and the outputs keep their names and kinds.
    public func breaks(callersOf older: ModelSignature) -> [String] {
        var faults: [String] = []
        let known = Dictionary(older.inputs.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        for input in inputs {
            guard let before = known[input.name] else {
                if !input.isNullable { faults.append("'\(input.name)' is demanded and was not before") }
                continue
            }
            if input.kind != before.kind {
                faults.append("'\(input.name)' is \(input.kind.rawValue), was \(before.kind.rawValue)")
            }
            if before.isNullable, !input.isNullable { faults.append("'\(input.name)' may not be missing any more") }
            let gone = Set(before.categories).subtracting(input.categories).sorted()
            if !gone.isEmpty {
                faults.append("'\(input.name)' takes \(gone.prefix(5).joined(separator: ", ")) no more")
            }
            if let low = input.minimum, low > before.minimum ?? -.infinity {
                faults.append("'\(input.name)' takes nothing below \(low) any more")
            }
            if let high = input.maximum, high < before.maximum ?? .infinity {
                faults.append("'\(input.name)' takes nothing above \(high) any more")
            }
            if let shape = input.shape, let old = before.shape, shape.count != old.count {
                faults.append("'\(input.name)' has \(shape.count) dimensions, had \(old.count)")
            }
        }
        let outputsNow = Set(outputs.map { "\($0.name) \($0.kind.rawValue)" })
        for output in older.outputs where !outputsNow.contains("\(output.name) \(output.kind.rawValue)") {
            faults.append("the output '\(output.name)' is gone or of another kind")
        }
        return faults
    }
}
