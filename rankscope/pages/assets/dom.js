"use strict";

/**
 * Elements, made without HTML: what a child says is text and stays text.
 */
const [dom, svg] = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  /** @param {Element} element @param {string} name @param {unknown} value */
  const set = (element, name, value) => {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  };

  /**
   * @param {Element} element
   * @param {Record<string, unknown>} attributes functions are listeners: `onclick`
   * @param {unknown[]} children elements, or what becomes text; null and undefined are left out
   */
  const filled = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) set(element, name, value);
    const kept = children.flat(Infinity).filter((child) => child !== null && child !== undefined);
    element.append(...kept.map((child) => (child instanceof Node ? child : String(child))));
    return element;
  };

  return [
    (tag, attributes = {}, ...children) =>
      filled(document.createElement(tag), attributes, children),
    (tag, attributes = {}, ...children) =>
      filled(document.createElementNS(SVG, tag), attributes, children),
  ];
})();

/** A name that a narrow column breaks at its dots. @param {string} name */
const breakable = (name) =>
  dom("span", {}, name.split(/(?<=[._/])/).flatMap((part, i) => (i ? [dom("wbr"), part] : [part])));

/** What the page knows; see rankscope/pages/__init__.py. */
const data = JSON.parse(document.getElementById("data").textContent);
