import APIContract
import ExperimentTracking
import Foundation
import Logging
import PlatformCore
import StoragePorts
import Testing

@testable import MLflowAPI

struct MLflowRoutesTests {
    private func status(of error: any Error) -> Int? { MLflowError(of: error)?.status }

    @Test func permanentFaultsAreNeverTriedAgain() {
        let retried = [408, 429, 500, 502, 503, 504]
        for code in [
            PlatformError.Code.invalidInput, .tooLarge, .notFound, .conflict, .refused, .forbidden, .corrupted,
        ] {
            let status = status(of: PlatformError(code, "x", "y"))
            #expect(status.map { !retried.contains($0) } == true, "\(code)")
        }
        for code in [StoreError.Code.notFound, .conflict, .full, .corrupted, .preconditionFailed, .invalidInput] {
            let status = status(of: StoreError(code, "x", "y"))
            #expect(status.map { !retried.contains($0) } == true, "\(code)")
        }
        #expect(status(of: StoreError(.unavailable, "x", "y")) == 503)
    }

    @Test func fieldsComeFromPathBodyAndQuery() throws {
        let request = try MLflowRequest(
            APIRequest(
                method: "POST", path: "/", parameters: ["model_id": "m-1"], query: [("q", "x"), ("flag", "True")],
                body: Array(#"{"run_uuid":"r","n":"12","list":["a","b"],"none":null,"unknown":1}"#.utf8)))
        #expect(try request.required("model_id") == "m-1")
        #expect(try request.runID() == "r")
        #expect(try request.integer("n") == 12)
        #expect(try request.texts("list") == ["a", "b"])
        #expect(try request.text("none") == nil)
        #expect(try request.flag("flag") == true)
        #expect(throws: MLflowError.self) { try request.required("none") }
        #expect(throws: MLflowError.self) { try request.text("unknown") }
    }

    @Test func metricValuesThatJSONCannotSayComeAsText() throws {
        func metric(_ value: JSONValue) throws -> Metric {
            try MLflowMember(value: ["key": "k", "value": value, "timestamp": 1], place: "metric").metric()
        }
        #expect(try metric("NaN").value.isNaN)
        #expect(try metric("Infinity").value == Double.greatestFiniteMagnitude)
        #expect(try metric("-Infinity").value == -Double.greatestFiniteMagnitude)
        #expect(try metric("0.5").value == 0.5)
        #expect(throws: MLflowError.self) { try metric("much") }
        #expect(throws: MLflowError.self) { try metric([]) }
        #expect(Metric("k", .nan, measuredAt: EventTime(milliseconds: 1)).wire()["value"] == "NaN")
    }
}
