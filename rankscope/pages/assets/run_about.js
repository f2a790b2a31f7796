"use strict";

{
  /** What the theory says of the run, then how it was trained. */
  const render = (page, element) => {
    const { verdicts, settings, steps, matrices } = page.data.parts.run;
    const span = `${page.counted(steps.length, "snapshot", "snapshots")} from step ${steps[0]} to ` +
      `${steps.at(-1)}, ${page.counted(matrices.length, "matrix", "matrices")}.`;
    element.append(page.dom("p", { class: "lead" }, span));
    for (const { text, strong, lacking } of verdicts) {
      const kind = lacking ? "lacking" : strong ? "strong" : null;
      element.append(page.dom("p", { class: kind }, text));
    }
    if (verdicts.length) element.append(choice.stays(page));
    const facts = settings.map(([name, value]) =>
      [page.dom("dt", {}, name), page.dom("dd", {}, value)]);
    element.append(facts.length
      ? page.dom("dl", {}, facts)
      : page.dom("p", { class: "note" }, "How it was trained is not recorded: there is no run.json."));
  };

  sections.push({
    id: "run",
    title: "The run",
    applies: (data) => "run" in data.parts,
    render,
  });
}
