"""How much room and time an installation takes: `python benchmarks/install.py [EXTRA ...]`.

Builds the wheel, installs it with no extra and with each extra given into an empty environment, and prints a table.
"""

from __future__ import annotations

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


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(Path(name))
        print("| installed | MB | seconds to install | seconds of the first --help |")
        print("|---|--:|--:|--:|")
        for extra in ("", *sys.argv[1:]):
            found = install(wheel, extra, Path(name) / (extra or "bare"))
            print(
                f"| `resight{f'[{extra}]' if extra else ''}` | {found[0]:.0f} | {found[1]:.0f} | {found[2]:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
