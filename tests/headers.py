"""Every header compiles alone, as C11 and as C++17; those of the CUDA device against the headers of its emulation. usage: headers.py CC"""
import os, pathlib, shutil, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

folders = "core kernels data model train lora distill export cascade cli".split()
headers = [p for f in folders for p in sorted(pathlib.Path(f).glob("*.h"))]
compilers = [[sys.argv[1], "-std=c11", "-x", "c"]]
cxx = shutil.which("c++")
if cxx:
    compilers.append([cxx, "-std=c++17", "-x", "c++"])
flags = subprocess.run(["pkg-config", "--cflags", "hdf5-serial", "jansson"], capture_output=True, text=True).stdout.split()


def check(job):
    header, compiler = job
    source = f'#include "{header}"\n#include "{header}"\n'
    p = subprocess.run([*compiler, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I.", "-Itests/emu/include", *flags, "-fsyntax-only", "-"],
                       input=source, capture_output=True, text=True)
    return f"{header} ({compiler[1]}):\n{p.stderr}" if p.returncode else None


with ThreadPoolExecutor(os.cpu_count()) as pool:
    bad = [b for b in pool.map(check, [(h, c) for h in headers for c in compilers]) if b]
print("\n".join(bad) or f"headers: {len(headers)} ok")
sys.exit(bool(bad))
