/// A moment in UTC, as whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Every time in the platform is one of these. Names say which moment is meant: `eventTime` (it happened), `ingestTime`
/// (we could have known), `asOf` (what a question is about); never a bare `timestamp`.
public struct EventTime: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// Milliseconds since the epoch; negative before 1970.
    public let milliseconds: Int64

    /// Makes a moment from milliseconds since the epoch.
    public init(milliseconds: Int64) { self.milliseconds = milliseconds }

    /// The first moment that outside input may name: 1900-01-01T00:00:00Z.
    public static let earliestAccepted = EventTime(milliseconds: -2_208_988_800_000)
    /// The first moment past what outside input may name: 2200-01-01T00:00:00Z.
    public static let latestAccepted = EventTime(milliseconds: 7_258_118_400_000)

    /// Whether outside input may name this moment (1900 up to, not including, 2200).
    public var isAccepted: Bool { self >= Self.earliestAccepted && self < Self.latestAccepted }

    /// Earlier moments come first.
    public static func < (left: EventTime, right: EventTime) -> Bool { left.milliseconds < right.milliseconds }

    /// The moment `span` later.
    ///
    /// Saturates at the ends of the range.
    public func advanced(by span: TimeSpan) -> EventTime {
        let (sum, overflow) = milliseconds.addingReportingOverflow(span.milliseconds)
        return EventTime(milliseconds: overflow ? (span.milliseconds > 0 ? .max : .min) : sum)
    }

    /// The span from `earlier` to this moment; negative when `earlier` is later.
    ///
    /// Saturates.
    public func since(_ earlier: EventTime) -> TimeSpan {
        let (difference, overflow) = milliseconds.subtractingReportingOverflow(earlier.milliseconds)
        return TimeSpan(milliseconds: overflow ? (earlier.milliseconds < 0 ? .max : .min) : difference)
    }

    /// Reads milliseconds since the epoch.
    public init(from decoder: any Decoder) throws {
        milliseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    /// Writes milliseconds since the epoch.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(milliseconds)
    }

    // MARK: Text

    /// The moment as RFC 3339 text with milliseconds, `2013-07-01T09:15:00.000Z`.
    public var description: String {
        let parts = civil
        func pad(_ value: Int, _ width: Int) -> String {
            let digits = String(abs(value))
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let year = parts.year < 0 ? "-" + pad(parts.year, 4) : pad(parts.year, 4)
        return "\(year)-\(pad(parts.month, 2))-\(pad(parts.day, 2))T\(pad(parts.hour, 2)):\(pad(parts.minute, 2))"
            + ":\(pad(parts.second, 2)).\(pad(parts.millisecond, 3))Z"
    }

    /// The date in UTC, `2013-07-01`.
    public var dateText: String { String(description.prefix(10)) }

    /// Reads RFC 3339 text (`2013-07-01T09:15:00Z`, an offset instead of `Z`, a blank instead of `T`, up to nine digits
    /// of fraction, of which milliseconds are kept), a bare date (midnight UTC), or whole milliseconds since the epoch.
    ///
    /// A time of day without a zone is refused: guessing one is how features go wrong by hours.
    /// - Returns: `nil` if the text is none of these or names a day that does not exist.
    public init?(text: some StringProtocol) {
        let bytes = Array(text.utf8)
        if let value = Self.parse(bytes) { self = value } else { return nil }
    }

    private static func parse(_ bytes: [UInt8]) -> EventTime? {
        func digits(_ from: Int, _ count: Int) -> Int? {
            guard from + count <= bytes.count else { return nil }
            var value = 0
            for byte in bytes[from..<(from + count)] {
                guard byte >= 48, byte <= 57 else { return nil }
                value = value * 10 + Int(byte - 48)
            }
            return value
        }
        if !bytes.isEmpty, bytes.count <= 16, bytes.dropFirst(bytes[0] == 45 ? 1 : 0).allSatisfy({ 48...57 ~= $0 }),
            bytes.last != 45
        {
            return Int64(String(decoding: bytes, as: UTF8.self)).map(EventTime.init(milliseconds:))
        }
        guard bytes.count >= 10, bytes[4] == 45, bytes[7] == 45, let year = digits(0, 4), let month = digits(5, 2),
            let day = digits(8, 2), 1...12 ~= month, day >= 1, day <= daysIn(month: month, year: year)
        else { return nil }
        let midnight = Int64(daysFromCivil(year: year, month: month, day: day)) * 86_400_000
        if bytes.count == 10 { return EventTime(milliseconds: midnight) }
        guard bytes.count >= 17, [84, 116, 32].contains(bytes[10]), bytes[13] == 58, let hour = digits(11, 2),
            let minute = digits(14, 2), hour < 24, minute < 60
        else { return nil }
        var second = 0
        var at = 16
        if bytes[at] == 58 {
            guard let value = digits(17, 2), value < 60 else { return nil }
            second = value
            at = 19
        }
        var millisecond = 0
        if at < bytes.count, bytes[at] == 46 {
            var scale = 100
            var count = 0
            at += 1
            while at < bytes.count, 48...57 ~= bytes[at] {
                millisecond += Int(bytes[at] - 48) * scale
                scale /= 10
                count += 1
                at += 1
            }
            guard 1...9 ~= count else { return nil }
        }
        guard at < bytes.count else { return nil }
        var offsetMinutes = 0
        switch bytes[at] {
        case 90, 122:
            guard at + 1 == bytes.count else { return nil }
        case 43, 45:
            guard let hours = digits(at + 1, 2), hours < 24 else { return nil }
            var minutes = 0
            if at + 3 < bytes.count {
                let colon = bytes[at + 3] == 58 ? 1 : 0
                guard let value = digits(at + 3 + colon, 2), value < 60, at + 5 + colon == bytes.count else {
                    return nil
                }
                minutes = value
            }
            offsetMinutes = (hours * 60 + minutes) * (bytes[at] == 45 ? -1 : 1)
        default: return nil
        }
        let ofDay = ((hour * 60 + minute - offsetMinutes) * 60 + second) * 1000 + millisecond
        return EventTime(milliseconds: midnight + Int64(ofDay))
    }

    // MARK: Calendar (proleptic Gregorian; Hinnant, chrono-compatible low-level date algorithms)

    /// The parts of the moment in UTC.
    public var civil: (year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int, millisecond: Int) {
        let dayLength: Int64 = 86_400_000
        let days = Int((milliseconds - (milliseconds % dayLength + dayLength) % dayLength) / dayLength)
        let ofDay = Int((milliseconds % dayLength + dayLength) % dayLength)
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthIndex = (5 * dayOfYear + 2) / 153
        let month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
        return (
            yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * monthIndex + 2) / 5 + 1,
            ofDay / 3_600_000, ofDay / 60_000 % 60, ofDay / 1000 % 60, ofDay % 1000
        )
    }

    private static func daysIn(month: Int, year: Int) -> Int {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        return month == 2 ? (leap ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
    }

    private static func daysFromCivil(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }
}

/// A span of time in whole milliseconds: a window, a time to live, a horizon.
public struct TimeSpan: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// Length in milliseconds.
    public let milliseconds: Int64

    /// Makes a span of `milliseconds`.
    public init(milliseconds: Int64) { self.milliseconds = milliseconds }

    /// A span of whole seconds.
    public static func seconds(_ count: Int64) -> TimeSpan { TimeSpan(milliseconds: count * 1000) }
    /// A span of whole minutes.
    public static func minutes(_ count: Int64) -> TimeSpan { .seconds(count * 60) }
    /// A span of whole hours.
    public static func hours(_ count: Int64) -> TimeSpan { .minutes(count * 60) }
    /// A span of whole days of 24 hours.
    public static func days(_ count: Int64) -> TimeSpan { .hours(count * 24) }

    /// Shorter spans come first.
    public static func < (left: TimeSpan, right: TimeSpan) -> Bool { left.milliseconds < right.milliseconds }

    private static let units: [(suffix: String, milliseconds: Int64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000),
    ]

    /// Reads a whole number and a unit: `250ms`, `30s`, `5m`, `1h`, `7d`, `2w`; at most a thousand years.
    public init?(text: some StringProtocol) {
        let number = text.prefix { $0.isASCII && $0.isNumber }
        guard let count = Int64(number),
            let unit = Self.units.first(where: { $0.suffix == text.dropFirst(number.count) })
        else { return nil }
        let (product, overflow) = count.multipliedReportingOverflow(by: unit.milliseconds)
        guard !overflow, product <= 366 * 1000 * 86_400_000 else { return nil }
        milliseconds = product
    }

    /// The span in the largest unit that divides it, `7d` rather than `168h`; weeks are written as days.
    public var description: String {
        for unit in Self.units.reversed() where unit.suffix != "w" && milliseconds % unit.milliseconds == 0 {
            if milliseconds == 0 { return "0s" }
            return "\(milliseconds / unit.milliseconds)\(unit.suffix)"
        }
        return "\(milliseconds)ms"
    }

    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let span = TimeSpan(text: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is no span such as 7d")
        }
        self = span
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
