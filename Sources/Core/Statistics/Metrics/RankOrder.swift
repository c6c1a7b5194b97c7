/// Row numbers from the highest value down; equal values by row number.
///
/// A radix sort over the order-preserving bits of the values, eleven at a time; a digit that all rows share costs no pass,
/// so single-precision scores are sorted in half of them.
///
/// - Precondition: values are finite, fewer than 2³².
/// - Complexity: O(n), at most six passes; a comparison sort below 512 rows.
func descendingOrder(_ values: [Double]) -> [Int] { descendingRows(values).map(Int.init) }

/// The same as 32-bit numbers.
func descendingRows(_ values: [Double]) -> [UInt32] {
    guard values.count >= 512 else {
        return values.indices.sorted { values[$0] != values[$1] ? values[$0] > values[$1] : $0 < $1 }.map(UInt32.init)
    }
    // Ascending order of the keys is descending order of the values; a negative zero equals zero.
    var keys = values.map { value -> UInt64 in
        let bits = (value == 0 ? 0 : value).bitPattern
        return ~(bits >> 63 == 1 ? ~bits : bits | 1 << 63)
    }
    var rows = (0..<UInt32(values.count)).map { $0 }
    var otherKeys = [UInt64](repeating: 0, count: keys.count)
    var otherRows = [UInt32](repeating: 0, count: rows.count)
    var places = [Int](repeating: 0, count: 2048)
    for shift in stride(from: UInt64(0), to: 64, by: 11) {
        for digit in places.indices { places[digit] = 0 }
        for key in keys { places[Int((key >> shift) & 2047)] += 1 }
        if places.contains(keys.count) { continue }
        var next = 0
        for digit in places.indices { (places[digit], next) = (next, next + places[digit]) }
        for index in keys.indices {
            let digit = Int((keys[index] >> shift) & 2047)
            let place = places[digit]
            places[digit] = place + 1
            otherKeys[place] = keys[index]
            otherRows[place] = rows[index]
        }
        swap(&keys, &otherKeys)
        swap(&rows, &otherRows)
    }
    return rows
}

/// Sum by halves, whose rounding error grows with the logarithm of the count.
func pairwiseSum(_ values: [Double]) -> Double {
    func sum(_ range: Range<Int>) -> Double {
        if range.count <= 128 { return values[range].reduce(0, +) }
        let middle = range.lowerBound + range.count / 2
        return sum(range.lowerBound..<middle) + sum(middle..<range.upperBound)
    }
    return sum(values.indices)
}
