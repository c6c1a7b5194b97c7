"""The pages as people meet them who log with MLflow's client: its links, files, relations between runs, long lists."""

from __future__ import annotations

import html
import pathlib
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import mlflow
import mlflow.data.pandas_dataset
import pandas
import pytest
from conftest import Server
from test_runs import CHROMIUM, rendered

SEEN = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to look at pages with")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def page(server: Server, path: str, status: int = 200) -> str:
    """A page as a browser asks for it."""
    request = urllib.request.Request(server.url + path, headers={"Accept": "text/html,*/*;q=0.8"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            code, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        code, text = error.code, error.read().decode()
        assert error.headers["Content-Type"] == "text/html; charset=utf-8"
    assert code == status, (code, text[:500])
    return text


def rows(text: str) -> list[str]:
    return re.findall(r"<tr>(.*?)</tr>", text.split("<tbody>")[1].split("</tbody>")[0], re.S)


def columns(text: str) -> list[str]:
    return re.findall(r"<th>(.*?)</th>", text.split("<thead>")[1].split("</thead>")[0])


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return mlflow.MlflowClient(server.url, server.url)


@pytest.fixture(scope="module")
def family(client: Any) -> dict[str, str]:
    """A parent with two children, a model, a version, a dataset, tags."""
    experiment = client.create_experiment("family")
    parent = client.create_run(experiment, run_name="<i>search</i>", tags={"team": "<b>red</b>"}).info.run_id
    made = {"experiment": experiment, "parent": parent}
    for depth, auc in ((2, 0.5), (3, 0.75)):
        tags = {"mlflow.parentRunId": parent}
        child = client.create_run(experiment, run_name=f"depth {depth}", tags=tags).info.run_id
        client.log_metric(child, "auc", auc)
        client.log_metric(child, "constant", 1)
        client.set_terminated(child)
        made[f"child {depth}"] = child
    data = mlflow.data.pandas_dataset.from_pandas(pandas.DataFrame({"x": [1.0, 2.0]}), name="wine", source="s3://b/w")
    context = mlflow.entities.InputTag("mlflow.data.context", "fit")
    client.log_inputs(parent, [mlflow.entities.DatasetInput(data._to_mlflow_entity(), [context])])
    model = client.create_logged_model(experiment, name="forest", source_run_id=parent, model_type="sklearn")
    client.create_registered_model("A forest & more")
    client.create_model_version("A forest & more", client.get_run(parent).info.artifact_uri + "/model", run_id=parent)
    client.set_registered_model_alias("A forest & more", "champion", "1")
    client.log_metric(parent, "best", 0.75)
    client.set_terminated(parent)
    return {**made, "model": model.model_id}


@SEEN
def test_links_of_the_client_lead_to_pages(
    server: Server, client: Any, family: dict[str, str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = client.create_experiment("linked")
    run = client.create_run(experiment, run_name="linked run").info.run_id
    capsys.readouterr()
    client.set_terminated(run)
    printed = re.findall(r"http\S+", capsys.readouterr().out)
    assert [url.endswith(run) for url in printed] == [True, False], "one of the run, one of its experiment"
    expected = {
        printed[0]: "<title>linked run",
        printed[1]: "<title>linked</title>",
        f"{server.url}/#/experiments/{experiment}/models/{family['model']}": "<title>&lt;i&gt;search",
        f"{server.url}/#/models/A%20forest%20%26%20more/versions/1": "<title>A forest &amp; more",
    }
    for url, words in expected.items():
        assert words in rendered(url, tmp_path, words), url


def test_a_run_shows_what_it_belongs_to(server: Server, family: dict[str, str]) -> None:
    text = page(server, f"/runs/{family['parent']}")
    assert "<th>team</th><td>&lt;b&gt;red&lt;/b&gt;</td>" in text and "<b>red" not in text
    children = text.split("<h2>Child runs")[1]
    assert columns(children)[-1] == "auc", "the metric that tells them apart"
    assert [re.search(r"/runs/(\w+)", row)[1] for row in rows(children)] == [family["child 2"], family["child 3"]]
    assert "finished" in rows(children)[0] and 'data-value="0.75"' in rows(children)[1]
    assert family["model"] in text.split("<h2>Logged models")[1].split("<h2>")[0]
    version = text.split("<h2>Registered versions")[1].split("<h2>")[0]
    assert "/models/A%20forest%20%26%20more#version-1" in version and "champion" in version
    data = text.split("<h2>Dataset inputs")[1].split("<h2>")[0]
    assert "wine" in data and "fit" in data and "s3://b/w" in data and "num_rows" in data
    child = page(server, f"/runs/{family['child 2']}")
    assert f'<dt>Part of</dt><dd><a href="/runs/{family["parent"]}">&lt;i&gt;search&lt;/i&gt;</a>' in child
    assert "Child runs" not in child and "mlflow.parentRunId" not in child


def test_children_stand_beneath_their_parent(server: Server, client: Any, family: dict[str, str]) -> None:
    table = rows(page(server, f"/experiments/{family['experiment']}"))
    assert [re.search(r"/runs/(\w+)", row)[1] for row in table] == [
        family["parent"], family["child 3"], family["child 2"]
    ]  # fmt: skip
    assert ["↳" in row for row in table] == [False, True, True]
    ordered = rows(page(server, f"/experiments/{family['experiment']}?order_by=metrics.auc+ASC"))
    assert [re.search(r"/runs/(\w+)", row)[1] for row in ordered][:2] == [family["child 2"], family["child 3"]]
    assert "↳" not in ordered[0] and f'in <a href="/runs/{family["parent"]}">' in ordered[0]
    # Each the other's parent: both are shown.
    ring = client.create_experiment("ring")
    first, second = (client.create_run(ring).info.run_id for _ in range(2))
    client.set_tag(first, "mlflow.parentRunId", second)
    client.set_tag(second, "mlflow.parentRunId", first)
    assert len(rows(page(server, f"/experiments/{ring}"))) == 2
    page(server, f"/runs/{first}")


@pytest.fixture(scope="module")
def files(client: Any) -> dict[str, tuple[str, bytes]]:
    """Files of a run: path, and what is in it."""
    run = client.create_run("0").info.run_id
    made = {
        "plots/roc.png": PIXEL,
        "notes ü 1+1.txt": b"<script>document.title = 'taken'</script> & so on",
        "page.html": b"<script>alert(1)</script>",
        "image.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "deep/er/table.csv": b"a,b\n1,2\n",
        '"><img src=x onerror=alert(1)>.bin': b"\x00\x01",
    }
    for path, content in made.items():
        with tempfile.TemporaryDirectory() as folder:
            local = pathlib.Path(folder) / pathlib.PurePosixPath(path).name
            local.write_bytes(content)
            client.log_artifact(run, str(local), str(pathlib.PurePosixPath(path).parent).strip("."))
    client.set_terminated(run)
    return {path: (run, content) for path, content in made.items()}


def test_files_of_a_run_are_links(server: Server, files: dict[str, tuple[str, bytes]]) -> None:
    run = next(iter(files.values()))[0]
    text = page(server, f"/runs/{run}").split("<h2>Files")[1]
    assert "<img" not in text and "&lt;img" in text
    assert "<summary>deep/ <i>1</i></summary><ul><li><details open><summary>er/" in text
    links = {
        urllib.parse.unquote(link).split("/artifacts/", 2)[-1]: html.unescape(link)
        for link in re.findall(r'<a href="([^"]*)"', text)
    }
    assert set(links) == set(files)
    for path, link in links.items():
        with urllib.request.urlopen(server.url + link, timeout=60) as answer:
            assert answer.read() == files[path][1]
            # Foreign content is downloaded, and could do nothing if a browser showed it.
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert answer.headers["Content-Security-Policy"].startswith("sandbox")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    looks = dict(re.findall(r'data-look="(\w+)"[^>]*data-name="([^"]*)"', text)[::-1])
    assert looks == {"image": "plots/roc.png", "text": "deep/er/table.csv"}, "an SVG is text"


@SEEN
def test_pictures_and_texts_are_shown_in_place(
    server: Server, files: dict[str, tuple[str, bytes]], tmp_path: pathlib.Path
) -> None:
    path = "notes ü 1+1.txt"
    place = urllib.parse.quote(f"file/{path}", safe="/")
    text = rendered(f"{server.url}/runs/{files[path][0]}#{place}", tmp_path, "so on</pre>")
    assert "<pre>&lt;script&gt;document.title = 'taken'&lt;/script&gt; &amp; so on</pre>" in text
    assert "<title>taken" not in text
    assert re.search(r'<img alt="plots/roc.png" src="[^"]*/plots/roc.png">', text)


@pytest.fixture(scope="module")
def many(client: Any) -> str:
    """230 runs with 31 metrics."""
    experiment = client.create_experiment("many")
    for number in range(230):
        run = client.create_run(experiment, run_name=f"run {number}", start_time=1_700_000_000_000 + number)
        metrics = [mlflow.entities.Metric(f"m{key:02}", number + key, 0, 0) for key in range(31)]
        client.log_batch(run.info.run_id, metrics=metrics, params=[mlflow.entities.Param("p", str(number))])
    return experiment


def test_a_table_has_the_columns_that_are_asked_for(server: Server, many: str) -> None:
    text = page(server, f"/experiments/{many}")
    assert "<summary>8 of 31 metrics</summary>" in text and "m20" not in columns(text)
    assert columns(text)[5:] == [f"m{key:02}" for key in range(8)] + ["p"]
    query = urllib.parse.urlencode({"filter": "metrics.m21 > 3 and params.p != '7'", "order_by": "metrics.m20 DESC"})
    shown = columns(page(server, f"/experiments/{many}?{query}"))
    assert {"m20", "m21", "p"} <= set(shown) and len(shown) == 5 + 8 + 1
    text = page(server, f"/experiments/{many}?metric=m30&metric=m11&order_by=metrics.m20+DESC")
    assert columns(text)[5:] == ["m20", "m30", "m11", "p"] and "<summary>3 of 31 metrics</summary>" in text
    assert text.count(" checked>") == 4
    assert "<b>x" not in page(server, f"/experiments/{many}?metric=%3Cb%3Ex")


def test_long_tables_have_pages(server: Server, many: str) -> None:
    seen: list[str] = []
    path, count = f"/experiments/{many}?order_by=metrics.m20+ASC&metric=m30", 0
    while path:
        text = page(server, path)
        seen += re.findall(r"data-value=\"(\d+)\"", "".join(row.split("</td>")[5] for row in rows(text)))
        assert columns(text)[5:7] == ["m20", "m30"]
        count += 1
        assert ("Runs 1 to 200; there are more" if count == 1 else "Runs 201 to 230") in text
        link = re.search(r'<a href="(\?[^"]*)">next page', text)
        path = f"/experiments/{many}{html.unescape(link[1])}" if link else ""
    assert count == 2 and [int(value) for value in seen] == [number + 20 for number in range(230)]
    assert 'class="paging"' not in page(server, f"/experiments/{many}?filter=metrics.m00+%3C+9")
    assert 'class="fault"' in page(server, f"/experiments/{many}?page_token=nonsense")


def test_wrong_addresses_are_pages(server: Server) -> None:
    for path, status in {
        f"/runs/{'0' * 32}": 404, "/runs/a%20%3Cb%3E": 422, "/experiments/99999": 404, "/run-comparison": 422,
        "/models/nobody": 404, "/rollouts/nobody/1": 404, "/catalog/nothing": 404, "/nowhere/%3Cb%3E": 404,
        f"/evaluations/{'0' * 64}": 404,
    }.items():  # fmt: skip
        code, answer = server.request("GET", path)
        assert code == status and answer["error"]["message"], path
        text = page(server, path, status)
        assert f"<h1>{html.escape(answer['error']['message'], quote=False)}</h1>".replace('"', "&quot;") in text
        assert "<b>" not in text
    code, answer = server.request("GET", "/api/v1/nowhere", headers={"Accept": "text/html"})
    assert code == 404 and "error" in answer


@SEEN
def test_parallel_coordinates_go_past_what_is_missing(server: Server, client: Any, tmp_path: pathlib.Path) -> None:
    experiment = client.create_experiment("gaps")
    for number in range(3):
        run = client.create_run(experiment).info.run_id
        for name in {0: "ab", 1: "ac", 2: "bc"}[number]:
            client.log_metric(run, name, number)
        client.set_terminated(run)
    text = rendered(f"{server.url}/experiments/{experiment}", tmp_path, 'class="gap"')
    assert text.count('class="strand"') == 3 and text.count('class="gap"') == 1


def test_models_have_pages(server: Server, family: dict[str, str]) -> None:
    text = page(server, "/models")
    assert '<a href="/models/A%20forest%20%26%20more">A forest &amp; more</a>' in text and "champion → 1" in text
    text = page(server, "/models/A%20forest%20%26%20more")
    [row] = re.findall(r'<tr id="version-1">(.*?)</tr>', text, re.S)
    assert "champion" in row and f'/runs/{family["parent"]}">&lt;i&gt;search' in row and "development" in row
    assert "best 0.75" in row, "what the run says of a version that was not measured here"
    assert '<a href="/models/A%20forest%20%26%20more">A forest &amp; more</a>' in page(server, "/")
