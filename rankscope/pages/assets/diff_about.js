"use strict";

{
  const FEW = 5; // of a kind that stand there at once

  const WORDS = {
    removed: "Removed", added: "Added", renamed: "Renamed", tied: "Tied or untied",
    reshaped: "Reshaped", retyped: "Stored as another type",
  };

  /** The result in one sentence, the two checkpoints, and what is not a change of numbers. */
  const render = (page, element) => {
    const { sentence, before, after, structure } = page.data.parts.diff;
    const side = ({ path, format }) => page.dom("dd", {}, path, ` (${format})`);
    element.append(
      page.dom("p", { class: "lead" }, `${sentence[0].toUpperCase()}${sentence.slice(1)}.`),
      page.dom(
        "dl", {},
        page.dom("dt", {}, "Before"), side(before), page.dom("dt", {}, "After"), side(after),
      ),
    );
    const changed = Object.entries(structure).filter(([, texts]) => texts.length);
    if (!changed.length) {
      const same = "The same matrices, of the same shapes and types, in both.";
      element.append(page.dom("p", { class: "note" }, same));
      return;
    }
    const lines = (texts) => texts.map((text) => page.dom("div", {}, text));
    const told = (texts) => (texts.length <= FEW
      ? lines(texts)
      : page.dom("details", {}, page.dom("summary", {}, `${texts.length} of them`), lines(texts)));
    element.append(page.dom("h3", {}, "Structure"), page.dom("dl", {}, changed.map(([kind, texts]) =>
      [page.dom("dt", {}, WORDS[kind]), page.dom("dd", {}, told(texts))])));
  };

  sections.push({
    id: "diff",
    title: "What changed",
    applies: (data) => "diff" in data.parts,
    render,
  });
}
