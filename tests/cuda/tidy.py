"""What clang-tidy and clang's analyzer say of kernels/*.cu and the headers they include, through the emulation's headers: nothing.

usage: tidy.py [--jobs N] [FILE.cu ...], in the source root. Without clang-tidy: skipped (77). The analyzer follows a loop for four rounds and
no path behind a longer one: it is blind to what comes after most loops over eight elements."""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

CHECKS = ["-*", "bugprone-*", "clang-analyzer-*", "performance-*", "misc-redundant-expression", "misc-unused-parameters",
          "modernize-use-nullptr", "readability-misleading-indentation", "readability-redundant-*",
          # Left out, with what they said of these files:
          "-bugprone-easily-swappable-parameters",  # of every other function
          "-bugprone-macro-parentheses",  # arguments that are types, declarators and kernels
          # Sizes of tensors are int64_t (-Wconversion tells); these were offsets within a tile, a quantized block or eight elements of a thread.
          "-bugprone-implicit-widening-of-multiplication-result",
          "-bugprone-integer-division",  # divided indices of arrays of integers that are then converted
          "-bugprone-narrowing-conversions"]  # -Wconversion, and that a float becomes a double
# Kernels and templates of the headers are analyzed too. The emulation's headers must not be -isystem: nothing would be told of those kernels.
FLAGS = ["-x", "c++", "-std=c++17", "-Itests/emu/include", "-Itests/emu", "-I.", "-D_GNU_SOURCE", "-Wno-unknown-pragmas",
         "-Xclang", "-analyzer-opt-analyze-headers"]
FOUND = re.compile(r"^.*(?:warning|error): .*$", re.M)


def tidy(tool, source):
    """(source, what was said of it)"""
    done = subprocess.run([tool, str(source), "--quiet", "--header-filter=.*/kernels/.*", "--checks=" + ",".join(CHECKS), "--", *FLAGS],
                          capture_output=True, text=True)
    said = done.stdout if FOUND.search(done.stdout) else ""
    return source, said or (f"{source}: {tool} ended with {done.returncode}: {done.stderr[-800:]}" if done.returncode else "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    # A version of its own each: others have more checks.
    tool = next((t for t in ("clang-tidy-14", "clang-tidy") if shutil.which(t)
                 and " 14." in subprocess.run([t, "--version"], capture_output=True, text=True).stdout), None)
    if not tool:
        print("skipped: clang-tidy 14 is not here")
        return 77
    sources = options.files or sorted(pathlib.Path("kernels").glob("*.cu"))
    said, bad = set(), 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for source, text in pool.map(lambda s: tidy(tool, s), sources):
            bad += bool(text)
            if text not in said:
                print(text, end="")
            said.add(text)
    if not sources or bad:
        print(f"tidy: {bad} of {len(sources)} files are not clean")
        return 1
    print(f"tidy: {len(sources)} files, nothing to tell")
    return 0


sys.exit(main())
