"""All rule sets on prose in scripts without spaces: articles of the Universal Declaration of Human Rights.

Each rule either judges such text as it judges English, or does not apply to it, as its description says.
"""
# ruff: noqa: RUF001  # full-width punctuation is the point

import pytest

from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean import clean
from cpt_ray.data.clean.repetition import repetition
from cpt_ray.data.clean.segment import count_sentences, tokens
from cpt_ray.records import Document
from tests.data.clean.judged import cleaned, config, judge

pytestmark = pytest.mark.accept(inputs=1)

CHINESE = """人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。
人人有资格享有本宣言所载的一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解、国籍或社会出身、财产、出生或其他身份等任何区别。
人人有权享有生命、自由和人身安全。任何人不得使为奴隶或奴役；一切形式的奴隶制度和奴隶买卖，均应予以禁止。
任何人不得加以酷刑，或施以残忍的、不人道的或侮辱性的待遇或刑罚。人人在任何地方有权被承认在法律前的人格。
法律之前人人平等，并有权享受法律的平等保护，不受任何歧视。人人有权享受平等保护，以免受违反本宣言的任何歧视行为以及煽动这种歧视的任何行为之害。"""
JAPANESE = """すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。
すべて人は、人種、皮膚の色、性、言語、宗教、政治上その他の意見、国民的若しくは社会的出身、財産、門地その他の地位による差別をも受けることなく、権利と自由とを享有することができる。
すべて人は、生命、自由及び身体の安全に対する権利を有する。何人も、奴隷にされ、又は苦役に服することはない。
何人も、拷問又は残虐な、非人道的な若しくは屈辱的な取扱若しくは刑罰を受けることはない。
すべて人は、いかなる場所においても、法の下において、人として認められる権利を有する。"""
THAI = """มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ
ทุกคนย่อมมีสิทธิและอิสรภาพบรรดาที่กำหนดไว้ในปฏิญญานี้ โดยปราศจากความแตกต่างไม่ว่าชนิดใดๆ ดังเช่น เชื้อชาติ ผิว เพศ ภาษา ศาสนา ความคิดเห็นทางการเมือง
คนทุกคนมีสิทธิในการดำรงชีวิต เสรีภาพและความมั่นคงแห่งตัวตน บุคคลใดจะตกอยู่ในความเป็นทาสหรือสภาพจำยอมใดๆ มิได้
บุคคลใดๆ จะถูกทรมานหรือได้รับผลปฏิบัติหรือการลงโทษที่โหดร้ายผิดมนุษย์ธรรมหรือต่ำช้ามิได้"""
KHMER = """មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងសមភាពក្នុងផ្នែកសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ។ មនុស្សមានវិចារណញ្ញាណនិងសតិសម្បជញ្ញៈជាប់ពីកំណើត។
មនុស្សម្នាក់ៗអាចប្រើប្រាស់សិទ្ធិនិងសេរីភាពទាំងអស់ដែលមានចែងក្នុងសេចក្ដីប្រកាសនេះ។ បុគ្គលម្នាក់ៗមានសិទ្ធិរស់រានមានជីវិតសេរីភាពនិងសន្តិសុខផ្ទាល់ខ្លួន។
គ្មានជនណាម្នាក់ត្រូវស្ថិតនៅក្នុងទាសភាពឬភាពជាអ្នកបម្រើដាច់ថ្លៃបានឡើយ។ គ្មានជនណាម្នាក់ត្រូវទទួលទារុណកម្មបានឡើយ។"""
TEXTS = {"chinese": CHINESE, "japanese": JAPANESE, "thai": THAI, "khmer": KHMER}
PUBLISHED = ("gopher_quality", "gopher_repetition", "c4", "fineweb", "education")
EVERY = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


@EVERY
def test_the_default_and_the_published_sets_keep_ordinary_prose(text: str) -> None:
    assert cleaned(text, CleanConfig()) == text
    assert cleaned(text, CleanConfig(rules=("basic", *PUBLISHED))) == text


@EVERY
def test_a_character_is_a_token_and_all_tokens_are_the_text(text: str) -> None:
    found = tokens(text)
    assert "".join(found) == "".join(text.split())
    assert len(found) > len(text) / 3
    assert max(map(len, found)) < 8


def test_sentences_are_counted_where_they_have_an_end() -> None:
    assert count_sentences(tokens(CHINESE)) == 9
    assert count_sentences(tokens(KHMER)) == 6


@EVERY
def test_rules_on_repetition_see_it(text: str) -> None:
    line = text.split("\n")[0]
    assert judge(f"{text}\n" * 3, CleanConfig()) == "basic.max_repeated_line_share"
    assert judge(line * 6, CleanConfig(rules=("gopher_repetition",))) is not None
    assert repetition([text])[0] < 0.1 < 0.6 < repetition([line * 6])[0]


@EVERY
def test_rules_on_the_number_of_words_count_characters(text: str) -> None:
    short = text[:30]
    assert judge(short, config("gopher_quality", min_words=50)) == "gopher_quality.min_words"
    assert judge(text, config("gopher_quality", min_words=50, max_words=1000)) is None
    assert judge(text * 5, config("gopher_quality", max_words=300)) == "gopher_quality.max_words"
    # A paragraph without a space is not one long word.
    assert judge("".join(text.split()) * 8, config("c4", max_word_characters=1000)) is None


@EVERY
def test_the_length_of_words_and_stop_words_of_another_script_do_not_apply(text: str) -> None:
    assert judge(text, config("basic", mean_word_length=(100, 200))) is None
    assert judge(text, config("gopher_quality", mean_word_length=(100, 200), min_stop_words=2)) is None
    assert judge("so it is " * 30, config("basic", mean_word_length=(100, 200))) == "basic.mean_word_length"


def test_stop_words_of_the_script_apply() -> None:
    wanted = {"min_stop_words": 2, "stop_words": ("他们", "和", "任何", "of")}
    assert judge(CHINESE, config("gopher_quality", **wanted)) is None
    assert judge(JAPANESE, config("gopher_quality", **wanted)) == "gopher_quality.min_stop_words"


def test_lines_must_end_in_terminal_punctuation_except_in_thai_and_lao() -> None:
    menu = "首页 新闻 联系我们\n法律 隐私 版权"
    for name, key in (("c4", "terminal_punctuation"), ("fineweb", "min_punctuated_line_share")):
        setting = True if name == "c4" else 0.5
        assert judge(menu, config(name, **{key: setting})) == ("empty" if name == "c4" else f"{name}.{key}")
        assert all(judge(text, config(name, **{key: setting})) is None for text in TEXTS.values())
    assert judge(CHINESE, config("c4", min_sentences=20)) == "c4.min_sentences"
    assert judge(THAI, config("c4", min_sentences=20)) is None


def test_a_line_of_ideographs_is_short_at_half_the_characters() -> None:
    lines = "\n".join("法" * 14 + "律" for _ in range(3))
    rules = {"max_short_line_share": 0.5, "short_line_characters": 29}
    assert judge(lines, config("fineweb", **rules)) is None
    assert judge(lines, config("fineweb", **{**rules, "short_line_characters": 30})) == "fineweb.max_short_line_share"


def test_punctuation_and_symbols_are_no_prose_in_any_script() -> None:
    assert judge("法 ### 律 ### 人 ###", config("basic", max_symbol_word_ratio=0.5)) == "basic.max_symbol_word_ratio"
    assert judge("１２３ ４５６ ７８９ 法", config("basic", min_alphabetic_word_share=0.6)) == "basic.min_alphabetic_word_share"


def test_a_mixed_document_is_judged_by_its_spaced_words() -> None:
    english = "Everyone has the right to recognition everywhere as a person before the law."
    assert judge(f"{english} {english} 法律", config("basic", mean_word_length=(3.0, 10.0))) is None
    assert judge(f"a b c d e f g h i j k l m n o p {CHINESE[:10]}", CleanConfig(min_bytes=None)) == "basic.mean_word_length"


def test_invisible_characters_are_removed_before_a_rule_looks_and_letters_meet() -> None:
    result = clean(Document("d", "\ufeffcafe\u00ad\u0301 law\u200b  \n" * 3 + "x" * 200, "law"), config(normalize=True))
    assert not hasattr(result, "reason")
    assert result.document.text.startswith("café law\ncafé law\n")  # type: ignore[union-attr]
    assert result.invisible == {"zero_width": 6, "soft_hyphen": 3}  # type: ignore[union-attr]
    assert judge("\u200b\u00ad \u2060", config(normalize=True)) == "empty"
    assert cleaned("la\u00adw", config(remove_invisible=False)) == "la\u00adw"
