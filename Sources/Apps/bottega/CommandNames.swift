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
            var known: [String] = []
            for subcommand in configuration.subcommands where subcommand.configuration.shouldDisplay {
                known += names(of: subcommand)
            }
            let near = nearestName(to: word, among: known)
            let place = path.joined(separator: " ")
            return "there is no command '\(place) \(word.prefix(64))'; "
                + (near.map { "did you mean '\(place) \($0)'?" } ?? "'\(place) --help' lists them")
        }
        return nil
    }
}
