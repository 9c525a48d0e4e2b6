"""Pages in one file: tables, bars and groups of parts."""

from __future__ import annotations

from neuromoco.support.html_page import Bar, bars, groups, table


def test_only_columns_of_numbers_are_to_the_right() -> None:
    html = table(("setting", "value", "count"), [("frames.height", "17", 3), ("name", "tiny", 1200)])
    assert html.count('class="n"') == 3  # the third column, with its heading
    assert '<th class="n">count</th>' in html
    assert '<td class="n">1,200</td>' in html
    assert "<td>frames.<wbr>height</td>" in html  # a long name may go on in the next line
    assert table(("a",), []) == '<div class="wide"><table><tr><th>a</th></tr></table></div>'


def test_bars_have_intervals_and_marks_within_their_bounds() -> None:
    html = bars([Bar("<b>", 0.5, "half", (0.25, 0.75), 2.0), Bar("plain", 1.0, "all")])
    assert '<i style="width: 50.0%"></i><u style="left: 25.0%; width: 50.0%"></u><s style="left: 100.0%"></s>' in html
    assert "&lt;b&gt;" in html
    assert html.count("<u ") == html.count("<s ") == 1


def test_names_of_groups_are_text() -> None:
    assert groups({"<i>": "<p>part</p>"}) == '<div class="groups"><div><h3>&lt;i&gt;</h3><p>part</p></div></div>'
