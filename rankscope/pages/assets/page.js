"use strict";

/** What the page consists of; every section's script adds to it. */
const sections = [];

/**
 * What a section's `render` gets; see rankscope/pages/__init__.py.
 * @param {Record<string, Spectrum[]>} unpacked
 */
const pageOf = (unpacked) =>
  Object.freeze({
    data,
    spectra: unpacked,
    metrics,
    controls,
    palette,
    dom,
    svg,
    breakable,
    number: numbers.number,
    count: numbers.count,
    share: numbers.share,
    text: numbers.text,
    short: numbers.short,
    counted: numbers.counted,
    chart,
    table,
    /**
     * Names of lines, for charts whose own legend has no room.
     * @param {Element} element @param {{label: string, colour: string, dash?: boolean | "dotted" | "double"}[]} items
     */
    legend: (element, items) => {
      const key = ({ label, colour, dash }) => {
        const line = dom("span", { class: "key", "aria-hidden": "true" });
        line.style.borderTop = `3px ${dash === true ? "dashed" : dash || "solid"} ${colour}`;
        return dom("li", {}, line, label);
      };
      element.replaceChildren(dom("ul", { class: "legend" }, items.map(key)));
    },
  });
