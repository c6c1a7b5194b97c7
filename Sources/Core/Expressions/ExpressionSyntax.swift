import PlatformCore

/// A parsed expression before its types are known.
struct SyntaxNode {
    indirect enum Kind {
        case null
        case bool(Bool)
        case integer(Int64)
        case real(Double)
        case text(String)
        case column(String)
        case unary(Token.Symbol, SyntaxNode)
        case binary(Token.Symbol, SyntaxNode, SyntaxNode)
        case and(SyntaxNode, SyntaxNode)
        case or(SyntaxNode, SyntaxNode)
        case not(SyntaxNode)
        case isNull(SyntaxNode)
        case isIn(SyntaxNode, [SyntaxNode])
        case between(SyntaxNode, SyntaxNode, SyntaxNode)
        case choose(SyntaxNode, SyntaxNode, SyntaxNode)
        case cast(SyntaxNode, ColumnType)
        case call(String, [SyntaxNode])
        case list([SyntaxNode])
    }
    let kind: Kind
    /// Offset of the first byte of what it is named after.
    let offset: Int
    /// Nodes on the longest way down.
    let depth: Int

    init(_ kind: Kind, at offset: Int, over children: [SyntaxNode] = []) {
        self.kind = kind
        self.offset = offset
        depth = 1 + (children.map(\.depth).max() ?? 0)
    }
}

/// A fault at a place of the text.
struct ExpressionFault: Error {
    let offset: Int
    let message: String

    init(_ offset: Int, _ message: String) {
        self.offset = offset
        self.message = message
    }

    /// The fault in one line: line and column (in code points, from 1), what is wrong, and the text around `▸`.
    func platformError(in text: String) -> PlatformError {
        let bytes = Array(text.utf8)
        let place = min(offset, bytes.count)
        let before = String(decoding: bytes[..<place], as: UTF8.self).unicodeScalars
        let after = String(decoding: bytes[place...], as: UTF8.self).unicodeScalars
        let line = 1 + before.filter { $0 == "\n" }.count
        let column = 1 + before.reversed().prefix { $0 != "\n" }.count
        func plain(_ scalars: some Sequence<Unicode.Scalar>) -> String {
            String(String.UnicodeScalarView(scalars.map { $0.value < 32 || $0.value == 127 ? " " : $0 }))
        }
        let left = (before.count > 30 ? "…" : "") + plain(before.suffix(30))
        let right = plain(after.prefix(30)) + (after.count > 30 ? "…" : "")
        return PlatformError(
            .invalidInput, "expression", "line \(line), column \(column): \(message); at ▸ in: \(left)▸\(right)")
    }
}
