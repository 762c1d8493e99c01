"""What a person means by REF: a full name, or a short one such as ``main``, ``heads/main`` or ``v1.0`` (gitrevisions(7)).

Git tries the places below in this order and takes the first, with a warning where there are several. piehole refuses a name that
means several refs, as `git push` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from piehole.errors import PieholeError, UsageError
from piehole.refs import HEAD, is_ref_name

_PLACES: Final = ("refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}", "refs/remotes/{}/HEAD")
_COMPARED: Final = 10_000  # names; more would take seconds


def candidates(text: str) -> list[str]:
    """The full names that this REF may mean."""
    if text == HEAD or text.startswith("refs/"):
        return [text]
    return [place.format(text) for place in _PLACES]


def check_name(text: str, hint: str = "") -> None:
    """
    :param hint: what else may have been meant, for the message
    :raises UsageError: this cannot be a REF
    """
    if not is_ref_name(candidates(text)[-1]) and text != HEAD:
        raise UsageError(f"{text!r} cannot be the name of a ref. Give one such as main or refs/heads/main.{hint}")


def the_one(text: str, found: Sequence[str]) -> str:
    """The only one of these full names, ``""`` where there is none.

    :raises UsageError: there are several
    """
    if len(found) > 1:
        raise UsageError(f"{text!r} is ambiguous: it may mean {' or '.join(found)}. Give the full name.")
    return found[0] if found else ""


def full_name(text: str, known: Collection[str], past: Collection[str] = (), *, where: str) -> str:
    """The full name of the ref that REF means.

    :param known: refs that exist
    :param past: refs that existed: they count where no ref exists that could be meant
    :param where: who knows no such ref, for the message
    :raises UsageError: it cannot be a ref, or means several
    :raises PieholeError: there is none
    """
    repository = f" To name a repository, use -C {text}." if text and Path(text).is_dir() else ""
    check_name(text, repository)
    names = candidates(text)
    found = the_one(text, [name for name in names if name in known] or [name for name in names if name in past])
    if found:
        return found
    raise PieholeError(f"there is no ref {text!r}: {where} none.{suggestion(text, [*known, *past])}{repository}")


def suggestion(text: str, known: Iterable[str]) -> str:
    """The words `` Did you mean …?`` with the name that is nearest to a misspelt REF; ``""`` where none is near."""
    from difflib import get_close_matches

    # As many components as were given: a short name is compared with short names.
    cut = 0 if text.startswith("refs/") else 1 if text.startswith(("heads/", "tags/", "remotes/")) else 2
    near = (name for name in known if abs(len(name.split("/", cut)[-1]) - len(text)) <= max(2, len(text) // 3))
    names = {name.split("/", cut)[-1]: name for name, _ in zip(near, range(_COMPARED), strict=False)}
    found = get_close_matches(text, names, n=1)
    return f" Did you mean {names[found[0]]}?" if found else ""
