"use strict";

/** What is said of a run before its numbers. */
const account = Object.freeze({
  /** What the theory says of it, then how it was trained. */
  tell(page, element, lead, verdicts, facts) {
    element.append(page.dom("p", { class: "lead" }, lead));
    for (const { text, strong, lacking } of verdicts) {
      const kind = lacking ? "lacking" : strong ? "strong" : null;
      element.append(page.dom("p", { class: kind }, text));
    }
    if (verdicts.length) element.append(choice.stays(page));
    const told = facts.map(([name, value]) => [page.dom("dt", {}, name), page.dom("dd", {}, value)]);
    element.append(told.length
      ? page.dom("dl", {}, told)
      : page.dom("p", { class: "note" }, "How it was trained is not recorded: there is no run.json."));
  },
});
