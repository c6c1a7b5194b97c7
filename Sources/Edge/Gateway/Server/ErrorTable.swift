import APIContract
import ModelRegistry
import NIOHTTP1
import PlatformCore
import RuntimePorts
import StoragePorts

/// The one table from errors to HTTP: status and wire code.
enum ErrorTable {
    static func status(_ code: PlatformError.Code) -> Int {
        switch code {
        case .invalidInput: 422
        case .tooLarge: 413
        case .notFound: 404
        case .conflict, .refused: 409
        case .forbidden: 403
        case .overloaded: 429
        case .deadlineExceeded: 504
        case .unavailable: 503
        case .corrupted, .internal: 500
        }
    }

    /// The platform's own form of refusals, for routes that have none.
    static let form = RefusalForm(prefixes: []) { error, reason in
        let status =
            switch reason {
            case .unauthenticated: 401
            case .otherMethod: 405
            case .otherContentCoding: 415
            case .unknownPath, .failure: status(error.code)
            }
        return .json(json(error), status: status)
    }

    static func platformError(_ error: StoreError) -> PlatformError {
        let code: PlatformError.Code =
            switch error.code {
            case .notFound: .notFound
            case .conflict, .preconditionFailed: .conflict
            case .invalidInput: .invalidInput
            case .limitExceeded: .tooLarge
            case .corrupted: .corrupted
            case .full, .locked, .unavailable: .unavailable
            }
        return PlatformError(code, error.subject, error.message)
    }

    /// Any error in the platform's terms.
    static func platformError(_ error: any Error) -> PlatformError {
        switch error {
        case let error as PlatformError: error
        case let error as StoreError: platformError(error)
        case let error as DecodingFailure: PlatformError(.invalidInput, "request body", error.description)
        case let error as ModelError:
            PlatformError(error.code == .tooLarge ? .tooLarge : .invalidInput, "model", error.message)
        case let error as DecodingError: PlatformError(.invalidInput, "request body", text(error))
        case let error as HTTPParserError:
            PlatformError(.invalidInput, "request body", "it is not sent as HTTP asks for: \(error)")
        case is CancellationError: PlatformError(.unavailable, "server", "the server is shutting down")
        default: PlatformError(.internal, "server", "\(type(of: error)): \(error)")
        }
    }

    private static func text(_ error: DecodingError) -> String {
        switch error {
        case .keyNotFound(let key, _): "'\(key.stringValue)' is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
            "'\(context.codingPath.map(\.stringValue).joined(separator: "."))': \(context.debugDescription)"
        @unknown default: "\(error)"
        }
    }

    /// The error as answers carry it.
    static func json(_ error: PlatformError) -> JSONValue {
        [
            "error": [
                "code": .string(error.code.rawValue), "subject": .string(error.subject),
                "message": .string(error.message),
            ]
        ]
    }
}
