import Catalogue
import Foundation
import FoundationNetworking
import PlatformCore

/// Sends events to a lineage service.
struct HTTPLineageSink: LineageSink {
    let url: URL
    let key: Secret?
    var name: String { url.absoluteString }

    func send(_ event: [UInt8]) async throws {
        var request = URLRequest(url: url, timeoutInterval: 10)
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        if let key { request.setValue("Bearer \(key.value)", forHTTPHeaderField: "Authorization") }
        request.httpBody = Data(event)
        let response: URLResponse
        do { (_, response) = try await URLSession.shared.data(for: request) } catch {
            throw PlatformError(.unavailable, name, "does not answer: \(error.localizedDescription)")
        }
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        switch status {
        case 200..<300: return
        case 408, 429, 500...: throw PlatformError(.unavailable, name, "answers \(status)")
        default: throw PlatformError(.refused, name, "answers \(status)")
        }
    }
}

/// Appends events to a file, one on each line.
struct FileLineageSink: LineageSink {
    let path: String
    var name: String { path }

    func send(_ event: [UInt8]) async throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw PlatformError(.unavailable, path, "cannot be opened: \(errno)") }
        defer { close(descriptor) }
        let line = event + [10]
        guard line.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == line.count else {
            throw PlatformError(.unavailable, path, "cannot be written")
        }
    }
}

extension Settings {
    /// Where lineage events go beside the log; `nil` for nowhere.
    func lineageSink() throws -> (any LineageSink)? {
        if let lineageURL {
            let base = lineageURL.hasSuffix("/") ? String(lineageURL.dropLast()) : lineageURL
            guard let url = URL(string: base + "/api/v1/lineage"), ["http", "https"].contains(url.scheme ?? ""),
                !(url.host ?? "").isEmpty
            else {
                throw PlatformError(
                    .invalidInput, "configuration openlineage.url", "must be a URL such as http://127.0.0.1:5000")
            }
            return HTTPLineageSink(url: url, key: lineageKey)
        }
        return lineageFile.map { FileLineageSink(path: $0) }
    }
}
