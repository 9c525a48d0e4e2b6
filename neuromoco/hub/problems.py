"""What can go wrong between this machine and the Hub, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hub

from neuromoco.errors import CheckpointError
from neuromoco.support.untrusted import one_line

OFFLINE = "the Hub cannot be reached"
REFUSED = (401, 403)


# Of the package that the Hub's one speaks HTTP with.
HTTP_ERROR: type[Exception] = hub.HfHubHTTPError.__bases__[0]


def is_reached(ask: Callable[[], object]) -> bool:
    """Whether a request gets an answer; what the Hub answers is raised if it is an error."""
    try:
        ask()
    except hub.HfHubHTTPError:
        raise
    except (OSError, HTTP_ERROR):
        return False
    return True


@contextmanager
def hub_problems(word: str) -> Iterator[None]:
    """Turns what the Hub's package raises in this context into a CheckpointError about `word`."""
    try:
        yield
    except (hub.GatedRepoError, hub.RepositoryNotFoundError):
        reason = "there is no such repository, or it is private: hf auth login"
        raise CheckpointError(f"{word}: {reason}") from None
    except hub.RevisionNotFoundError:
        raise CheckpointError(f"{word}: has no such revision") from None
    except hub.LocalEntryNotFoundError:
        raise CheckpointError(f"{word}: {OFFLINE}, and its cache has no copy; go online, or give a file") from None
    except hub.EntryNotFoundError:
        raise CheckpointError(f"{word}: holds no checkpoint of neuromoco push (model.safetensors)") from None
    except hub.HFValidationError as error:
        raise CheckpointError(f"{word}: {one_line(error)}") from None
    except hub.HfHubHTTPError as error:
        status = error.response.status_code
        what = "refuses you: hf auth login, with a token that may write" if status in REFUSED else f"answers {status}"
        raise CheckpointError(f"{word}: the Hub {what}") from None
    except (OSError, hub.LocalTokenNotFoundError, HTTP_ERROR) as error:
        raise CheckpointError(f"{word}: {OFFLINE} ({one_line(error)})") from None
