"""In which language is a text? Script first, then the share of a language's commonest words.

It needs no model and no dependency. Letters show the script. In scripts that many languages share,
the commonest short words show the language (Ingle 1976; Grefenstette 1995 compares this "small
words" method with letter trigrams and finds it as good from about 15 words on). It knows the
languages below and no others, and gives no answer when it is not sure.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from ftt_hub.support.findings import Finding, accepted, warned

_WORDS = {
    "en": "the of and to in is that it for was on are as with be this by from or have not you",
    "tr": "ve bir bu da de için ile çok olarak ne gibi daha olan ki en var kadar sonra değil ise",
    "de": "der die und das in den von zu ist mit sich des auf für nicht ein eine dem auch es als",
    "fr": "le la les de des et en un une du dans que qui pour pas sur est au par il ce plus",
    "es": "el la los las de y que en un una por con para es se del no su lo como más",
    "it": "il la le di che e un una per in non con del è da si gli dei della sono",
    "pt": "o a os as de que e do da em um uma para com não é por no na se mais",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als",
    "pl": "i w na z do że się nie jest to o jak po co za od przez dla ale jego",
    "sv": "och i att det som en på är av för med den till inte om ett har de",
    "id": "yang dan di dengan untuk dari dalam tidak ini itu pada adalah akan ke oleh juga",
    "sw": "ya wa na kwa ni katika la za cha kuwa hii hiyo au pia lakini kama",
    "yo": "ti ni si awọn ati lati fun pe wọn ki bi kan naa jẹ o mo gbogbo",
    "vi": "và của là có trong cho không được một với các những này để đã",
    "az": "və bir bu ilə üçün də ki olan daha kimi sonra çox deyil isə olaraq",
    "ru": "и в не на что с по как это но из за от для так же",
    "uk": "і в не на що з до як це та за від для але є",
    "bg": "и на в да се е за от не по със че това като",
    "hi": "के में की है और से का को पर यह कि हैं",
    "mr": "आणि आहे या आहेत तर हे ते नाही होते",
    "ar": "في من على أن إلى عن هذا التي الذي مع لا ما كان",
    "fa": "و در به از که این را با است برای آن یک",
}
_LANGUAGES = {
    "GREEK": "el",
    "HEBREW": "he",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "THAI": "th",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "CJK": "zh",
    "TAMIL": "ta",
    "TELUGU": "te",
    "BENGALI": "bn",
    "CYRILLIC": "ru uk bg",
    "DEVANAGARI": "hi mr",
    "ARABIC": "ar fa",
    "ETHIOPIC": "am",
}
"""Scripts other than Latin, and the languages written in them."""
_SCRIPTS = {tag: script for script, tags in _LANGUAGES.items() for tag in tags.split()}
_LATIN = "LATIN"
_WORD = re.compile(r"[^\W\d_]+")
MIN_WORDS = 30
MIN_SHARE, MARGIN, MIN_DISTINCT = 0.08, 1.5, 4
"""A language is named when its words make up 8% of the text, 1.5 times the share of the next
language's, and four of them occur."""


def language_of(text: str) -> str | None:
    """BCP-47 tag of a text's language, ``None`` when that is not sure."""
    text = unicodedata.normalize("NFC", text[:20_000])
    script = script_of(text)
    if script is None:
        return None
    known = [tag for tag in _WORDS if _SCRIPTS.get(tag, _LATIN) == script]
    alone = [tag for tag, used in _SCRIPTS.items() if used == script]
    if not known:
        return alone[0] if len(alone) == 1 else None
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < MIN_WORDS:
        return None
    counts = Counter(words)
    shares = sorted(
        ((sum(counts[w] for w in set(_WORDS[tag].split())) / len(words), tag) for tag in known),
        reverse=True,
    )
    best, second = shares[0], shares[1] if len(shares) > 1 else (0.0, "")
    if len(counts.keys() & set(_WORDS[best[1]].split())) < MIN_DISTINCT:
        return None
    return best[1] if best[0] >= MIN_SHARE and best[0] >= MARGIN * second[0] else None


def script_of(text: str) -> str | None:
    """Unicode's name of the script of most letters; Japanese by its kana."""
    counts: Counter[str] = Counter()
    for letter in filter(str.isalpha, text[:4000]):
        counts[unicodedata.name(letter, "?").split()[0].removesuffix("-")] += 1
    if not counts:
        return None
    total = sum(counts.values())
    if counts["HIRAGANA"] + counts["KATAKANA"] > 0.1 * total:
        return "HIRAGANA"
    name, number = counts.most_common(1)[0]
    return name if number > total / 2 else None


def check_language(text: str, languages: Iterable[str]) -> Finding:
    """Is the held-out text in a language that the adapter is for?"""
    expected = [tag.lower().split("-")[0] for tag in languages]
    language = language_of(text)
    script = script_of(text)
    if not expected:
        return accepted("language", "the adapter names no language to compare the text with")
    if language in expected:
        return accepted("language", f"the text is in {language}, as Δ is")
    scripts = {_SCRIPTS.get(tag, _LATIN if tag in _WORDS else None) for tag in expected}
    if language is None and (script is None or None in scripts or script in scripts):
        return accepted("language", "the text's language cannot be told from its words")
    seen = language or f"{(script or '').lower()} script"
    reason = f"the text seems to be in {seen}, Δ is for {', '.join(expected)}"
    return warned("language", f"{reason}: its loss says little of what Δ does")
