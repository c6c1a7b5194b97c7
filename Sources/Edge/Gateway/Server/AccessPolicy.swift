/// Who may speak to the gateway.
///
/// On loopback no token is needed, but the `Host` header must name this machine, so that a web page elsewhere cannot
/// reach the platform through a visitor's browser (DNS rebinding). On any other address every request carries the token.
public struct AccessPolicy: Sendable {
    /// The token every request must carry; `nil` on loopback.
    public let token: String?

    /// Makes a policy.
    public init(token: String?) { self.token = token }

    /// What a request gets instead of an answer.
    public enum Refusal: Sendable {
        /// The token is missing or wrong.
        case unauthenticated
        /// The host is none of this machine's names.
        case forbiddenHost
    }

    /// Checks the `Host` and `Authorization` fields of a request.
    public func refusal(host: String?, authorization: String?) -> Refusal? {
        guard let token else {
            guard let host, !host.isEmpty else { return nil }
            return Self.isLocal(host) ? nil : .forbiddenHost
        }
        guard let authorization, authorization.lowercased().hasPrefix("bearer "),
            Self.equalInConstantTime(String(authorization.dropFirst(7)), token)
        else { return .unauthenticated }
        return nil
    }

    static func isLocal(_ host: String) -> Bool {
        let host = host.lowercased()
        let name =
            host.hasPrefix("[")
            ? String(host.dropFirst().prefix { $0 != "]" }) : String(host.prefix { $0 != ":" })
        if name == "localhost" || name == "::1" || name.hasSuffix(".localhost") { return true }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    static func equalInConstantTime(_ left: String, _ right: String) -> Bool {
        let (left, right) = (Array(left.utf8), Array(right.utf8))
        var difference = left.count ^ right.count
        for index in 0..<max(left.count, right.count) {
            difference |= Int((index < left.count ? left[index] : 0) ^ (index < right.count ? right[index] : 0))
        }
        return difference == 0
    }
}
