"""Merges: the arithmetic by hand, exact where it must be, sharded and typed as the export, and refused across families."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.edges.store import write_index
from cpt_ray.errors import ConfigError
from cpt_ray.model.base import load_model
from cpt_ray.model.exports.export import export_model
from cpt_ray.model.exports.merge import Combine, add_residual, average, interpolate, merge_exports


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def same_bits(first: Path, second: Path) -> bool:
    """Whether the tensors are equal byte by byte: torch.equal takes 0 and -0 for the same."""
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    return all(
        one.dtype == theirs[name].dtype and one.view(torch.uint8).equal(theirs[name].view(torch.uint8))
        for name, one in ours.items()
    )


def export(base: Path, folder: Path, *, seed: int, dtype: torch.dtype = torch.bfloat16, shard: str = "5GB") -> Path:
    """The base with noise, as a run exports it."""
    model, noise = load_model(base, precision="bf16"), torch.Generator().manual_seed(seed)
    state = {
        name: (tensor.float() + 0.02 * torch.randn(tensor.shape, generator=noise)).to(dtype)
        for name, tensor in model.named_parameters()
    }
    next(iter(state.values())).view(-1)[:2] = torch.tensor([-0.0, 0.0])
    export_model(model, state, tokenizer=base, folder=folder, card="the run's card", end_id=0, max_shard_size=shard)
    return folder


def merged(folder: Path, own: Path, others: list[Path], combine: Combine, chat: Path | None = None) -> Path:
    merge_exports(folder, own, others, combine, card="merged card", chat=chat)
    return folder


@pytest.mark.accept(grid=5)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("shard", ["5GB", "100KB"])
def test_interpolation_at_0_and_1_is_base_and_export_bit_for_bit(base, tmp_path, dtype, shard, record_property):
    own = export(base, tmp_path / "own", seed=1, dtype=dtype, shard=shard)
    # The base in the type of the export: the export of a run that did not move.
    unmoved = load_model(base, precision="bf16")
    state = {name: tensor.detach().to(dtype) for name, tensor in unmoved.named_parameters()}
    export_model(unmoved, state, tokenizer=base, folder=tmp_path / "unmoved", card="")
    at_0 = merged(tmp_path / "at_0", own, [base], interpolate(0.0))
    at_1 = merged(tmp_path / "at_1", own, [base], interpolate(1.0))
    assert same_bits(at_0, tmp_path / "unmoved")
    assert not same_bits(at_0, own)
    assert {path.name: path.read_bytes() for path in own.iterdir() if path.name != "README.md"} == {
        path.name: path.read_bytes() for path in at_1.iterdir() if path.name != "README.md"
    }
    assert (len(list(own.glob("*.safetensors"))) > 1) == (shard == "100KB")
    record_property("interpolation at 0 and 1", f"{len(weights(own))} tensors, the bytes of base and export")


def test_the_hashes_of_the_first_export_do_not_come_along(base, tmp_path):
    own = export(base, tmp_path / "own", seed=1)
    index = write_index(own)
    assert index.name not in {path.name for path in merged(tmp_path / "half", own, [base], interpolate(0.5)).iterdir()}


@pytest.mark.accept(grid=5)
def test_a_residual_of_a_model_with_itself_changes_nothing(base, tmp_path, record_property):
    own = export(base, tmp_path / "own", seed=1)
    other = export(base, tmp_path / "other", seed=2)
    assert same_bits(merged(tmp_path / "same", own, [other, other], add_residual(1.0)), own)
    assert not same_bits(merged(tmp_path / "moved", own, [other, base], add_residual(1.0)), own)
    negative_zeros = sum(int(((tensor == 0) & torch.signbit(tensor)).sum()) for tensor in weights(own).values())
    assert negative_zeros > 0  # -0 + 0 is 0: the sum itself would change bits
    record_property(
        "residual of a model with itself", f"{len(weights(own))} tensors unchanged, {negative_zeros} of -0 among them"
    )


def test_each_rule_is_its_formula_in_fp32_rounded_once(base, tmp_path):
    own, other = export(base, tmp_path / "own", seed=1), export(base, tmp_path / "other", seed=2)
    third = export(base, tmp_path / "third", seed=3)
    e, o, t, b = ({name: tensor.double() for name, tensor in weights(folder).items()} for folder in (own, other, third, base))
    cases: list[tuple[Path, dict[str, Tensor]]] = [
        (merged(tmp_path / "i", own, [base], interpolate(0.25)), {name: b[name] + 0.25 * (e[name] - b[name]) for name in e}),
        (merged(tmp_path / "m", own, [other, third], average), {name: (e[name] + o[name] + t[name]) / 3 for name in e}),
        (
            merged(tmp_path / "r", own, [other, base], add_residual(0.5)),
            {name: e[name] + 0.5 * (o[name] - b[name]) for name in e},
        ),
    ]
    for folder, expected in cases:
        for name, tensor in weights(folder).items():
            assert tensor.dtype == torch.bfloat16
            # One rounding to bf16, of 8 significant bits, and what fp32 does before it.
            torch.testing.assert_close(tensor.double(), expected[name], rtol=2**-8, atol=1e-6)


def test_the_mean_of_equal_models_is_that_model(base, tmp_path):
    own = export(base, tmp_path / "own", seed=1, dtype=torch.float32)
    assert same_bits(merged(tmp_path / "mean", own, [own, own], average), own)


def test_a_merge_loads_and_generates_and_a_tied_weight_stays_tied(base, tmp_path):
    own = export(base, tmp_path / "own", seed=1)
    folder = merged(tmp_path / "merged", own, [base], interpolate(0.5))
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("The licensee", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > ids.shape[1]
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    assert "lm_head.weight" not in weights(folder)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert (folder / "README.md").read_text() == "merged card"
    assert not list(tmp_path.glob(".merged*"))


def test_a_residual_brings_the_chat_template_and_the_end_of_a_turn(base, tmp_path):
    own = export(base, tmp_path / "own", seed=1)
    instruct = tmp_path / "instruct"
    shutil.copytree(base, instruct)
    (instruct / "chat_template.jinja").write_text("{{ messages }}")
    (instruct / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], "bos_token_id": None}))
    folder = merged(tmp_path / "merged", own, [instruct, base], add_residual(1.0), chat=instruct)
    assert (folder / "chat_template.jinja").read_text() == "{{ messages }}"
    ends = [json.loads((folder / name).read_text())["eos_token_id"] for name in ("config.json", "generation_config.json")]
    assert ends == [[1, 2], [1, 2]]
    assert json.loads((own / "config.json").read_text())["eos_token_id"] == 0


@pytest.mark.accept(grid=5)
def test_a_planted_shape_mismatch_is_refused(base, tmp_path, record_property):
    own = export(base, tmp_path / "own", seed=1)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(len(tensors["model.norm.weight"]) + 1)
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    size = len(tensors["model.norm.weight"])
    with pytest.raises(ConfigError, match=rf"model\.norm\.weight is {size} in .*other, but {size - 1} in .*own") as error:
        merged(tmp_path / "merged", own, [other], interpolate(0.5))
    assert "only models of one family and size can be merged" in error.value.fix
    assert not (tmp_path / "merged").exists()
    record_property("planted shape mismatch", error.value.problem.replace(f"{tmp_path}/", ""))


def test_a_tensor_that_only_one_model_has_is_refused(base, tmp_path):
    own = export(base, tmp_path / "own", seed=1)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    tensors = load_file(other / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"own has the tensor model\.norm\.weight, which .*other lacks \(1 such\)"):
        merged(tmp_path / "merged", own, [other], interpolate(0.5))


def test_integers_are_copied_and_must_agree(tmp_path):
    folders = [tmp_path / name for name in ("own", "same", "other")]
    for folder, value in zip(folders, (7, 7, 8), strict=True):
        folder.mkdir()
        tensors = {"scalar": torch.tensor(1.5), "steps": torch.tensor([value]), "empty": torch.empty(0, 4)}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text("{}")
    found = weights(merged(tmp_path / "merged", folders[0], [folders[1]], interpolate(0.5)))
    assert (found["scalar"].item(), found["steps"].item(), found["empty"].shape) == (1.5, 7, (0, 4))
    with pytest.raises(ConfigError, match=re.escape("merges: steps holds torch.int64 and differs between the models")):
        merged(tmp_path / "merged", folders[0], [folders[2]], interpolate(0.5))


MEASURE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from cpt_ray.model.exports.merge import average, merge_exports

def anonymous_bytes():
    # Memory that is not a mapped file, whose pages the system may drop at any time.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024

def measured(blocks):
    result = average(blocks)
    seen.append(anonymous_bytes() - before)
    return result

tensors, tensor_bytes, folders = 24, 4 << 22, [Path(sys.argv[1]) / name for name in ("own", "other")]
for folder in folders:
    folder.mkdir()
    made = {f"layer.{number}": torch.full((tensor_bytes // 4,), float(number)) for number in range(tensors)}
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    del made
before, seen = anonymous_bytes(), []
merge_exports(Path(sys.argv[1]) / "merged", folders[0], folders[1:], measured, card="", chat=None)
print(len(seen), max(seen) / tensor_bytes)
"""


def test_memory_holds_one_tensor_not_the_model(tmp_path, record_property):
    # In a process of its own, whose allocator gives large blocks back at once: what it keeps for later would be measured too.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    count, most = told.split()[-2:]
    assert int(count) == 24
    assert float(most) < 8 < 24
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as found:
        assert found.get_tensor("layer.23")[-1].item() == 23
    record_property("memory of a merge", f"{float(most):.1f} tensors of a model of 24")
