/// Names of those who do things: how they are written, which ones are taken, and when two are the same.
public enum ActorName {
    /// Whom a request stands for that names nobody.
    public static let unnamed = "local"
    /// Names that the platform's own parts sign with.
    ///
    /// Nobody outside may bear one, or a person could pass for a controller.
    public static let reserved: Set<String> = [
        "lifecycle", "tables", "log", "gates", "features", "schedule", "monitor", "migration",
    ]
    /// Longest accepted name: that of an OpenID Connect subject.
    public static let lengthMax = 255

    /// A name from outside as it is kept: without surrounding blanks, runs of blanks as one.
    ///
    /// Printable ASCII is what e-mail addresses, account names and OpenID Connect subjects are made of. Other letters are
    /// refused, as many look like these and would make one person two.
    /// - Throws: `invalidInput` for other characters and longer names, `forbidden` for a reserved name.
    public static func checked(_ text: String) throws(PlatformError) -> String {
        guard text.utf8.allSatisfy({ 0x20...0x7E ~= $0 }) else {
            throw PlatformError(
                .invalidInput, "actor",
                "a name consists of printable ASCII characters, such as an e-mail address; 'bottega --as NAME' or the "
                    + "header X-Bottega-Actor gives another")
        }
        let name = text.split(separator: " ").joined(separator: " ")
        guard name.utf8.count <= lengthMax else {
            throw PlatformError(
                .invalidInput, "actor", "a name has at most \(lengthMax) characters, this one \(name.utf8.count)")
        }
        if name.isEmpty { return unnamed }
        guard !reserved.contains(key(of: name)), !key(of: name).hasPrefix("gate of ") else {
            throw PlatformError(
                .forbidden, "actor",
                "'\(name)' is how a part of the platform signs; nobody else can act under this name")
        }
        return name
    }

    /// What two names of the same person have in common: upper and lower case are one, and so are blanks around.
    public static func key(of name: String) -> String {
        name.split(whereSeparator: \.isWhitespace).joined(separator: " ").lowercased()
    }
}
