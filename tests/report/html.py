"""Read an HTML page: its headings, text, tags and attributes."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects headings, text, tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []
        self.text = ""
        self._in_heading = False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._in_heading = tag == "h2"

    def handle_endtag(self, tag):
        self._in_heading = False

    def handle_data(self, data):
        self.text += data
        if self._in_heading:
            self.headings.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader
