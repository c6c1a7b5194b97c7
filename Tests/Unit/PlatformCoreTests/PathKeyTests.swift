import PlatformCore
import Testing

/// Keys of metrics, parameters and tags: letters of any script, and paths that name themselves.
struct PathKeyTests {
    @Test(arguments: [
        "a", "train/loss", "a b", "a:b", "a.b-c_d", ".a", "a..", "a/..b", "Größe", "字", "٣", "½", "𝒳", " ", "_",
    ]) func isAKey(text: String) { #expect(PathKey.fault(in: text) == nil) }

    @Test(arguments: [
        "a=b", "a,b", "a@b", "e\u{301}", "a\u{200D}b", "🙂", "₿", "a\u{A0}b", "a\nb", "a\n", "\u{7F}", "a\\b", "Größe?",
    ]) func holdsWhatNoKeyHolds(text: String) { #expect(PathKey.fault(in: text)?.hasPrefix("may only hold") == true) }

    @Test(arguments: [
        "", ".", "..", "...", "..a", "/", "/a", "a/", "a//b", "./a", "a/.", "a/./b", "../a", "a/..", "a/../b",
    ]) func resolvesToAnotherName(text: String) {
        #expect(!PathKey.namesItself(text))
        #expect(PathKey.fault(in: text)?.hasPrefix("would resolve") == true)
    }
}
