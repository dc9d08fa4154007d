"""The first paper that the docstring of a spec names."""

import re
from dataclasses import dataclass

_CITED = re.compile(r"(?:^|(?<=[.:;] ))((?:[^.:;()]|et al\.|\b[A-Z]\.)+) \((\d{4})\)")
_URL = re.compile(r"https?://\S+?(?=[.,;)]*(?:\s|$))")


@dataclass(frozen=True, slots=True)
class Paper:
    """`url` is "" where the docstring gives none for this paper."""

    authors: str
    year: str
    url: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year})"


def paper(doc: str) -> Paper | None:
    """The first citation, as `Kingma and Ba (2015), ..., https://...`; its URL stands
    before the next one.
    """
    for paragraph in doc.strip().split("\n\n"):
        text = " ".join(paragraph.split())
        cited = list(_CITED.finditer(text))
        if cited:
            end = cited[1].start() if len(cited) > 1 else len(text)
            url = _URL.search(text, cited[0].end(), end)
            return Paper(cited[0][1].strip(), cited[0][2], url[0] if url else "")
    return None
