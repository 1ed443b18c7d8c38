"""
Check the links of the built site that lead to the site itself: ``python docs/check_links.py docs/_build/html``.

A link is good if the file is there and, where it names a place in it, something there has that id. Links to other sites are
not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """
    Reads the links and the ids of a page.

    :param path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """
        Look at an element.

        :param tag: Its name.
        :param attrs: Its attributes.
        """
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name == "id":
                self.ids.add(value)


def broken_links(folder: Path) -> list[str]:
    """
    Find links that lead nowhere.

    :param folder: The built site.
    :return: A line for each.
    """
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            known = pages.get(target)
            if not target.exists() or (fragment and known is not None and fragment not in known.ids):
                broken.append(f"{path.relative_to(folder.resolve())}: {link}")
    if not pages:
        broken.append(f"{folder}: no pages")
    return broken


if __name__ == "__main__":
    found = broken_links(Path(sys.argv[1]))
    print("\n".join(found) if found else "every link within the site leads somewhere")
    sys.exit(bool(found))
