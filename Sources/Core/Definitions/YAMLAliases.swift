/// The aliases (`*name`) of a YAML text: each can double what stands behind it, and the parser follows them all.
public enum YAMLAliases {
    /// Most aliases in one text of somebody else's.
    public static let countMax = 20

    /// How many there are, or more.
    ///
    /// An asterisk that begins a word may also stand in a text. Without an anchor (`&name`) there are none. Words are also begun
    /// by the last bytes of the line breaks and the mark beyond ASCII that YAML knows: U+0085, U+2028, U+2029, U+FEFF.
    public static func count(in text: some Sequence<UInt8>) -> Int {
        var aliasCount = 0
        var hasAnchor = false
        var isWordStart = true
        var mark: UInt8 = 0
        for byte in text {
            if byte > 0x20, mark == 0x2A { aliasCount += 1 }
            if byte > 0x20, mark == 0x26 { hasAnchor = true }
            mark = isWordStart ? byte : 0
            isWordStart =
                switch byte {
                case 0x09, 0x0A, 0x0D, 0x20, 0x2C, 0x2D, 0x3A, 0x3F, 0x5B, 0x5D, 0x7B, 0x7D, 0x85, 0xA8, 0xA9, 0xBF:
                    true
                default: false
                }
        }
        return hasAnchor ? aliasCount : 0
    }
}
