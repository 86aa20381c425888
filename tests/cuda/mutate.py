"""Are the barriers of the CUDA kernels needed, and would the tests tell? Each is taken away in turn: every removal must make a test red.

usage: mutate.py BUILD [--jobs N] [FILE ...], in the source root; BUILD has test_cuda_ops. A removal is one __syncthreads(), __syncthreads_or(x),
__syncwarp() or dc_cp_async_wait() in kernels/*_cuda.cu or kernels/*.cuh. The file's ops are then tested on the emulated card, under one schedule after another,
until one tells. What may go and nothing tells is a defect: of the kernel (take it away) or of the tests, unless SURVIVES says why it stands there."""
import argparse
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

SCHEDULES = ("forward", "reverse", "random:1", "random:2")
BARRIER = re.compile(r"__syncthreads\(\);|__syncwarp\(\);|dc_cp_async_wait\(\);|__syncthreads_or(?=\()")
INCLUDE = re.compile(r'^\s*#\s*include "([^"]+)"', re.M)
KERNELS = pathlib.Path("kernels")
# (file, line without blanks at its ends): why the barrier is there although nothing can tell
SURVIVES = {}


def mutants(path):
    """(number of the line, the line, the text without its barrier) for each barrier."""
    text = path.read_text()
    for found in BARRIER.finditer(text):
        number = text.count("\n", 0, found.start()) + 1
        line = text.splitlines()[number - 1]
        code = line.split("/*")[0]
        if found.group() in code and not re.search(r"\bvoid\b", line):
            yield number, line.strip(), text[:found.start()] + text[found.end():]


def closure(path, seen):
    if path not in seen and path.exists():
        seen[path] = path.read_text()
        for name in INCLUDE.findall(seen[path]):
            closure(pathlib.Path(name), seen)
    return seen


def function_at(path, number):
    """The name of the function that line is in: the last one at the left margin before it."""
    name = None
    for line in path.read_text().splitlines()[:number]:
        if re.match(r"[A-Za-z]", line) and (m := re.findall(r"(\w+)\(", re.sub(r"DC_KERNEL\([^)]*\)", "", line))):
            name = m[-1]
    return name


def sources_of(path, number):
    """The .cu files that a line of the file is compiled into."""
    if path.suffix == ".cu":
        return [path]
    called = re.compile(rf"\b{function_at(path, number)}\b")
    by_header = len(called.findall(path.read_text())) > 1
    return [s for s in sorted(KERNELS.glob("*_cuda.cu"))
            if path in (texts := closure(s, {})) and (by_header or any(called.search(t) for p, t in texts.items() if p != path))]


def ops_of(source):
    """Names of the ops that a file fills in, as kernels/cuda_dev.h tells."""
    stem = source.stem.removesuffix("_cuda")
    header = (KERNELS / "cuda_dev.h").read_text()
    listed = re.search(rf"dc_{stem.split('_')[0]}_overlay_cuda\(dc_ops \*ops\);\s*/\* (.*?) \*/", header).group(1).split(", ")
    return [stem] if stem in listed else ["attn_fwd"] if stem == "attn" else listed


class Build:
    def __init__(self, folder):
        self.folder = folder
        lines = subprocess.run(["ninja", "-C", folder, "-t", "commands", "test_cuda_ops"], capture_output=True, text=True, check=True).stdout.splitlines()
        self.commands = {source: next(c for c in lines if c.endswith(f"/{source.name}") or f"/{source.name} " in c) for source in KERNELS.glob("*_cuda.cu")}
        self.link = next(c for c in reversed(lines) if " -o " in c and "test_cuda_ops" in c and " -c " not in c)

    def compile(self, source, tree, out):
        words = shlex.split(self.commands[source])
        words[words.index("-o") + 1] = str(out)
        for flag in ("-MT", "-MF"):
            if flag in words:
                words[words.index(flag) + 1] = str(out) + (".d" if flag == "-MF" else "")
        words = [w for w in words if not w.endswith(f"/{source}")] + [str(tree / source if (tree / source).exists() else source.resolve())]
        compiler = next(i for i, w in enumerate(words) if w.startswith("-"))
        words.insert(compiler, f"-I{tree}")
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True)

    def program(self, objects, out):
        """Objects before the library they are in: those there are then not taken."""
        command = self.link.split("&&")[-2 if self.link.rstrip().endswith("&& :") else -1]
        words = shlex.split(command)
        at = words.index("-o")
        words[at + 1] = str(out)
        words[at:at] = map(str, objects)
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True)


def who_tells(program, ops):
    """The first schedule and op that are red, or None."""
    for schedule in SCHEDULES:
        for op in ops:
            env = dict(os.environ, DC_EMU_SCHEDULE=schedule, OMP_NUM_THREADS="1")
            try:
                done = subprocess.run([program, op], env=env, capture_output=True, text=True, timeout=300)
                if done.returncode:
                    return f"{op}, {schedule}"
            except subprocess.TimeoutExpired:
                return f"{op}, {schedule}: it hangs"
    return None


def try_one(build, path, number, line, text, folder):
    """(is it as it should be?, a line about it)"""
    tree = pathlib.Path(folder) / f"{path.stem}{path.suffix[1:]}.{number}"
    (tree / path).parent.mkdir(parents=True)
    (tree / path).write_text(text)
    sources = sources_of(path, number)
    objects = [tree / f"{s.stem}.o" for s in sources]
    for source, out in zip(sources, objects):
        done = build.compile(source, tree, out)
        if done.returncode:
            return False, f"{path}:{number}: {line}: does not compile without it:\n{done.stderr[-1500:]}"
    done = build.program(objects, tree / "program")
    if done.returncode:
        return False, f"{path}:{number}: {line}: does not link:\n{done.stderr[-1500:]}"
    told = who_tells(tree / "program", [op for s in sources for op in ops_of(s)]) if sources else None
    why = SURVIVES.get((path.name, line))
    (tree / "program").unlink()
    if told and why:
        return False, f"{path}:{number}: {line}: {told} tells, but the table says that nothing can: {why}"
    if not told and not why:
        return False, f"{path}:{number}: {line}: NOTHING TELLS"
    return True, f"{path}:{number}: {line}: {told or why}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_intermixed_args()
    build = Build(options.build.resolve())
    files = options.files or sorted([*KERNELS.glob("*_cuda.cu"), *KERNELS.glob("*.cuh")])
    all_mutants = [(f, *m) for f in files for m in mutants(f)]
    lines = {(f.name, line) for f, _, line, _ in all_mutants}
    bad = [f"the table names {name}: {line}, which is not there" for name, line in SURVIVES if not options.files and (name, line) not in lines]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        for fine, told in pool.map(lambda m: try_one(build, *m, folder), all_mutants):
            print(told, flush=True)
            bad += [] if fine else [told]
    print(f"mutate: {len(all_mutants)} removals, {len(bad)} not as they should be")
    return 1 if bad or not all_mutants else 0


sys.exit(main())
