"""What the comparison tells, and that it tells it: otherwise the table would hold whatever Ray becomes."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from .skeleton import differences
from .sources import Sources

if TYPE_CHECKING:
    from pathlib import Path

CODE = '''
if True:
    LIMIT = 30

class Base:
    @property
    def model(self):
        return self._model

    async def start(self, config, *, retries=3):
        """Starts."""
        callback = config.callback()
        with timer():
            await callback.run("before", deadline=LIMIT)
            if callback.wants:
                prepare({"config": config, "mode": 1})
        try:
            self.engine = Engine(callback.group)
        except RuntimeError:
            logger.error("no %s", "engine")

    def stop(self, reason=None):
        """Nothing to stop."""
        return

class Server(Base):
    kind: str = "plain"
'''

SAME = [
    "LIMIT = 30",
    "class Server(Base): kind: ...",
    "class Server(Base): kind: str = 'plain'",
    "class Server:\n async def start(self, config): ...",  # inherited
    "class Base:\n async def start(self, config, *, retries=...): ...",
    "class Base:\n async def start(self, *, config): ...",  # by name
    "class Base:\n @property\n def model(self):\n  return self._model",
    "class Base:\n def stop(self): pass",
    "class Base:\n async def start(self, config):\n  config.callback()\n  callback.run('before', ...)",
    "class Base:\n async def start(self, config):\n  if callback.wants:\n   prepare({'mode': 1, ...: ...})",
    "class Base:\n async def start(self, config):\n  try: ...\n  except RuntimeError:\n   logger.error(...)",
    "class Base:\n async def start(self, *_): ...",
]

OTHER = [
    ("LIMIT = 20", "LIMIT is not 20, but 30"),
    ("NO_LIMIT = ...", "here has no NO_LIMIT"),
    ("class Server(Other): ...", "Server has no base Other"),
    ("class Server:\n def restart(self): ...", "Server has no restart"),
    ("def Server(): ...", "Server is no function"),
    ("class Base:\n def start(self, config): ...", "start is async"),
    ("class Base:\n async def stop(self): ...", "stop is not async"),
    ("class Base:\n @classmethod\n def stop(cls): ...", "stop has no @classmethod"),
    ("class Base:\n async def start(self, retries): ...", "start has no parameter 'retries' at position 1"),
    ("class Base:\n async def start(self, config, *, timeout): ...", "start has no parameter 'timeout'"),
    ("class Base:\n async def start(self): ...", "start needs another parameter: 'config'"),
    ("class Base:\n async def start(self, config=...): ...", "start needs 'config', which was optional"),
    ("class Base:\n async def start(self, config, *, retries=2): ...", "start has another default for 'retries': 3"),
    ("class Base:\n async def start(self, config, **others): ...", "start takes no **others"),
    ("class Base:\n async def start(self, config): pass", "start is no longer without effect: callback ="),
    (
        "class Base:\n async def start(self, config):\n  await callback.run('before', ...)\n  config.callback()",
        "start no longer does, or no longer in this order: config.callback()",  # the second is before the first
    ),
    (
        "class Base:\n async def start(self, config):\n  callback.run('before')",  # and no other argument
        "start no longer does, or no longer in this order: callback.run('before')",
    ),
    (
        "class Base:\n async def start(self, config):\n  await callback.run('after', ...)",
        "start no longer does",
    ),
    (
        "class Base:\n async def start(self, config):\n  if callback.wants:\n   self.engine = ...",  # not under it
        "start no longer does, or no longer in this order: if callback.wants:",
    ),
    ("class Base:\n async def start(self, config):\n  prepare({'mode': 1})", "start no longer does"),
    ("class Base:\n async def start(self, config):\n  try: ...\n  except ValueError: ...", "start no longer does"),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    wheel: Path = tmp_path_factory.mktemp("wheel") / "some.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("ray/__init__.py", "from ray import here\nfrom ray.here import Server as Served\n")
        files.writestr("ray/here.py", CODE)
    return Sources(wheel)


@pytest.mark.parametrize("skeleton", SAME)
def test_what_is_there_is_found(sources: Sources, skeleton: str) -> None:
    assert differences(skeleton, "ray.here", sources) == []


@pytest.mark.parametrize(("skeleton", "told"), OTHER)
def test_what_is_not_there_is_told(sources: Sources, skeleton: str, told: str) -> None:
    assert told in "\n".join(differences(skeleton, "ray.here", sources))


def test_names_are_followed_through_imports(sources: Sources) -> None:
    assert differences("class Served(Base): ...", "ray", sources) == []
    found = sources.find("ray", "here")
    assert found is not None
    assert found.module == "ray.here"
    assert sources.find("ray", "there") is None
    assert differences("x = 1", "ray.there", sources) == ["there is no module ray.there"]
