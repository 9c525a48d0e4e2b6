"""What a survey found, with pictures and advice, as a page in one file."""

from __future__ import annotations

from neuromoco.app.cli.survey_words import CLASS_COLUMNS, class_rows, finding_lines
from neuromoco.datasets.set_survey import SetSurvey
from neuromoco.recipes.advice import Advice
from neuromoco.support.figures import frame_colours
from neuromoco.support.html_page import groups, page, paragraphs, picture, pictures, section, table

COLOURS = "All events of a recording by pixel: orange ON, blue OFF, dark both."


def survey_page(found: SetSurvey, advice: Advice) -> str:
    """The page, as HTML."""
    first, *lines = finding_lines(found, most=None)
    names = found.class_names or ("recordings",)
    drawn = {name: [one for one in found.pictures if one.label in (label, -1)] for label, name in enumerate(names)}
    samples = {
        name: pictures(picture(frame_colours(one.counts[None])[0], one.name) for one in some)
        for name, some in drawn.items()
        if some
    }
    note = f"About {advice.minutes:g} minutes on two CPU cores. {advice.rests_on}"
    return page(
        f"Survey of {found.data}",
        first.removeprefix(f"{found.data}: "),
        [
            section("All recordings", paragraphs(lines)),
            section("Advice", table(("setting", "value", "reason"), advice.rows()), note),
            section("Classes", table(CLASS_COLUMNS, class_rows(found)), "Medians of the recordings."),
            section("Some recordings", groups(samples), COLOURS),
        ],
    )
