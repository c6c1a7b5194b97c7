import Crypto
import Foundation
public import PlatformCore

/// What every message to a webhook carries beside its body.
public enum WebhookMessage {
    /// The headers, those of MLflow's webhooks: identifier, time, and with a secret the signature.
    ///
    /// - Parameters:
    ///   - id: the delivery; the same in every attempt.
    ///   - secret: key of the signature; `nil` for a message that is not signed.
    ///   - time: the machine's time; receivers compare it with theirs.
    public static func headers(id: String, body: [UInt8], secret: String?, at time: EventTime) -> [String: String] {
        let seconds = String(time.milliseconds / 1000)
        var headers = [
            "Content-Type": "application/json", "User-Agent": "bottega-webhook", "X-MLflow-Delivery-Id": id,
            "X-MLflow-Timestamp": seconds,
        ]
        if let secret {
            headers["X-MLflow-Signature"] = signature(of: body, id: id, timestamp: seconds, secret: secret)
        }
        return headers
    }

    /// `v1,` and the Base64 of HMAC-SHA256 over identifier, timestamp and body, joined by points.
    static func signature(of body: [UInt8], id: String, timestamp: String, secret: String) -> String {
        let code = HMAC<SHA256>.authenticationCode(
            for: Array("\(id).\(timestamp).".utf8) + body, using: SymmetricKey(data: Array(secret.utf8)))
        return "v1," + Data(code).base64EncodedString()
    }
}
