import Foundation
public import PlatformCore

/// Who may speak to the gateway.
///
/// On loopback no token is needed, but the `Host` header must name this machine, so that a web page elsewhere cannot
/// reach the platform through a visitor's browser (DNS rebinding). On any other address every request carries the token, as
/// `Bearer`, or as the password of `Basic`, which browsers ask their user for.
public struct AccessPolicy: Sendable {
    /// The token every request must carry; `nil` on loopback.
    public let token: Secret?

    /// Makes a policy.
    public init(token: String?) { self.token = token.map(Secret.init) }

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
        let given = authorization.flatMap { isBearer($0) ? String($0.dropFirst(7)) : Self.signIn($0)?.password }
        // What is empty can be guessed.
        guard let given, !token.value.isEmpty, Self.equalInConstantTime(given, token.value) else {
            return .unauthenticated
        }
        return nil
    }

    /// Whether a page of another site has a visitor's browser change something here.
    ///
    /// Browsers name the page's site in `Origin`, and most say in `Sec-Fetch-Site` how it stands to the address; other programs
    /// send neither. A browser sends no bearer token unasked, so what has one was meant.
    public func isForged(method: String, host: String?, authorization: String?, origin: String?, site: String?) -> Bool
    {
        guard let origin, !["GET", "HEAD"].contains(method), authorization.map(isBearer) != true else { return false }
        if let site { return site != "same-origin" && site != "none" }
        guard let scheme = origin.range(of: "://"), let host else { return true }
        return origin[scheme.upperBound...].lowercased() != host.lowercased()
    }

    private func isBearer(_ authorization: String) -> Bool { authorization.lowercased().hasPrefix("bearer ") }

    /// The name, with spaces for control characters, and the password of a browser's user.
    static func signIn(_ authorization: String) -> (name: String, password: String)? {
        guard authorization.lowercased().hasPrefix("basic "), authorization.utf8.count <= 4096,
            let data = Data(base64Encoded: String(authorization.dropFirst(6))),
            let text = String(data: data, encoding: .utf8), let colon = text.firstIndex(of: ":")
        else { return nil }
        let name = text[..<colon].unicodeScalars
            .map { $0.properties.generalCategory == .control ? " " : Character($0) }
        return (String(name), String(text[text.index(after: colon)...]))
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
