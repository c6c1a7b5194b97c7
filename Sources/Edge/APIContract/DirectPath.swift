/// The calls that a handler on the event loop takes: a method, a path with at most one parameter, and a bound for bodies.
public struct DirectPath: Sendable {
    /// Upper-case method.
    public let method: String
    /// Largest body that is taken; a larger one goes to the ordinary route.
    public let byteCountMax: Int
    private let prefix: String
    /// What follows the parameter; `nil` for a path without one.
    private let suffix: String?

    /// Takes an exact path: `/features/groups/{view}/get-online`.
    public init(_ method: String, _ path: String, byteCountMax: Int) {
        self.method = method
        self.byteCountMax = byteCountMax
        if let open = path.firstIndex(of: "{"), let close = path.firstIndex(of: "}"), open < close {
            prefix = String(path[..<open])
            suffix = String(path[path.index(after: close)...])
        } else {
            (prefix, suffix) = (path, nil)
        }
    }

    /// What stands in place of the parameter, percent signs and all; empty for a path without one, `nil` if the call is another.
    ///
    /// - Parameters:
    ///   - method: the request's, as its bytes.
    ///   - path: the request's, as its bytes.
    public func name(
        method: Slice<UnsafeRawBufferPointer>, path: UnsafeRawBufferPointer, bodyByteCount: Int
    ) -> Substring? {
        guard bodyByteCount <= byteCountMax, path.starts(with: prefix.utf8), method.elementsEqual(self.method.utf8)
        else {
            return nil
        }
        let rest = String(decoding: path, as: UTF8.self).dropFirst(prefix.count).prefix { $0 != "?" }
        guard let suffix else { return rest.isEmpty ? rest : nil }
        guard rest.hasSuffix(suffix) else { return nil }
        let name = rest.dropLast(suffix.count)
        return name.isEmpty || name.contains("/") ? nil : name
    }
}
