import Foundation

/// What the access policy said of a connection last: the same bytes are let in again without being looked at.
struct AdmittedCaller {
    private var known: (host: [UInt8], authorization: [UInt8]?)?

    /// Whether the policy lets a request in; a refused one is the framework's to word.
    mutating func isAdmitted(_ request: WireRequest, _ bytes: UnsafeRawBufferPointer, by access: AccessPolicy) -> Bool {
        let host = UnsafeRawBufferPointer(rebasing: bytes[request.host])
        let authorization = request.authorization.map { UnsafeRawBufferPointer(rebasing: bytes[$0]) }
        if let known, Self.areEqual(host, known.host) {
            switch (authorization, known.authorization) {
            case (nil, nil): return true
            case (let new?, let old?) where Self.areEqual(new, old): return true
            default: break
            }
        }
        let refusal = access.refusal(
            host: String(decoding: host, as: UTF8.self),
            authorization: authorization.map { String(decoding: $0, as: UTF8.self) })
        guard refusal == nil else { return false }
        known = (Array(host), authorization.map(Array.init))
        return true
    }

    private static func areEqual(_ bytes: UnsafeRawBufferPointer, _ known: [UInt8]) -> Bool {
        bytes.count == known.count
            && known.withUnsafeBytes { known in
                guard let one = bytes.baseAddress, let other = known.baseAddress else { return true }
                return memcmp(one, other, bytes.count) == 0
            }
    }
}
