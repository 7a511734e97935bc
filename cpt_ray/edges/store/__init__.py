"""A study's root on an object store: each node works in a local mirror of it, and files travel when they are written and read.

    write      to the mirror as on any disk, then `push`: whole, and in the order in which readers may rely on them
    read       `fetched`: from the mirror, or from the store into it; `part_of`: without fetching all of a file
    append     lines to the mirror, which a thread sends in segments (`lines`)

A path says where it belongs: `<cache>/cpt-ray-roots/s3/BUCKET/PREFIX/train/run/run.json` is `s3://BUCKET/PREFIX/train/run/run.json`
on every node, so nothing but paths is handed from one process to another. For a path outside of a mirror every function here
does nothing: a local root costs one look at the path.
"""

from cpt_ray.edges.store.addresses import address, here, is_mirrored, mirror_of
from cpt_ray.edges.store.cache import in_use
from cpt_ray.edges.store.transfer import (
    at_once,
    exists,
    fetched,
    fetched_files,
    fetched_folder,
    fetched_names,
    forget_unsent,
    fresh,
    listing,
    matches,
    part_of,
    push,
    push_folder,
    refresh,
    remove,
    sizes,
    sync_files,
    write_index,
)

__all__ = [
    "address",
    "at_once",
    "exists",
    "fetched",
    "fetched_files",
    "fetched_folder",
    "fetched_names",
    "forget_unsent",
    "fresh",
    "here",
    "in_use",
    "is_mirrored",
    "listing",
    "matches",
    "mirror_of",
    "part_of",
    "push",
    "push_folder",
    "refresh",
    "remove",
    "sizes",
    "sync_files",
    "write_index",
]
