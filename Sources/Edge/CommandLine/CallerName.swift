/// Whom a command acts for.
public enum CallerName {
    /// The given name, else `BOTTEGA_ACTOR`, else the account's name in `USER`, else `local`.
    public static func from(_ given: String?, _ environment: [String: String]) -> String {
        [given, environment["BOTTEGA_ACTOR"], environment["USER"]].compactMap(\.self).first { !$0.isEmpty } ?? "local"
    }
}
