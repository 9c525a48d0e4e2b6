"""Where this package was installed from, so that a hint to install more of it can be typed as it stands."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME = "neuromoco"


def pip_install(extra: str, *options: str) -> str:
    """The command that installs an extra, such as "loihi", from this package's clone, repository or index.

    Args:
        extra: the part that is missing.
        options: more words for pip, such as `--upgrade`.
    """
    return " ".join(["pip install", *options, *_source(extra, _origin())])


def without_place(message: str) -> str:
    """A message as strangers may see it: `neuromoco[loihi]` instead of a command that tells where this package lies."""
    return re.sub(r"\bpip install .*\[(\w+)\].*", rf"{NAME}[\1]", message)


def _source(extra: str, origin: dict[str, Any]) -> list[str]:
    """What pip is given to install an extra from an origin, as `direct_url.json` describes it (PEP 610)."""
    url = origin.get("url", "")
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        at = f"@{vcs.get('requested_revision') or vcs['commit_id']}"
        below = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
        return [_quoted(f"{NAME}[{extra}] @ {vcs['vcs']}+{url}{at}{below}")]
    if not url.startswith("file:"):
        return [_quoted(f"{NAME}[{extra}]" + (f" @ {url}" if url else ""))]
    place = Path(url2pathname(urlsplit(url).path))
    if not place.exists():  # a clone or a wheel that was deleted since
        return [_quoted(f"{NAME}[{extra}]")]
    editable = ["-e"] if origin.get("dir_info", {}).get("editable") else []
    here = "." if place == Path.cwd() else str(place)
    return [*editable, _quoted(f"{here}[{extra}]")]


def _origin() -> dict[str, Any]:
    if (text := distribution(NAME).read_text("direct_url.json")) is not None:
        origin: dict[str, Any] = json.loads(text)
        return origin
    clone = Path(__file__).parents[1]  # installed in a way that keeps no record, or seen by its egg-info
    if (clone / "pyproject.toml").is_file():
        return {"url": clone.as_uri(), "dir_info": {"editable": True}}
    return {}


def _quoted(word: str) -> str:
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'  # cmd.exe knows double quotes alone
