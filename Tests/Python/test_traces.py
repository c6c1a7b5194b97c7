"""Traces with the real `mlflow` client, and spans from OpenTelemetry's own exporters' bytes."""

import base64
import gzip
import json
import os
import random
import time
import uuid
import zlib

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, SpanType
from mlflow.exceptions import MlflowException
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@pytest.fixture(scope="module")
def url(server):
    return server.url.rstrip("/")


@pytest.fixture
def client(url):
    mlflow.set_tracking_uri(url)
    return MlflowClient(tracking_uri=url)


@pytest.fixture
def experiment(client):
    name = f"traces-{uuid.uuid4().hex[:12]}"
    mlflow.set_experiment(name)
    yield client.get_experiment_by_name(name).experiment_id
    while mlflow.active_run():
        mlflow.end_run()


@mlflow.trace(span_type=SpanType.RETRIEVER)
def retrieve(question):
    return [f"document about {question}", "δοκιμή"]


@mlflow.trace
def answer(question, fail=False):
    documents = retrieve(question)
    with mlflow.start_span("generate", span_type=SpanType.LLM) as span:
        span.set_inputs({"documents": documents, "depth": {"a": [1, 2.5, None, True]}})
        span.set_attribute("temperature", 0.5)
        span.set_outputs("forty-two")
    if fail:
        raise ValueError("no answer")
    return {"text": "forty-two", "score": float("nan")}


def spans_of(trace):
    return {span.name: span for span in trace.data.spans}


def test_a_traced_call_comes_back_whole(client, experiment):
    answer("life")
    trace_id = mlflow.get_last_active_trace_id()
    trace = mlflow.get_trace(trace_id)
    assert trace.info.trace_id == trace_id and trace.info.experiment_id == experiment
    assert trace.info.state == "OK" and trace.info.execution_duration >= 0
    assert trace.info.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert json.loads(trace.info.request_preview) == {"question": "life", "fail": False}
    spans = spans_of(trace)
    assert trace.data.spans[0].name == "answer" and spans["answer"].parent_id is None
    assert spans["retrieve"].parent_id == spans["answer"].span_id == spans["generate"].parent_id
    assert spans["retrieve"].outputs == ["document about life", "δοκιμή"]
    assert spans["generate"].inputs["depth"] == {"a": [1, 2.5, None, True]}
    assert spans["generate"].get_attribute("temperature") == 0.5
    assert spans["generate"].span_type == SpanType.LLM and spans["generate"].outputs == "forty-two"
    assert spans["answer"].start_time_ns <= spans["generate"].start_time_ns <= spans["generate"].end_time_ns
    assert client.get_trace(trace_id).info.request_preview == trace.info.request_preview


def test_a_failed_call_keeps_its_exception(client, experiment):
    with pytest.raises(ValueError):
        answer("life", fail=True)
    trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
    assert trace.info.state == "ERROR"
    root = trace.data.spans[0]
    assert root.status.status_code.value == "ERROR" and "no answer" in root.status.description
    [event] = root.events
    assert event.name == "exception" and event.attributes["exception.type"] == "ValueError"


def test_search_filters_orders_and_pages(client, experiment):
    with mlflow.start_run() as run:
        answer("in a run")
    ids = [mlflow.get_last_active_trace_id()]
    for number in range(6):
        answer(f"question {number}", fail=False)
        ids.append(mlflow.get_last_active_trace_id())
        mlflow.set_trace_tag(ids[-1], "number", str(number))
    with pytest.raises(ValueError):
        answer("broken", fail=True)
    ids.append(mlflow.get_last_active_trace_id())

    def found(filter_string=None, **arguments):
        traces = mlflow.search_traces(
            locations=[experiment], filter_string=filter_string, return_type="list", **arguments
        )
        return [trace.info.trace_id for trace in traces]

    assert found() == ids[::-1]
    assert found(order_by=["timestamp_ms ASC"]) == ids
    assert found("tags.number = '3'") == [ids[4]]
    assert found("tags.number IS NULL") == [ids[7], ids[0]]
    assert found("status = 'ERROR'") == found("trace.status = 'ERROR'") == [ids[7]]
    assert found("name = 'answer' AND status != 'ERROR'") == ids[6::-1]
    assert found(run_id=run.info.run_id) == [ids[0]]
    assert found(f"run_id != '{run.info.run_id}'") == ids[:0:-1]
    assert found("span.name = 'generate' AND span.type = 'LLM'") == ids[::-1]
    assert found("span.name = 'generate' AND span.type = 'RETRIEVER'") == []
    assert found("span.attributes.temperature = '0.5' AND tags.number = '1'") == [ids[2]]
    assert found("span.attributes.`mlflow.spanInputs` LIKE '%question 2%'") == [ids[3]]
    assert found("trace.text LIKE '%question 4%'") == [ids[5]]
    assert found("trace.text ILIKE '%QUESTION 4%'") == [ids[5]]
    assert found(f"timestamp_ms > 0 AND request_id IN ('{ids[1]}', '{ids[2]}')") == [ids[2], ids[1]]
    assert found("execution_time_ms > 3600000") == []
    tagged = found(order_by=["tags.number DESC"])
    assert tagged[:6] == ids[6:0:-1] and set(tagged[6:]) == {ids[0], ids[7]}

    pages, token = [], None
    while True:
        page = client.search_traces(locations=[experiment], max_results=3, page_token=token, include_spans=False)
        pages.append([trace.info.trace_id for trace in page])
        token = page.token
        if not token:
            break
    assert [len(page) for page in pages] == [3, 3, 2] and [i for page in pages for i in page] == ids[::-1]
    for wrong in ["span.colour = 'red'", "flavour.x = 'y'", "tags.number >", "span.name RLIKE 'x'"]:
        with pytest.raises(MlflowException) as error:
            found(wrong)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"


def test_tags_and_links(client, experiment, url):
    answer("tags")
    trace_id = mlflow.get_last_active_trace_id()
    client.set_trace_tag(trace_id, "colour", "red")
    client.set_trace_tag(trace_id, "colour", "blue")
    assert client.get_trace(trace_id).info.tags["colour"] == "blue"
    client.delete_trace_tag(trace_id, "colour")
    assert "colour" not in client.get_trace(trace_id).info.tags
    with pytest.raises(MlflowException) as error:
        client.delete_trace_tag(trace_id, "colour")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    moved = requests.patch(
        f"{url}/api/2.0/mlflow/traces/{trace_id}/tags", json={"key": "mlflow.artifactLocation", "value": "elsewhere"}
    )
    assert moved.status_code == 400
    run = client.create_run(experiment)
    client.link_traces_to_run([trace_id], run.info.run_id)
    client.link_traces_to_run([trace_id], run.info.run_id)
    [linked] = client.search_traces(locations=[experiment], run_id=run.info.run_id)
    assert linked.info.trace_id == trace_id


def test_assessments_are_kept_changed_and_overridden(client, experiment):
    answer("assessed")
    trace_id = mlflow.get_last_active_trace_id()
    person = AssessmentSource(source_type="HUMAN", source_id="ada")
    first = mlflow.log_feedback(trace_id=trace_id, name="correct", value=True, rationale="read it", source=person)
    mlflow.log_feedback(trace_id=trace_id, name="score", value=0.75)
    mlflow.log_feedback(trace_id=trace_id, name="failed", error=ValueError("no judge"))
    wanted = mlflow.log_expectation(trace_id=trace_id, name="wanted", value={"text": ["forty-two"]}, source=person)
    kept = mlflow.get_assessment(trace_id, first.assessment_id)
    assert kept.value is True and kept.rationale == "read it" and kept.source.source_id == "ada" and kept.valid
    assert mlflow.get_assessment(trace_id, wanted.assessment_id).value == {"text": ["forty-two"]}
    names = {assessment.name: assessment for assessment in mlflow.get_trace(trace_id).info.assessments}
    assert set(names) == {"correct", "score", "failed", "wanted"}
    assert names["failed"].error.error_message == "no judge" and names["score"].value == 0.75

    def found(filter_string):
        return len(mlflow.search_traces(locations=[experiment], filter_string=filter_string, return_type="list"))

    assert found("feedback.correct = 'true'") == 1 and found("feedback.correct = 'false'") == 0
    assert found("feedback.score > 0.5") == 1 and found("feedback.score > 0.8") == 0
    assert found("expectation.wanted IS NOT NULL") == 1 and found("feedback.wanted IS NOT NULL") == 0

    second = mlflow.override_feedback(
        trace_id=trace_id, assessment_id=first.assessment_id, value=False, rationale="read it again", source=person
    )
    assert not mlflow.get_assessment(trace_id, first.assessment_id).valid
    assert found("feedback.correct = 'true'") == 0 and found("feedback.correct = 'false'") == 1
    changed = mlflow.update_assessment(
        trace_id, second.assessment_id, mlflow.entities.Feedback(name="correct", value="mostly", rationale="well")
    )
    assert changed.value == "mostly" and changed.rationale == "well"
    with pytest.raises(MlflowException):
        mlflow.update_assessment(
            trace_id, second.assessment_id, mlflow.entities.Expectation(name="correct", value="mostly")
        )
    mlflow.delete_assessment(trace_id, second.assessment_id)
    assert mlflow.get_assessment(trace_id, first.assessment_id).valid
    with pytest.raises(MlflowException) as error:
        mlflow.get_assessment(trace_id, second.assessment_id)
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_deleting_takes_what_was_named(client, experiment, server):
    ids = []
    for number in range(4):
        answer(f"question {number}")
        ids.append(mlflow.get_last_active_trace_id())
    assert client.delete_traces(experiment, trace_ids=[ids[1], "tr-unknown"]) == 1
    with pytest.raises(MlflowException) as error:
        client.get_trace(ids[1])
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert client.delete_traces(experiment, max_timestamp_millis=int(time.time() * 1000) + 1000, max_traces=1) == 1
    left = [t.info.trace_id for t in client.search_traces(locations=[experiment])]
    assert left == [ids[3], ids[2]]
    entries = server.get(f"/api/v1/audit?subject=experiment/{experiment}")["entries"]
    assert [e["action"] for e in entries if e["action"].startswith("traces.")] == ["traces.deleted"] * 2


def exported(count=1):
    """What a program that knows OpenTelemetry alone sends: a root with children."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    name = group.resource.attributes.add()
    name.key, name.value.string_value = "service.name", "kiosk"
    trace = random.randbytes(16)
    root = random.randbytes(8)
    spans = group.scope_spans.add().spans
    for index in range(count + 1):
        span = spans.add(trace_id=trace, span_id=root if index == 0 else random.randbytes(8), name=f"step {index}")
        if index:
            span.parent_span_id = root
        span.start_time_unix_nano = 1_700_000_000_000_000_000 + index * 1_000_000
        span.end_time_unix_nano = span.start_time_unix_nano + 5_000_000
        for key, value in [("session.id", "s-1"), ("user.id", "u-1"), ("route", "/x")]:
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = key, value
    return request, "tr-" + trace.hex()


@pytest.mark.parametrize("form", ["protobuf", "gzip", "deflate", "json"])
def test_any_opentelemetry_exporter_can_send_spans(client, experiment, url, form):
    request, trace_id = exported(3)
    headers = {"x-mlflow-experiment-id": experiment, "Content-Type": "application/x-protobuf"}
    body = request.SerializeToString()
    if form == "gzip":
        headers["Content-Encoding"], body = "gzip", gzip.compress(body)
    if form == "deflate":
        headers["Content-Encoding"], body = "deflate", zlib.compress(body)
    if form == "json":
        from google.protobuf.json_format import MessageToDict

        document = MessageToDict(request)
        for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            for key in ("traceId", "spanId", "parentSpanId"):
                if key in span:
                    span[key] = base64.b64decode(span[key]).hex()
        headers["Content-Type"], body = "application/json", json.dumps(document)
    for _ in range(2):  # an exporter that got no answer sends again
        answered = requests.post(f"{url}/v1/traces", data=body, headers=headers)
        assert answered.status_code == 200, answered.text
    trace = client.get_trace(trace_id)
    assert len(trace.data.spans) == 4 and trace.data.spans[0].name == "step 0"
    assert trace.info.state == "OK" and trace.info.execution_duration == 8
    assert trace.info.tags["service.name"] == "kiosk" and trace.info.tags["mlflow.traceName"] == "step 0"
    assert trace.info.trace_metadata == {"mlflow.trace.session": "s-1", "mlflow.trace.user": "u-1"}


def test_damaged_uploads_are_refused_whole(experiment, url):
    body = exported(3)[0].SerializeToString()
    headers = {"x-mlflow-experiment-id": experiment, "Content-Type": "application/x-protobuf"}
    generator = random.Random(7)
    statuses = set()
    with requests.Session() as session:
        for _ in range(150):
            damaged = bytearray(body[: generator.randrange(len(body) + 1)])
            for _ in range(generator.randrange(4)):
                if damaged:
                    damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            statuses.add(session.post(f"{url}/v1/traces", data=bytes(damaged), headers=headers).status_code)
        assert statuses <= {200, 400}
        assert session.post(f"{url}/v1/traces", data=body).status_code == 400
        wrong = {**headers, "x-mlflow-experiment-id": "987654"}
        assert session.post(f"{url}/v1/traces", data=body, headers=wrong).status_code == 404
        nested = {"a": []}
        for _ in range(60):
            nested = {"arrayValue": {"values": [nested]}}
        span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "attributes": [{"key": "k", "value": nested}]}
        deep = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        answered = session.post(f"{url}/v1/traces", json=deep, headers={"x-mlflow-experiment-id": experiment})
        assert answered.status_code == 400
        assert session.get(f"{url}/health").text == "OK"
