#!/bin/sh
# cmake --install puts the program, the recipes with their data, the completion and the documentation where Debian's users look for them.
# usage: install.sh BUILD_FOLDER, in the source root.
set -eu
build=$1
[ -x "$build/decant" ] || { echo 'skipped: the program is not built'; exit 77; }
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build" --prefix "$prefix" >"$prefix/log" || { cat "$prefix/log"; exit 1; }
recipes=$(find configs -name '*.yaml' 2>/dev/null | sed 's|^|share/decant/|')
for file in bin/decant $recipes share/bash-completion/completions/decant share/doc/decant/README.md; do
    [ -e "$prefix/$file" ] || { echo "not installed: $file"; exit 1; }
done
"$prefix/bin/decant" --version
# The installed program runs from anywhere.
cd /
"$prefix/bin/decant" help recipe lora.r >/dev/null
