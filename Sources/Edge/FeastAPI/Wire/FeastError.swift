import APIContract
import PlatformCore
import StoragePorts

/// A failure in Feast's words: a JSON text that holds `module`, `class` and `message`.
///
/// Feast's client makes the class again from its name, and tries every 500 again three times, so what the caller did
/// wrong is never one, even where Feast's own server says 500.
struct FeastError: Error, Equatable {
    let name: String
    let status: Int
    let message: String

    init(_ name: String, _ status: Int, _ message: String) {
        self.name = name
        self.status = status
        self.message = message
    }

    /// What the caller sent cannot be used.
    static func invalid(_ message: String) -> FeastError { FeastError("FeastError", 422, message) }
    static func unknownView(_ name: String, among known: some Collection<String>) -> FeastError {
        FeastError(
            "FeatureViewNotFoundException", 404,
            "Feature view \(name.prefix(128)) does not exist" + suggestion(name, known))
    }
    static func unknownPushSource(_ name: String, among known: some Collection<String>) -> FeastError {
        FeastError(
            "PushSourceNotFoundException", 422,
            "Unable to find push source '\(name.prefix(128))'" + suggestion(name, known))
    }

    static func suggestion(_ name: String, _ known: some Collection<String>) -> String {
        nearestName(to: name, among: known).map { "; did you mean '\($0)'?" } ?? "."
    }

    /// Any error as Feast says it.
    init(of error: any Error) {
        switch error {
        case let error as FeastError: self = error
        case let error as PlatformError: self.init(error)
        case let error as StoreError:
            switch error.code {
            case .notFound: self.init("FeastObjectNotFoundException", 404, error.description)
            case .conflict, .preconditionFailed: self.init("FeastError", 409, error.description)
            case .invalidInput: self = .invalid(error.description)
            case .limitExceeded: self.init("FeastError", 413, error.description)
            case .corrupted: self.init("FeastError", 500, error.description)
            case .full, .locked, .unavailable: self.init("FeastError", 503, error.description)
            }
        case let error as DecodingFailure: self = .invalid("the request body is no JSON: \(error.description)")
        case is CancellationError: self.init("FeastError", 503, "the server is shutting down")
        default: self.init("FeastError", 500, errorText(error))
        }
    }

    private init(_ error: PlatformError) {
        switch error.code {
        case .invalidInput: self = .invalid(error.description)
        case .tooLarge: self.init("FeastError", 413, error.description)
        case .notFound:
            let name =
                error.subject.hasPrefix("feature_view/")
                ? "FeatureViewNotFoundException"
                : error.subject.hasPrefix("feature_service/")
                    ? "FeatureServiceNotFoundException" : "FeastObjectNotFoundException"
            self.init(name, 404, error.description)
        case .conflict, .refused: self.init("FeastError", 409, error.description)
        case .forbidden: self.init("FeastPermissionError", 403, error.description)
        case .overloaded: self.init("FeastError", 429, error.description)
        case .deadlineExceeded: self.init("FeastError", 504, error.description)
        case .unavailable: self.init("FeastError", 503, error.description)
        case .corrupted, .internal: self.init("FeastError", 500, error.description)
        }
    }

    var response: APIResponse {
        let detail: JSONValue = ["module": "feast.errors", "class": .string(name), "message": .string(message)]
        return .json(.string(detail.text), status: status)
    }
}
