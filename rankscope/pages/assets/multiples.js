"use strict";

/**
 * All matrices' spectra drawn small, in groups: each is a button that draws it large.
 *
 * Hand-drawn, since three hundred figures of Plotly's would take a minute, and drawn when they
 * scroll into view.
 */
const multiples = (() => {
  const [WIDTH, HEIGHT] = [120, 48]; // of a drawing's own units
  const POINTS = 60;
  const DECADES = 8; // at most, below the largest value
  const OPEN = 60; // of more matrices, groups begin folded

  /** The common scale of all drawings: log10 of the least and the largest value. */
  const domain = (page) => {
    let [low, high] = [Infinity, -Infinity];
    for (const row of model.drawn) {
      const spectrum = page.spectra.curves[row.curve];
      const norm = page.metrics.normOf(spectrum, page.controls.norm);
      const largest = spectrum.sigma[0] / norm;
      if (!(largest > 0)) continue;
      const least = Math.max(spectrum.sigma.at(-1) / norm, largest * spectrum.resolution);
      high = Math.max(high, Math.log10(largest));
      low = Math.min(low, Math.log10(least));
    }
    if (!(high > -Infinity)) return [-1, 0];
    return [Math.max(Math.min(low, high - 1), high - DECADES), high];
  };

  const heightOf = (value, [low, high]) => {
    const place = (Math.log10(Math.max(value, 1e-300)) - low) / (high - low);
    return HEIGHT * (1 - Math.min(1.02, Math.max(-0.02, place)));
  };

  const lineOf = (page, row, scale) => {
    const spectrum = page.spectra.curves[row.curve];
    const norm = page.metrics.normOf(spectrum, page.controls.norm) || 1;
    const last = spectrum.sigma.length - 1;
    const count = Math.min(POINTS, last + 1);
    return Array.from({ length: count }, (_, i) => {
      const place = count === 1 ? 0 : Math.round((i * last) / (count - 1));
      const x = last === 0 ? 0 : (place / last) * WIDTH;
      return `${x.toFixed(1)},${heightOf(spectrum.sigma[place] / norm, scale).toFixed(1)}`;
    }).join(" ");
  };

  /** What a small drawing is called: by its layer where that tells it from the others. */
  const namesOf = (page, rows) => {
    const depths = new Map();
    const place = (row) => `${row.group} ${row.depth}`;
    for (const row of rows) depths.set(place(row), (depths.get(place(row)) ?? 0) + 1);
    return (row) =>
      row.depth === null || row.role === null || depths.get(place(row)) > 1
        ? page.short(row.name, 22)
        : `layer ${row.depth}`;
  };

  /** One drawing and its words. */
  const cellOf = (page, row, name) => {
    const used = page.svg("rect", { class: "used", x: 0, y: 0, height: HEIGHT });
    const line = page.svg("polyline", { class: "sigma" });
    const eps = page.svg("line", { class: "eps", x1: 0, x2: WIDTH });
    const picture = page.svg(
      "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "spark" },
      used, line, eps,
    );
    const rank = page.dom("span", { class: "rank" });
    const button = page.dom(
      "button", { type: "button", class: "cell", title: model.named(row), onclick: () => model.toggle(row) },
      picture,
      page.dom("span", { class: "name" }, page.breakable(name)),
      rank,
    );
    let seen = false;
    const say = () => {
      const { value, exact } = model.rank(page, row);
      rank.textContent = `${exact ? "" : "~"}${value} / ${model.full(row)}`;
      used.setAttribute("width", String((WIDTH * value) / model.full(row)));
    };
    const draw = (scale) => {
      if (!seen) return;
      line.setAttribute("points", lineOf(page, row, scale));
    };
    const mark = (scale) => {
      const y = heightOf(page.controls.eps, scale).toFixed(1);
      eps.setAttribute("y1", y);
      eps.setAttribute("y2", y);
    };
    const press = () => button.setAttribute("aria-pressed", String(model.chosen.has(row)));
    return {
      button, say, draw, mark, press,
      see: (scale) => {
        seen = true;
        draw(scale);
      },
    };
  };

  /** Matrices by the kind of layer; those that are alone in theirs stand together. */
  const kinds = () => {
    const found = new Map();
    for (const row of model.drawn) {
      found.set(model.label(row), [...(found.get(model.label(row)) ?? []), row]);
    }
    const alone = [...found].filter(([, rows]) => rows.length === 1);
    if (alone.length < 2) return found;
    const others = [...found].filter(([, rows]) => rows.length > 1);
    const singles = new Map();
    for (const [, [row]] of alone) {
      const label = row.of === null ? "one of a kind" : `${row.of}: one of a kind`;
      singles.set(label, [...(singles.get(label) ?? []), row]);
    }
    return new Map([...singles, ...others]);
  };

  /**
   * @param {object} page
   * @param {Element} element
   * @param {number} most how many are drawn large at once
   */
  return (page, element, most) => {
    let scale = domain(page);
    const nameOf = namesOf(page, model.drawn);
    const cells = new Map(model.drawn.map((row) => [row, cellOf(page, row, nameOf(row))]));
    const byButton = new Map([...cells.values()].map((cell) => [cell.button, cell]));
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        watch.unobserve(entry.target);
        byButton.get(entry.target).see(scale);
      }
    }, { rootMargin: "300px" });

    element.append(page.dom("h3", {}, "Every matrix"), page.dom("p", { class: "note" },
      "All by the same scales: sigma over the norm, logarithmic, by index, up to each one's last. ",
      "Shaded: the directions above ε, the dashed line. Press one to draw it above."));
    for (const [label, rows] of kinds()) {
      const all = page.dom("button", { type: "button", class: "all", onclick: () => model.choose(rows.slice(0, most)) },
        rows.length > most ? `Draw the first ${most}` : "Draw all");
      element.append(page.dom(
        "div", { class: "kind" },
        page.dom(
          "details", { open: model.drawn.length <= OPEN },
          page.dom("summary", {}, label, page.dom("span", { class: "count" }, ` ${rows.length}`)),
          page.dom("div", { class: "grid" }, rows.map((row) => cells.get(row).button)),
        ),
        rows.length > 1 ? all : null,
      ));
    }

    const every = (act) => cells.forEach(act);
    const follow = () => {
      const before = String(scale);
      scale = domain(page);
      every((cell) => {
        cell.say();
        cell.mark(scale);
        if (String(scale) !== before) cell.draw(scale);
      });
    };
    const press = () => every((cell) => cell.press());
    follow();
    press();
    every((cell) => watch.observe(cell.button));
    page.controls.onChange(follow);
    model.onChoice(press);
    addEventListener("beforeprint", () => every((cell) => cell.see(scale)));
  };
})();
