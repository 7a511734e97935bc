#!/usr/bin/env bash
# On a GPU host without network, in the project's root, with gpu-bundle/ beside it: one command of at most eight minutes.
# Every part has its own limit (LIMIT_speed=60 changes that of one), its own log and result file in $OUT; a part that fails costs only
# itself. TAKE="speed study" runs some of them. A bundle made with --tiny rehearses the same on a CPU. HAS NOT RUN ON A GPU YET.
set -uo pipefail
cd "$(dirname "$0")/../.."
BUNDLE=$(realpath "${BUNDLE:-gpu-bundle}") OUT=${OUT:-/tmp/gpu-out} PYTHON=${PYTHON:-python3}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/cpt-ray-gpu-XXXXXX")
mkdir -p "$OUT"; rm -rf "$OUT"/*.json "$OUT"/*.jsonl "$OUT"/*.log "$OUT"/metrics; trap 'rm -rf "$WORK"' EXIT
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

found=$($PYTHON -m benchmarks.gpu.bundle join "$BUNDLE" "$WORK/base") || { echo "$found"; exit 2; }
eval "$found"; echo "bundle of commit $COMMIT: base $BASE, tiny $TINY"
$PYTHON -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir \
  --target "$WORK/site" "$BUNDLE"/wheels/*.whl > "$OUT/install.log" 2>&1 || { tail -n 5 "$OUT/install.log"; exit 3; }
export PYTHONPATH=$PWD:$WORK/site TORCH_EXTENSIONS_DIR=${TORCH_EXTENSIONS_DIR:-$WORK/extensions} PATH=$WORK/site/bin:$PATH
$PYTHON -m benchmarks.gpu.bundle unpack "$BUNDLE" "$WORK/study" > /dev/null || exit 2

mapfile -t settings < "$BUNDLE/overrides"
settings+=("study.root=$WORK/study")
for text in "$BUNDLE"/text/*.parquet; do settings+=("sources.$(basename "$text" .parquet).path=$text"); done
[ "$BASE" = 1 ] && settings+=("models.0.base=$(echo "$WORK"/base/*)")
study() { $PYTHON -m cpt_ray.cli.main "$1" benchmarks/gpu/study.yaml "${settings[@]}" "${@:2}"; }
[ "$BASE" = 1 ] && { study prepare > "$OUT/prepare.log" 2>&1 & preparing=$!; }

part() {
  local name=$1 limit_name=LIMIT_$1 limit=$2 began=$SECONDS; shift 2; limit=${!limit_name:-$limit}
  [[ -n ${TAKE:-} && " $TAKE " != *" $name "* ]] && return
  timeout --kill-after=5 "$limit" "$@" > "$OUT/$name.log" 2>&1; local code=$?
  printf '{"part": "%s", "exit_code": %d, "seconds": %d, "limit_s": %d}\n' "$name" $code $((SECONDS - began)) "$limit" >> "$OUT/parts.jsonl"
  echo "== $name: exit $code after $((SECONDS - began)) s"; tail -n "${TAIL:-12}" "$OUT/$name.log"
}
: > "$OUT/parts.jsonl"
SHARDS=$(echo "$WORK"/study/shards/*)
part facts 20 $PYTHON -m benchmarks.gpu.facts "$OUT/facts.json"
part tests 50 $PYTHON -m pytest -q -o addopts= -p no:cacheprovider -m "$([ "$TINY" = 1 ] && echo 'not gpu and not full' || echo gpu)" $([ "$TINY" = 1 ] && echo tests/model/attention || echo tests/model tests/train/engine)
part speed 100 $PYTHON -m benchmarks.gpu.speed ours "$SHARDS" "$OUT/speed.json"
part peers 60 $PYTHON -m benchmarks.gpu.speed peers "$SHARDS" "$OUT/peers.json"
part scoring 20 $PYTHON -m benchmarks.gpu.scoring "$SHARDS" "$OUT/scoring.json"
if [ "$BASE" = 1 ]; then
  wait "$preparing"
  export -f study; export PYTHON; declare -p settings > "$WORK/settings.sh"
  part study 130 bash -c "source '$WORK/settings.sh'; study run"
  cp "$WORK"/study/report.html "$WORK"/study/comparison.json "$OUT"/ 2>/dev/null
  mkdir -p "$OUT/metrics"; for log in "$WORK"/study/train/*/metrics/*.jsonl; do cp "$log" "$OUT/metrics/$(basename "${log%/metrics/*}").jsonl"; done
  tar c -C "$WORK/study" --exclude='*.safetensors' --exclude=checkpoints train evaluate 2>/dev/null | gzip > "$OUT/study.tar.gz"
else
  echo "== study: skipped, the bundle has no base"
fi
part profile 30 $PYTHON -m benchmarks.gpu.profile "$SHARDS" "$OUT/profile.json"
part large 40 $PYTHON -m benchmarks.gpu.large "$SHARDS" "$OUT/large.json"
part claims 15 $PYTHON -m benchmarks.gpu.results "$OUT" "$COMMIT"
echo "total $SECONDS s; results in $OUT"
