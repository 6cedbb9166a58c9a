r"""Numbers as people write them (`0.\overline{36}`, `1,000\sqrt{2}`, `\text{15 minutes}`, `five`) in plain digits."""

import re
from fractions import Fraction

_REPEATING = re.compile(
    r"(?<![\d.,])(?P<whole>\d{0,40})\.(?:(?P<head>\d{0,40})(?:"
    r"\\(?:overline|overbar|bar|widebar|dot) ?(?:\{ ?(?P<block>\d{1,40}) ?\}|(?P<digit>\d)(?!\d))"
    r"|\\dot ?\{?(?P<first>\d)\}? ?(?P<middle>\d{0,40}) ?\\dot ?\{?(?P<last>\d)\}?"
    r")|\((?P<round>\d{1,40})\))(?:\\[lc]?dots(?![A-Za-z])|\.\.\.)?(?![\d._(]|\\(?:overline|overbar|bar|dot))"
)
# The same digits three times and then dots: 0.333..., 0.1666\ldots, 0.363636....
_AND_SO_ON = re.compile(
    r"(?<![\d.,])(?P<whole>\d{0,20})\.(?P<head>\d{0,20}?)(?P<block>\d{1,6}?)(?P=block){2,60}"
    r"(?P<begun>\d{0,5})(?:\\[lc]?dots(?![A-Za-z])|\.\.\.)(?![\d._(])"
)


def repeating_decimals_as_fractions(text: str) -> str:
    r"""`0.1\overline{6}`, `0.\dot{3}`, `0.\dot{1}4285\dot{7}`, `0.(36)` and `0.1666\ldots` as exact fractions.

    `1.5(2)` stays, because it may be a product.
    """
    return _AND_SO_ON.sub(_continued, _REPEATING.sub(_marked, text))


def _marked(found: re.Match[str]) -> str:
    part = {name: group or "" for name, group in found.groupdict().items()}
    block = part["block"] or part["digit"] or part["round"] or part["first"] + part["middle"] + part["last"]
    return _fraction(found, part["whole"], part["head"], block)


def _continued(found: re.Match[str]) -> str:
    if not found["block"].startswith(found["begun"]):
        return found[0]
    return _fraction(found, found["whole"], found["head"], found["block"])


def _fraction(found: re.Match[str], whole: str, head: str, block: str) -> str:
    """The number whose digits after the point are `head` and then `block` for ever."""
    value = Fraction(int(whole + head or 0) * (10 ** len(block) - 1) + int(block), 10 ** len(head))
    value /= 10 ** len(block) - 1
    fraction = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return f"({fraction})" if found.string[found.end() : found.end() + 1] == "^" else fraction


_GROUPED = re.compile(r"(?<![\d.,_^])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\S)")
_ONLY_GROUPED = re.compile(r"[+-]?[\d,]+(?:\.\d+)?\s*[.,;]*")
_BRACKET = re.compile(r"(?P<open>\\\{|\\langle|[(\[{])|\\\}|\\rangle|[)\]}]")
_AFTER_COMMAND = re.compile(r"(?:\\[A-Za-z]+ ?|[\]}^])$")


def joined_thousands(text: str) -> str:
    r"""Digits that commas group by three, as in `1,000\sqrt{2}` and `\frac{1,000}{3}`, as one number.

    Spacing counts: `100, 200` stays a list. Directly inside round, square or set brackets a comma separates, so that
    `(1,200)` stays a pair, unless all other commas there are followed by a space (`\{2,500, 7,500\}`), or the group
    begins with 0 beside something else (`[0,10,000)`), because nobody writes a component as 000. A text that is one
    number is left to `text.read_number`.
    """
    if _ONLY_GROUPED.fullmatch(text):
        return text
    return _GROUPED.sub(lambda found: found[0].replace(",", "") if _is_one_number(found) else found[0], text)


def _is_one_number(grouped: re.Match[str]) -> bool:
    text, opened = grouped.string, list[re.Match[str]]()
    for bracket in _BRACKET.finditer(text, 0, grouped.start()):
        if bracket["open"]:
            opened.append(bracket)
        elif opened:
            opened.pop()
    if not opened:
        return True
    innermost = opened[-1]
    if innermost[0] == "{" and _AFTER_COMMAND.search(text[: innermost.start()]):
        return True
    others = _GROUPED.sub("", text[innermost.end() : _end_of_bracket(text, innermost.end())])
    if "," not in others:
        return ",0" in grouped[0] and others.strip() != ""
    return ",0" in grouped[0] or _UNSPACED.search(others) is None


_UNSPACED = re.compile(r",(?!\s|~|\\[ ,;:])")


def _end_of_bracket(text: str, start: int) -> int:
    """The index of the bracket that closes the one before `start`; the end of the text if none does."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        if not bracket["open"] and not depth:
            return bracket.start()
        depth += 1 if bracket["open"] else -1
    return len(text)


_SET_AS_TEXT = re.compile(
    r"(?<![\d.])\\(?:text(?:rm|bf|it|sf|tt|normal|up)?|math(?:rm|bf|sf|tt|it)|mbox|boldsymbol|bm|operatorname|emph)"
    r" ?\{ ?(?P<number>-?(?:\d{1,3}(?:,\d{3})+|\d{1,60})(?:\.\d{1,60}|/\d{1,60}| \d/\d)?) ?"
    r"(?P<rest>\\?% ?|(?:(?<= )[A-Za-z]|[A-Za-z]{2})[A-Za-z /]*(?:\^ ?\{? ?[23] ?\}?)?\.?|)\}(?!\d)"
)


def numbers_out_of_text(text: str) -> str:
    r"""`\text{15 minutes}` as `15\text{ minutes}`, and `\mathbf{15}` as `15`. Other text stays text."""
    return _SET_AS_TEXT.sub(_number_then_text, text)


def _number_then_text(found: re.Match[str]) -> str:
    number, rest = found["number"], found["rest"].strip()
    if found.string[found.start() - 1 : found.start()] in ("_", "^"):
        number = f"{{{number}}}"
    return number + (rest if rest.endswith("%") else rf"\text{{ {rest}}}" if rest else "")


_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {word: value for value, word in enumerate(_ONES)} | {word: 20 + 10 * n for n, word in enumerate(_TENS)}
_VALUE_NEXT = [[word] for word in VALUES]
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
# After a number word these make another number of it: two thirds, three quarters, five or six, four squared.
_MORE = re.compile(
    rf"and|or|not|half|halves|quarters?|(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand)ths?|thirds?|squared|cubed|dozens?"
    rf"|{'|'.join([*VALUES, *_SCALES])}"
)
_IN_WORDS = re.compile(
    r"(?:\\(?:text(?:rm|bf|it|normal)?|mathrm|mbox) ?\{)? ?(?P<words>[A-Za-z]+(?:[ -]+[A-Za-z]+){0,20}) ?\.? ?\}?"
)


_MULTIPLIED = re.compile(
    r"(?P<start>-?(?:\\?\$)?)(?P<number>\d{1,3}(?:,\d{3})+|\d{1,15})(?P<places>\.\d{1,15})? ?"
    r"(?P<text>\\(?:text|mbox|mathrm) ?\{)? ?(?P<scale>thousand|[mb]illion)\b ?(?P<rest>[A-Za-z ]*)\.?(?(text)\})"
)


def multiplied_by_word(text: str) -> str:
    r"""`2.5\text{ million}` and `2.5 million people` as `2500000` and `2500000\text{ people}`."""
    if not (found := _MULTIPLIED.fullmatch(text)):
        return text
    value = Fraction(found["number"].replace(",", "") + (found["places"] or "")) * _SCALES[found["scale"]]
    if value.denominator != 1 or any(_MORE.fullmatch(word) for word in found["rest"].split()):
        return text
    return f"{found['start']}{value}" + (rf"\text{{ {found['rest'].strip()}}}" if found["rest"].strip() else "")


_CLOCK = re.compile(
    r"(?:\\text\{ ?)?(?P<hour>\d{1,2}):(?P<rest>\d\d(?::\d\d)?) ?"
    r"(?:\\(?:text|mbox|mathrm) ?\{)? ?(?P<half>[ap])\.? ?m\.? ?\}?",
    re.IGNORECASE,
)


def same_clock(gold: str, answer: str) -> bool | None:
    """Whether two times of day are equal; None unless both say a.m. or p.m."""
    one, other = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(answer)
    if one is None or other is None:
        return None
    times = [(int(time["hour"]), time["rest"], time["half"].lower()) for time in (one, other)]
    return times[0] == times[1]


def number_words_as_digits(text: str) -> str:
    r"""`five`, `\text{twenty-one}` and `five apples` as `5`, `21` and `5\text{ apples}`; everything else as it is."""
    if not (found := _IN_WORDS.fullmatch(text)):
        return text
    words = found["words"].lower().replace("-", " ").split()
    count, value = _value_of(words)
    if value is None or any(_MORE.fullmatch(word) for word in words[count:]):
        return text
    return f"{value}" + (rf"\text{{ {' '.join(words[count:])}}}" if count < len(words) else "")


def _value_of(words: list[str]) -> tuple[int, int | None]:
    """The number of words at the beginning that make one number, and its value; None if the first is no number."""
    total, current, count = 0, 0, 0
    for index, word in enumerate(words):
        if word in VALUES and (index == 0 or _may_follow(words[index - 1], word)):
            current += VALUES[word]
        elif word in _SCALES and index and current:
            current *= _SCALES[word]
            if _SCALES[word] > 100:
                total, current = total + current, 0
        elif not (
            word == "and" and count and words[index - 1] in _SCALES and words[index + 1 : index + 2] in _VALUE_NEXT
        ):
            break
        count = index + 1
    return (count, total + current) if count else (0, None)


def _may_follow(before: str, word: str) -> bool:
    """Whether the two words are of one number: `twenty one` and `hundred five`, but not `one two`."""
    return before in _SCALES or before == "and" or (before in _TENS and VALUES[word] in range(1, 10))
