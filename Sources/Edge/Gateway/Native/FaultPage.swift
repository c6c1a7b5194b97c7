import APIContract
import PlatformCore

/// What a browser gets in place of a page: the words of the refusal.
enum FaultPage {
    static func answer(_ error: PlatformError) -> APIResponse {
        let status = ErrorTable.status(error.code)
        let body = """
            \(RunPage.head([]))<h1>\(HomePage.escape(error.message))</h1>\
            <p>\(status) · \(HomePage.escape(error.code.rawValue)) · <code>\(HomePage.escape(error.subject))</code></p>\
            <p><a href="/experiments">Experiments</a> · <a href="/models">models</a> · <a href="/catalog">catalogue</a> · \
            <a href="/rollouts">rollouts</a></p>
            """
        return .text(RunPage.page("\(status)", body), status: status, type: "text/html; charset=utf-8")
    }
}

extension Route {
    /// A page; who asks for HTML gets refusals as a page, too, with the same status and words.
    static func page(
        _ pattern: String, _ html: @escaping @Sendable (APIRequest) async throws -> String
    ) -> Route {
        Self("GET", pattern) { request in
            do {
                return .text(try await html(request), type: "text/html; charset=utf-8")
            } catch {
                let known = ErrorTable.platformError(error)
                // What is our own fault goes the way of all such errors, by the log.
                guard request.headers["accept"]?.contains("text/html") == true,
                    known.code != .internal, known.code != .corrupted
                else { throw error }
                return FaultPage.answer(known)
            }
        }
    }
}
