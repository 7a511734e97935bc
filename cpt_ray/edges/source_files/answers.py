"""Ask a remote filesystem something, with a limit on how long it may be silent, and say what to do about its refusal.

Each filesystem has limits, retries and errors of its own, some of them of minutes. Guarantee: an answer, or an error that names
a fix, within the limit; what does not answer is left to a thread of its own, which ends with the process.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable
from typing import Any

SILENCE_S = 15.0
"""How long a filesystem may take for its first answer."""
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on the driver and on every worker"
_GOOGLE_KEYS = (
    "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, on the "
    "driver and on every worker"
)
_REFUSAL = r"ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|Forbidden|\b403\b|\b401\b"
_FIXES = (
    # Before the rest: without credentials Google's library asks a host for them that only its own machines know.
    (
        r"Could not create a OAuth2 access token|UNAUTHENTICATED",
        f"there are no credentials for Google's storage: {_GOOGLE_KEYS}",
    ),
    (
        r"built with support for .GcsFileSystem",
        "pip install --force-reinstall --no-deps pyarrow, on every node: its wheels can read gs://",
    ),
    (r"TimeoutError|timed out|Timeout was reached", "check the host and the network, or try again later"),
    (
        r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch",
        f"the keys are wrong: {_KEYS}",
    ),
    (
        _REFUSAL,
        "the server refuses access: check the credentials and their rights",
    ),
    (r"NO_SUCH_BUCKET|NoSuchBucket|does not exist", "check the name of the bucket"),
    (r"resolve host|Name or service|getaddrinfo|gaierror", "check the name of the host, and that this machine has a network"),
    (
        r"Connection refused|refused|connect to server|connect to the endpoint|NETWORK_CONNECTION",
        "check the host and the port, and that the server runs",
    ),
    (r"ImportError|ModuleNotFoundError|[Ii]nstall ", "install the package that fsspec needs for this scheme, on every node"),
    (r"Protocol not known", "install the package that gives fsspec this scheme, on every node"),
    (r"libjvm|libhdfs", "HDFS needs Java and Hadoop's native library on every node; webhdfs:// needs neither"),
    (r"ReadError|BadZipFile", "fetch the archive again, or leave it out"),
)
_OTHER = (
    "check the path, the credentials (environment variables such as AWS_ACCESS_KEY_ID) and the network; a scheme that needs an "
    "fsspec package needs it on every node"
)


def first_answer(ask: Callable[[], Any]) -> Any:
    """What a call returns or raises, if it does within `SILENCE_S`.

    Raises:
        TimeoutError: If it does not.
    """
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, ask()))
        except BaseException as error:  # handed over, whatever it is
            answers.put((False, error))

    threading.Thread(target=run, daemon=True, name="first-answer").start()
    try:
        returned, value = answers.get(timeout=SILENCE_S)
    except queue.Empty:
        raise TimeoutError(f"does not answer within {SILENCE_S:.0f} s") from None
    if not returned:
        raise value
    return value


def is_refusal(problem: str) -> bool:
    """Whether the text of an error says that access was denied."""
    return re.search(_REFUSAL, problem) is not None


def fix_of(problem: str) -> str:
    """What to do about an error of a filesystem, by its text."""
    found = next((fix for pattern, fix in _FIXES if re.search(pattern, problem)), _OTHER)
    if "AWS Error" in problem and "NETWORK" not in problem and not _has_aws_keys():
        return f"there are no credentials: {_KEYS}"
    return found


def _has_aws_keys() -> bool:
    names = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    return any(os.environ.get(name) for name in names) or os.path.exists(os.path.expanduser("~/.aws/credentials"))
