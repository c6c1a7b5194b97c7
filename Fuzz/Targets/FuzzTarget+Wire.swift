#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import APIContract
import ExperimentTracking
import Foundation
import GRPCWire
import PlatformCore

@testable import Catalogue
@testable import MLflowAPI
@testable import ModelServing
@testable import RemoteModelAdapter

/// What clients of the tracking server, remote models and header fields bring.
extension FuzzTarget {
    static let wire: [FuzzTarget] = [remoteMessage, remoteAddress, headerFields, spans, metricBody, catalogueQuery]

    private static let remoteMessage = FuzzTarget(
        "remote-message",
        words: [
            "FP32", "FP64", "INT32", "INT64", "BOOL", "BYTES", "features", "prediction", "prediction_id", "probability",
            "model_version", "variant", "fallback",
        ],
        seeds: [
            // Metadata: input x FP32 [-1, 2], output y FP32 [-1, 1].
            hexadecimal(
                "0a016d 22 16 0a0178 1204 46503332 1a0b ffffffffffffffffff0102 2a 0d 0a0179 1204 46503332 1a02 0101"),
            // An answer with raw bytes, and one with typed contents.
            hexadecimal("0a016d 2a 0d 0a0179 1204 46503332 1a02 0201 32 08 0000803f00000040"),
            hexadecimal("2a 19 0a0179 1204 46503332 1a02 0201 2a0a 3208 0000803f00000040"),
        ]
    ) { bytes in
        if let answer = try? RemoteMessages.outputs(bytes[...], rowCount: 2, output: "y") {
            precondition(answer.values.count == 2 * answer.width, "an answer has other numbers than its width says")
        }
        guard let metadata = try? RemoteMessages.metadata(bytes[...]), let layout = try? RemoteLayout(metadata),
            layout.featureCount <= 4096
        else { return }
        precondition(layout.inputs.reduce(0) { $0 + $1.width } == layout.featureCount, "inputs lie over each other")
        let texts = Dictionary(layout.textFeatures.map { ($0, ["a", "é"]) }, uniquingKeysWith: { $1 })
        for value in [1, 0.5, .nan, 3e9, -.infinity] as [Float] {
            let rows = [Float](repeating: value, count: 2 * layout.featureCount)
            _ = try? RemoteMessages.request(rows, rowCount: 2, layout, categories: texts, model: "m", version: "")
            _ = try? RemoteTensors.request(rows, rowCount: 2, layout, categories: texts)
        }
    }

    private static let remoteAddress = FuzzTarget(
        "remote-address", byteCountMax: 256,
        words: ["v2://", "v2s://", "grpc://", "grpcs://", "/versions/", "[::1]", ":8001", "..", "%2f", "@", "?", "#"],
        seeds: [.text("v2://localhost:8000/model\n"), .text("grpc://[::1]:8001/model/versions/3")]
    ) { bytes in
        if (try? RemoteAddress(bytes)) != nil { precondition(!bytes.isEmpty) }
        _ = RemoteAddress.isOne(bytes)
    }

    private static let directPaths = [
        DirectPath("POST", "/predict/{name}", byteCountMax: 1 << 20),
        DirectPath("POST", "/features/groups/{view}/get-online", byteCountMax: 1 << 20),
        DirectPath("POST", "/api/2.0/mlflow/runs/log-metric", byteCountMax: 1 << 20),
    ]

    private static let headerFields = FuzzTarget(
        "header-fields", byteCountMax: 256,
        words: [
            "bytes=", "-", ",", "9223372036854775807", "%e2%82%ac", "%", "86400000", "99999999H", "/predict/",
            "/get-online", "/features/groups/", "/api/2.0/mlflow/runs/log-metric", "?", "\u{301}",
        ],
        seeds: [
            .text("bytes=0-99"), .text("bytes=-5"), .text("bytes=7-"), .text("no such model: 50%25 %c3%a9 %zz"),
            .text("1500m"), .text("250"), .text("/features/groups/late%20flights/get-online"),
        ]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        for size in [0, 1, 100, .max] {
            guard let range = ByteRange.parse(text, byteCount: size), !range.isEmpty else { continue }
            precondition(0..<size ~= range.lowerBound && range.upperBound <= size, "a range lies outside of its file")
        }
        let message = GRPCStatus.unescaped(text)
        precondition(message.utf8.count <= 3 * 8192, "an unescaped message grows")
        if !text.utf8.contains(0x25) { precondition(message == text, "a message without escapes changes") }
        precondition(
            GRPCStatus.unescaped(GRPCStatus.escaped(text)) == text, "a message does not read as it was written")
        if let timeout = GRPCTimeout.read(text) { _ = GRPCTimeout.text(timeout) }
        _ = RequestTerms.timeout(bytes)
        _ = AccessPolicy(token: nil).refusal(host: text, authorization: nil)
        let signIn = "Basic \(Data(bytes).base64EncodedString())"
        for authorization in [text, signIn] where AccessPolicy.signIn(authorization)?.password != "secret" {
            let isLetIn = AccessPolicy(token: "secret").refusal(host: nil, authorization: authorization) == nil
            precondition(!isLetIn || text.hasSuffix("secret"), "who does not know the token is let in")
        }
        bytes.withUnsafeBytes { path in
            Array("POST".utf8).withUnsafeBytes { method in
                for direct in directPaths { _ = direct.name(method: method[...], path: path, bodyByteCount: 1) }
            }
        }
    }

    private static let spans = FuzzTarget(
        "spans",
        words: [
            "resourceSpans", "resource", "attributes", "scopeSpans", "spans", "traceId", "spanId", "parentSpanId",
            "startTimeUnixNano", "endTimeUnixNano", "status", "code", "events", "timeUnixNano", "links", "key", "value",
            "stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue", "values",
            "mlflow.spanType", "mlflow.traceRequestId", "NaN", "9223372036854775808", "\"-1\"",
        ],
        seeds: [
            .text(
                #"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeSpans":[{"spans":[{"traceId":"000102030405060708090a0b0c0d0e0f","spanId":"0001020304050607","parentSpanId":"","name":"s","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":1700000000000000009,"status":{"code":1},"attributes":[{"key":"k","value":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"7"},{"doubleValue":"NaN"}]}}}]}}}],"events":[{"timeUnixNano":"5","name":"e"}],"links":[{"traceId":"00","spanId":"01"}]}]}]}]}"#
            ),
            hexadecimal(
                "0a51 0a0b 0a09 0a0161 1204 0a026263 1242 1240"
                    + "0a10 000102030405060708090a0b0c0d0e0f 1208 0001020304050607 2a0173 39 0100000000000000 41 0900000000000000"
                    + "4a09 0a016b 1204 2a02 0a00 7a02 1801"),
        ]
    ) { bytes in
        for spans in [try? SpanProtobuf.spans(of: bytes), try? SpanJSON.spans(of: bytes, byteCountMax: 1 << 20)] {
            for span in spans ?? [] {
                precondition((try? JSONValue.parse(span.document)) != nil, "a span's document is no JSON")
            }
        }
    }

    private static let metricBody = FuzzTarget(
        "metric-body",
        words: [
            "\"run_id\":", "\"run_uuid\":", "\"metrics\":[", "\"params\":[]", "\"tags\":[]", "\"key\":", "\"value\":",
            "\"timestamp\":", "\"step\":", "\"model_id\":", "\"dataset_name\":", "\"dataset_digest\":", "null",
            "9223372036854775808", "-0", "1e999", "\\u0041", "\"NaN\"",
        ],
        seeds: [
            .text(#"{"run_id":"a","key":"loss","value":0.5,"timestamp":1700000000000,"step":3}"#),
            .text(
                #"{"run_id": "a", "metrics": [{"key": "loss", "value": -1e-3, "timestamp": 1, "step": -2, "model_id": "m", "dataset_name": "d", "dataset_digest": "x"}], "params": [], "tags": []}"#
            ),
        ]
    ) { bytes in
        guard let body = MetricBody(bytes) else { return }
        guard let value = try? JSONValue.parse(bytes) else {
            preconditionFailure("the quick way takes what is no JSON")
        }
        let run = [value["run_id"], value["run_uuid"]].compactMap { $0?.stringValue }.first { !$0.isEmpty }
        precondition(run == body.runID, "the quick way reads another run")
        let elements = value["metrics"]?.arrayValue ?? []
        let metrics = (elements.isEmpty ? [value] : elements).map {
            try? MLflowMember(value: $0, place: "metric").metric()
        }
        precondition(metrics == body.metrics, "the quick way reads other metrics")
    }

    private static let catalogueQuery = FuzzTarget(
        "catalogue-query", byteCountMax: 512,
        words: ["owner:", "tag:", "column:", "kind:", "feature", "\"", "\u{130}", "\u{2003}"],
        seeds: [.text(#"delay owner:"flight ops" kind:feature tag:pii column:dep_delay"#)]
    ) { bytes in _ = try? CatalogueQuery(String(decoding: bytes, as: UTF8.self)) }
}

#endif
