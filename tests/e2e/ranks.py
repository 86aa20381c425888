"""Two ranks under mpirun train as one rank does with twice the accumulation; a signal to one of them stops both; a failure of one ends both.

python3 tests/e2e/ranks.py [PROGRAM]"""
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

from common import Folder, check, leftovers, main, succeed, write_recipe, PROGRAM, SKIPPED

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


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "train/metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "eval_loss" in line]


# One recipe for both: 8 micro-batches of 4 rows an epoch, with dropout, so that each micro-batch must have its own mask.
CHANGES = {"distill__control": False, "export": None, "eval": None}


def same_training():
    with Folder() as folder:
        write_recipe(folder, "one.json", output_dir="one", **CHANGES)
        write_recipe(folder, "two.json", output_dir="two", **CHANGES, train__gradient_accumulation_steps=1)
        succeed("run", "one.json", cwd=folder)
        with open(folder / "log", "wb") as log:
            code = ranks(2, "run", "two.json", cwd=folder, log=log).wait(240)
        check(code == 0, f"two ranks: exit {code}", (folder / "log").read_text())
        check("2 ranks" in (folder / "log").read_text(), "the first line does not tell the ranks", (folder / "log").read_text())
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
        print(f"        loss within 1e-6, adapter {whole:.1e} relative L2, worst tensor {worst:.1e}")
        check(not leftovers(folder / "two"), "left behind:", *leftovers(folder / "two"))


def of_ranks(parent):
    """Process numbers of the ranks below mpirun."""
    out = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in out.splitlines() if PROGRAM in line]


def one_signal_stops_both():
    with Folder() as folder:
        write_recipe(folder, **CHANGES, train__max_steps=4000, train__save_steps=0, train__eval_steps=0)
        metrics_file = folder / "out/train/metrics.jsonl"
        with open(folder / "log", "wb") as log:
            process = ranks(2, "run", "recipe.yaml", cwd=folder, log=log)
            end = time.monotonic() + 120
            while time.monotonic() < end and process.poll() is None and not (metrics_file.is_file() and metrics_file.stat().st_size):
                time.sleep(0.01)
            found = of_ranks(process.pid)
            check(len(found) == 2, f"{len(found)} ranks are there", (folder / "log").read_text())
            os.kill(found[1], signal.SIGTERM)
            code = process.wait(60)
        text = (folder / "log").read_text()
        check(code == 75, f"exit {code} after a signal to rank 1", text)
        saved = sorted(p.name for p in (folder / "out/train").glob("checkpoint-*"))
        check(len(saved) == 1 and "saved step" in text, f"checkpoints: {saved}", text)
        last = [json.loads(line)["step"] for line in metrics_file.read_text().splitlines()][-1]
        check(saved[0] == f"checkpoint-{last}", f"{saved[0]}, but the last step is {last}")


def one_failure_ends_both():
    with Folder() as folder:
        write_recipe(folder, **CHANGES, data__train="nowhere.jsonl")
        with open(folder / "log", "wb") as log:
            code = ranks(2, "run", "recipe.yaml", cwd=folder, log=log).wait(60)
        text = (folder / "log").read_text()
        check(code not in (0, 75) and "nowhere.jsonl" in text, f"exit {code}", text)


if not MPIRUN:
    print("skipped: no mpirun")
    sys.exit(SKIPPED)
if "MPI" not in subprocess.run([PROGRAM, "doctor"], capture_output=True, text=True).stdout:
    print("skipped: this build has no MPI")
    sys.exit(SKIPPED)
main([same_training, one_signal_stops_both, one_failure_ends_both])
