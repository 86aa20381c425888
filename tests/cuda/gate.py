"""What nvcc makes of every kernel: no spills, no local memory, and the registers and shared memory of tests/cuda/budget.txt.

usage: gate.py [--update] [--jobs N] [--kept FOLDER] [FILE_cuda.cu ...], in the source root. Every kernels/*_cuda.cu is compiled for every
architecture of ARCHS; ptxas's warnings of spills are errors. The budget has one row a kernel and architecture; --update writes it anew, which a
commit then shows. The numbers are one compiler's: with another version only spills are looked for. Without nvcc: skipped (77).
--kept: what was found of a file is kept there, and it is compiled again only when it, a header, the compiler, its flags or this script have
changed.

blocks: how many blocks of a multiprocessor fit by threads, registers and static shared memory (cuda_occupancy.h with ARCHS' figures); a
kernel with dynamic shared memory has a + there, since its launcher may allow fewer. mma, v4, async: instructions of its PTX: products of the
tensor cores, 16-byte loads and stores of global memory, asynchronous copies."""
import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

BUDGET = pathlib.Path("tests/cuda/budget.txt")
# CUDA C++ Programming Guide, technical specifications per compute capability:
# name: (threads of a multiprocessor, its shared memory in KiB); a block may have all of that but one
ARCHS = {"80": (2048, 164), "86": (1536, 100), "89": (1536, 100), "90a": (2048, 228), "100a": (2048, 228), "120": (1536, 100)}
COLUMNS = ("registers", "shared", "threads", "blocks", "mma", "v4", "async")
FLAGS = ["-std=c++17", "-I.", "-O3", "-cubin", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage,-Werror", "-Xcompiler", "-Wall,-Wextra"]
OCCUPANCY = r"""
#include <cstdio>
#include <cuda_occupancy.h>
int main()
{
    int major, minor, threads, kib, block, registers, shared;
    while (std::scanf("%d %d %d %d %d %d %d", &major, &minor, &threads, &kib, &block, &registers, &shared) == 7) {
        cudaOccDeviceProp p;
        p.computeMajor = major, p.computeMinor = minor, p.warpSize = 32, p.numSms = 1;
        p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiprocessor = threads;
        p.regsPerBlock = p.regsPerMultiprocessor = 65536;
        p.sharedMemPerMultiprocessor = kib * 1024, p.sharedMemPerBlock = 48 * 1024, p.sharedMemPerBlockOptin = (kib - 1) * 1024;
        p.reservedSharedMemPerBlock = 1024;
        cudaOccFuncAttributes f;
        f.maxThreadsPerBlock = 1024, f.numRegs = registers, f.sharedSizeBytes = shared, f.maxDynamicSharedSizeBytes = (kib - 1) * 1024;
        f.partitionedGCConfig = PARTITIONED_GC_OFF, f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN, f.numBlockBarriers = 1;
        cudaOccDeviceState s;
        cudaOccResult r;
        std::printf("%d\n", cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &f, &s, block, 0) ? -1 : r.activeBlocksPerMultiprocessor);
    }
}
"""
INFO = re.compile(r"Compiling entry function '(\w+)' for 'sm_\w+'")
USED = re.compile(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?")
ENTRY = re.compile(r"\.entry (\w+)\((.*?)\n\}", re.S)


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


def compiler_of(nvcc):
    """(its version as the budget has it, all that it says of itself)"""
    said = run([nvcc, "--version"]).stdout
    return re.search(r"release (\d+\.\d+)", said).group(1), said


def entries(ptx):
    """mangled name: (threads, dynamic shared memory?, mma, v4, async)"""
    found = {}
    for name, body in ENTRY.findall(ptx):
        bound = re.search(r"\.maxntid (\d+)(?:, (\d+), (\d+))?", body)
        threads = 1
        for part in bound.groups() if bound else ():
            threads *= int(part or 1)
        found[name] = (threads if bound else 1024, "dc_dynamic_shared" in body, len(re.findall(r"\bmma\.sync|\bwgmma\.mma", body)),
                       len(re.findall(r"\b(?:ld|st)\.global(?:\.\w+)*\.v4\.(?:u32|b32|f32)", body)), len(re.findall(r"\bcp\.async", body)))
    return found


def demangled(names):
    out = run(["c++filt"], input="\n".join(names)).stdout.splitlines() if names else []
    short = {}
    for name, text in zip(names, out):
        text = re.sub(r"^void |\(anonymous namespace\)::", "", text).replace("__nv_bfloat16", "bf16")
        short[name] = re.sub(r"\(.*", "", re.sub(r"\((?:int|bool|unsigned int)\)", "", text)).replace(" ", "")
    return short


INCLUDE = re.compile(r'^\s*#\s*include "([^"]+)"', re.M)


def texts_of(path, seen):
    """A file of the tree and all that it includes from the tree: {path: text}."""
    if path not in seen:
        seen[path] = path.read_text()  # every #include "x" names a file of the tree: one that is not there is an error
        for name in INCLUDE.findall(seen[path]):
            texts_of(pathlib.Path(name), seen)
    return seen


def key_of(source, arch, compiler):
    """Of everything that the compiler is given, and of how its output is read."""
    texts = sorted((str(p), t) for p, t in texts_of(source, {}).items())
    return hashlib.sha256(json.dumps([texts, arch, compiler, FLAGS, pathlib.Path(__file__).read_text()]).encode()).hexdigest()


def read_kept(path, key):
    try:
        was = json.loads(path.read_text())
        return was["rows"] if was["key"] == key else None
    except (OSError, ValueError, KeyError):
        return None


def kept_or_compiled(nvcc, source, arch, folder, compiler, kept):
    if not kept:
        return compile_one(nvcc, source, arch, folder)
    path, key = kept / f"{source.stem}.{arch}.json", key_of(source, arch, compiler)
    if (was := read_kept(path, key)) is not None:
        return {(source.name, kernel, arch): row for kernel, row in was.items()}, None
    rows, bad = compile_one(nvcc, source, arch, folder)
    if not bad and key == key_of(source, arch, compiler):  # else it was edited meanwhile
        kept.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"key": key, "rows": {kernel: row for (_, kernel, _), row in rows.items()}}))
        new.replace(path)  # whole or not at all
    return rows, bad


def compile_one(nvcc, source, arch, folder):
    """(rows, what went wrong): rows are {(file, kernel, arch): [...]} without the blocks."""
    keep = pathlib.Path(folder) / f"{source.stem}.{arch}"
    keep.mkdir()
    done = run([nvcc, *FLAGS, f"-arch=sm_{arch}", "--keep", "--keep-dir", str(keep), "-o", str(keep / "out.cubin"), str(source)])
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.search("error|spill|warning|local", line, re.I)]
        return {}, f"{source} for sm_{arch}:\n" + "\n".join(lines[:20])
    sizes, name = {}, None
    for line in done.stderr.splitlines():
        if m := INFO.search(line):
            name = m.group(1)
        elif (m := USED.search(line)) and name:
            sizes[name], name = (int(m.group(1)), int(m.group(2) or 0)), None
    ptx = entries(next(keep.glob("*.ptx")).read_text())
    short = demangled(list(sizes))
    return {(source.name, short[n], arch): [*sizes[n], *ptx[n]] for n in sizes}, None


def add_blocks(rows, nvcc, folder):
    program = pathlib.Path(folder) / "occupancy"
    include = pathlib.Path(shutil.which(nvcc)).resolve().parent.parent / "include"
    done = run(["c++", "-x", "c++", "-w", f"-I{include}", "-", "-o", str(program)], input=OCCUPANCY)
    if done.returncode:
        sys.exit(f"cuda_occupancy.h does not compile:\n{done.stderr}")
    asked = []
    for (_, _, arch), (registers, shared, threads, *_) in rows.items():
        number = int(arch.rstrip("a"))
        asked.append(" ".join(map(str, (number // 10, number % 10, *ARCHS[arch], threads, registers, shared))))
    blocks = run([str(program)], input="\n".join(asked) + "\n").stdout.split()
    return {key: [str(r), str(s), str(t), b + ("+" if dynamic else ""), *map(str, counts)]
            for (key, (r, s, t, dynamic, *counts)), b in zip(rows.items(), blocks, strict=True)}


def read_budget():
    rows, version = {}, None
    for line in BUDGET.read_text().splitlines() if BUDGET.exists() else []:
        if m := re.match(r"# nvcc (\d+\.\d+)", line):
            version = m.group(1)
        elif line and not line.startswith("#"):
            file, kernel, arch, *values = line.split()
            rows[file, kernel, arch] = values
    return rows, version


def write_budget(rows, version):
    table = [("# file", "kernel", "sm", *COLUMNS), *((*key, *values) for key, values in sorted(rows.items()))]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [" ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in table]
    BUDGET.write_text(f"# nvcc {version}; written by tests/cuda/gate.py --update, which says what the columns are\n" + "\n".join(lines) + "\n")


def differences(rows, budget, files):
    for key in sorted(rows.keys() | {k for k in budget if k[0] in files}):
        now, then = rows.get(key), budget.get(key)
        if now == then:
            continue
        where = f"{key[0]}: {key[1]} for sm_{key[2]}"
        if not then or not now:
            yield f"{where}: {'not in the budget' if now else 'in the budget, but not compiled'}"
        else:
            yield f"{where}: " + ", ".join(f"{c} {t} -> {n}" for c, t, n in zip(COLUMNS, then, now) if t != n)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--kept", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if not nvcc:
        print("skipped: there is no nvcc")
        return 77
    sources = options.files or sorted(pathlib.Path("kernels").glob("*_cuda.cu"))
    version, compiler = compiler_of(nvcc)
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(options.jobs) as pool:
            done = list(pool.map(lambda job: kept_or_compiled(nvcc, *job, folder, compiler, options.kept),
                                 [(s, a) for s in sources for a in ARCHS]))
        if bad := [message for _, message in done if message]:
            print("\n".join(bad))
            return 1
        rows = add_blocks({k: v for part, _ in done for k, v in part.items()}, nvcc, folder)
    budget, written_by = read_budget()
    files = {s.name for s in sources}
    if options.update:
        write_budget({k: v for k, v in budget.items() if k[0] not in files and pathlib.Path("kernels", k[0]).exists()} | rows, version)
        print(f"gate: {BUDGET} has {len(rows)} new rows")
        return 0
    if written_by != version:
        print(f"skipped: the budget is nvcc {written_by}'s, this is {version}; {len(rows)} compilations without a spill")
        return 77
    if bad := list(differences(rows, budget, files)):
        print("\n".join(bad) + "\ngate: if that is meant, tests/cuda/gate.py --update writes it down")
        return 1
    print(f"gate: {len(rows)} kernels and architectures, no spills, all as in the budget")
    return 0


sys.exit(main())
