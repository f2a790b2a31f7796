"use strict";

{
  /** What the runs say together, and what they have in common. */
  const render = (page, element) => {
    const { runs, varied, same, verdicts } = page.data.parts.sweep;
    const headings = varied.map(([, heading]) => heading).join(", ");
    const lead = `${page.counted(runs.length, "run", "runs")}` +
      (headings ? `, which differ in ${headings}.` : "; in what they differ is not recorded.");
    element.append(page.dom("p", { class: "lead" }, lead));
    for (const { text, strong, lacking } of verdicts) {
      element.append(page.dom("p", { class: lacking ? "lacking" : strong ? "strong" : null }, text));
    }
    if (verdicts.length) element.append(choice.stays(page));
    if (same.length) {
      element.append(page.dom("h3", {}, "In all of them"), page.dom("dl", {}, same.map(([name, value]) =>
        [page.dom("dt", {}, name), page.dom("dd", {}, value)])));
    }
  };

  sections.push({
    id: "sweep",
    title: "The runs",
    applies: (data) => "sweep" in data.parts,
    render,
  });
}
