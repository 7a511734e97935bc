"""Cluster files are valid by Ray's schema and expose nothing without a token."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

FOLDER = Path(__file__).parents[2] / "cluster"
FILES = sorted(FOLDER.glob("*.yaml"))
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
WORLD = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|--[a-z-]*host[= ]['\"]?(\*|::)(?=['\"\s]|$)")


def load(path):
    # A placeholder such as <HEAD-IP> is a plain string to YAML, so the file validates as shipped.
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def start_commands(tree):
    commands = [*tree.get("head_start_ray_commands", []), *tree.get("worker_start_ray_commands", [])]
    return [command for command in commands if "ray start" in command]


def open_doors(text):
    """Start commands that bind every interface, or that do not enable the token."""
    tree = yaml.safe_load(text)
    doors = [
        f"no token: {c}" for c in start_commands(tree) if not re.search(r"export [^;]*RAY_AUTH_MODE=token[^;]*;.*ray start", c)
    ]
    return doors + [f"open to the world: {c}" for c in start_commands(tree) if WORLD.search(c)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_cluster_file_is_right_by_rays_schema(path):
    jsonschema.validate(load(path), SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("spoiled", ["head_start_ray_comands", "auth.ssh_usr"])
def test_a_misspelt_key_is_found(path, spoiled):
    tree = copy.deepcopy(load(path))
    *parents, last = spoiled.split(".")
    node = tree
    for part in parents:
        node = node[part]
    node[last] = "x"
    with pytest.raises(jsonschema.ValidationError, match=last):
        jsonschema.validate(tree, SCHEMA)


def test_the_provider_holds_what_local_reads_and_nothing_else():
    # Ray's schema allows any key in `provider`, so a misspelled one would pass.
    assert set(load(FOLDER / "onprem.yaml")["provider"]) == {"type", "head_ip", "worker_ips"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_cluster_file_opens_a_door_without_a_token(path):
    text = path.read_text(encoding="utf-8")
    assert len(start_commands(yaml.safe_load(text))) == 2
    assert open_doors(text) == []


def test_an_open_door_is_found():
    text = (FOLDER / "onprem.yaml").read_text(encoding="utf-8")
    without_token = text.replace("export RAY_AUTH_MODE=token; ray start", "ray start")
    assert without_token != text
    assert [door.partition(":")[0] for door in open_doors(without_token)] == ["no token"]
    to_the_world = text.replace("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0")
    assert to_the_world != text
    assert [door.partition(":")[0] for door in open_doors(to_the_world)] == ["open to the world"]


def test_the_launcher_is_told_to_use_the_autoscaler_that_starts_local_workers():
    # Ray puts `export RAY_enable_autoscaler_v2=1;` before the command, so ours must come after it and before `ray start`.
    (head,) = [c for c in load(FOLDER / "onprem.yaml")["head_start_ray_commands"] if "--head" in c]
    assert head.index("RAY_enable_autoscaler_v2=0") < head.index("; ray start --head")


def test_the_token_travels_to_every_node_and_stays_out_of_the_files():
    assert load(FOLDER / "onprem.yaml")["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"[0-9a-f]{64}|RAY_AUTH_TOKEN=\S|BEGIN [A-Z ]*PRIVATE KEY", text), path.name


def test_the_read_me_has_a_row_for_each_file_and_no_other():
    rows = re.findall(r"^\| `([a-z0-9_-]+\.yaml)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [path.name for path in FILES]
