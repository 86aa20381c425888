"""What a training left, compared with what another left: losses step by step, adapters, ranks against one process."""
import json
import math
import os
import shutil
import struct
import subprocess

from common import PROGRAM, check, leftovers, succeed, write_recipe

MPIRUN = shutil.which("mpirun")
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1")


def ranks(n, *words, cwd, log):
    """Starts n ranks, on however few cores there are."""
    command = [MPIRUN, "--oversubscribe", "-np", str(n), PROGRAM, *words]
    return subprocess.Popen(command, cwd=cwd, env=ENV, stdout=subprocess.DEVNULL, stderr=log)


def tensors(path):
    """Name: numbers, of a safetensors file in F32."""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8:8 + n]), raw[8 + n:]
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            low, high = entry["data_offsets"]
            out[name] = struct.unpack(f"<{(high - low) // 4}f", data[low:high])
    return out


def distance(a, b):
    """Relative L2: of all numbers together, and of the worst tensor."""
    whole, size, worst = 0.0, 0.0, 0.0
    check(a.keys() == b.keys(), "the adapters have different tensors")
    for name in a:
        d, s = sum((x - y) ** 2 for x, y in zip(a[name], b[name])), sum(x * x for x in a[name])
        whole, size, worst = whole + d, size + s, max(worst, math.sqrt(d / s) if s else math.sqrt(d))
    return math.sqrt(whole / size), worst


def metrics(folder, stage="train"):
    """Lines of steps, lines of evaluations."""
    lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "eval_loss" in line]


def no_mpi():
    """Why there can be no ranks, or None."""
    if not MPIRUN:
        return "no mpirun"
    return None if "MPI" in subprocess.run([PROGRAM, "doctor"], capture_output=True, text=True).stdout else "this build has no MPI"


def ranks_agree(folder, **changes):
    """Two ranks train as one does with twice the accumulation: the worst that was found, as a text."""
    write_recipe(folder, "one.json", output_dir="one", **changes)
    write_recipe(folder, "two.json", output_dir="two", **changes, train__gradient_accumulation_steps=1)
    # One thread, as a rank has: OpenBLAS, which computes for an emulated card, has other bits with two.
    succeed("run", "one.json", cwd=folder, env=ENV, timeout=240)
    with open(folder / "log", "wb") as log:
        code = ranks(2, "run", "two.json", cwd=folder, log=log).wait(240)
    text = (folder / "log").read_text()
    check(code == 0, f"two ranks: exit {code}", text)
    check("2 ranks" in text, "the first line does not tell the ranks", text)
    (one, one_eval), (two, two_eval) = metrics(folder / "one"), metrics(folder / "two")
    check(len(one) == len(two) == 8, f"{len(one)} and {len(two)} steps")
    for a, b in zip(one, two):
        for key in ("loss", "ce", "kd", "grad_norm"):
            check(abs(a[key] - b[key]) <= 1e-6 * abs(a[key]), f"step {a['step']}: {key} {a[key]} alone, {b[key]} by two ranks")
        check(a["tokens"] == b["tokens"] and a["trained_tokens"] == b["trained_tokens"], f"step {a['step']}: tokens differ")
    for a, b in zip(one_eval, two_eval):
        check(abs(a["eval_loss"] - b["eval_loss"]) <= 1e-6 * a["eval_loss"], f"evaluation: {a['eval_loss']} and {b['eval_loss']}")
    whole, worst = distance(*(tensors(folder / name / "train/adapter/adapter_model.safetensors") for name in ("one", "two")))
    check(whole <= 1e-6 and worst <= 1e-5, f"adapters differ by {whole:.2e}, worst tensor {worst:.2e}")
    check(not leftovers(folder / "two"), "left behind:", *leftovers(folder / "two"))
    return f"losses within 1e-6, adapter {whole:.1e} relative L2, worst tensor {worst:.1e}"
