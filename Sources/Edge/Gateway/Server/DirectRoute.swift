import Foundation
import NIOCore
import PlatformCore

/// A route whose small requests are answered on the connection's event loop, in front of the framework.
///
/// What it calls must not wait for a disk nor hold a lock for long. A request whose body is larger, or of unknown length,
/// goes on to the framework, where a route of the same path answers it.
struct DirectRoute: Sendable {
    /// What the path begins with; between it and `suffix` stands a name, with nothing of its own kind in it.
    let prefix: String
    /// What the path ends with; empty for a path that is `prefix` alone.
    let suffix: String
    /// What errors are about when nothing better is known.
    let subject: String
    /// Largest body that is answered here.
    let bodyByteCountMax: Int
    /// The answer to a `POST`, as JSON.
    let answer: @Sendable (_ name: String, _ body: ArraySlice<UInt8>) throws -> [UInt8]

    /// The name in a path; `nil` if the path is another one.
    func name(in path: String) -> String? {
        guard path.hasPrefix(prefix) else { return nil }
        let rest = path.dropFirst(prefix.count).prefix { $0 != "?" }
        if suffix.isEmpty { return rest.isEmpty ? "" : nil }
        guard rest.hasSuffix(suffix) else { return nil }
        let name = rest.dropLast(suffix.count)
        guard !name.isEmpty, !name.contains("/") else { return nil }
        return name.contains("%") ? name.removingPercentEncoding ?? String(name) : String(name)
    }

    /// Status and body of the answer, errors included.
    func respond(_ name: String, _ body: ArraySlice<UInt8>) -> (status: Int, body: [UInt8]) {
        do { return (200, try answer(name, body)) } catch {
            let known = ErrorTable.platformError(error)
            return (ErrorTable.status(known.code), ErrorTable.json(known).canonicalBytes)
        }
    }
}
