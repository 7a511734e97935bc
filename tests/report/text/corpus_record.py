"""What preparation might have found in two small sources."""

from cpt_ray.records import CorpusProfile, DocumentsRecord, DuplicateComponents, Histogram, RepeatedIds, Term


def histogram(when: str, measure: str, edges: tuple[float, ...], counts: tuple[int, ...]) -> Histogram:
    return Histogram.model_validate({"source": "law", "measure": measure, "when": when, "edges": edges, "counts": counts})


PROFILE = CorpusProfile(
    histograms=(
        histogram("read", "bytes", (0, 100, 200), (8, 2)),
        histogram("read", "repetition", (0, 0.5, 1), (5, 5)),
        histogram("kept", "bytes", (0, 100, 200), (0, 2)),
        histogram("kept", "repetition", (0, 0.5, 1), (2, 0)),
    ),
    terms=(Term(text="the licensee", domain=40, background=1, z=12.4),),
    domain_words=1000,
    background_words=1000,
)
DOCUMENTS = DocumentsRecord(
    units=("law-00000",),
    reports=(),
    task_pids={},
    near_duplicate_threshold=None,
    components=DuplicateComponents(pairs_compared=0, documents_left=0, sizes={}, largest=()),
    languages={"law": {"en": 2}, "news": {"unknown": 7}},
    redacted={"law": {"email": 3}},
    invisible={"law": {"soft_hyphen": 4, "tag": 1}},
    repeated_ids={"law": RepeatedIds(ids=2, documents=5)},
    profile=PROFILE,
    samples=(
        {
            "stage": "clean",
            "source": "law",
            "reason": "min_bytes",
            "identity": "law/00000/1",
            "id": "short_1",
            "text": "too\nshort",
        },
        {
            "stage": "clean",
            "source": "law",
            "reason": "min_bytes",
            "identity": "law/00000/2",
            "id": "short_2",
            "text": "not shown",
        },
    ),
)
