#!/usr/bin/env bash
# On a GPU host without network, in the project's root, with gpu-bundle/ beside it: one command of at most eight minutes (TOTAL).
# Every part has its own limit (LIMIT_speed=60 changes that of one), its own log and result file in $OUT; a part that fails costs only
# itself. TAKE="speed study" runs some of them. A bundle made with --tiny rehearses the same on a CPU. HAS NOT RUN ON A GPU YET.
set -uo pipefail
cd "$(dirname "$0")/../.."
BUNDLE=$(realpath "${BUNDLE:-gpu-bundle}") OUT=${OUT:-/tmp/gpu-out} PYTHON=${PYTHON:-python3} TOTAL=${TOTAL:-480}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/cpt-ray-gpu-XXXXXX")
mkdir -p "$OUT"; trap 'rm -rf "$WORK"' EXIT
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

found=$($PYTHON -m benchmarks.gpu.bundle join "$BUNDLE" "$WORK/base") || { echo "$found"; exit 2; }
eval "$found"; echo "bundle of commit $COMMIT: base $BASE, tiny $TINY"
$PYTHON -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir \
  --target "$WORK/site" "$BUNDLE"/wheels/*.whl > "$OUT/install.log" 2>&1 || { tail -n 5 "$OUT/install.log"; exit 3; }
export PYTHONPATH=$PWD:$WORK/site PATH=$WORK/site/bin:$PATH
# One folder each, so that what one part has compiled the next one finds.
export TORCH_EXTENSIONS_DIR=${TORCH_EXTENSIONS_DIR:-$WORK/extensions} TORCHINDUCTOR_CACHE_DIR=$WORK/inductor
$PYTHON -m benchmarks.gpu.bundle unpack "$BUNDLE" "$WORK/study" > /dev/null || exit 2

mapfile -t settings < "$BUNDLE/overrides"
settings+=("study.root=$WORK/study")
for text in "$BUNDLE"/text/*.parquet; do settings+=("sources.$(basename "$text" .parquet).path=$text"); done
[ "$BASE" = 1 ] && settings+=("models.0.base=$(echo "$WORK"/base/*)")
study() { $PYTHON -m cpt_ray.cli.main "$1" benchmarks/gpu/study.yaml "${settings[@]}"; }
export -f study; export PYTHON; declare -p settings > "$WORK/settings.sh"
# The base is imported on the host's CPUs while its GPU is busy with the first parts.
[ "$BASE" = 1 ] && { timeout 300 bash -c "source '$WORK/settings.sh'; study prepare" > "$OUT/prepare.log" 2>&1 & preparing=$!; }

part() {  # NAME LIMIT_S COMMAND...: at most its limit, and what is left of the whole
  local name=$1 limit_name=LIMIT_$1 limit=$2 began=$SECONDS left=$((TOTAL - SECONDS)); shift 2; limit=${!limit_name:-$limit}
  [[ -n ${TAKE:-} && " $TAKE " != *" $name "* ]] && return
  [ "$limit" -gt "$left" ] && limit=$left
  [ "$limit" -lt 1 ] && { echo "== $name: no time left"; return; }
  rm -f "$OUT/$name.json" "$OUT/$name.log"
  timeout --kill-after=5 "$limit" "$@" > "$OUT/$name.log" 2>&1; local code=$?
  printf '{"part": "%s", "exit_code": %d, "seconds": %d, "limit_s": %d}\n' "$name" $code $((SECONDS - began)) "$limit" >> "$OUT/parts.jsonl"
  echo "== $name: exit $code after $((SECONDS - began)) s"; tail -n "${TAIL:-12}" "$OUT/$name.log"
}
: > "$OUT/parts.jsonl"
SHARDS=$(echo "$WORK"/study/shards/*)
[ "$TINY" = 1 ] && which=(-m "not gpu and not full" tests/model/attention) || which=(-m gpu tests/model tests/train/order)
part facts 15 $PYTHON -m benchmarks.gpu.facts "$OUT/facts.json"
part tests 45 $PYTHON -m pytest -v -o addopts= -p no:cacheprovider "${which[@]}"
part speed 90 $PYTHON -m benchmarks.gpu.speed ours "$SHARDS" "$OUT/speed.json"
part scoring 20 $PYTHON -m benchmarks.gpu.scoring "$SHARDS" "$OUT/scoring.json"
part peers 70 $PYTHON -m benchmarks.gpu.speed peers "$SHARDS" "$OUT/peers.json"
part claims 10 $PYTHON -m benchmarks.gpu.results "$OUT" "$COMMIT"
if [ "$BASE" = 1 ] && wait "$preparing"; then
  part study 190 bash -c "source '$WORK/settings.sh'; study run"
  cp "$WORK"/study/report.html "$WORK"/study/comparison.json "$OUT"/ 2>/dev/null
  mkdir -p "$OUT/metrics"
  for log in "$WORK"/study/train/*/metrics/attempt-*.jsonl; do cat "$log" >> "$OUT/metrics/$(basename "${log%/metrics/*}").jsonl"; done
  tar c -C "$WORK/study" --exclude='*.safetensors' --exclude=checkpoints train evaluate 2>/dev/null | gzip > "$OUT/study.tar.gz"
else
  echo "== study: skipped, the bundle has no base, or its import failed"; tail -n 5 "$OUT/prepare.log" 2>/dev/null
fi
part profile 25 $PYTHON -m benchmarks.gpu.profile "$SHARDS" "$OUT/profile.json"
part large 45 $PYTHON -m benchmarks.gpu.large "$SHARDS" "$OUT/large.json"
part claims 10 $PYTHON -m benchmarks.gpu.results "$OUT" "$COMMIT"
[ "$TINY" = 1 ] || part engine 60 $PYTHON -m pytest -v -o addopts= -p no:cacheprovider -m gpu tests/train/engine
# Hosts may return few files: what nobody reads first becomes one.
tar c -C "$OUT" --exclude='*.gz' . 2>/dev/null | gzip > "$WORK/everything.tar.gz" && mv "$WORK/everything.tar.gz" "$OUT/"
rm -rf "$OUT"/*.log "$OUT"/*.jsonl "$OUT/metrics" "$OUT"/{facts,scoring,large}.json
echo "total $SECONDS s; results in $OUT"
