"use strict";

/**
 * Figures drawn by Plotly, in the page's colours, with their numbers as a table beside them.
 */
const chart = (() => {
  const HEIGHT = 420; // pixels
  const PAPER = 680; // pixels of width on an A4 or letter sheet within the page's margins
  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
  const CONFIG = { displayModeBar: false, displaylogo: false, responsive: true };

  const CHUNK = 200; // rows of the numbers that are laid out at a time
  const SOON = 200; // milliseconds until Plotly is loaded even where there is no idle moment

  const SETTLED = 200; // milliseconds after which a window's size stays as it is

  const all = [];

  /**
   * Have Plotly run. Its script stands in the page as text: reading five megabytes takes a browser
   * as long as all else, and waits until the rest of the page stands.
   */
  const load = () => {
    if (window.Plotly) return;
    document.head.append(dom("script", {}, document.getElementById("plotly").textContent));
  };

  const axis = () => ({
    automargin: true,
    gridcolor: palette.grid,
    linecolor: palette.muted,
    tickcolor: palette.muted,
    ticks: "outside",
    ticklen: 4,
    zeroline: false,
    showline: true,
    exponentformat: "power",
    title: { standoff: 10 },
  });

  /** What every figure has; axes by the names that the figure uses. @param {object} own */
  const house = (own, height) => {
    const axes = Object.keys(own).filter((key) => /^[xy]axis\d*$/.test(key));
    return {
      height,
      width: theme.onPaper() ? PAPER : undefined,
      autosize: !theme.onPaper(),
      paper_bgcolor: palette.surface,
      plot_bgcolor: palette.surface,
      font: { family: FONT, size: 13, color: palette.ink },
      margin: { l: 60, r: 16, t: 16, b: 48 },
      colorway: Array.from({ length: palette.size }, (_, i) => palette.series(i)),
      hoverlabel: { font: { family: FONT, size: 13 }, align: "left" },
      hovermode: "closest",
      showlegend: false,
      legend: { orientation: "h", yanchor: "bottom", y: 1.02, xanchor: "left", x: 0 },
      dragmode: "zoom",
      ...Object.fromEntries(["xaxis", "yaxis", ...axes].map((key) => [key, axis()])),
    };
  };

  /** Objects within objects merged, all else replaced. */
  const merged = (base, own) => {
    const result = { ...base };
    for (const [key, value] of Object.entries(own)) {
      const plain = (one) => one !== null && typeof one === "object" && !Array.isArray(one);
      result[key] = plain(value) && plain(base[key]) ? merged(base[key], value) : value;
    }
    return result;
  };

  /** The numbers of a figure, behind a disclosure; made when it is opened. */
  const numbersOf = (table, caption) => {
    const place = dom("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption });
    const fill = () => {
      const { columns, rows } = table();
      const body = dom("tbody");
      const rowOf = (row) => dom("tr", {}, row.map((one, i) =>
        dom(i ? "td" : "th", i ? {} : { scope: "row" }, one ?? numbers.NOTHING)));
      /** The first rows, then more on request: a long run has thousands. */
      const layOut = (from) => {
        body.append(...rows.slice(from, from + CHUNK).map(rowOf));
        const left = rows.length - from - CHUNK;
        if (left <= 0) return;
        const more = dom("tr");
        const next = () => {
          more.remove();
          layOut(from + CHUNK);
        };
        const button = dom("button", { type: "button", onclick: next }, `Show more of ${left} rows`);
        more.append(dom("td", { colspan: columns.length }, button));
        body.append(more);
      };
      layOut(0);
      const head = dom("tr", {}, columns.map((one) => dom("th", { scope: "col" }, one)));
      place.replaceChildren(dom("table", { class: "plain" }, dom("thead", {}, head), body));
    };
    const details = dom("details", { class: "data" }, dom("summary", {}, "Show the numbers"), place);
    details.addEventListener("toggle", () => details.open && fill());
    return { details, refresh: () => details.open && fill() };
  };

  /**
   * @param {Element} element where it is appended
   * @param {object} options
   * @param {string} options.caption a sentence below it
   * @param {(width: number) => {traces: object[], layout: object}} options.draw for so many pixels
   * @param {() => {columns: string[], rows: unknown[][]}} [options.table]
   * @param {number | (() => number)} [options.height] in pixels
   * @param {string} [options.label] for who cannot see it
   */
  const make = (element, { caption, draw, table, height = HEIGHT, label = caption }) => {
    const plot = dom("div", { class: "plot", role: "img", "aria-label": label });
    const tall = () => (typeof height === "function" ? height() : height);
    plot.style.minHeight = `${tall()}px`;
    const told = table && numbersOf(table, label);
    const text = dom("figcaption", {}, caption);
    const figure = dom("figure", {}, plot, text, told?.details);
    element.append(figure);
    let seen = false;
    const redraw = () => {
      told?.refresh();
      if (!seen) return;
      const { traces, layout } = draw(theme.onPaper() ? PAPER : plot.clientWidth);
      plot.style.minHeight = `${tall()}px`;
      Plotly.react(plot, traces, merged(house(layout, tall()), layout), CONFIG);
    };
    const see = () => {
      if (seen) return;
      load();
      seen = true;
      redraw();
    };
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      requestIdleCallback(see, { timeout: SOON });
    }, { rootMargin: "200px" }).observe(plot);
    all.push({ see, redraw });
    return { redraw, figure, caption: text };
  };

  addEventListener("beforeprint", () => all.forEach((one) => one.see()));
  theme.onChange(() => all.forEach((one) => one.redraw()));
  let resized;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => all.forEach((one) => one.redraw()), SETTLED);
  });

  return make;
})();
