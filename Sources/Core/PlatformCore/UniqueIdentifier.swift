import Synchronization

/// Gives identifiers that nobody else has: version 7 UUIDs (RFC 9562), which begin with their time in milliseconds.
///
/// Identifiers of one source rise strictly, also inside one millisecond and under a clock that stands still.
public final class IdentifierSource: Sendable {
    private struct State {
        var lastMilliseconds: Int64 = -1
        var counter: UInt32 = 0
        var generator: Generator

        /// The usual generator is called directly, another one through its protocol.
        enum Generator {
            case usual(IdentifierGenerator)
            case other(any RandomNumberGenerator & Sendable)

            mutating func next() -> UInt64 {
                switch self {
                case .usual(var generator):
                    defer { self = .usual(generator) }
                    return generator.next()
                case .other(var generator):
                    defer { self = .other(generator) }
                    return generator.next()
                }
            }
        }
    }
    private let clock: any PlatformClock
    private let state: Mutex<State>

    /// Takes time from `clock` and randomness from `generator`.
    public init(
        clock: any PlatformClock,
        generator: sending any RandomNumberGenerator & Sendable = IdentifierGenerator()
    ) {
        self.clock = clock
        state = Mutex(State(generator: (generator as? IdentifierGenerator).map { .usual($0) } ?? .other(generator)))
    }

    /// A new identifier, 36 characters, `0190163d-8694-7123-8abc-0123456789ab`.
    public func next() -> String { next(at: clock.now()) }

    /// The same for a moment that has just been looked up.
    public func next(at moment: EventTime) -> String {
        let now = moment.milliseconds & 0xFFFF_FFFF_FFFF
        let (milliseconds, counter, low): (Int64, UInt32, UInt64) = state.withLock { state in
            if now > state.lastMilliseconds {
                state.lastMilliseconds = now
                state.counter = UInt32(truncatingIfNeeded: state.generator.next()) & 0x00FF_FFFF
            } else {
                state.counter += 1
                if state.counter >> 26 != 0 {  // 26 bits of counter: 12 in rand_a, 14 in rand_b
                    state.lastMilliseconds += 1
                    state.counter = 0
                }
            }
            return (state.lastMilliseconds, state.counter, state.generator.next())
        }
        let high = UInt64(bitPattern: milliseconds) << 16 | 0x7000 | UInt64(counter >> 14 & 0xFFF)
        let rest = 0x8000_0000_0000_0000 | UInt64(counter & 0x3FFF) << 48 | low & 0xFFFF_FFFF_FFFF
        return Self.text(high, rest)
    }

    /// The time inside an identifier; `nil` if `text` is no version 7 UUID.
    public static func time(of text: String) -> EventTime? {
        let bytes = Array(text.utf8)
        guard bytes.count == 36, bytes[8] == 45, bytes[13] == 45, bytes[18] == 45, bytes[23] == 45, bytes[14] == 55,
            text.replacing("-", with: "").utf8.count == 32,
            text.utf8.allSatisfy({ $0 == 45 || 48...57 ~= $0 || 97...102 ~= $0 }),
            let milliseconds = Int64(String(decoding: bytes[0..<8] + bytes[9..<13], as: UTF8.self), radix: 16)
        else { return nil }
        return EventTime(milliseconds: milliseconds)
    }

    private static func text(_ high: UInt64, _ low: UInt64) -> String {
        String(unsafeUninitializedCapacity: 36) { target in
            var at = 0
            for half in [high, low] {
                for shift in stride(from: 60, through: 0, by: -4) {
                    if at == 8 || at == 13 || at == 18 || at == 23 {
                        target[at] = 45
                        at += 1
                    }
                    let digit = UInt8(truncatingIfNeeded: half >> UInt64(shift)) & 15
                    target[at] = digit + (digit < 10 ? 48 : 87)
                    at += 1
                }
            }
            return 36
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014) from a random start: identifiers must differ, not be secret, and asking the system
/// for each would cost a call into the kernel while others wait.
public struct IdentifierGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// Starts where the system's generator says.
    public init() {
        var system = SystemRandomNumberGenerator()
        state = system.next()
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
