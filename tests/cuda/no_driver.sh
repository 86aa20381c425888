#!/bin/sh
# A program with CUDA on a machine without a driver: doctor says so in one line, "auto" computes on the CPU, and a device asked for
# by name fails; scripts/gpu-check has nothing to check. usage: no_driver.sh DECANT, in the source root.
set -eu
decant=$1
if [ -e /proc/driver/nvidia/version ]; then
    echo 'skipped: this machine has a driver'
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
    echo "$1" >&2
    cat "$folder"/* >&2
    exit 1
}

"$decant" doctor >"$folder/doctor"
[ "$(grep -c '^GPU .* none: .*this machine has no NVIDIA driver$' "$folder/doctor")" = 1 ] || fail 'doctor does not say that there is no driver'
"$decant" doctor --json | grep -q '"cards":\[\]' || fail 'doctor --json lists cards'

for name in cuda cuda:1; do
    code=0
    "$decant" bench --quick --device $name >"$folder/out" 2>"$folder/err" || code=$?
    [ $code = 1 ] || fail "--device $name ends with $code, not 1"
    [ "$(wc -l <"$folder/err")" = 1 ] || fail "--device $name says more than a line"
    grep -q "device '$name': this machine has no NVIDIA driver" "$folder/err" || fail "--device $name does not say why"
done

cat >"$folder/recipe.yaml" <<END
output_dir: $folder/run
data: {train: $folder/rows.jsonl, max_length: 16}
tokenizer: {train: {vocab_size: 260}}
END
echo '{"text": "a row"}' >"$folder/rows.jsonl"
"$decant" prepare "$folder/recipe.yaml" >"$folder/out" 2>"$folder/err" || fail 'the CPU is not used instead'
grep -q '^decant .* cores\?, ' "$folder/err" || fail 'the first line does not name the CPU'
code=0
"$decant" prepare "$folder/recipe.yaml" device=cuda >"$folder/out" 2>"$folder/err" || code=$?
[ $code = 1 ] || fail "device: cuda ends with $code, not 1"

code=0
scripts/gpu-check "$folder/check" >"$folder/out" 2>"$folder/err" || code=$?
[ $code = 77 ] || fail "scripts/gpu-check ends with $code, not 77"
[ "$(cat "$folder/out" "$folder/err" | wc -l)" = 1 ] || fail 'scripts/gpu-check says more than a line'
grep -q '^skipped: .*driver' "$folder/out" || fail 'scripts/gpu-check does not say why'
[ ! -e "$folder/check" ] || fail 'scripts/gpu-check made its folder'
