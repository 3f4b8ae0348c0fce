"""``Hub``: a model of the Hugging Face hub, or of a mirror of it that ``HF_ENDPOINT`` names."""

from __future__ import annotations

import glob
import os
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from .._extra import from_the_extra
from .disk import check_space, locked, make_folder, shown
from .store import ASIDE, Found, StoreError, logger, tried_again

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .uri import Uri


class Hub:
    """Bring files of a model by huggingface_hub, which knows tokens, mirrors and Xet, and goes on with what was cut.

    Args:
        uri: the model, ``hf://organization/name``, with its revision behind an ``@`` if that is not ``main``.
    """

    def __init__(self, uri: Uri) -> None:
        name, _, revision = uri.path.partition("@")
        self.uri = uri
        self.repo = f"{uri.bucket}/{name}"
        self.revision = revision or None
        self.endpoint = os.environ.get("HF_ENDPOINT") or None

    def list(self) -> list[Found]:
        """Return the files, and keep their commit, so that all that is brought is of one."""

        def ask() -> list[Found]:
            with _readable_errors(self.uri):
                from huggingface_hub import HfApi

                info = HfApi(endpoint=self.endpoint).model_info(self.repo, revision=self.revision, files_metadata=True)
            self.revision = info.sha
            return [Found(each.rfilename, each.rfilename, each.size or 0) for each in info.siblings or ()]

        return tried_again(ask)

    def bring(self, dest: Path, *groups: Sequence[Found]) -> None:
        """Bring all files to a folder, one group after the other."""
        begun_s = time.monotonic()
        make_folder(self.uri.text, dest, ASIDE)
        with locked(dest / ASIDE / "lock", self.uri.text):
            files = [found for group in groups for found in group]
            missing = [found for found in files if not _is_there(dest, found)]
            size = sum(found.size for found in missing)
            check_space(self.uri.text, dest, size)
            for group in groups:
                if group:
                    tried_again(partial(self._bring, dest, group))
        for found in files:
            if not _is_there(dest, found):
                raise StoreError(f"{self.uri}: {found.name} has not come, or not all of it")
        took_s = time.monotonic() - begun_s
        logger.info("%s: %d files, %s, are in %s after %.1f s", self.uri, len(missing), shown(size), dest, took_s)

    def _bring(self, dest: Path, group: Sequence[Found]) -> None:
        from huggingface_hub import snapshot_download

        with _readable_errors(self.uri):
            snapshot_download(
                self.repo,
                revision=self.revision,
                local_dir=dest,
                allow_patterns=[glob.escape(found.name) for found in group],
                endpoint=self.endpoint,
            )


def _is_there(dest: Path, found: Found) -> bool:
    file = dest / found.name
    return file.is_file() and file.stat().st_size == found.size


@contextmanager
def _readable_errors(uri: Uri) -> Iterator[None]:
    """Say in a line what huggingface_hub says in many, and what to set where the hub refuses."""
    with from_the_extra():
        from huggingface_hub import errors

    try:
        yield
    except (errors.HFValidationError, errors.RevisionNotFoundError) as error:
        raise StoreError(f"{uri}: there is no such model, or no such revision of it") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            token = "set" if os.environ.get("HF_TOKEN") else "not set"
            raise StoreError(
                f"{uri} is not there, or may not be read: {status}. HF_TOKEN is {token} in this process's environment"
            ) from error
        raise StoreError(f"{uri}: the hub answered {status}", may_pass=status >= 500 or status == 429) from error
    except OSError as error:
        raise StoreError(f"{uri}: {_first_line(error)}", may_pass=error.errno is None) from error
    except Exception as error:  # of its HTTP client, which is another one in every version
        raise StoreError(f"{uri}: {type(error).__name__}: {_first_line(error)}", may_pass=True) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
