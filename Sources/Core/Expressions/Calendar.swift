import PlatformCore

/// Parts of moments between 1900 and 2200, UTC.
enum Calendar {
    static let day: Int64 = 86_400_000
    /// Milliseconds from 1900-01-01, a Monday, to 1970: added, they make every accepted moment positive.
    static let shift: Int64 = 2_208_988_800_000

    static func isAccepted(_ time: Int64) -> Bool { EventTime(milliseconds: time).isAccepted }

    static func startOfYear(_ time: Int64) -> Int64 {
        let month = startOfMonth(time)
        var year = month
        for _ in 1..<EventTime(milliseconds: time).civil.month { year = startOfMonth(year - 1) }
        return year
    }

    static func startOfMonth(_ time: Int64) -> Int64 {
        startOf(time, day) - Int64(EventTime(milliseconds: time).civil.day - 1) * day
    }

    @inline(__always)
    static func startOf(_ time: Int64, _ unit: Int64) -> Int64 { (time + shift) / unit * unit - shift }

    static func dayOfYear(_ time: Int64) -> Int64 { (startOf(time, day) - startOfYear(time)) / day + 1 }
    /// Monday is 1.
    static func dayOfWeek(_ time: Int64) -> Int64 { (time + shift) / day % 7 + 1 }

    /// The week of ISO 8601: the week that holds the year's first Thursday is the first.
    static func week(_ time: Int64) -> Int64 {
        let thursday = startOf(time, day) + (4 - dayOfWeek(time)) * day
        return (dayOfYear(thursday) - 1) / 7 + 1
    }
}
