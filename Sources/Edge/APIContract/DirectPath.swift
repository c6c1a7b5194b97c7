/// The calls that a handler on the event loop takes: a method, a path with at most one parameter, and a bound for bodies.
public struct DirectPath: Sendable {
    /// Upper-case method.
    public let method: String
    /// Largest body that is taken; a larger one goes to the ordinary route.
    public let byteCountMax: Int
    private let methodBytes: [UInt8]
    private let prefix: [UInt8]
    /// What follows the parameter; `nil` for a path without one.
    private let suffix: [UInt8]?

    /// Takes an exact path: `/features/groups/{view}/get-online`.
    public init(_ method: String, _ path: String, byteCountMax: Int) {
        self.method = method
        methodBytes = Array(method.utf8)
        self.byteCountMax = byteCountMax
        if let open = path.firstIndex(of: "{"), let close = path.firstIndex(of: "}"), open < close {
            prefix = Array(path[..<open].utf8)
            suffix = Array(path[path.index(after: close)...].utf8)
        } else {
            (prefix, suffix) = (Array(path.utf8), nil)
        }
    }

    /// What stands in place of the parameter, percent signs and all; empty for a path without one, `nil` if the call is another.
    ///
    /// - Parameters:
    ///   - method: the request's, as its bytes.
    ///   - path: the request's, as its bytes.
    public func name(
        method: Slice<UnsafeRawBufferPointer>, path: UnsafeRawBufferPointer, bodyByteCount: Int
    ) -> String? {
        guard bodyByteCount <= byteCountMax, path.count >= prefix.count,
            Self.equal(path[..<prefix.count], prefix), Self.equal(method, methodBytes)
        else { return nil }
        var rest = path[prefix.count...]
        if let query = rest.firstIndex(of: 0x3F) { rest = rest[..<query] }
        guard let suffix else { return rest.isEmpty ? "" : nil }
        guard rest.count > suffix.count, Self.equal(rest.suffix(suffix.count), suffix) else { return nil }
        let name = rest.dropLast(suffix.count)
        return name.contains(0x2F) ? nil : String(decoding: name, as: UTF8.self)
    }

    private static func equal(_ bytes: Slice<UnsafeRawBufferPointer>, _ known: [UInt8]) -> Bool {
        guard bytes.count == known.count else { return false }
        for (place, byte) in known.enumerated() where bytes[bytes.startIndex + place] != byte { return false }
        return true
    }
}
