"""A web server that answers from a script: whole, cut off, by range, or with a status."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LINES = b"".join(b'{"text": "line %d"}\n' % number for number in range(5000))


class Server:
    """Answers from a script: a list of steps per path, the last of which repeats."""

    def __init__(self):
        self.steps, self.seen = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.seen.append((self.path, self.headers.get("Range")))
                steps = outer.steps[self.path.split("?")[0]]
                (steps.pop(0) if len(steps) > 1 else steps[0])(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def whole(data=LINES, *, etag='"v1"', length=True):
    def answer(handler):
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", str(len(data)))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        send(handler, data)

    return answer


def cut(data=LINES, after=50_000, *, etag='"v1"'):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        send(handler, data[:after])
        handler.close_connection = True

    return answer


def rest(data=LINES):
    def answer(handler):
        start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        send(handler, data[start:])

    return answer


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def send(handler, data):
    with contextlib.suppress(OSError):  # the client only wanted the headers
        handler.wfile.write(data)
