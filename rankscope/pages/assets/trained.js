"use strict";

{
  /** Which snapshot it is. @param {{source: string | null, step: number | null, snapshots: number}} run */
  const leadOf = ({ source, step, snapshots }) => {
    const which = snapshots === 1 ? "only snapshot" : `last of ${snapshots} snapshots`;
    return `${source ?? "This run"}: ${step === null ? "" : `step ${step}, `}the ${which}.`;
  };

  /** What the theory says of it, and how it was trained. */
  const render = (page, element) => {
    const { settings, logged, verdicts } = page.data.parts.trained;
    element.append(page.dom("p", { class: "lead" }, leadOf(page.data.parts.trained)));
    for (const { text, strong, lacking } of verdicts) {
      element.append(page.dom("p", { class: lacking ? "lacking" : strong ? "strong" : null }, text));
    }
    if (verdicts.length) element.append(choice.stays(page));
    const facts = [...settings, ...logged].map(([name, value]) =>
      [page.dom("dt", {}, name), page.dom("dd", {}, value)]);
    element.append(facts.length
      ? page.dom("dl", {}, facts)
      : page.dom("p", { class: "note" }, "How it was trained is not recorded: there is no run.json."));
  };

  sections.push({
    id: "run",
    title: "The run",
    applies: (data) => "trained" in data.parts,
    render,
  });
}
