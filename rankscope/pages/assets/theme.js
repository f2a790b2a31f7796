"use strict";

/**
 * Light or dark: the system's choice until the reader makes one; light on paper.
 */
const theme = (() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const listeners = [];
  let chosen = null;
  let onPaper = false;

  /** @returns {"light" | "dark"} */
  const current = () => {
    if (onPaper) return "light";
    return chosen ?? (system.matches ? "dark" : "light");
  };

  const apply = () => {
    // On paper the style sheet is light whatever this says.
    document.documentElement.dataset.theme = current();
    for (const listener of listeners) listener();
  };

  /** @param {boolean} paper */
  const printing = (paper) => {
    onPaper = paper;
    apply();
  };

  system.addEventListener("change", apply);
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  document.documentElement.dataset.theme = current();

  return Object.freeze({
    current,
    /** Whether what is drawn now goes to a printer. */
    onPaper: () => onPaper,
    toggle: () => {
      chosen = current() === "dark" ? "light" : "dark";
      apply();
    },
    /** @param {() => void} listener called after the theme has changed, and around printing */
    onChange: (listener) => listeners.push(listener),
  });
})();
