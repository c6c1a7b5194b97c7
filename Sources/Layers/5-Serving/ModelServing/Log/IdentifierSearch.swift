import PlatformCore
import StoragePorts

/// Finds the record of one identifier in a topic whose identifiers rise along the log, as far as they do.
///
/// Identifiers are given in order, but their records are written by several threads, and some after a wait: each stands
/// near its place. That place is found by halving; around it is searched wider and wider, and in the end everywhere.
struct IdentifierSearch {
    /// What is searched first on either side of the place.
    private static let reach: UInt64 = 256

    let log: any EventLog
    let topic: Name
    /// The identifier of a stored record; `nil` where it has none.
    let identifier: (_ value: [UInt8]) -> String?

    /// The first record near its place with this identifier that `body` takes.
    /// - Complexity: O(log n) reads where records stand in order; every record of `stretch` where there is none.
    func first<Found>(
        _ id: String, in stretch: Range<UInt64>, _ body: (_ value: [UInt8]) throws -> Found?
    ) async throws -> (offset: UInt64, found: Found)? {
        let place = try await place(of: id, in: stretch)
        var searched = place..<place
        var reach = Self.reach
        while searched != stretch {
            let wider =
                max(stretch.lowerBound, place - min(place, reach))..<min(stretch.upperBound, place + reach)
            for part in [wider.lowerBound..<searched.lowerBound, searched.upperBound..<wider.upperBound] {
                var found: (UInt64, Found)?
                try await scan(part) { item in
                    if identifier(item.record.value) == id {
                        found = try body(item.record.value).map { (item.offset, $0) }
                    }
                    return found == nil
                }
                if let found { return found }
            }
            searched = wider
            reach *= 4
        }
        return nil
    }

    /// Where identifiers begin to be `id` or greater.
    private func place(of id: String, in stretch: Range<UInt64>) async throws -> UInt64 {
        var (low, high) = (stretch.lowerBound, stretch.upperBound)
        while high - low > Self.reach {
            let middle = low + (high - low) / 2
            // Some have no identifier. What is damaged decides nothing here: the search says so, if it gets there.
            let seen = try? await log.read(
                topic, partition: 0, from: middle, recordCountMax: 4, byteCountMax: 1 << 20)
            let found = (seen ?? []).lazy.compactMap { identifier($0.record.value) }.first
            if let found, found < id { low = middle } else { high = middle }
        }
        return low
    }

    /// Reads a stretch of the log until `body` has seen enough.
    func scan(_ stretch: Range<UInt64>, _ body: (StoredRecord) throws -> Bool) async throws {
        var offset = stretch.lowerBound
        while offset < stretch.upperBound {
            let stored = try await log.read(
                topic, partition: 0, from: offset, recordCountMax: Int(min(10_000, stretch.upperBound - offset)),
                byteCountMax: 16 << 20)
            guard let last = stored.last else { return }
            for item in stored {
                guard item.offset < stretch.upperBound, try body(item) else { return }
            }
            offset = last.offset + 1
        }
    }
}
