#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import APIContract
import Foundation
import PlatformCore

@testable import Catalogue
@testable import ExperimentTracking
@testable import FeastAPI
@testable import FeatureStore
@testable import MLflowAPI
@testable import MLflowImport
@testable import ModelRegistry

/// What clients of the tracking server, the registry, Feast and lineage send, and what a server says that is copied.
extension FuzzTarget {
    static let tracking: [FuzzTarget] = [mlflowRequest, pageToken, mlflowImport, lineageEvent, feastEntities]

    private static let jsonWords = [
        "{\"", "\":", "[{", "}]", "null", "true", "1e999", "\"9223372036854775808\"", "NaN",
    ]

    private static let mlflowRequest = FuzzTarget(
        "mlflow-request",
        words: jsonWords + [
            "\"run_id\":", "\"max_results\":", "\"tags\":[", "\"key\":", "\"value\":", "\"metrics\":[", "\"trace\":",
            "\"trace_info\":", "\"trace_id\":", "\"request_time\":", "\"execution_duration\":", "\"-1.5s\"",
            "\"state\":",
            "\"trace_metadata\":", "\"assessment\":", "\"feedback\":", "\"expectation\":", "\"rationale\":",
            "\"source\":", "\"create_time\":", "\"update_mask\":", "\"trace_location\":", "\"mlflow_experiment\":",
            "2024-02-29T23:59:60.5Z",
        ],
        seeds: [
            .text(
                #"{"run_id":"a","max_results":"10","tags":[{"key":"k","value":"v"}],"metrics":[{"key":"loss","value":"NaN","timestamp":1,"step":2}],"texts":["a"],"flag":"true"}"#
            ),
            .text(
                #"{"trace_id":"tr-1","trace_location":{"type":"MLFLOW_EXPERIMENT","mlflow_experiment":{"experiment_id":"1"}},"request_time":"2024-02-29T23:59:59.5Z","execution_duration":"1.25s","state":"OK","trace_metadata":{"a":"b"},"tags":{"c":"d"}}"#
            ),
            .text(
                #"{"assessment_name":"good","source":{"source_type":"HUMAN","source_id":"me"},"feedback":{"value":{"a":1}},"rationale":"r","create_time":"2024-01-01T00:00:00Z"}"#
            ),
        ]
    ) { bytes in
        let request = APIRequest(method: "POST", path: "/", query: [("page_token", "a")], body: bytes)
        guard let fields = try? MLflowRequest(request) else { return }
        for name in ["run_id", "max_results", "page_token", "flag", "texts", "none"] {
            _ = try? fields.text(name)
            _ = try? fields.integer(name)
            _ = try? fields.flag(name)
            _ = try? fields.texts(name)
        }
        _ = try? fields.countMax(default: 10, limit: 100)
        _ = try? (fields.runID(), fields.token(), fields.modelName(), fields.tags("tags"))
        for element in (try? fields.elements("metrics")) ?? [] {
            _ = try? MLflowMember(value: element, place: "metrics").metric()
        }
        guard let whole = try? JSONValue.parse(bytes) else { return }
        let (member, now) = (MLflowMember(value: whole, place: "body"), EventTime(milliseconds: 1))
        if let info = try? member.traceInfo(now: now) { _ = info.wire }
        if let assessment = try? member.assessment(trace: "tr-1", now: now) { _ = assessment.wire }
        _ = try? member.assessmentChange(mask: whole["update_mask"]?.stringValue ?? "feedback,rationale")
    }

    private static let pageToken = FuzzTarget(
        "page-token", byteCountMax: 512,
        words: [
            "{\"i\":", "{\"r\":", "{\"t\":\"", "null", "[", "]", "\"after\":[", "\"of\":\"", "-9223372036854775808",
        ],
        seeds: [
            .text(#"[{"i":1700000000000},{"t":"a"}]"#), .text(#"[{"r":-1},null]"#),
            .text(#"{"after":["a"],"of":"models,name true"}"#), .text("c2VhbGVkIGJ5IHRoZSBzdG9yZQ"),
        ]
    ) { bytes in
        let (seal, question): (PageSeal, JSONValue) = (PageSeal(), ["call": "runs"])
        _ = try? seal.place(String(decoding: bytes, as: UTF8.self), question: question)
        if let query = try? RegistryQuery(.models, filter: .all, orders: []) {
            _ = try? query.after(String(decoding: bytes, as: UTF8.self))
            _ = try? query.after(Data(bytes).base64EncodedString())
        }
        // A sealed one says what it was made with, and nothing else is taken for it.
        guard let place = try? JSONValue.parse(bytes) else { return }
        let token = seal.token(place, question: question)
        guard let read = try? seal.place(token, question: question) else {
            preconditionFailure("a token is not read as it was made")
        }
        precondition(read.canonicalBytes == place.canonicalBytes, "a token says another place")
        precondition((try? seal.place(token, question: ["call": "traces"])) == nil, "a token fits another question")
        guard let runs = try? RunQuery(experiments: [1], filter: .all, orders: [], view: .active),
            let values = try? TrackingStore.place(read, termCount: runs.terms.count)
        else { return }
        _ = RunQuery.behind(values, runs.terms)
    }

    private static let mlflowImport = FuzzTarget(
        "mlflow-import",
        words: jsonWords + [
            "\"info\":", "\"data\":", "\"metrics\":[", "\"run_id\":", "\"timestamp\":", "\"step\":", "\"value\":",
            "\"-Infinity\"", "mlflow-artifacts:/", "mlflow-artifacts://", "file:", "models:/", "../", "%2e%2e",
        ],
        seeds: [
            .text(
                #"{"info":{"model_id":"m-1","artifact_uri":"mlflow-artifacts://host:1/1/models/m-1"},"data":{"metrics":[{"key":"auc","value":"NaN","timestamp":"17","step":1.0,"run_id":"r","dataset_name":"d"}],"tags":[{"key":"a","value":"b"}]}}"#
            )
        ]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        if let path = ServerSource.proxied(text) { precondition(!path.hasPrefix("/"), "a path leads to the root") }
        if ServerSource.isBelow(text) { precondition(!text.split(separator: "/").contains(".."), "a path leads out") }
        if let path = try? TrackingStore.checkedArtifactPath(text) {
            precondition(!path.split(separator: "/").contains(".."), "a path leads out")
        }
        _ = TrackingStore.artifactPath(ofURI: text)
        guard let value = try? JSONValue.parse(bytes) else { return }
        _ = Importer.links([value])
        for metric in value["data"]?.list("metrics") ?? [] {
            _ = (metric.number("timestamp"), metric["value"]?.metricValue, metric.text("step"))
        }
        _ = value["data"]?.pairs("tags")
        let uri = value["info"]?.text("artifact_uri") ?? ""
        _ = Importer.rewritten(uri, Importer.Moved(roots: [("mlflow-artifacts:/1", "runs:/r"), (uri, "models:/m")]))
    }

    private static let lineageEvent = FuzzTarget(
        "lineage-event",
        words: jsonWords + [
            "eventTime", "producer", "schemaURL", "eventType", "COMPLETE", "run", "runId", "job", "namespace", "name",
            "inputs", "outputs", "facets", "schema", "fields", "columnLineage", "inputFields", "transformations",
            "INDIRECT", "dataset", "2024-01-01T00:00:00+14:00",
        ],
        seeds: [
            .text(
                #"{"eventTime":"2024-01-01T00:00:00Z","producer":"p","schemaURL":"s","eventType":"COMPLETE","run":{"runId":"01234567-89ab-cdef-0123-456789abcdef"},"job":{"namespace":"n","name":"j"},"inputs":[{"namespace":"n","name":"a"}],"outputs":[{"namespace":"n","name":"b","facets":{"schema":{"fields":[{"name":"x"}]},"columnLineage":{"fields":{"x":{"inputFields":[{"namespace":"n","name":"a","field":"y","transformations":[{"type":"INDIRECT","subtype":"JOIN"}]}]}}}}}]}"#
            ),
            .text(
                #"{"eventTime":"2024-01-01T00:00:00Z","producer":"p","schemaURL":"s","dataset":{"namespace":"n","name":"a"}}"#
            ),
        ]
    ) { bytes in
        guard let value = try? JSONValue.parse(bytes), let event = try? OpenLineageEvent(value) else { return }
        precondition(event.type == nil || event.run != nil, "an event of a run names none")
    }

    private static let joinKeys = [
        FeatureSelection.Key(name: "id", type: .int64), FeatureSelection.Key(name: "who", type: .string),
    ]

    private static let feastEntities = FuzzTarget(
        "feast-entities", byteCountMax: 1024, words: jsonWords + ["\"id\":[", "\"who\":[", "1.5", "-0", "1e18"],
        seeds: [.text(#"{"id":[1,"2",3.0,null],"who":["a",1,true,null],"x":[1,2,3,4]}"#)]
    ) { bytes in
        guard let columns = try? EntityColumns(try JSONValue.parse(bytes), joinKeys: joinKeys) else { return }
        precondition(columns.keys.count == columns.count * joinKeys.count, "an entity has no key")
        precondition(columns.echoes.allSatisfy { $0.count == columns.count }, "a column has other rows")
    }
}

#endif
