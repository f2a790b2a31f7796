"""The sections of a page, in order."""

from __future__ import annotations

from rankscope.pages import diff, model, run, sweep, trained
from rankscope.pages.section import Section

RUNS = (
    "run_words.js",
    "run_choice.js",
    "run_panels.js",
    "run_curves.js",
)  # what these sections share

SECTIONS: tuple[Section, ...] = (
    Section(
        "run",
        run.payload,
        (
            *RUNS,
            "run_values.js",
            "run_trace.js",
            "run_bounds.js",
            "run_log.js",
            "run_account.js",
            "run_about.js",
            "run_steps.js",
            "run_spectra.js",
        ),
    ),
    Section(
        "sweep",
        sweep.payload,
        (
            *RUNS,
            "sweep_values.js",
            "sweep_about.js",
            "sweep_final.js",
            "sweep_tables.js",
            "sweep_steps.js",
            "sweep_spectra.js",
        ),
    ),
    Section(
        "diff",
        diff.payload,
        (
            *RUNS,
            "diff_values.js",
            "diff_about.js",
            "diff_table.js",
            "diff_overview.js",
            "diff_spectra.js",
        ),
    ),
    Section(
        "trained",
        trained.payload,
        ("run_words.js", "run_choice.js", "run_account.js", "trained.js"),
    ),
    Section(
        "model",
        model.payload,
        (
            "model.js",
            "multiples.js",
            "model_overview.js",
            "model_spectra.js",
            "model_heatmap.js",
            "model_table.js",
        ),
    ),
)
