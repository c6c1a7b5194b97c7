import Definitions
import PlatformCore

/// Reads the usual request from its bytes into the model's input, without a tree of values in between.
///
/// It takes what most programs send: one object with `entities` and `features`, known names, each once, plain ASCII text
/// without escapes, values of the right type and within their range. At anything else it gives up, and
/// `ServiceBinding.assemble` reads the request and words its faults: there is one meaning, this is a shorter way to it.
struct QuickInstance {
    private let bytes: UnsafeRawBufferPointer
    private var at = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// Fills in keys and what the request brings; `false` where it gave up, and the vector is of no use.
    mutating func read(_ binding: ServiceBinding, into vector: inout InputVector) -> Bool {
        var (hasEntities, hasFeatures) = (false, false)
        guard opens() else { return false }
        if !closes() {
            repeat {
                guard let name = key() else { return false }
                switch name.count {
                case 8 where !hasEntities && equals(name, "entities"):
                    hasEntities = true
                    guard readKeys(binding, into: &vector) else { return false }
                case 8 where !hasFeatures && equals(name, "features"):
                    hasFeatures = true
                    guard readFeatures(binding, into: &vector) else { return false }
                default: return false
                }
            } while continues()
            guard closes() else { return false }
        }
        skipBlanks()
        guard at == bytes.count else { return false }
        if !hasEntities, !binding.definition.joinKeys.isEmpty { return false }
        if !hasFeatures {
            for feature in binding.requestFeatures where !feature.nullable { return false }
        }
        return true
    }

    private mutating func readKeys(_ binding: ServiceBinding, into vector: inout InputVector) -> Bool {
        var seen: UInt64 = 0
        let count = binding.definition.joinKeys.count
        guard count <= 64, opens() else { return false }
        if !closes() {
            var guess = 0
            repeat {
                guard let name = key(), let position = binding.joinKeyTable.position(of: name, guess: guess),
                    seen & 1 << UInt64(position) == 0
                else { return false }
                seen |= 1 << UInt64(position)
                guess = position + 1
                skipBlanks()
                guard at < bytes.count else { return false }
                switch bytes[at] {
                case 0x22:
                    guard let text = string() else { return false }
                    let value = String(decoding: text, as: UTF8.self)
                    guard EntityKey.accepts(value) else { return false }
                    vector.keys[position] = value
                case 0x6E:
                    guard null() else { return false }
                    vector.keys[position] = nil
                default:
                    let start = at
                    guard let number = DecimalText.number(in: bytes, at: at), number.isWhole, number.end - at <= 18,
                        number.value != 0 || bytes[at] == 0x30
                    else { return false }
                    at = number.end
                    vector.keys[position] = String(decoding: bytes[start..<at], as: UTF8.self)
                }
            } while continues()
            guard closes() else { return false }
        }
        return seen.nonzeroBitCount == count
    }

    private mutating func readFeatures(_ binding: ServiceBinding, into vector: inout InputVector) -> Bool {
        guard opens() else { return false }
        if !closes() {
            var guess = 0
            repeat {
                guard let name = key(), let position = binding.inputTable.position(of: name, guess: guess),
                    !vector.isSent[position]
                else { return false }
                vector.isSent[position] = true
                guess = position + 1
                skipBlanks()
                guard at < bytes.count else { return false }
                if bytes[at] == 0x6E {
                    guard null(),
                        position >= binding.requestFeatures.count || binding.requestFeatures[position].nullable
                    else { return false }
                    vector.sent[position] = .nan
                } else if position < binding.requestFeatures.count, let codes = binding.requestFeatures[position].codes
                {
                    guard bytes[at] == 0x22, let text = string(),
                        let code = codes[String(decoding: text, as: UTF8.self)]
                    else { return false }
                    vector.sent[position] = code
                } else {
                    guard let number = DecimalText.number(in: bytes, at: at), number.value.isFinite else {
                        return false
                    }
                    at = number.end
                    if position < binding.requestFeatures.count {
                        let feature = binding.requestFeatures[position]
                        guard number.value >= feature.minimum, number.value <= feature.maximum else { return false }
                    }
                    vector.sent[position] = number.value
                }
            } while continues()
            guard closes() else { return false }
        }
        for (position, feature) in binding.requestFeatures.enumerated()
        where !feature.nullable && !vector.isSent[position] { return false }
        return true
    }

    // MARK: Tokens

    private mutating func skipBlanks() {
        while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x0A || bytes[at] == 0x0D || bytes[at] == 0x09 {
            at += 1
        }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        skipBlanks()
        guard at < bytes.count, bytes[at] == byte else { return false }
        at += 1
        return true
    }

    private mutating func opens() -> Bool { take(0x7B) }
    private mutating func closes() -> Bool { take(0x7D) }
    private mutating func continues() -> Bool { take(0x2C) }

    private mutating func key() -> UnsafeRawBufferPointer? {
        skipBlanks()
        guard at < bytes.count, bytes[at] == 0x22, let name = string(), take(0x3A) else { return nil }
        return name
    }

    /// The text after an opening quote, up to the closing one.
    private mutating func string() -> UnsafeRawBufferPointer? {
        at += 1
        let start = at
        while at < bytes.count, bytes[at] != 0x22 {
            guard bytes[at] >= 0x20, bytes[at] < 0x80, bytes[at] != 0x5C else { return nil }
            at += 1
        }
        guard at < bytes.count else { return nil }
        at += 1
        return UnsafeRawBufferPointer(rebasing: bytes[start..<(at - 1)])
    }

    private mutating func null() -> Bool {
        guard at + 4 <= bytes.count, equals(UnsafeRawBufferPointer(rebasing: bytes[at..<(at + 4)]), "null") else {
            return false
        }
        at += 4
        return true
    }

    private func equals(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        bytes.elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
}
