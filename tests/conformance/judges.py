"""Where the outside judges and the real models are. A script calls enter() first: it runs on in the judges' interpreter, or exits
with 77 (skipped)."""
import os
import pathlib
import sys

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "decant"
JUDGES = pathlib.Path(os.environ.get("DECANT_JUDGES") or CACHE / "judges")
MODELS = pathlib.Path(os.environ.get("DECANT_MODELS") or CACHE / "models")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def enter(*modules):
    python = JUDGES / "bin" / "python"
    if pathlib.Path(sys.prefix) != JUDGES and os.environ.get("DECANT_ENTERED") != "1":
        if not python.exists():
            skip(f"no judges' interpreter at {python} (set DECANT_JUDGES)")
        os.environ["DECANT_ENTERED"] = "1"
        os.execv(python, [str(python), *sys.argv])
    for name in modules:
        try:
            __import__(name)
        except ImportError as e:
            skip(f"the judges lack {name}: {e}")
