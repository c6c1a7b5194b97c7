import ArgumentParser
import PlatformCore

/// What is said of a command that there is none of.
///
/// The argument parser calls such a word an unexpected argument; whoever typed it wants to know which command was meant.
enum CommandNames {
    /// Names of the commands below one, other spellings included.
    private static func names(of command: any ParsableCommand.Type) -> [String] {
        [command._commandName] + command.configuration.aliases
    }

    /// What is wrong with the words that lead to a command; `nil` if nothing is.
    ///
    /// Only commands that do nothing themselves are looked at: a word behind any other is for that one to read.
    static func refusal(of words: [String], below root: any ParsableCommand.Type) -> String? {
        var command = root
        var path = [root._commandName]
        for word in words {
            let configuration = command.configuration
            guard !word.hasPrefix("-"), !configuration.subcommands.isEmpty else { return nil }
            if let next = configuration.subcommands.first(where: { names(of: $0).contains(word) }) {
                command = next
                path.append(word)
                continue
            }
            guard configuration.defaultSubcommand == nil, word != "help" else { return nil }
            let place = path.joined(separator: " ")
            let meant = suggestions(for: word, below: command, path, of: root).map { "'\($0)'" }
            return "there is no command '\(place) \(word.prefix(64))'; "
                + (meant.isEmpty ? "'\(place) --help' lists them" : "did you mean \(meant.joined(separator: " or "))?")
        }
        return nil
    }

    /// Words of the field that no command is called by, and what they may mean.
    private static let synonyms = [
        "explain": ["why ID --explain", "predict MODEL --explain", "rollout explain MODEL"],
        "experiment": ["run list --experiment NAME"], "drift": ["monitor MONITOR"], "alert": ["monitor MONITOR"],
    ]

    /// Most commands that are named to somebody who may have meant one of them.
    private static let suggestionCountMax = 3

    /// Commands that a word may mean: those here that begin like it, those anywhere that are called so, the nearest one here.
    private static func suggestions(
        for word: String, below command: any ParsableCommand.Type, _ path: [String], of root: any ParsableCommand.Type
    ) -> [String] {
        if path.count == 1, let meant = synonyms[word] ?? synonyms[String(word.dropLast(word.hasSuffix("s") ? 1 : 0))] {
            return meant.map { "\(root._commandName) \($0)" }
        }
        let here = shown(below: command).flatMap { names(of: $0) }
        func whole(_ name: String) -> String { (path + [name]).joined(separator: " ") }
        let alike = here.filter { isAlike($0, word) }.map(whole)
        if 1...suggestionCountMax ~= alike.count { return alike }
        var elsewhere: [String] = []
        for group in shown(below: root) {
            for name in shown(below: group).flatMap({ names(of: $0) }) where isSame(name, word) {
                elsewhere.append([root._commandName, group._commandName, name].joined(separator: " "))
            }
        }
        if 1...suggestionCountMax ~= elsewhere.count { return elsewhere }
        return nearestName(to: word, among: here).map { [whole($0)] } ?? []
    }

    private static func shown(below command: any ParsableCommand.Type) -> [any ParsableCommand.Type] {
        command.configuration.subcommands.filter { $0.configuration.shouldDisplay }
    }

    private static func isSame(_ name: String, _ word: String) -> Bool {
        name == word || name == "\(word)s" || "\(name)s" == word
    }

    /// Whether one of two words begins with the other, or is a part of it: `predictions`, `predict`, `prediction-jobs`.
    private static func isAlike(_ name: String, _ word: String) -> Bool {
        let stem = word.count > 3 && word.hasSuffix("s") ? String(word.dropLast()) : word
        guard min(stem.count, name.count) >= 3 else { return false }
        return stem.hasPrefix(name) || name.split(separator: "-").contains { $0.hasPrefix(stem) }
    }
}
