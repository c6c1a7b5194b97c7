import Foundation
import PlatformCore
import PlatformTesting
import Testing

/// Names, hashes and entity keys take only what is safe where they go.
struct IdentifierTests {
    @Test(arguments: ["a", "A", "0", "_", "a.b-c_D9", "_-.", String(repeating: "x", count: 128)])
    func goodNamesAreTaken(text: String) throws {
        #expect(Name(text)?.text == text)
        #expect(try JSONValue.string(text).decoded(as: Name.self).text == text)
    }

    @Test(arguments: [
        "", "-a", ".a", "..", "a b", "a/b", "a\\b", "é", "a\n", "a\0", "a:b", "a%", String(repeating: "x", count: 129),
    ]) func badNamesAreRefused(text: String) {
        #expect(Name(text) == nil)
        #expect(throws: DecodingError.self) { try JSONValue.string(text).decoded(as: Name.self) }
    }

    @Test func aHashIsSixtyFourLowerCaseDigits() throws {
        let bytes = (0..<32).map { UInt8($0 * 8 + 7) }
        let hash = ContentHash(bytes: bytes)
        #expect(hash.hex.hasPrefix("070f171f") && hash.hex.count == 64)
        #expect(ContentHash(hex: hash.hex) == hash)
        #expect(ContentHash(hex: hash.hex.uppercased()) == nil)
        #expect(ContentHash(hex: hash.hex.dropLast()) == nil)
        #expect(ContentHash(hex: String(repeating: "g", count: 64)) == nil)
        #expect(hash.short == "070f171f272f")
    }

    @Test(arguments: UInt64(0)..<50) func entityKeysGiveBackTheirValues(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var values: [String] = []
        for _ in 0..<Int.random(in: 1...8, using: &random) {
            values.append(
                ["N123UA", "é", "a,b", " ", "😀", "0", String(repeating: "é", count: 256)].randomElement(using: &random)
                    ?? "")
        }
        let key = try #require(EntityKey(values: values))
        #expect(key.values == values)
        #expect(EntityKey(joined: key.joined) == key)
    }

    @Test func valuesThatCouldBreakAKeyAreRefused() {
        let none: [String] = []
        #expect(EntityKey(values: none) == nil)
        for value in ["", "a\u{1F}b", "a\nb", "\0", "\u{7F}", String(repeating: "x", count: 513)] {
            #expect(EntityKey(values: ["a", value]) == nil)
            #expect(!EntityKey.accepts(value))
        }
    }

    /// A store compares bytes; so must every table in memory, or one of them joins what the other keeps apart.
    @Test func keysAreEqualWhenTheirBytesAre() throws {
        let composed = try #require(EntityKey(values: ["\u{E9}"]))
        let decomposed = try #require(EntityKey(values: ["e\u{301}"]))
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed]).count == 2)
        #expect((composed < decomposed) != (decomposed < composed))
        #expect(decomposed < composed, "0x65 comes before 0xC3")
    }
}

/// Version 7 identifiers: rising, readable, never twice.
struct IdentifierSourceTests {
    private static let start = EventTime(milliseconds: 1_372_670_100_000)

    @Test func identifiersRiseUnderAClockThatStandsStill() {
        let source = IdentifierSource(clock: ManualClock(startingAt: Self.start), generator: SplitMix64(seed: 1))
        let all = (0..<10_000).map { _ in source.next() }
        #expect(zip(all, all.dropFirst()).allSatisfy { $0 < $1 })
        #expect(all.allSatisfy { IdentifierSource.time(of: $0) == Self.start })
    }

    @Test func identifiersKeepTheirFormAndTime() throws {
        let clock = ManualClock(startingAt: Self.start)
        let source = IdentifierSource(clock: clock)
        var last = ""
        for step in 0..<1000 {
            let now = clock.advance(to: Self.start.advanced(by: TimeSpan(milliseconds: Int64(step) * 7)))
            let id = source.next()
            let parsed = try #require(UUID(uuidString: id))
            #expect(id == parsed.uuidString.lowercased())
            #expect(id.utf8.dropFirst(14).first == UInt8(ascii: "7"))
            #expect("89ab".utf8.contains(try #require(id.utf8.dropFirst(19).first)))
            #expect(IdentifierSource.time(of: id) == now)
            #expect(id > last)
            last = id
        }
    }

    @Test func identifiersRiseWhenTheClockFallsBack() {
        final class FallingClock: PlatformClock {
            func now() -> EventTime { EventTime(milliseconds: Int64(bitPattern: UInt64.random(in: 0..<1 << 40))) }
        }
        let source = IdentifierSource(clock: FallingClock())
        let all = (0..<1000).map { _ in source.next() }
        #expect(zip(all, all.dropFirst()).allSatisfy { $0 < $1 })
    }

    @Test func manyTasksGetDifferentOnes() async {
        let source = IdentifierSource(clock: ManualClock(startingAt: Self.start))
        let all = await withTaskGroup(of: [String].self) { group in
            for _ in 0..<8 { group.addTask { (0..<500).map { _ in source.next() } } }
            return await group.reduce(into: Set<String>()) { $0.formUnion($1) }
        }
        #expect(all.count == 4000)
    }

    @Test(arguments: [
        "", "x", "0190163d-8694-4123-8abc-0123456789ab", "0190163D-8694-7123-8abc-0123456789ab",
        "0190163d-8694-7123-8abc-0123456789a", "0190163d-8694-7123-8abc-0123456789abc",
        "0190163d08694-7123-8abc-0123456789ab", "0190163d-8694-7123-8abc-01234567-9ab",
        "0190163d-8694-7123-8abc-0123456789aé",
        "------------------------------------",
    ]) func timeIsReadOnlyFromIdentifiers(text: String) {
        #expect(IdentifierSource.time(of: text) == nil)
    }

    @Test func theManualClockNeverMovesBack() {
        let clock = ManualClock(startingAt: Self.start)
        #expect(clock.now() == Self.start)
        let later = Self.start.advanced(by: .seconds(5))
        #expect(clock.advance(to: later) == later)
        #expect(clock.advance(to: Self.start) == later)
        #expect(clock.now() == later)
    }

    @Test func theSystemClockIsTheSystems() {
        let distance = Double(SystemClock().now().milliseconds) - Date().timeIntervalSince1970 * 1000
        #expect(abs(distance) < 10_000)
    }
}

/// "Did you mean": near names are found, far ones are not.
struct NearestNameTests {
    @Test(arguments: [
        ("windw", "window"), ("Window", "window"), ("agregate", "aggregate"), ("sorce", "source"), ("ttl", "ttl"),
        ("wnidow", "window"), ("", "ttl"),
    ]) func findsTheNearest(name: String, nearest: String) {
        let known = ["window", "aggregate", "source", name.isEmpty ? "tt" : "ttl"]
        #expect(nearestName(to: name, among: known) == (name.isEmpty ? "tt" : nearest))
    }

    @Test func findsNothingFarAway() {
        #expect(nearestName(to: "frequency", among: ["window", "aggregate", "source"]) == nil)
        #expect(nearestName(to: "window", among: [String]()) == nil)
        #expect(nearestName(to: String(repeating: "x", count: 100_000), among: ["window"]) == nil)
    }

    @Test func aTieGoesToTheFirstByName() {
        #expect(nearestName(to: "bat", among: ["hat", "cat"]) == "cat")
    }
}
