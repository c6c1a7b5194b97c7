"""Registered models, their versions and prompts, with the real `mlflow` client."""

import time
import uuid

import mlflow
import mlflow.xgboost
import numpy
import pytest
from mlflow.exceptions import MlflowException
from mlflow_fixtures import client, experiment, trained, url  # noqa: F401


def test_a_registered_model_loads_by_alias_and_by_version(client, experiment, trained):
    model, inputs, _ = trained
    name = f"delays-{uuid.uuid4().hex[:8]}"
    with mlflow.start_run() as run:
        info = mlflow.xgboost.log_model(
            model, name="model", model_format="json", registered_model_name=name, pip_requirements=["xgboost"]
        )
    version = client.get_model_version(name, "1")
    assert version.run_id == run.info.run_id
    assert version.status == "READY"
    client.set_registered_model_alias(name, "champion", "1")
    assert client.get_model_version_by_alias(name, "champion").version == "1"
    for uri in [f"models:/{name}@{alias}" for alias in ("champion", "latest")] + [
        f"models:/{name}/{v}" for v in (1, "latest")
    ]:
        loaded = mlflow.xgboost.load_model(uri)
        assert numpy.array_equal(loaded.predict(inputs), model.predict(inputs))
    again = mlflow.register_model(f"models:/{info.model_id}", name, tags={"why": "second"})
    assert again.version == "2"
    again = mlflow.register_model(f"runs:/{run.info.run_id}/model", name)
    assert again.version == "3"
    assert [v.version for v in client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])] == [
        "3",
        "2",
        "1",
    ]


def test_a_version_comes_from_what_there_is(client, experiment, trained):
    name = f"claimed-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    with mlflow.start_run() as run:
        info = mlflow.xgboost.log_model(trained[0], name="model", model_format="json", pip_requirements=["xgboost"])
    source = f"{run.info.artifact_uri}/model"
    for claim in [{"run_id": "deadbeef"}, {"run_id": run.info.run_id, "model_id": "m-none"}]:
        with pytest.raises(MlflowException, match="must name what the source belongs to"):
            client.create_model_version(name, source, **claim)
    assert client.search_model_versions(f"name = '{name}'") == []
    version = client.create_model_version(name, source, run_id=run.info.run_id, model_id=info.model_id)
    assert version.run_id == run.info.run_id
    client.set_model_version_tag(name, "1", "team", "x")
    found = {
        text: [v.version for v in client.search_model_versions(f"name = '{name}' and tags.{text}")]
        for text in ("team != 'y'", "team != 'x'", "other != 'x'", "`mlflow.prompt.is_prompt` != 'true'")
    }
    assert list(found.values()) == [["1"], [], [], ["1"]], found


def test_times_of_change_move_as_mlflow_moves_them_and_a_copy_is_of_the_same_run(client, experiment):
    name, other = (f"{part}-{uuid.uuid4().hex[:8]}" for part in ("changes", "copies"))
    client.create_registered_model(name)
    client.create_registered_model(other)
    with mlflow.start_run() as run:
        mlflow.log_text("x", "model/file.txt")
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run_id=run.info.run_id)

    def times():
        model, version = client.get_registered_model(name), client.get_model_version(name, "1")
        return model.last_updated_timestamp, version.last_updated_timestamp

    before = times()
    time.sleep(0.01)
    client.set_registered_model_tag(name, "a", "1")
    client.set_model_version_tag(name, "1", "a", "1")
    client.delete_model_version_tag(name, "1", "a")
    assert times() == before, "a tag is no change of what it is at"
    client.transition_model_version_stage(name, "1", "Staging")
    after = times()
    assert after[0] > before[0] and after[1] > before[1], "a version that moves is a change of its model"
    assert client.create_model_version(other, f"models:/{name}/1").run_id == run.info.run_id


def test_prompts_are_versions_beside_models(client):
    name, model = f"greet-{uuid.uuid4().hex[:8]}", f"plain-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(model)
    first = mlflow.genai.register_prompt(name, "Hi {{who}}", commit_message="first", tags={"tone": "warm"})
    assert (first.version, first.format(who="you")) == (1, "Hi you")
    chat = [{"role": "user", "content": "Hello {{who}}"}]
    assert mlflow.genai.register_prompt(name, chat).version == 2
    mlflow.genai.set_prompt_alias(name, "live", 1)
    for uri in (f"prompts:/{name}@live", f"prompts:/{name}/1"):
        assert mlflow.genai.load_prompt(uri).template == "Hi {{who}}"
    assert mlflow.genai.load_prompt(f"prompts:/{name}/2").template == chat
    assert mlflow.genai.load_prompt(f"prompts:/{name}/1").tags["tone"] == "warm"
    assert name in [prompt.name for prompt in mlflow.genai.search_prompts()]
    found = [one.name for one in client.search_registered_models(max_results=1000)]
    assert model in found and name not in found
    assert client.search_model_versions(f"name = '{name}'") == []
    assert sorted(version.version for version in client.search_prompt_versions(name)) == [1, 2]
    with pytest.raises(MlflowException, match="Invalid model version source"):
        client.create_model_version(model, "dummy-source")


def test_registry_names_tags_stages_and_aliases(client):
    name = f"plain-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name, tags={"area": "x"}, description="a model")
    with pytest.raises(MlflowException) as failure:
        client.create_registered_model(name)
    assert failure.value.error_code == "RESOURCE_ALREADY_EXISTS"
    for _ in range(3):
        client.create_model_version(name, "mlflow-artifacts:/0/somewhere/artifacts/model")
    client.set_registered_model_tag(name, "owner", "me")
    client.delete_registered_model_tag(name, "area")
    assert client.get_registered_model(name).tags == {"owner": "me"}
    client.set_model_version_tag(name, "1", "checked", "yes")
    assert client.get_model_version(name, "1").tags == {"checked": "yes"}
    client.delete_model_version_tag(name, "1", "checked")
    client.update_model_version(name, "1", description="the first")
    assert client.get_model_version(name, "1").description == "the first"
    client.transition_model_version_stage(name, "1", "Production")
    moved = client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
    assert moved.current_stage == "Production"
    assert client.get_model_version(name, "1").current_stage == "Archived"
    assert [v.version for v in client.get_latest_versions(name, ["Production"])] == ["2"]
    client.set_registered_model_alias(name, "best", "3")
    assert client.get_model_version(name, "3").aliases == ["best"]
    with pytest.raises(MlflowException):
        client.set_registered_model_alias(name, "latest", "3")
    client.delete_registered_model_alias(name, "best")
    assert client.get_registered_model(name).aliases == {}
    client.delete_model_version(name, "3")
    with pytest.raises(MlflowException) as failure:
        client.get_model_version(name, "3")
    assert failure.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    client.rename_registered_model(name, name + "-new")
    assert client.get_registered_model(name + "-new").name == name + "-new"
    found = client.search_registered_models(f"name LIKE '{name}%'")
    assert [m.name for m in found] == [name + "-new"]
    client.delete_registered_model(name + "-new")
    assert client.search_registered_models(f"name LIKE '{name}%'") == []


@pytest.mark.parametrize(
    "source", ["file:///etc", "/etc/passwd", "mlflow-artifacts:/0/../../etc", "mlflow-artifacts:/%2e%2e/x"]
)
def test_a_version_cannot_point_into_the_servers_disk(client, source):
    name = f"bad-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    with pytest.raises(MlflowException) as failure:
        client.create_model_version(name, source)
    assert failure.value.error_code == "INVALID_PARAMETER_VALUE"
