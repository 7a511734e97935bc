"""The door to raw text: list and open files on any filesystem, compressed or not, with a version that tracks changes.

Flow: a path as written in the study file -> `parse_address` (refuses what cannot be read) -> `list_files` -> `open_source`,
and `members` for tar and zip archives. Local files are expanded by `local.py`, URLs are fetched by `http.py`, buckets are read
through pyarrow (`stores.py`); every other scheme that is read goes through fsspec.

Guarantee: the same files are listed in the same order; every file that a pattern names is listed or left out by name; a file
that changed between two listings has another size or version.
"""

from cpt_ray.edges.source_files.addresses import shown, split_chain
from cpt_ray.edges.source_files.archives import Member, archive_kind, members
from cpt_ray.edges.source_files.kinds import COMPRESSED, foreign_kind, format_of, left_out_kind, plain_name
from cpt_ray.edges.source_files.listing import Listing, list_files, list_source_files, would_list
from cpt_ray.edges.source_files.local import LeftOut, SourceFile
from cpt_ray.edges.source_files.opening import is_local, is_unpacked, open_source, peekable, source_version, unpacked
from cpt_ray.edges.source_files.packed import Unpacked

__all__ = [
    "COMPRESSED",
    "LeftOut",
    "Listing",
    "Member",
    "SourceFile",
    "Unpacked",
    "archive_kind",
    "foreign_kind",
    "format_of",
    "is_local",
    "is_unpacked",
    "left_out_kind",
    "list_files",
    "list_source_files",
    "members",
    "open_source",
    "peekable",
    "plain_name",
    "shown",
    "source_version",
    "split_chain",
    "unpacked",
    "would_list",
]
