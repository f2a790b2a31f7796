"use strict";

/**
 * What there is, how much of it is used, and what uses least.
 */
{
  const LEAST = 5; // matrices named for using least of their rank

  /** Every matrix with the share of its directions that it uses, the least first. */
  const shares = (page) =>
    model.drawn
      .map((row) => ({ row, ...model.rank(page, row) }))
      .map((one) => ({ ...one, share: one.value / model.full(one.row) }))
      .sort((a, b) => a.share - b.share);

  /** 7241732 -> `7.24 million`: what a person compares models by. */
  const large = (count) => {
    const scales = [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"], [1e3, "thousand"]];
    const [scale, word] = scales.find(([least]) => count >= least) ?? [1, ""];
    return scale === 1 ? String(count) : `${Number((count / scale).toPrecision(3))} ${word}`;
  };

  const tile = (page, value, label) =>
    page.dom("div", { class: "tile" }, page.dom("dd", {}, value), page.dom("dt", {}, label));

  const bar = (page, { row, value, exact, share }) => {
    const filled = page.dom("span", { class: "filled" });
    filled.style.width = `${100 * share}%`;
    return page.dom(
      "tr", {},
      page.dom("th", { scope: "row" }, page.breakable(model.named(row))),
      page.dom("td", { class: "number" }, `${exact ? "" : "~"}${value}`),
      page.dom("td", { class: "number" }, model.full(row)),
      page.dom("td", { class: "number" }, page.share(share)),
      page.dom("td", { class: "bar", "aria-hidden": "true" }, filled),
    );
  };

  sections.push({
    id: "overview",
    title: model.titled("Overview"),
    follows: true,
    applies: (all) => "model" in all.parts,
    render: (page, element) => {
      if (!model.drawn.length) {
        element.append(page.dom("p", { class: "empty" }, "No weight matrix was measured."));
        return;
      }
      const weights = model.drawn.reduce((sum, row) => sum + row.shape[0] * row.shape[1], 0);
      const types = [...new Set(model.drawn.map((row) => row.dtype))].join(", ");
      const mean = page.dom("span");
      const whole = page.dom("span");
      const lacking = page.data.skipped.filter((one) => one.lacking).length;
      const at = page.dom("span");
      const least = page.dom("div");
      element.append(page.dom(
        "dl", { class: "tiles" },
        tile(page, String(model.drawn.length), model.drawn.length === 1 ? "matrix" : "matrices"),
        tile(page, large(weights), `weights in them, ${types}`),
        tile(page, mean, ["of their directions used on average, at ", at]),
        tile(page, whole, "use all of them"),
      ), least);
      const say = () => {
        const all = shares(page);
        at.textContent = page.controls.short();
        const sum = all.reduce((total, one) => total + one.share, 0);
        mean.textContent = page.share(sum / all.length);
        whole.textContent = String(all.filter((one) => one.share === 1).length);
        const lower = all.filter((one) => one.share < 1).slice(0, LEAST);
        const heads = ["Least of their rank used", "rank", "of", "share"];
        least.replaceChildren(lower.length
          ? page.dom(
            "table", { class: "least" },
            page.dom("thead", {}, page.dom("tr", {}, heads.map((head, i) =>
              page.dom("th", { scope: "col", class: i ? "number" : null }, head)),
              page.dom("td", { "aria-hidden": "true" }))),
            page.dom("tbody", {}, lower.map((one) => bar(page, one))),
          )
          : page.dom("p", { class: "note" }, lacking ? "Every measured matrix uses all of its directions." : "Every matrix uses all of its directions."));
        if (lacking) {
          const some = lacking === 1 ? "1 matrix or tensor is" : `${lacking} matrices or tensors are`;
          least.append(page.dom(
            "p", { class: "lacking" }, `Incomplete: ${some} without values. See `,
            page.dom("a", { href: "#not-measured" }, "Not measured"), ".",
          ));
        }
      };
      page.controls.onChange(say);
      say();
    },
  });
}
