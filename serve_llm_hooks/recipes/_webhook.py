"""A post to a webhook that leaves no trace of the address: HTTP clients log it, and it is a secret."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Mapping


def post(url: str, body: Mapping[str, Any], timeout_s: float) -> None:
    """Send JSON.

    Raises:
        ConnectionError: it did not arrive, or was not taken; the message is without the address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ConnectionError("the webhook's address does not begin with https:// or http://")
    host = parts.netloc.rpartition("@")[2]
    headers = {"Content-Type": "application/json", "User-Agent": "serve-llm-hooks"}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    request = Request(parts._replace(netloc=host, fragment="").geturl(), json.dumps(body).encode(), headers)
    try:
        build_opener(_NoRedirect).open(request, timeout=timeout_s).close()
    except HTTPError as error:
        error.close()
        raise ConnectionError(f"the webhook answers with {error.code}") from None
    except URLError as error:
        raise ConnectionError(f"the webhook cannot be reached: {type(error.reason).__name__}") from None


class _NoRedirect(HTTPRedirectHandler):
    """Take a redirect for a failure: followed, the post would become a GET."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none."""
