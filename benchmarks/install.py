"""How much room and time an installation takes: `python benchmarks/install.py [EXTRA ...] [--photos FOLDER]`.

Builds the wheel, installs it with no extra and with each extra given into an empty environment, and prints a table.
With --photos the environment without extras then indexes and searches the photos of the folder by `classic`, twice:
the first time numba compiles its kernels. Prints whether torch is installed, seconds, processor seconds, and what is
said about the kernels.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def build_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)]
    subprocess.run(command, check=True)
    return next(folder.glob("resight-*.whl"))


def install(wheel: Path, extra: str, folder: Path) -> tuple[float, float, float]:
    """Megabytes on the disk, seconds to install, and seconds of a first `resight --help`."""
    venv.create(folder, with_pip=True)
    bare = size(folder)
    started = time.monotonic()
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", wanted], check=True)
    installed = time.monotonic()
    subprocess.run([str(folder / "bin" / "resight"), "--help"], check=True, stdout=subprocess.DEVNULL)
    return size(folder) - bare, installed - started, time.monotonic() - installed


def size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def first_and_second_run(environment: Path, photos: Path, work: Path) -> None:
    """Index and search twice in the environment, each command in a process of its own."""
    python, program = environment / "bin" / "python", str(environment / "bin" / "resight")
    missing = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False).returncode
    print(f"\ntorch is {'not ' if missing else ''}installed; {len(list(photos.iterdir()))} photos\n")
    print("| command | run | seconds | processor seconds | says that kernels are compiled |\n|---|--:|--:|--:|---|")
    query = str(sorted(photos.iterdir())[0])
    for run in (1, 2):
        collection = str(work / f"{run}.resight")
        measure("index", run, [program, "index", str(photos), "--to", collection])
        measure("search", run, [program, "search", collection, query])
    print(f"\nkernels kept: {sum(1 for _ in environment.rglob('*.nbi'))} files beside the package", flush=True)


def measure(name: str, run: int, command: list[str]) -> None:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    terminal = ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]  # as a person sees it
    done = subprocess.run(terminal, capture_output=True, check=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.monotonic() - started
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = "yes" if "compiling kernels" in done.stdout else "no"
    print(f"| `{name}` | {run} | {seconds:.1f} | {spent:.1f} | {said} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--photos", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(Path(name))
        print("| installed | MB | seconds to install | seconds of the first --help |")
        print("|---|--:|--:|--:|")
        for extra in ("", *arguments.extras):
            found = install(wheel, extra, Path(name) / (extra or "bare"))
            print(
                f"| `resight{f'[{extra}]' if extra else ''}` | {found[0]:.0f} | {found[1]:.0f} | {found[2]:.1f} |",
                flush=True,
            )
        if arguments.photos is not None:
            first_and_second_run(Path(name) / "bare", arguments.photos.resolve(), Path(name))


if __name__ == "__main__":
    main()
