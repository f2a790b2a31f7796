"use strict";

/**
 * Builds the page: header, navigation, sections, foot.
 */
(async () => {
  const KINDS = { model: "Model", run: "Training run", sweep: "Sweep", diff: "Difference" };

  const kind = () => {
    if (data.parts.model?.beside) return "Runs and checkpoints";
    return data.parts.trained?.source === null ? KINDS.run : KINDS[data.kind];
  };

  const basename = (path) => path.replace(/\/+$/, "").split("/").pop() || path;

  const MANY = 3; // sources whose paths are no title any more

  const title = () => {
    const { sources } = data.provenance;
    if (sources?.length === 1) return basename(sources[0].path);
    if (!(sources?.length > MANY)) return data.title;
    const parents = new Set(sources.map(({ path }) => path.slice(0, path.lastIndexOf("/") + 1)));
    const [parent] = parents;
    const shared = parents.size === 1 && parent.length > 1;
    return `${shared ? `${basename(parent.slice(0, -1))}, ` : ""}${sources.length} sources`;
  };

  /** The whole path where the title is only its end, and the day. */
  const about = () => {
    const path = title() === data.title ? [] : [data.title];
    return [...path, `measured ${data.provenance.created.slice(0, 10)}`].join(" · ");
  };

  const toggle = () => {
    const button = dom("button", { type: "button", id: "theme", onclick: () => theme.toggle() });
    const say = () => {
      button.textContent = theme.current() === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to ${button.textContent.toLowerCase()} colours`);
    };
    theme.onChange(say);
    say();
    return button;
  };

  const header = () =>
    dom(
      "header", {},
      dom(
        "div", { class: "title" },
        dom("p", { class: "kicker" }, `RankScope · ${kind()}`),
        dom("h1", {}, title()),
        dom("p", { class: "path" }, about()),
      ),
      toggle(),
    );

  const nav = (shown) =>
    dom(
      "nav", { "aria-label": "Sections" },
      dom("ul", {}, shown.map((one) => dom("li", {}, dom("a", { href: `#${one.id}` }, one.title)))),
    );

  /** What was left out on purpose, what is lacking, and why. */
  const lacking = {
    id: "not-measured",
    title: "Not measured",
    applies: () => data.skipped.length > 0,
    render: (page, element) => {
      const missing = data.skipped.filter((row) => row.lacking);
      const left = data.skipped.length - missing.length;
      const several = new Set(data.skipped.map((row) => row.source)).size > 1;
      const list = dom("div");
      page.table(list, {
        caption: "What was not measured, and why",
        grouping: "reason",
        groupBy: (row) => row.reason || "could not be measured",
        rows: [...missing, ...data.skipped.filter((row) => !row.lacking)],
        columns: [
          { key: "name", heading: "name", cell: (row) => page.breakable(row.name), summary: () => "" },
          { key: "reason", heading: "why", cell: (row) => row.reason },
          ...(several ? [{ key: "source", heading: "of", cell: (row) => page.breakable(row.source) }] : []),
        ],
      });
      element.append(...[
        missing.length
          ? dom("p", { class: "lacking" }, `Incomplete: ${missing.length} could not be measured.`)
          : null,
        left ? dom("p", {}, `${left} left out on purpose: what is no matrix, or not asked for.`) : null,
        dom("details", { open: missing.length > 0 }, dom("summary", {}, "Which, and why"), list),
      ].filter(Boolean));
    },
  };

  const foot = () => {
    const { rankscope, python, numpy, created, sources = [] } = data.provenance;
    const facts = [
      ["Command", dom("code", { class: "command" }, data.command)],
      ["Made", created],
      ["By", [`RankScope ${rankscope}`, `Python ${python}`, numpy && `NumPy ${numpy}`].filter(Boolean).join(", ")],
      ["Threshold", `ε = ${data.eps.join(", ")}, relative to: ${data.norm}`],
      ["Sources", sources.map((one) => dom("div", {}, [
        one.path, one.format && ` (${one.format}`, one.format && one.snapshots > 1 && `, ${one.snapshots} snapshots`,
        one.format && ")", one.base && ` on ${one.base}`,
      ].filter(Boolean)))],
    ];
    return dom(
      "footer", {},
      dom("h2", {}, "Provenance"),
      dom("dl", {}, facts.map(([name, value]) => [dom("dt", {}, name), dom("dd", {}, value)])),
    );
  };

  const page = pageOf(await spectra.all());
  const shown = [...sections, lacking].filter((one) => one.applies(data));
  const main = dom("main", { id: "main", tabindex: -1 });
  if (shown.some((one) => one.follows)) main.append(controls.made());
  const places = shown.map((one) => {
    const place = dom("div");
    main.append(
      dom("section", { id: one.id, "aria-labelledby": `${one.id}-title` },
        dom("h2", { id: `${one.id}-title` }, one.title), place),
    );
    return place;
  });
  document.body.prepend(dom("a", { class: "skip", href: "#main" }, "Skip to the content"), header(), nav(shown), main, foot());
  for (const [i, one] of shown.entries()) await one.render(page, places[i]);
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
})();
