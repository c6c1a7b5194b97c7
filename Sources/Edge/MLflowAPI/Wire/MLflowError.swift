import APIContract
import PlatformCore
import StoragePorts

/// A failure in MLflow's words.
///
/// The client tries 408, 429 and most 5xx again for minutes, hence what will fail again is never one of those.
struct MLflowError: Error, Equatable {
    let code: String
    let status: Int
    let message: String

    init(_ code: String, _ status: Int, _ message: String) {
        self.code = code
        self.status = status
        self.message = message
    }

    static func invalid(_ message: String) -> MLflowError { MLflowError("INVALID_PARAMETER_VALUE", 400, message) }
    static func notFound(_ message: String) -> MLflowError { MLflowError("RESOURCE_DOES_NOT_EXIST", 404, message) }

    /// Any error as MLflow says it; `nil` for one that is a fault of the platform.
    init?(of error: any Error) {
        switch error {
        case let error as MLflowError: self = error
        case let error as PlatformError:
            switch error.code {
            case .invalidInput, .tooLarge: self = .invalid(error.description)
            case .notFound: self = .notFound(error.description)
            case .conflict: self.init("RESOURCE_ALREADY_EXISTS", 400, error.description)
            case .refused, .forbidden: self.init("PERMISSION_DENIED", 403, error.description)
            case .overloaded: self.init("REQUEST_LIMIT_EXCEEDED", 429, error.description)
            case .deadlineExceeded: self.init("DEADLINE_EXCEEDED", 504, error.description)
            case .unavailable: self.init("TEMPORARILY_UNAVAILABLE", 503, error.description)
            // 422 and not 500: damaged bytes stay damaged however often they are asked for.
            case .corrupted: self.init("DATA_LOSS", 422, error.description)
            case .internal: return nil
            }
        case let error as StoreError:
            switch error.code {
            case .notFound: self = .notFound(error.description)
            case .conflict: self.init("RESOURCE_ALREADY_EXISTS", 400, error.description)
            case .preconditionFailed: self.init("RESOURCE_CONFLICT", 409, error.description)
            case .limitExceeded: self.init("REQUEST_LIMIT_EXCEEDED", 429, error.description)
            case .full: self.init("RESOURCE_EXHAUSTED", 507, error.description)
            case .corrupted: self.init("DATA_LOSS", 422, error.description)
            case .locked, .unavailable: self.init("TEMPORARILY_UNAVAILABLE", 503, error.description)
            case .invalidInput: self = .invalid(error.description)
            }
        default: return nil
        }
    }

    var response: APIResponse {
        .json(["error_code": .string(code), "message": .string(message)], status: status)
    }
}
