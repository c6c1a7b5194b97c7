import CONNXRuntime
import RuntimePorts

/// One call of the library and what it holds meanwhile.
struct Call {
    let session: ONNXSession
    let inputs: ONNXInputs
    let output: ONNXOutput
    let categories: [Int: TextTable]
    let inputNames: TextTable
    let outputNames: TextTable

    private var library: ONNXLibrary { session.library }
    private var api: UnsafePointer<OrtApi> { session.library.api }

    /// Numbers that the model gives for each row.
    func width(_ rows: UnsafeBufferPointer<Float>, rowCount: Int) throws(ModelError) -> Int {
        let value = try run(rows, rowCount)
        defer { api.pointee.ReleaseValue(value) }
        switch output.form {
        case .tensor:
            let (_, count) = try shape(of: value)
            guard count.isMultiple(of: rowCount) else {
                throw ModelError(
                    .unsupportedModel, "output '\(printable(output.name))' does not have a row for each row")
            }
            return count / rowCount
        case .maps:
            var width = 0
            try maps(value, rowCount) { (_, numbers) throws(ModelError) in width = numbers.count }
            return width
        }
    }

    /// Predicts rows.
    /// - Parameters:
    ///   - width: numbers that the model gives for each row.
    ///   - skipsFirst: whether the first of two probabilities is left out.
    func predict(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, width: Int, skipsFirst: Bool,
        into target: UnsafeMutableBufferPointer<Float>
    ) throws(ModelError) {
        let value = try run(rows, rowCount)
        defer { api.pointee.ReleaseValue(value) }
        switch output.form {
        case .tensor:
            let (element, count) = try shape(of: value)
            guard count == rowCount * width else { throw changed() }
            var data: UnsafeMutableRawPointer?
            try library.check(api.pointee.GetTensorMutableData(value, &data), .unavailable)
            guard let data else { throw changed() }
            func copy<Number>(_: Number.Type, _ number: (Number) -> Float) {
                let numbers = data.assumingMemoryBound(to: Number.self)
                if skipsFirst {
                    for row in 0..<rowCount { target[row] = number(numbers[2 * row + 1]) }
                } else {
                    for index in 0..<count { target[index] = number(numbers[index]) }
                }
            }
            switch element {
            case .float: copy(Float.self) { $0 }
            case .double: copy(Double.self) { Float($0) }
            case .int64: copy(Int64.self) { Float($0) }
            case .int32: copy(Int32.self) { Float($0) }
            case .bool: copy(UInt8.self) { $0 == 0 ? 0 : 1 }
            case .text: throw changed()
            }
        case .maps:
            try maps(value, rowCount) { (row, numbers) throws(ModelError) in
                guard numbers.count == width else { throw changed() }
                if skipsFirst {
                    target[row] = numbers[1]
                } else {
                    for index in 0..<width { target[row * width + index] = numbers[index] }
                }
            }
        }
    }

    private func changed() -> ModelError {
        ModelError(.unavailable, "the model gave an output of another shape or type than for its first row")
    }

    private func shape(of value: OpaquePointer) throws(ModelError) -> (ElementType, Int) {
        var made: OpaquePointer?
        var kind: Int32 = 0
        try library.check(api.pointee.GetValueType(value, &kind), .unavailable)
        guard kind == 1 else { throw changed() }
        try library.check(api.pointee.GetTensorTypeAndShape(value, &made), .unavailable)
        guard let tensor = made else { throw changed() }
        defer { api.pointee.ReleaseTensorTypeAndShapeInfo(tensor) }
        var number: Int32 = 0
        var count = 0
        try library.check(api.pointee.GetTensorElementType(tensor, &number), .unavailable)
        try library.check(api.pointee.GetTensorShapeElementCount(tensor, &count), .unavailable)
        guard let element = ElementType(rawValue: number) else { throw changed() }
        return (element, count)
    }

    /// Gives the numbers of each row's map, in the order of its keys.
    private func maps(
        _ value: OpaquePointer, _ rowCount: Int,
        _ body: (_ row: Int, _ numbers: UnsafeBufferPointer<Float>) throws(ModelError) -> Void
    ) throws(ModelError) {
        var kind: Int32 = 0
        var count = 0
        try library.check(api.pointee.GetValueType(value, &kind), .unavailable)
        guard kind == 2 else { throw changed() }
        try library.check(api.pointee.GetValueCount(value, &count), .unavailable)
        guard count == rowCount else { throw changed() }
        for row in 0..<rowCount {
            var made: OpaquePointer?
            try library.check(api.pointee.GetValue(value, Int32(clamping: row), library.allocator, &made), .unavailable)
            guard let map = made else { throw changed() }
            defer { api.pointee.ReleaseValue(map) }
            try library.check(api.pointee.GetValueType(map, &kind), .unavailable)
            guard kind == 3 else {
                throw ModelError(
                    .unsupportedModel, "output '\(printable(output.name))' is a sequence of something else than maps")
            }
            made = nil
            try library.check(api.pointee.GetValue(map, 1, library.allocator, &made), .unavailable)
            guard let numbers = made else { throw changed() }
            defer { api.pointee.ReleaseValue(numbers) }
            let (element, width) = try shape(of: numbers)
            guard element == .float else {
                throw ModelError(.unsupportedModel, "the maps of '\(printable(output.name))' hold no float numbers")
            }
            var data: UnsafeMutableRawPointer?
            try library.check(api.pointee.GetTensorMutableData(numbers, &data), .unavailable)
            guard let data else { throw changed() }
            try body(row, UnsafeBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: width))
        }
    }

    /// Computes the chosen output; the caller releases it.
    private func run(_ rows: UnsafeBufferPointer<Float>, _ rowCount: Int) throws(ModelError) -> OpaquePointer {
        let feeds = inputs.feeds
        let values = UnsafeMutablePointer<OpaquePointer?>.allocate(capacity: feeds.count)
        values.initialize(repeating: nil, count: feeds.count)
        let buffers = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(capacity: feeds.count)
        buffers.initialize(repeating: nil, count: feeds.count)
        defer {
            for index in feeds.indices {
                if let value = values[index] { api.pointee.ReleaseValue(value) }
                buffers[index]?.deallocate()
            }
            values.deallocate()
            buffers.deallocate()
        }
        for (index, feed) in feeds.enumerated() {
            if feed.element == .text {
                try text(feed, rows, rowCount, into: values + index)
            } else if feed.element == .float, feed.width == inputs.featureCount, let base = rows.baseAddress {
                // The library only reads it.
                try tensor(feed, UnsafeMutableRawPointer(mutating: base), rowCount, into: values + index)
            } else {
                let buffer = UnsafeMutableRawPointer.allocate(
                    byteCount: max(16, rowCount * feed.width * feed.element.byteCount), alignment: 16)
                buffers[index] = buffer
                try fill(buffer, feed, rows, rowCount)
                try tensor(feed, buffer, rowCount, into: values + index)
            }
        }
        var result: OpaquePointer?
        try library.check(
            api.pointee.Run(
                session.pointer, nil, inputNames.pointers, values, feeds.count, outputNames.pointers, 1, &result),
            .unavailable)
        guard let result else { throw ModelError(.unavailable, "ONNX Runtime gave no output") }
        return result
    }

    private func tensor(
        _ feed: ONNXInputs.Feed, _ data: UnsafeMutableRawPointer, _ rowCount: Int,
        into value: UnsafeMutablePointer<OpaquePointer?>
    ) throws(ModelError) {
        var shape = (Int64(rowCount), Int64(feed.width))
        let status = withUnsafeBytes(of: &shape) {
            api.pointee.CreateTensorWithDataAsOrtValue(
                library.memory, data, rowCount * feed.width * feed.element.byteCount,
                $0.baseAddress?.assumingMemoryBound(to: Int64.self), feed.isFlat ? 1 : 2, feed.element.rawValue, value)
        }
        try library.check(status, .unavailable)
    }

    private func text(
        _ feed: ONNXInputs.Feed, _ rows: UnsafeBufferPointer<Float>, _ rowCount: Int,
        into value: UnsafeMutablePointer<OpaquePointer?>
    ) throws(ModelError) {
        let count = rowCount * feed.width
        let texts = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: count)
        defer { texts.deallocate() }
        for row in 0..<rowCount {
            for column in 0..<feed.width {
                let position = feed.first + column
                let code = rows[row * inputs.featureCount + position]
                guard let table = categories[position] else {
                    throw ModelError(
                        .shapeMismatch, "the categories of \(ONNXModel.named(position, inputs)) are unknown")
                }
                // The last text stands for a missing value.
                let known = code.isNaN ? table.count - 1 : Int(exactly: code) ?? -1
                guard known >= 0, known < table.count - 1 || code.isNaN || table.count == 1 && known == 0 else {
                    throw ModelError(
                        .shapeMismatch,
                        "\(ONNXModel.named(position, inputs)) holds \(code), which is no category's code")
                }
                texts[row * feed.width + column] = table[known]
            }
        }
        var shape = (Int64(rowCount), Int64(feed.width))
        let status = withUnsafeBytes(of: &shape) {
            api.pointee.CreateTensorAsOrtValue(
                library.allocator, $0.baseAddress?.assumingMemoryBound(to: Int64.self), feed.isFlat ? 1 : 2,
                feed.element.rawValue, value)
        }
        try library.check(status, .unavailable)
        if let made = value.pointee {
            try library.check(api.pointee.FillStringTensor(made, texts, count), .unavailable)
        }
    }

    /// Converts a feed's columns of the rows.
    private func fill(
        _ buffer: UnsafeMutableRawPointer, _ feed: ONNXInputs.Feed, _ rows: UnsafeBufferPointer<Float>, _ rowCount: Int
    ) throws(ModelError) {
        func store<Number>(_: Number.Type, _ number: (Float) -> Number?) throws(ModelError) {
            let target = buffer.bindMemory(to: Number.self, capacity: rowCount * feed.width)
            for row in 0..<rowCount {
                for column in 0..<feed.width {
                    let value = rows[row * inputs.featureCount + feed.first + column]
                    guard let number = number(value) else {
                        throw ModelError(
                            .shapeMismatch,
                            "\(ONNXModel.named(feed.first + column, inputs)) is \(value.isNaN ? "missing" : "\(value)"); "
                                + "the model takes whole numbers there (\(feed.element)), which cannot be missing")
                    }
                    target[row * feed.width + column] = number
                }
            }
        }
        switch feed.element {
        case .float: try store(Float.self) { $0 }
        case .double: try store(Double.self) { Double($0) }
        case .int64: try store(Int64.self) { Int64(exactly: $0) }
        case .int32: try store(Int32.self) { Int32(exactly: $0) }
        case .bool: try store(UInt8.self) { $0 == 0 ? 0 : $0 == 1 ? 1 : nil }
        case .text: break
        }
    }
}
