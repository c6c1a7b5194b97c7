import Definitions
import ModelServing
import PlatformCore

extension RequestTerms {
    /// Takes over what the parameters of a request say, as Triton's schedule extension has them.
    ///
    /// `timeout` is microseconds from now on, 0 for none; `priority` is 1 for high, 2 for normal, 3 and more for low, 0 for
    /// the deployment's own. The sooner of two deadlines counts.
    ///
    /// - Parameter keyNames: join keys of the model, which parameters may hold under any name.
    /// - Throws: `invalidInput` for what is no whole number, or a negative one.
    mutating func read(_ parameters: [String: InferenceParameter], keyNames: [String]) throws(PlatformError) {
        if let given = parameters["timeout"], !keyNames.contains("timeout") {
            let microseconds = try Self.count(given, "timeout")
            if microseconds > 0 {
                let end = ContinuousClock.now + .microseconds(min(microseconds, Self.timeoutMicrosecondsMax))
                deadline = min(deadline ?? end, end)
            }
        }
        if let given = parameters["priority"], !keyNames.contains("priority") {
            switch try Self.count(given, "priority") {
            case 0: break
            case 1: priority = .high
            case 2: priority = .normal
            default: priority = .low
            }
        }
    }

    /// A day: longer is no bound.
    private static let timeoutMicrosecondsMax: Int64 = 86_400_000_000

    private static func count(_ parameter: InferenceParameter, _ name: String) throws(PlatformError) -> Int64 {
        guard case .integer(let number) = parameter, number >= 0 else {
            throw InferenceFault.invalid("parameter '\(name)' must be a whole number, 0 or more")
        }
        return number
    }
}
