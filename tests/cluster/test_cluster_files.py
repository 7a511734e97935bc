"""Every launch file is right by its launcher's schema, catches a planted mistake, and exposes nothing without a token."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.cluster.cluster_files import CHECKS, FOLDER, image_runs

pytestmark = pytest.mark.accept(cluster=4)

RAY_FILES = ["aws.yaml", "gcp.yaml", "onprem.yaml"]
KUBERNETES_FILES = ["kuberay_raycluster.yaml", "kuberay_rayjob.yaml"]
WORLD = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|--[a-z-]*host[= ]['\"]?(\*|::)(?=['\"\s]|$)")
MISTAKES = [
    ("onprem.yaml", "head_start_ray_commands", "head_start_ray_comands", "head_start_ray_comands"),
    ("onprem.yaml", "ssh_user", "ssh_usr", "ssh_usr"),
    ("aws.yaml", "min_workers: 0", "min_workers: none", "not of type 'integer'"),
    ("aws.yaml", "    labels: {cpt-ray-group: prepare}", "    lables: {cpt-ray-group: prepare}", "lables"),
    ("aws.yaml", "head_node_type: head", "head_node_type: haed", "haed is no node type"),
    ("aws.yaml", "resources: {CPU: 16}", "resources: {CPU: -1}", "minimum of 0"),
    ("gcp.yaml", "container_name: cpt-ray", "container: cpt-ray", "container"),
    ("gcp.yaml", "idle_timeout_minutes: 5", "idle_timeout_minutes: five", "five"),
    ("kuberay_raycluster.yaml", "minReplicas", "minReplica", "minReplica"),
    ("kuberay_raycluster.yaml", "image:", "imagee:", "imagee"),
    ("kuberay_raycluster.yaml", "authOptions: {mode: token}", "authOptions: {mode: open}", "open"),
    ("kuberay_rayjob.yaml", "entrypoint:", "entryPoint:", "entryPoint"),
    ("kuberay_rayjob.yaml", "ttlSecondsAfterFinished: 600", 'ttlSecondsAfterFinished: "ten minutes"', "ten minutes"),
    ("kuberay_rayjob.yaml", "kind: RayJob", "kind: RayJobs", "RayJobs"),
    ("slurm.sbatch", 'cpt-ray run "$@"', "cpt-ray run $@", "Double quote"),
    ("slurm.sbatch", "fi\nexport PATH", "export PATH", "Couldn't parse|Expected"),
    ("slurm.sbatch", 'address="$ip:', 'adress="$ip:', "adress"),
    ("Dockerfile", "COPY cpt_ray cpt_ray", "COPY cpt-ray cpt_ray", "COPY cpt-ray: there is none"),
    ("Dockerfile", "COPY configs configs", "COPY docs docs", "leaves it out"),
    ("Dockerfile", "USER ray", "USR ray", "USR ray"),
    ("Dockerfile", '"$torch"', "$torch", "Double quote"),
]


def read(name: str) -> str:
    # A placeholder such as <HEAD-IP> is a plain string to YAML, so the file validates as shipped.
    return (FOLDER / name).read_text(encoding="utf-8")


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


def groups(name):
    """Node group to its labels and resources, of a Ray file or a manifest."""
    tree = yaml.safe_load(read(name))
    if name in KUBERNETES_FILES:
        spec = tree["spec"].get("rayClusterSpec", tree["spec"])
        return {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return tree["available_node_types"]


@pytest.mark.parametrize("name", CHECKS)
def test_a_launch_file_is_right(name):
    assert CHECKS[name](read(name)) == []


def test_every_launch_file_is_checked():
    assert {path.name for path in FOLDER.iterdir()} == {*CHECKS, "README.md"}


@pytest.mark.parametrize(("name", "right", "wrong", "said"), MISTAKES, ids=lambda text: text.split("\n")[0].strip()[:40])
def test_a_planted_mistake_is_found(name, right, wrong, said):
    text = read(name)
    assert right in text
    problems = CHECKS[name](text.replace(right, wrong))
    assert any(re.search(said, problem) for problem in problems), problems


def test_the_provider_holds_what_local_reads_and_nothing_else():
    # Ray's schema allows any key in `provider`, so a misspelled one would pass.
    assert set(yaml.safe_load(read("onprem.yaml"))["provider"]) == {"type", "head_ip", "worker_ips"}


@pytest.mark.parametrize("name", RAY_FILES)
def test_no_cluster_file_opens_a_door_without_a_token(name):
    text = read(name)
    assert len(start_commands(yaml.safe_load(text))) == 2
    assert open_doors(text) == []


@pytest.mark.parametrize("name", RAY_FILES)
def test_an_open_door_is_found(name):
    text = read(name)
    without_token = text.replace("export RAY_AUTH_MODE=token; ray start", "ray start")
    assert without_token != text
    assert [door.partition(":")[0] for door in open_doors(without_token)] == ["no token"]
    to_the_world = text.replace("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0")
    assert to_the_world != text
    assert [door.partition(":")[0] for door in open_doors(to_the_world)] == ["open to the world"]


@pytest.mark.parametrize("name", KUBERNETES_FILES)
def test_kubernetes_pods_ask_for_a_token(name):
    spec = yaml.safe_load(read(name))["spec"]
    assert spec.get("rayClusterSpec", spec)["authOptions"] == {"mode": "token"}


def test_the_slurm_job_makes_a_token_of_its_own():
    script = read("slurm.sbatch")
    assert script.index("RAY_AUTH_MODE=token") < script.index("secrets.token_hex") < script.index("ray start --head")
    assert not WORLD.search(script)


@pytest.mark.parametrize("name", [*RAY_FILES[:2], *KUBERNETES_FILES])
def test_preparation_and_training_have_groups_that_shrink_to_none(name):
    found = groups(name)
    workers = {label: group for label, group in found.items() if label != "head"}
    assert {group["labels"]["cpt-ray-group"] for group in workers.values()} == {"prepare", "train"}
    assert all(group.get("min_workers", group.get("minReplicas")) == 0 for group in workers.values())


@pytest.mark.parametrize("name", RAY_FILES[:2])
def test_spot_is_asked_first_and_the_fall_back_is_like_it(name):
    spot, other = groups(name)["train-spot"], groups(name)["train"]
    assert spot["priority"] > other["priority"]
    assert (spot["resources"], spot["labels"]) == (other["resources"], other["labels"])


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "onprem.yaml"])
def test_a_stopped_job_has_time_to_save(name):
    (head,) = [c for c in yaml.safe_load(read(name))["head_start_ray_commands"] if "--head" in c]
    assert int(re.search(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", head[: head.index("ray start")]).group(1)) >= 120


def test_the_launcher_is_told_to_use_the_autoscaler_that_starts_local_workers():
    # Ray puts `export RAY_enable_autoscaler_v2=1;` before the command, so ours must come after it and before `ray start`.
    (head,) = [c for c in yaml.safe_load(read("onprem.yaml"))["head_start_ray_commands"] if "--head" in c]
    assert head.index("RAY_enable_autoscaler_v2=0") < head.index("; ray start --head")


@pytest.mark.parametrize("name", RAY_FILES)
def test_the_token_travels_to_every_node(name):
    assert yaml.safe_load(read(name))["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("name", CHECKS)
def test_no_secret_is_in_a_file(name):
    assert not re.search(r"[0-9a-f]{64}|RAY_AUTH_TOKEN=\S{20}|BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}", read(name))


def test_the_image_pins_what_the_lock_pins():
    commands = " ".join(image_runs(read("Dockerfile")))
    makefile = (FOLDER.parent / "Makefile").read_text()
    data = re.search(r"^DATA_PACKAGES := (.*)$", makefile, re.MULTILINE).group(1)
    assert f"--no-deps {data}" in commands
    for package in ("torch", "deepspeed"):
        assert f"grep '^{package}==' requirements.lock" in commands


@pytest.mark.parametrize("name", [*KUBERNETES_FILES, "slurm.sbatch", "aws.yaml", "gcp.yaml", "onprem.yaml"])
def test_a_file_names_the_version_of_ray_that_the_lock_has(name):
    lock = (FOLDER.parent / "requirements.lock").read_text()
    version = re.search(r"^ray==(\S+)$", lock, re.MULTILINE).group(1)
    wanted = f'rayVersion: "{version}"' if name in KUBERNETES_FILES else f"for Ray {version.rpartition('.')[0]}."
    assert wanted in read(name)


def test_the_read_me_has_a_row_for_each_file_and_no_other():
    rows = re.findall(r"^\| `([A-Za-z0-9_.-]+)` \|", read("README.md"), re.MULTILINE)
    assert sorted(rows) == sorted(CHECKS)
