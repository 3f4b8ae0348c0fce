"""`python -m benchmarks.fetch_files`: `Fetch` beside Ray's own downloader, from nginx on loopback, in turn.

Four files of 256 MiB, by CPU seconds, and 200 of 100 KiB, by seconds. nginx stands for the store, since it costs little
itself: it serves the files, and a listing as S3 writes it. Needs nginx (Debian: `apt-get install nginx-light`) and 3 GB
of disk; without nginx it says so, and measures nothing. Each figure is of a process of its own, without its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Case(NamedTuple):
    """Name a comparison: the files fetched, the figure that counts, and the share of Ray's that ours may be."""

    files: int
    size: int
    counts: str
    reach: float


CASES = {"large": Case(4, 256 << 20, "cpu_s", 0.6), "small": Case(200, 100 << 10, "wall_s", 0.2)}
WAYS = ("ray", "fetch")
NGINX = """
daemon off; worker_processes 1; pid {root}/pid; error_log {root}/errors;
events {{}}
http {{
  access_log off; sendfile on; default_type application/octet-stream;
  client_body_temp_path {root}/tmp; proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp;
  uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;
  server {{
    listen 127.0.0.1:{port}; root {root};
    location = /large {{ alias {root}/large.xml; default_type application/xml; }}
    location = /small {{ alias {root}/small.xml; default_type application/xml; }}
  }}
}}
"""


def write_files(root: Path, name: str, case: Case) -> None:
    """Write the files of a bucket, and its listing."""
    folder = root / name / "m"
    folder.mkdir(parents=True)
    rows = []
    for number in range(case.files):
        file = folder / f"{number:03}.bin"
        file.write_bytes(os.urandom(case.size))
        os.utime(file, (1_700_000_000, 1_700_000_000))
        rows.append(
            f"<Contents><Key>m/{file.name}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified>"
            f'<ETag>"{1_700_000_000:x}-{case.size:x}"</ETag><Size>{case.size}</Size></Contents>'
        )
    (root / f"{name}.xml").write_text(
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{name}</Name><KeyCount>{case.files}</KeyCount><IsTruncated>false</IsTruncated>{''.join(rows)}"
        "</ListBucketResult>"
    )


@contextmanager
def nginx(root: Path, program: str) -> Iterator[str]:
    """Serve a folder; gives the URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root.chmod(0o755)  # nginx's worker is another user where this one is root
    (root / "conf").write_text(NGINX.format(root=root, port=port))
    server = subprocess.Popen([program, "-p", str(root), "-c", str(root / "conf")])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def one(way: str, name: str, dest: str) -> dict[str, float]:
    """Fetch a bucket in this process; return what it cost."""
    source = f"s3://{name}/m"
    if way == "ray":
        cloud = import_module("ray.llm._internal.common.utils.cloud_utils")
        fetch: Callable[[], None] = partial(cloud.CloudFileSystem.download_files, dest, f"{source}/")
    else:
        from serve_llm_hooks.recipes import Fetch
        from serve_llm_hooks_testing import node_ctx

        import_module("obstore")
        fetch = partial(Fetch(source, dest).on_before_node_download, node_ctx())
    before, begun_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    fetch()
    took_s, after = time.perf_counter() - begun_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    come = [file.stat().st_size for file in Path(dest).glob("*.bin")]
    if come != [CASES[name].size] * CASES[name].files:
        sys.exit(f"{way} has brought {len(come)} files, {sum(come)} bytes")
    return {"cpu_s": cpu_s, "wall_s": took_s}


def measure(root: Path, url: str, times: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Measure all ways in turn; return the figures of each case and way."""
    environ = os.environ | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    figures: dict[str, dict[str, list[dict[str, float]]]] = {name: {way: [] for way in WAYS} for name in CASES}
    for _ in range(times):
        for name in CASES:
            for way in WAYS:
                dest = root / "dest"
                dest.mkdir()
                command = [sys.executable, "-m", "benchmarks.fetch_files", "--one", way, name, str(dest)]
                done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{way} has failed:\n{done.stdout}{done.stderr}")
                figures[name][way].append(json.loads(done.stdout.splitlines()[-1]))
                shutil.rmtree(dest)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "CASE", "DEST"))
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one)))
        return 0
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        print("nginx is not installed here, and nothing was measured (Debian: apt-get install nginx-light)")
        print("SAMPLES {}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, case in CASES.items():
            write_files(root, name, case)
        with nginx(root, program) as url:
            figures = measure(root, url, given.times)
    over, medians = 0, {}
    for name, case in CASES.items():
        ours, rays = (median(each[case.counts] for each in figures[name][way]) for way in ("fetch", "ray"))
        over += ours / rays > case.reach
        medians[name] = {"fetch": ours, "ray": rays}
        print(f"{name}: {case.counts} Fetch {ours:.2f}, Ray {rays:.2f}: {ours / rays:.2f} (at most {case.reach})")
        for way in WAYS:
            print(
                f"  {way}: "
                + ", ".join(f"cpu {each['cpu_s']:.2f} wall {each['wall_s']:.2f}" for each in figures[name][way])
            )
    print(f"SAMPLES {json.dumps(medians)}")  # for `benchmarks.run`
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
