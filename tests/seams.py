"""What may stand where, beyond includes: devices are named in kernels/ alone, only cli/ prints and exits, memory comes from core/arena.h,
and nothing waits to be done."""
import pathlib
import re
import sys

FOLDERS = "core kernels data model train lora distill export cascade cli".split()
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
TEXT = re.compile(r'"(?:\\.|[^"\\\n])*"')

# (what, where it is allowed, pattern, in code only: comments and texts are cut out before)
RULES = [
    ("names a device or an instruction set: that is kernels/' business",
     re.compile(r"kernels/|train/comm_nccl|core/schema|cli/(cmd_)?(doctor|bench)"),
     re.compile(r"\b(cuda\w*|nccl\w*|cublas\w*|nvcc|avx\w*|sse\d\w*|neon|onednn|dnnl\w*|openblas\w*|cblas\w*|_mm\d*_\w+|immintrin)\b|__x86_64__|__AVX",
                re.I), False),
    ("prints or exits: outside cli/ errors go to the caller, progress to core/log.h", re.compile(r"cli/|core/(log|error)"),
     re.compile(r"\b(printf|puts|putchar|perror|exit|_exit|abort)\s*\(|\b(stdout)\b"), True),
    ("takes memory past core/arena.h", re.compile(r"core/arena"),
     re.compile(r"(?<![\w.>])(malloc|calloc|realloc|aligned_alloc|posix_memalign|strdup|strndup|asprintf)\s*\("), True),
    ("turns on fast math or takes this machine's instruction set for everybody's", re.compile(r"$^"),
     re.compile(r"ffast-math|march=native"), False),
]
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def spaces(match):
    return re.sub(r"[^\n]", " ", match.group())


def check(path):
    text = path.read_text()
    code = COMMENT.sub(spaces, text)
    bare = TEXT.sub(spaces, code)
    for what, allowed, pattern, code_only in RULES:
        if allowed.match(str(path)):
            continue
        for m in pattern.finditer(bare if code_only else code):
            yield f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {m.group().strip()} {what}"


def main():
    bad, n = [], 0
    for folder in FOLDERS:
        for path in sorted([*pathlib.Path(folder).glob("*.[ch]"), *pathlib.Path(folder).glob("*.cu*")]):
            n += 1
            bad += check(path)
    for folder in [*FOLDERS, "tests", "bench", "scripts", "cmake", "configs", "docs"]:
        for path in sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix in {".c", ".h", ".cu", ".cuh", ".py", ".cmake", ".md", ".sh", ".yaml"}):
            if path.name == "seams.py" or "corpus" in path.parts:
                continue
            for i, line in enumerate(path.read_text().splitlines()):
                if UNFINISHED.search(line) and "XXXXXX" not in line:
                    bad.append(f"{path}:{i + 1}: left unfinished: {line.strip()[:80]}")
    print("\n".join(bad) or f"seams: {n} files ok")
    return bool(bad)


sys.exit(main())
