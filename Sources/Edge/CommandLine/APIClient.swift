import Foundation
import FoundationNetworking
import PlatformCore

/// Why a command failed, and the exit code that says so.
struct CommandFailure: Error, CustomStringConvertible {
    /// Exit codes: 1 the platform failed, 2 the input was wrong, 3 a gate refused or a job failed, 4 not found, 69 no server.
    let exitCode: Int32
    let description: String
    /// The server's whole answer, for `--json`.
    var answer: JSONValue?
}

/// Speaks the platform's HTTP contract for the commands.
struct APIClient: Sendable {
    enum Body: Sendable {
        case none
        case json(JSONValue)
        case file(String)
    }

    let base: String
    private let token: String?
    private let actor: String

    /// `url`, else `BOTTEGA_URL`, else `http://127.0.0.1:8000`; the token is `BOTTEGA_TOKEN`, the actor as `CallerName` says.
    init(url: String?, actor: String?) {
        let environment = ProcessInfo.processInfo.environment
        var base = url ?? environment["BOTTEGA_URL"] ?? "http://127.0.0.1:8000"
        if !base.contains("//") { base = "http://" + base }
        while base.hasSuffix("/") { base.removeLast() }
        self.base = base
        token = environment["BOTTEGA_TOKEN"]
        self.actor = CallerName.from(actor, environment)
    }

    func get(_ path: String, query: [String: String] = [:]) async throws -> JSONValue {
        try await send("GET", path, query: query)
    }
    /// Fields may repeat.
    func get(_ path: String, fields: [(String, String)]) async throws -> JSONValue {
        var parts = URLComponents()
        parts.queryItems = fields.map { URLQueryItem(name: $0.0, value: $0.1) }
        // '+' stands for itself in a URL and for a blank in a form; the server reads forms.
        let query = (parts.percentEncodedQuery ?? "").replacing("+", with: "%2B")
        return try await send("GET", query.isEmpty ? path : "\(path)?\(query)")
    }
    func post(_ path: String, _ body: JSONValue = .object([:])) async throws -> JSONValue {
        try await send("POST", path, body: .json(body))
    }

    /// The bytes of an answer that is no JSON.
    func download(_ path: String) async throws -> Data {
        guard let url = URL(string: base + path) else {
            throw CommandFailure(exitCode: 2, description: "'\(base)' is no URL")
        }
        var request = URLRequest(url: url, timeoutInterval: 3600)
        if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        do {
            let (data, response) = try await URLSession.shared.data(for: request)
            let status = (response as? HTTPURLResponse)?.statusCode ?? 0
            guard status == 200 else {
                throw Self.failure(status, (try? JSONValue.parse(Array(data))) ?? .null)
            }
            return data
        } catch let error as URLError {
            throw CommandFailure(
                exitCode: 69,
                description: "no server answers at \(base) (\(error.localizedDescription)); start one with 'bottega up'"
            )
        }
    }

    /// Writes an answer that is no JSON to a file, whatever its size.
    func download(_ path: String, to file: String) async throws {
        guard let url = URL(string: base + path) else {
            throw CommandFailure(exitCode: 2, description: "'\(base)' is no URL")
        }
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: file, isDirectory: &isFolder), isFolder.boolValue {
            throw CommandFailure(exitCode: 2, description: "'\(file)' is a folder; name a file")
        }
        var request = URLRequest(url: url, timeoutInterval: 3600)
        if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        do {
            let (temporary, response) = try await URLSession.shared.download(for: request)
            defer { try? FileManager.default.removeItem(at: temporary) }
            let status = (response as? HTTPURLResponse)?.statusCode ?? 0
            guard status == 200 else {
                let bytes = FileManager.default.contents(atPath: temporary.path) ?? Data()
                throw Self.failure(status, (try? JSONValue.parse(Array(bytes))) ?? .null)
            }
            // Beside its place first: what is there is whole at any moment.
            let part = "\(file).part"
            try? FileManager.default.removeItem(atPath: part)
            do {
                try FileManager.default.moveItem(atPath: temporary.path, toPath: part)
                guard rename(part, file) == 0 else { throw CocoaError(.fileWriteUnknown) }
            } catch {
                throw CommandFailure(exitCode: 2, description: "\(file): cannot be written; check the folder")
            }
        } catch let error as URLError {
            throw CommandFailure(
                exitCode: 69,
                description: "no server answers at \(base) (\(error.localizedDescription)); start one with 'bottega up'"
            )
        }
    }

    /// Sends a request; an answer that is no success is thrown as the sentence the server gave.
    func send(_ method: String, _ path: String, query: [String: String] = [:], body: Body = .none) async throws
        -> JSONValue
    {
        let (data, status) = try await answer(method, path, query: query, body: body)
        let answer = Self.parsed(data)
        guard 200..<300 ~= status else { throw Self.failure(status, answer) }
        return answer
    }

    /// A page or another text.
    func text(_ path: String) async throws -> String {
        let (data, status) = try await answer("GET", path, query: [:], body: .none)
        guard 200..<300 ~= status else { throw Self.failure(status, Self.parsed(data)) }
        return String(decoding: data, as: UTF8.self)
    }

    private static func parsed(_ data: Data) -> JSONValue {
        (try? JSONValue.parse(Array(data), limits: JSONLimits(byteCountMax: 1 << 30, depthMax: 128))) ?? .null
    }

    private func answer(_ method: String, _ path: String, query: [String: String], body: Body) async throws
        -> (data: Data, status: Int)
    {
        guard var parts = URLComponents(string: base + path), let scheme = parts.scheme, let host = parts.host,
            ["http", "https"].contains(scheme.lowercased()), !host.isEmpty
        else { throw CommandFailure(exitCode: 2, description: "'\(base)' is no URL such as http://127.0.0.1:8000") }
        if !query.isEmpty {
            parts.queryItems = query.sorted { $0.key < $1.key }.map { URLQueryItem(name: $0.key, value: $0.value) }
        }
        guard let url = parts.url else { throw CommandFailure(exitCode: 2, description: "'\(base)' is no URL") }
        var request = URLRequest(url: url)
        request.httpMethod = method
        request.timeoutInterval = 3600
        if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        request.setValue(actor, forHTTPHeaderField: "X-Bottega-Actor")
        let data: Data
        let response: URLResponse
        do {
            switch body {
            case .none: (data, response) = try await URLSession.shared.data(for: request)
            case .json(let value):
                request.setValue("application/json", forHTTPHeaderField: "Content-Type")
                request.httpBody = Data(value.canonicalBytes)
                (data, response) = try await URLSession.shared.data(for: request)
            case .file(let file):
                guard FileManager.default.isReadableFile(atPath: file) else {
                    throw CommandFailure(exitCode: 2, description: "\(file): cannot be read; check the path")
                }
                request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
                (data, response) = try await URLSession.shared.upload(
                    for: request, fromFile: URL(fileURLWithPath: file))
            }
        } catch let error as CommandFailure {
            throw error
        } catch {
            let reason = (error as? URLError).map { $0.localizedDescription } ?? "\(error)"
            throw CommandFailure(
                exitCode: 69, description: "no server answers at \(base) (\(reason)); start one with 'bottega up'")
        }
        return (data, (response as? HTTPURLResponse)?.statusCode ?? 0)
    }

    /// What an answer of predictions says of the first that nothing answered.
    private static func unanswered(_ answer: JSONValue) -> JSONValue? {
        for one in answer["predictions"]?.arrayValue ?? [answer] {
            guard one["prediction"]?.unlessNull == nil, let reason = one["fallback_reason"]?.stringValue else {
                continue
            }
            return [
                "subject": .string("predict/\(one["model"]?.stringValue ?? "")"),
                "message": .string("\(reason), and no fallback answers for it"),
            ]
        }
        return nil
    }

    private static func failure(_ status: Int, _ answer: JSONValue) -> CommandFailure {
        let error = answer["error"]?.unlessNull ?? unanswered(answer)
        let subject = error?["subject"]?.stringValue ?? ""
        let message = error?["message"]?.stringValue ?? "the server answered \(status)"
        let exitCode: Int32 =
            switch status {
            case 409: 3
            case 404: 4
            case 400..<500: 2
            default: 1
            }
        var lines = [subject.isEmpty ? message : "\(subject): \(message)"]
        for gate in answer["gates"]?.arrayValue ?? [] {
            let mark = gate["passed"]?.boolValue == true ? "passed" : "FAILED"
            lines.append("  \(mark)  \(gate["gate"]?.stringValue ?? "")  \(gate["detail"]?.stringValue ?? "")")
        }
        return CommandFailure(exitCode: exitCode, description: lines.joined(separator: "\n"), answer: answer)
    }

    /// Waits for an operation and shows its progress on standard error.
    func wait(for started: JSONValue, label: String, quiet: Bool) async throws -> JSONValue {
        guard let id = started["operation"]?.stringValue else { return started }
        let progress = ProgressLine(label: label, quiet: quiet)
        var delay = 20
        while true {
            let operation = try await get("/api/v1/operations/\(id)")
            progress.show(operation["progress"] ?? .null)
            switch operation["state"]?.stringValue {
            case "succeeded":
                progress.finish()
                return operation["result"] ?? .null
            case "failed":
                progress.finish()
                throw Self.failure(
                    Int(operation["error"]?["status"]?.integerValue ?? 500), operation)
            default:
                try await Task.sleep(for: .milliseconds(delay))
                delay = min(500, delay * 3 / 2)
            }
        }
    }
}

/// One line on standard error that says how far a long command is: rewritten on a terminal, repeated elsewhere.
final class ProgressLine {
    private let label: String
    private let quiet: Bool
    private let isTerminal = isatty(2) == 1
    private let start = ContinuousClock.now
    private var lastShown = ContinuousClock.now
    private var isShown = false

    init(label: String, quiet: Bool) {
        self.label = label
        self.quiet = quiet
    }

    func show(_ progress: JSONValue) {
        let now = ContinuousClock.now
        guard !quiet, now - start > .seconds(1), now - lastShown > (isTerminal ? .milliseconds(200) : .seconds(5))
        else {
            return
        }
        lastShown = now
        let seconds = Double((now - start).components.seconds)
        let done = progress["done"]?.doubleValue ?? 0
        let total = progress["total"]?.doubleValue ?? 0
        var text = label
        if let message = progress["message"]?.stringValue, !message.isEmpty { text += ": \(message)" }
        if done > 0 {
            text += "  \(Human.count(done))" + (total > 0 ? " of \(Human.count(total))" : "")
            let unit = progress["unit"]?.stringValue ?? ""
            text += " \(unit)"
            if seconds >= 1, !["phases", "steps", "views", "%"].contains(unit) {
                text += " (\(Human.count(done / seconds))/s)"
            }
        }
        text += "  \(Int(seconds)) s"
        try? FileHandle.standardError.write(contentsOf: Data((isTerminal ? "\r\u{1B}[K\(text)" : text + "\n").utf8))
        isShown = true
    }

    func finish() {
        if isShown, isTerminal { try? FileHandle.standardError.write(contentsOf: Data("\r\u{1B}[K".utf8)) }
    }
}

/// Numbers and tables for people.
enum Human {
    /// What a moment looks like, for help pages.
    static let momentHelp = "a date or RFC 3339 such as 2013-07-01T00:00:00Z"

    static func count(_ value: Double) -> String {
        guard let whole = Int64(exactly: value.rounded()) else { return String(format: "%.4g", value) }
        return count(whole)
    }

    static func count(_ value: Int64) -> String {
        let digits = String(value)
        var out = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0, digit != "-" { out += "," }
            out.append(digit)
        }
        return out.replacing("-,", with: "-")
    }

    /// A short text for any JSON value.
    static func cell(_ value: JSONValue?) -> String {
        switch value {
        case nil, .null?: "–"
        case .string(let text)?: text
        case .integer(let number)?: count(number)
        case .number(let number)?: String(format: "%.4g", number)
        case .bool(let flag)?: flag ? "yes" : "no"
        case let other?: other.text
        }
    }

    /// Rows as aligned columns under a header.
    static func table(_ header: [String], _ rows: [[String]]) -> String {
        var widths = header.map(\.count)
        for row in rows { for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.count) } }
        func line(_ cells: [String]) -> String {
            var text = ""
            for (index, cell) in cells.enumerated() {
                text +=
                    index == cells.count - 1
                    ? cell : cell.padding(toLength: widths[index] + 2, withPad: " ", startingAt: 0)
            }
            return text
        }
        return ([line(header)] + rows.map(line)).joined(separator: "\n")
    }
}
