import Foundation
import FoundationNetworking
import Glibc
import Governance
import PlatformCore
import Synchronization

/// Posts to webhooks, and to nothing that a webhook's owner could not reach himself.
///
/// By default a URL is `https` and every address of its host is public: no loopback, private, link-local or reserved one.
/// Addresses are asked for before each attempt; over `https` an answer that changes in between ends in a certificate that
/// does not fit, over `http` the connection goes to the address that was checked. Redirects are not followed, proxies of the
/// environment are not used, an answer is read up to 4 KiB.
struct HTTPWebhookTransport: WebhookTransport {
    let allowsHTTP: Bool
    let allowsPrivateAddresses: Bool
    static let timeoutSeconds = 30.0

    private func parts(of url: String) throws(PlatformError) -> (parts: URLComponents, host: String) {
        func fault(_ text: String) -> PlatformError { PlatformError(.invalidInput, "webhook url", text) }
        guard let parts = URLComponents(string: url), let scheme = parts.scheme?.lowercased(), let host = parts.host,
            !host.isEmpty
        else { throw fault("it is no URL such as https://example.com/hook") }
        guard parts.user == nil, parts.password == nil else {
            throw fault("it holds a name or password; use the secret, which signs every delivery")
        }
        guard parts.fragment == nil else { throw fault("it has a fragment, which is never sent") }
        switch scheme {
        case "https": break
        case "http" where allowsHTTP: break
        case "http": throw fault("it must be https; the setting webhooks.http takes http as well")
        default: throw fault(allowsHTTP ? "it must be http or https" : "it must be https")
        }
        return (parts, host.trimmingCharacters(in: CharacterSet(charactersIn: "[]")))
    }

    func check(_ url: String) throws(PlatformError) {
        let (_, host) = try parts(of: url)
        // A name is asked for when something is sent; an address that is written down can be judged now.
        if let address = Self.literal(host), !allowsPrivateAddresses, !address.isPublic {
            throw Self.forbidden(host)
        }
        if !allowsPrivateAddresses, host.lowercased() == "localhost" || host.lowercased().hasSuffix(".localhost") {
            throw Self.forbidden(host)
        }
    }

    func post(_ url: String, headers: [String: String], body: [UInt8]) async throws(PlatformError) -> WebhookAnswer {
        let (found, host) = try parts(of: url)
        var parts = found
        let addresses = try await Self.addresses(of: host)
        if !allowsPrivateAddresses, !addresses.allSatisfy(\.isPublic) { throw Self.forbidden(host) }
        var headers = headers
        if parts.scheme?.lowercased() == "http", let address = addresses.first {
            headers["Host"] = parts.port.map { "\(host):\($0)" } ?? host
            parts.host = address.text.contains(":") ? "[\(address.text)]" : address.text
        }
        guard let target = parts.url else { throw PlatformError(.invalidInput, "webhook url", "it is no URL") }
        var request = URLRequest(url: target, timeoutInterval: Self.timeoutSeconds)
        request.httpMethod = "POST"
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        request.httpBody = Data(body)
        let exchange = WebhookExchange()
        do { return try await exchange.run(request) } catch {
            throw PlatformError(.unavailable, "webhook", "no answer from \(host): \(error.localizedDescription)")
        }
    }

    private static func forbidden(_ host: String) -> PlatformError {
        PlatformError(
            .refused, "webhook url",
            "\(host) is no public address; the setting webhooks.private takes others as well")
    }

    // MARK: Addresses

    struct Address: Sendable {
        let text: String
        let isPublic: Bool
    }

    static func literal(_ host: String) -> Address? {
        var four = in_addr()
        if inet_pton(AF_INET, host, &four) == 1 {
            let bytes = withUnsafeBytes(of: four) { Array($0) }
            return Address(text: host, isPublic: WebhookAddress.isPublic(ipv4: bytes))
        }
        var six = in6_addr()
        if inet_pton(AF_INET6, host, &six) == 1 {
            let bytes = withUnsafeBytes(of: six) { Array($0) }
            return Address(text: host, isPublic: WebhookAddress.isPublic(ipv6: bytes))
        }
        return nil
    }

    /// Every address of a host, as the system's resolver gives them; on a thread of its own, for it may take long.
    private static func addresses(of host: String) async throws(PlatformError) -> [Address] {
        let found = await withCheckedContinuation { (continuation: CheckedContinuation<[Address], Never>) in
            Thread.detachNewThread {
                var hints = addrinfo()
                hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
                var list: UnsafeMutablePointer<addrinfo>?
                var addresses: [Address] = []
                if getaddrinfo(host, nil, &hints, &list) == 0 {
                    var next = list
                    while let entry = next {
                        var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
                        if getnameinfo(
                            entry.pointee.ai_addr, entry.pointee.ai_addrlen, &name, socklen_t(name.count), nil, 0,
                            NI_NUMERICHOST) == 0
                        {
                            let text = String(
                                decoding: name.prefix { $0 != 0 && $0 != 37 }.map { UInt8(bitPattern: $0) },
                                as: UTF8.self)
                            addresses.append(literal(text) ?? Address(text: text, isPublic: false))
                        }
                        next = entry.pointee.ai_next
                    }
                    freeaddrinfo(list)
                }
                continuation.resume(returning: addresses)
            }
        }
        guard !found.isEmpty else { throw PlatformError(.unavailable, "webhook", "\(host) has no address") }
        return found
    }
}

/// One request without redirects, whose answer is cut at 4 KiB.
private final class WebhookExchange: NSObject, URLSessionDataDelegate, Sendable {
    private struct State {
        var body = Data()
        var status = 0
        var continuation: CheckedContinuation<WebhookAnswer, any Error>?
    }
    private let state = Mutex(State())

    func run(_ request: URLRequest) async throws -> WebhookAnswer {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.connectionProxyDictionary = [:]
        configuration.httpShouldSetCookies = false
        let session = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
        defer { session.invalidateAndCancel() }
        let task = session.dataTask(with: request)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { $0.continuation = continuation }
                task.resume()
            }
        } onCancel: {
            task.cancel()
        }
    }

    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        state.withLock { $0.status = response.statusCode }
        completionHandler(nil)
    }

    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping @Sendable (URLSession.ResponseDisposition) -> Void
    ) {
        state.withLock { $0.status = (response as? HTTPURLResponse)?.statusCode ?? 0 }
        completionHandler(.allow)
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        state.withLock { $0.body.append(data.prefix(max(0, 4096 - $0.body.count))) }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        let (continuation, status, body) = state.withLock { state in
            defer { state.continuation = nil }
            return (state.continuation, state.status, state.body)
        }
        if status > 0 {
            continuation?.resume(returning: WebhookAnswer(status: status, body: String(decoding: body, as: UTF8.self)))
        } else {
            continuation?.resume(throwing: error ?? URLError(.badServerResponse))
        }
    }
}

extension Settings {
    /// How webhooks are sent, as the settings allow it.
    var webhookTransport: HTTPWebhookTransport {
        HTTPWebhookTransport(allowsHTTP: allowsHTTPWebhooks, allowsPrivateAddresses: allowsPrivateWebhooks)
    }
}
