/// Text from outside on one line of at most 300 characters.
func printable(_ text: String) -> String {
    String(text.unicodeScalars.prefix(300).map { $0.properties.generalCategory == .control ? " " : Character($0) })
}
