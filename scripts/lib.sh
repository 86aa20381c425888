# Sourced by the scripts, in the source root: where things are, and how to speak.
# shellcheck shell=sh
cache_dir=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/decant
judges_dir=${DECANT_JUDGES:-$cache_dir/judges}
models_dir=${DECANT_MODELS:-$cache_dir/models}

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
