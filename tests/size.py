"""Sizes of the C code: a file of more than 800 lines or a function of more than 120 is two things.

Tables that a script wrote ("do not edit" in the first line) are not counted. Functions are found by the house's format: their body opens
with a brace alone in the first column and ends with one."""
import pathlib
import sys

FILE, FUNCTION = 800, 120
FOLDERS = "core kernels data model train lora distill export cascade cli tests bench".split()


def functions(lines):
    """(line number, length with signature) of every function."""
    start, end = None, 0
    for i, line in enumerate(lines):
        if line == "{" and start is None:
            start = i
            while start > end and lines[start - 1].strip() and not lines[start - 1].startswith(("#", "}", "/*", " */")):
                start -= 1
        elif line == "}" and start is not None:
            yield start + 1, i - start + 1
            start, end = None, i + 1


def main():
    bad, n_files, n_functions = [], 0, 0
    for folder in FOLDERS:
        for path in sorted(p for e in ("c", "h", "cc", "cu", "cuh") for p in pathlib.Path(folder).rglob(f"*.{e}")):
            lines = path.read_text().splitlines()
            if lines and "do not edit" in lines[0]:
                continue
            n_files += 1
            if len(lines) > FILE:
                bad.append(f"{path}: {len(lines)} lines, at most {FILE}: split it along a seam")
            for line, length in functions(lines):
                n_functions += 1
                if length > FUNCTION:
                    bad.append(f"{path}:{line}: a function of {length} lines, at most {FUNCTION}")
    if n_functions < n_files // 4:
        bad.append(f"only {n_functions} functions found in {n_files} files: does this script still know the format?")
    print("\n".join(bad) or f"size: {n_files} files, {n_functions} functions ok")
    return bool(bad)


sys.exit(main())
