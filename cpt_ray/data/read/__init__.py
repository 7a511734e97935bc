"""Stage `read`: turn files on any filesystem, or a Hugging Face dataset, into documents.

Flow: a source's files -> `plan_reads` (driver) -> `ReadTask`s -> `read_documents` (worker) -> documents in canonical order.
Out: `Document`s, or `Rejected` with a reason from `BAD`, or `empty`. Memory: one document at a time (Parquet: one batch of
rows; a broken list of JSON objects: up to the whole file); the plan holds one entry per file, byte range or run of row groups.
Tasks never depend on the cluster, so neither does the order of documents.

Guarantee: every line, row or file of the input is yielded exactly once, as a document or as a rejection, or the run stops
with an error that names the location. A file that is truncated, damaged or changed while it is read is always such an error.
"""

from cpt_ray.data.read.documents import BAD, Rejected
from cpt_ray.data.read.limits import check_bad_share
from cpt_ray.data.read.pins import FOLDER as INPUTS
from cpt_ray.data.read.pins import check_inputs, pin_inputs, write_inputs
from cpt_ray.data.read.plan import ReadPart, ReadTask, Survey, plan_reads, source_files, survey_source
from cpt_ray.data.read.prove import Proof, prove_source
from cpt_ray.data.read.reading import LEFT_OUT, read_documents
from cpt_ray.data.read.records import ROW_FORMATS, first_records

__all__ = [
    "BAD",
    "INPUTS",
    "LEFT_OUT",
    "ROW_FORMATS",
    "Proof",
    "ReadPart",
    "ReadTask",
    "Rejected",
    "Survey",
    "check_bad_share",
    "check_inputs",
    "first_records",
    "pin_inputs",
    "plan_reads",
    "prove_source",
    "read_documents",
    "source_files",
    "survey_source",
    "write_inputs",
]
