/// Draws names for runs that were given none: `steady-heron-418`.
enum RunNames {
    private static let adjectives = [
        "able", "amber", "bold", "brave", "bright", "calm", "clever", "crisp", "eager", "fair", "fleet", "gentle",
        "glad",
        "grand", "honest", "keen", "kind", "lively", "lucid", "merry", "mild", "noble", "patient", "placid", "proud",
        "quick", "quiet", "rare", "sharp", "silent", "sincere", "smooth", "steady", "sturdy", "swift", "tidy", "upbeat",
        "vivid", "warm", "wise",
    ]
    private static let nouns = [
        "anvil", "apprentice", "auk", "bear", "bee", "brush", "canvas", "chisel", "colt", "crane", "crow", "deer",
        "dove",
        "easel", "falcon", "finch", "fox", "fresco", "gull", "hare", "heron", "ink", "jay", "kiln", "lark", "loom",
        "lynx", "mantis", "marble", "moth", "otter", "owl", "panel", "pigment", "quill", "ram", "shrike", "sketch",
        "stork", "wren",
    ]

    static func draw() -> String {
        "\(adjectives.randomElement() ?? "calm")-\(nouns.randomElement() ?? "wren")-\(Int.random(in: 100...999))"
    }
}
