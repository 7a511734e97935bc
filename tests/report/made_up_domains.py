"""What the filters of a made-up study found."""

from cpt_ray.records import (
    ArmsRecord,
    ClassifierMeasures,
    ClassifierRecord,
    DomainFindings,
    ExampleCounts,
    FittedRecord,
    Interval,
    Measured,
    SelectionRecord,
    Shared,
    ShownScore,
    ThresholdYield,
    YieldRecord,
)


def measured(value: float, low: float, high: float) -> Measured:
    return Measured(value=value, interval=Interval(low=low, high=high, confidence=0.95, kind="Wilson"))


def measures(threshold: float) -> ClassifierMeasures:
    return ClassifierMeasures(
        threshold=threshold,
        positives=200,
        negatives=400,
        false_positives=4,
        missed=6,
        precision=measured(0.98, 0.95, 0.992),
        recall=measured(0.97, 0.936, 0.986),
        f1=measured(0.975, 0.955, 0.986),
    )


def at(threshold: float, documents: int) -> ThresholdYield:
    return ThresholdYield(
        threshold=threshold,
        documents=documents,
        tokens=400 * documents,
        held_out=measures(threshold),
        share=measured(0.061, 0.04, 0.08),
        precision=measured(0.84, 0.71, 0.93),
    )


DOMAINS = DomainFindings(
    classifiers=(
        ClassifierRecord(
            classifier="legal",
            model="ngrams",
            fitted=FittedRecord(
                positive=ExampleCounts(train=480, calibrate=120, test=200),
                negative=ExampleCounts(train=960, calibrate=240, test=400),
                slope=1.0,
                offset=0.0,
                prior=1 / 3,
                calibration_error=0.021,
                auc=measured(0.991, 0.983, 0.996),
                at_half=measures(0.5),
            ),
            reports=(),
            weights_path="weights/legal.npz",
            test_path="test/legal.parquet",
            task_pids={},
        ),
    ),
    yields=(
        YieldRecord(
            classifier="legal",
            source="web",
            thresholds=(0.0, 0.5, 0.8, 1.0),
            documents=(50_000, 3_100, 2_400, 0),
            tokens=(20_000_000, 1_240_000, 960_000, 0),
            at_half=at(0.5, 3_100),
            used=(at(0.8, 2_400),),
        ),
    ),
    selections=(
        SelectionRecord(
            source="web_legal",
            parent="web",
            rule="legal >= 0.8",
            documents=2_400,
            tokens=960_000,
            parent_documents=50_000,
            parent_tokens=20_000_000,
            shown=(
                ShownScore(identity="web/00000/7", id="a<b>", probability=0.81, side="above", text="<i>The</i> court"),
                ShownScore(identity="web/00000/9", id="c", probability=0.79, side="below", text="A recipe"),
            ),
        ),
    ),
    arms=ArmsRecord(
        model="tiny",
        documents={"special": 2_400, "general": 50_000},
        tokens={"special": 960_000, "general": 20_000_000},
        shared=(
            Shared(arm="special", other="general", documents=2_400, tokens=960_000),
            Shared(arm="general", other="special", documents=2_400, tokens=960_000),
        ),
    ),
)
