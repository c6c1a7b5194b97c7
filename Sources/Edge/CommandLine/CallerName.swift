import PlatformCore

/// Whom a command acts for.
public enum CallerName {
    /// The given name, else `BOTTEGA_ACTOR`, else the account's name in `USER`, else `local`.
    public static func from(_ given: String?, _ environment: [String: String]) -> String {
        if let stated = [given, environment["BOTTEGA_ACTOR"]].compactMap(\.self).first(where: { !$0.isEmpty }) {
            return stated
        }
        // An account may have a name that nobody can act under; whoever wants another says so.
        return (try? ActorName.checked(environment["USER"] ?? "")) ?? ActorName.unnamed
    }
}
