/// What keys of metrics, parameters and tags may consist of: the rules of MLflow's server.
///
/// Its clients write keys as paths of files, hence a key is text that names one place, and that place in one way.
public enum PathKey {
    /// Why a text is no key, to be read after it; `nil` if it is one.
    ///
    /// - Complexity: one pass over the bytes; allocates nothing for a key.
    public static func fault(in key: String) -> String? {
        var isASCII = true
        for byte in key.utf8 {
            switch byte {
            case 0x20, 0x2D...0x3A, 0x41...0x5A, 0x5F, 0x61...0x7A: continue  // space, -./ digits : letters _ letters
            case 0x80...: isASCII = false
            default: return characterFault
            }
        }
        if !isASCII, !key.unicodeScalars.allSatisfy({ isWord($0) || " -./:".unicodeScalars.contains($0) }) {
            return characterFault
        }
        return namesItself(key)
            ? nil
            : "would resolve to another name as the path of a file: no part between slashes may be empty, '.' or '..', "
                + "and the first may not begin with '..'"
    }

    private static var characterFault: String {
        "may only hold letters, digits, underscores, dashes, periods, spaces, colons and slashes"
    }

    /// Whether a text, read as a relative path, is that path's shortest form and stays below where it begins.
    public static func namesItself(_ text: String) -> Bool {
        var (length, dots, isFirst) = (0, 0, true)
        func isPart() -> Bool { length > 2 || dots < length }
        for byte in text.utf8 {
            if byte == 0x2F {
                guard isPart() else { return false }
                (length, dots, isFirst) = (0, 0, false)
                continue
            }
            length += 1
            if byte == 0x2E { dots += 1 }
            if isFirst, length == 2, dots == 2 { return false }
        }
        return isPart()
    }

    /// Whether a character is a letter or a digit of any script, or an underscore.
    public static func isWord(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x30...0x39, 0x41...0x5A, 0x5F, 0x61...0x7A: return true
        case ..<0x80: return false
        default: break
        }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return true
        default: return scalar.properties.numericType != nil
        }
    }
}
