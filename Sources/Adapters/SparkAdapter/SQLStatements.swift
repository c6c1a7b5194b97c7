/// Cuts a script into its statements.
enum SQLStatements {
    /// The statements without their semicolons; those inside of literals, quoted names and comments do not count.
    static func split(_ script: String) -> [String] {
        let bytes = Array(script.utf8)
        var out: [String] = []
        var start = 0
        var at = 0
        func take(_ end: Int) {
            let text = String(decoding: bytes[start..<end], as: UTF8.self)
            if text.contains(where: { !$0.isWhitespace }) { out.append(text) }
        }
        while at < bytes.count {
            let byte = bytes[at]
            switch byte {
            case 0x27, 0x22, 0x60:  // ' " `
                at += 1
                while at < bytes.count, bytes[at] != byte {
                    // A backslash keeps the next byte in the text, except inside of a quoted name.
                    if bytes[at] == 0x5C, byte != 0x60 { at += 1 }
                    at += 1
                }
            case 0x2D where at + 1 < bytes.count && bytes[at + 1] == 0x2D:  // --
                while at < bytes.count, bytes[at] != 10 { at += 1 }
            case 0x3B:
                take(at)
                start = at + 1
            default: break
            }
            at += 1
        }
        take(bytes.count)
        return out
    }
}
