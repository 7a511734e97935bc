"""The docs match the repository: the tree, commands, files, links and keys they name exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

from cpt_ray.config.reference.render import schema_keys
from tests.docs.pages import ROOT, code_of, documents, tracked

TREE = re.compile(r"<!-- tree -->\s*```\w*\n(.*?)```\s*<!-- /?tree -->", re.DOTALL)
ENTRY = re.compile(r"(?<![\w./])((?:models|sources|arms|classifiers|merges|axes)(?:\[\]|\.\w+)(?:\.[a-z_]+)+)\b(?![/(])")
"""A key of an entry that has a name or a place: `arms.NAME.mix`, `models[].base`, `sources.news.format`."""
SECTIONS = "study|prepare|train|evaluate|compare|runtime|tracking"
KEY = re.compile(rf"(?<![\w./])(?:{SECTIONS})\.[a-z_]+(?:\.[a-z_]+)*\b(?![/(]|\.\w)")


def parse_tree(block):
    """A tree block as {folder: names}. A line is indentation, names and, after two spaces, a description."""
    children, open_folders = {}, []
    for line in block.splitlines():
        plain = re.sub(r"[│├└─]", " ", line)
        if not plain.strip():
            continue
        indent = len(plain) - len(plain.lstrip())
        names = re.split(r"\s{2,}|\s+#", plain.strip())[0].split(" ")
        while open_folders and open_folders[-1][0] >= indent:
            open_folders.pop()
        parent = open_folders[-1][1] if open_folders else Path()
        children.setdefault(parent, set()).update(name.rstrip("/") for name in names)
        if names[0].endswith("/"):
            open_folders.append((indent, parent / names[0].rstrip("/")))
    return children


def land(folder, files):
    """Names that are tracked directly in a folder; hidden ones and __init__.py are part of any folder."""
    depth = len(folder.parts)
    names = {path.parts[depth] for path in files if path.parts[:depth] == folder.parts}
    return {name for name in names if not name.startswith(".") and name != "__init__.py"}


def test_a_tree_block_is_read_as_it_is_drawn():
    block = "cpt_ray/        the library\n  errors.py   one\n  data/   two\n    pack.py\nMakefile README.md   three\n.ci/run\n"
    drawn = "├── cpt_ray/  the library\n│   └── errors.py  one\n└── Makefile  x\n"
    assert parse_tree(block) == {
        Path(): {"cpt_ray", "Makefile", "README.md", ".ci/run"},
        Path("cpt_ray"): {"errors.py", "data"},
        Path("cpt_ray/data"): {"pack.py"},
    }
    assert parse_tree(drawn) == {Path(): {"cpt_ray", "Makefile"}, Path("cpt_ray"): {"errors.py"}}


def test_the_tree_equals_the_land():
    block = TREE.search((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert block, "CONTRIBUTING.md has no fenced tree between <!-- tree --> and <!-- /tree -->"
    files = tracked()
    map_ = parse_tree(block[1])
    assert Path("cpt_ray") in map_, "the tree must include the rooms"
    for folder, names in map_.items():
        hidden = {name for name in names if name.startswith(".")}
        assert all((ROOT / folder / name).exists() for name in hidden)
        assert names - hidden == land(folder, files), f"{folder}: the tree and repository differ"


def test_every_make_target_that_a_document_names_exists():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (path.name, target)
        for path in documents()
        for target in re.findall(r"\bmake ([a-z][a-z-]*[a-z])(?![\w-])", code_of(path.read_text(encoding="utf-8")))
    }
    assert {"setup", "demo", "test"} <= {target for _, target in named}
    assert {(document, target) for document, target in named if target not in targets} == set()


def test_every_verb_that_a_document_names_exists():
    shown = subprocess.run([sys.executable, "-m", "cpt_ray.cli.main", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    named = {
        (path.name, verb)
        for path in documents()
        for verb in re.findall(r"\bcpt-ray ([a-z][a-z-]*)\b", code_of(path.read_text(encoding="utf-8")))
    }
    assert "run" in {verb for _, verb in named}
    assert {(document, verb) for document, verb in named if not re.search(rf"^ +{verb}\b", shown.stdout, re.MULTILINE)} == set()


def test_every_file_that_a_document_names_exists():
    folders = "cpt_ray|configs|ds_configs|cluster|jobs|tests|benchmarks|docs|examples"
    missing = set()
    count = 0
    for path in documents():
        for name in re.findall(rf"(?<![\w/.])(?:{folders})/[\w./-]*\w", code_of(path.read_text(encoding="utf-8"))):
            if re.search(r"[A-Z]{3,}(?!\w*\.md)", name):
                continue  # a placeholder such as benchmarks/results/THEME.json
            count += 1
            if not (ROOT / name).exists():
                missing.add((path.name, name))
    assert count > 5
    assert missing == set()


def test_every_link_inside_the_repository_leads_somewhere():
    broken = {
        (path.name, target)
        for path in documents()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    }
    assert broken == set()


def known_key(key):
    keys = schema_keys()
    plain = {re.sub(r"\[\]", "", one) for one in keys}
    if any(one == key or one.startswith(f"{key}.") for one in plain):
        return True
    room, module = key.split(".")[:2]  # a module's or a room's name, such as train.order
    place = ROOT / "cpt_ray" / room / module
    return place.is_dir() or place.with_suffix(".py").is_file()


def known_entry(key):
    section, rest = re.fullmatch(r"([a-z]+)(?:\[\]|\.\w+)\.(.+)", key).groups()
    plain = {re.sub(r"\[\]", "", one) for one in schema_keys()}
    return any(one == f"{section}.{rest}" or one.startswith(f"{section}.{rest}.") for one in plain)


def claims():
    """Ids of benchmark claims, which have the same form as keys."""
    results = (ROOT / "benchmarks/results").glob("*.json")
    return {claim["id"] for path in results for claim in json.loads(path.read_text(encoding="utf-8"))}


def test_every_key_that_a_document_names_is_in_the_schema():
    measured = claims()
    assert "train.bare_ratio" in measured
    unknown = {
        (path.name, key)
        for path in documents()
        for key in KEY.findall(code_of(path.read_text(encoding="utf-8")))
        if not known_key(key) and key not in measured and not key.endswith((".py", ".jsonl", ".yaml"))
    }
    assert unknown == set()


def test_every_key_of_an_entry_that_a_document_names_is_in_the_schema():
    named = {(path.name, key) for path in documents() for key in ENTRY.findall(code_of(path.read_text(encoding="utf-8")))}
    assert len(named) > 25
    assert {(page, key) for page, key in named if not known_entry(key)} == set()
    assert ENTRY.findall("set models.0.bass or `arms.NAME.mixx.a`, not data/sources.py") == [
        "models.0.bass",
        "arms.NAME.mixx.a",
    ]
    assert not known_entry("models.0.bass")


def test_every_key_that_a_message_names_is_in_the_schema():
    import ast

    named, unknown = 0, set()
    for path in sorted((ROOT / "cpt_ray").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for key in KEY.findall(node.value):
                    named += 1
                    if not known_key(key) and not key.endswith((".py", ".jsonl", ".yaml", ".json", ".lease")):
                        unknown.add((path.relative_to(ROOT).as_posix(), key))
    assert named > 20
    assert unknown == set()


def test_an_unknown_key_is_found():
    assert KEY.findall("set train.learnin_rate or cpt_ray.train.engine.engine, see train.budgets.") == [
        "train.learnin_rate",
        "train.budgets",
    ]
    assert known_key("train.budgets")
    assert known_key("prepare.pack")
    assert not known_key("train.learnin_rate")


def test_the_read_me_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


def test_the_change_log_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "keepachangelog.com" in text
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    headings = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert "Added" in headings


WIDTH = 140


def wide_table_lines(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        (path.name, number, len(line)) for number, line in enumerate(lines, 1) if line.startswith("|") and len(line) > WIDTH
    ]


def test_no_line_of_a_table_is_wider_than_a_screen():
    folders = [path for name in ("docs", "configs", "ds_configs", "cluster") for path in sorted((ROOT / name).glob("*.md"))]
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *folders]
    assert sum(path.read_text(encoding="utf-8").count("\n|") for path in paths) > 50
    assert [found for path in paths for found in wide_table_lines(path)] == []


def test_a_wide_line_of_a_table_is_found(tmp_path):
    path = tmp_path / "a.md"
    path.write_text(f"| {'x' * 137} |\n| {'x' * 136} |\n{'prose ' * 40}\n", encoding="utf-8")
    assert wide_table_lines(path) == [("a.md", 1, 141)]


def glossary():
    return re.findall(r"^- \*\*([^*]+)\*\*: .+", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_glossary_has_one_line_for_each_term():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = glossary()
    assert len(terms) == len(set(terms)) == text.count("\n- ") > 40


def test_every_term_of_the_glossary_is_used():
    """A term counts as used in prose, in code (`tokens_seen`) and in names of classes (`ShardManifest`)."""
    paths = [path for path in documents() if path.name != "glossary.md"]
    paths += [ROOT / path for path in tracked() if path.parts[0] in ("cpt_ray", "configs") and path.suffix in (".py", ".yaml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths).lower()
    plain = re.sub(r"[\s_-]+", " ", text)
    assert [term for term in glossary() if re.sub(r"[\s-]+", " ", term) not in plain] == []
