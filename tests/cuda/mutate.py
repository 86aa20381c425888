"""Are the barriers of the CUDA kernels needed, and would the tests tell? Each is taken away in turn: every removal must make a test red.

usage: mutate.py BUILD [--jobs N] [FILE ...], in the source root; BUILD has test_cuda_ops. A removal is one __syncthreads(), __syncthreads_or(x),
__syncwarp() or dc_cp_async_wait() in kernels/*_cuda.cu or kernels/*.cuh. The file's ops are then tested on the emulated card, under one
schedule after another, until one tells. What may go and nothing tells is a defect: of the kernel (take it away) or of the tests, unless
SURVIVES says why it stands there. First each file goes the same way as it is, and must pass under all schedules. Every other way to wait that
the kernels may come to use must be added to BARRIER: OTHERS looks for them."""
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
BARRIER = re.compile(r"__syncthreads\(\)(?=;)|__syncwarp\(\)(?=;)|dc_cp_async_wait\(\)(?=;)|__syncthreads_or(?=\()")
OTHERS = re.compile(r"__syncthreads_(?!or\()\w*|__syncwarp\((?!\);)|dc_cp_async_wait\((?!\))|cooperative_groups|cluster|mbarrier|\bbar\."
                    r"|\bbarrier\b(?=[.(<])|__threadfence\w*|wait_group|commit_group|wgmma\.fence|griddepcontrol|cudaGridDependency")
INCLUDE = re.compile(r'^\s*#\s*include "([^"]+)"', re.M)
KERNELS = pathlib.Path("kernels")
# (file, line without blanks at its ends): why the barrier is there although nothing can tell
SURVIVES = {
    ("attn_decode_cuda.cu", "__syncwarp(); /* its lanes have read what the state takes the place of */"):
        "the shuffles before it order the lanes too; compute-sanitizer's racecheck does not see that and warned on a card",
}
# Instructions that the emulation has not: whether they wait as they should, the probe of a device tells (attn_group_cuda.cu).
ON_CARDS_ALONE = {"cuda_wgmma.cuh"}
CAPABILITY = {"attn_group_cuda.cu": "9.0"}  # of the emulated card that takes the file's kernels


def mutants(path):
    """(number of the line, the line, the text without its barrier) for each barrier."""
    text = path.read_text()
    for found in BARRIER.finditer(text):
        number = text.count("\n", 0, found.start()) + 1
        line = text.splitlines()[number - 1]
        code = line.split("/*")[0]
        if found.group() in code and not re.search(r"\bvoid\b", line):
            yield number, line.strip(), text[:found.start()] + text[found.end():]


def others(path):
    """Ways to wait that no removal stands for."""
    if path.name in ON_CARDS_ALONE:
        return
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), path.read_text(), flags=re.S)
    for found in OTHERS.finditer(text):
        yield f"{path}:{text.count(chr(10), 0, found.start()) + 1}: {found.group()}: not among what is taken away"


def closure(path, seen):
    if path not in seen and path.exists():
        seen[path] = path.read_text()
        for name in INCLUDE.findall(seen[path]):
            closure(pathlib.Path(name), seen)
    return seen


def functions(path):
    """(name, its words) of each function: from a line at the left margin that has its name to the next of those."""
    found = [(0, None)]
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Za-z]", line) and (names := re.findall(r"(\w+)\(", re.sub(r"DC_KERNEL\w*\([^)]*\)", "", line))):
            found.append((number, names[-1]))
    for (start, name), (end, _) in zip(found, found[1:] + [(len(lines), None)]):
        yield start, name, set(re.findall(r"\w+", "\n".join(lines[start:end])))


def sources_of(path, number):
    """The .cu files whose functions come to that line."""
    if path.suffix == ".cu":
        return [path]
    line_is_in = [name for start, name, _ in functions(path) if start < number][-1]
    users = []
    for source in sorted(KERNELS.glob("*_cuda.cu")):
        texts = closure(source, {})
        calls = [(file, name, words) for file in texts for _, name, words in functions(file)]
        reached, before = {line_is_in}, None
        while reached != before:
            before = set(reached)
            reached |= {name for _, name, words in calls if name and words & before}
        if path in texts and any(file == source and words & reached for file, _, words in calls):
            users.append(source)
    return users


def ops_of(source):
    """Names of the ops that a file fills in, as kernels/cuda_dev.h tells."""
    stem = source.stem.removesuffix("_cuda")
    header = (KERNELS / "cuda_dev.h").read_text()
    listed = re.search(rf"dc_{stem.split('_')[0]}_overlay_cuda\(\s*dc_ops \*ops\);\s*/\* (.*?) \*/", header).group(1).split(", ")
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

    def program(self, object_file, out):
        """The object stands before the library that has its like, which is then not taken."""
        command = self.link.split("&&")[-2 if self.link.rstrip().endswith("&& :") else -1]
        words = shlex.split(command)
        at = words.index("-o")
        words[at + 1] = str(out)
        words.insert(at, str(object_file))
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True)


def who_tells(program, source):
    """The first schedule and op that are red, or None."""
    for schedule in SCHEDULES:
        for op in ops_of(source):
            env = dict(os.environ, DC_EMU_SCHEDULE=schedule, DC_EMU_CAPABILITY=CAPABILITY.get(source.name, "8.0"), OMP_NUM_THREADS="1")
            try:
                done = subprocess.run([program, op], env=env, capture_output=True, text=True, timeout=300)
                if done.returncode:
                    return f"{op}, {schedule}"
            except subprocess.TimeoutExpired:
                return f"{op}, {schedule}: it hangs"
    return None


def make(build, tree, source):
    """What went wrong with making tree/program from the source, with what the tree has in place of files of the source root; or None."""
    if (done := build.compile(source, tree, tree / "one.o")).returncode:
        return f"it does not compile:\n{done.stderr[-1500:]}"
    done = build.program(tree / "one.o", tree / "program")
    return f"it does not link:\n{done.stderr[-1500:]}" if done.returncode else None


def try_whole(build, source, folder):
    """(is it as it should be?, a line about it)"""
    tree = pathlib.Path(folder) / source.stem
    (tree / source).parent.mkdir(parents=True)
    (tree / source).write_text(source.read_text())
    bad = make(build, tree, source) or who_tells(tree / "program", source)
    return not bad, f"{source}: as it is: {bad or 'passes'}"


def try_one(build, path, number, line, text, source, folder):
    """The same of a file without one of its barriers, or of one that includes it."""
    tree = pathlib.Path(folder) / f"{path.stem}{path.suffix[1:]}.{number}.{source.stem}"
    (tree / path).parent.mkdir(parents=True)
    (tree / path).write_text(text)
    at = f"{path}:{number}: {line}" + (f" in {source}" if source != path else "")
    if bad := make(build, tree, source):
        return False, f"{at}: without it, {bad}"
    told = who_tells(tree / "program", source)
    why = SURVIVES.get((path.name, line))
    (tree / "program").unlink()
    if told and why:
        return False, f"{at}: {told} tells, but the table says that nothing can: {why}"
    if not told and not why:
        return False, f"{at}: NOTHING TELLS"
    return True, f"{at}: {told or why}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_intermixed_args()
    build = Build(options.build.resolve())
    files = options.files or sorted([*KERNELS.glob("*_cuda.cu"), *KERNELS.glob("*.cuh")])
    removals = [(f, *m) for f in files for m in mutants(f)]
    trials = [(*r, source) for r in removals for source in sources_of(*r[:2])]
    lines = {(f.name, line) for f, _, line, _ in removals}
    bad = [f"the table names {name}: {line}, which is not there" for name, line in SURVIVES if not options.files and (name, line) not in lines]
    bad += [other for f in files for other in others(f)]
    bad += [f"{r[0]}:{r[1]}: {r[2]}: no kernel comes to it" for r in removals if not sources_of(*r[:2])]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        tries = [pool.submit(try_whole, build, source, folder) for source in sorted({t[-1] for t in trials})]
        tries += [pool.submit(try_one, build, *trial, folder) for trial in trials]
        for one in tries:
            fine, told = one.result()
            print(told, flush=True)
            bad += [] if fine else [told]
    print("\n".join(["", *bad, f"mutate: {len(removals)} removals, {len(trials)} programs, {len(bad)} not as they should be"]).strip())
    return 1 if bad or not removals else 0


sys.exit(main())
