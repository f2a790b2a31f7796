"use strict";

/**
 * The colours of the theme in force, from rankscope/palette.py: ask when drawing, not before.
 */
const palette = (() => {
  const STOPS = 16; // of a colour scale: between so many, straight lines look like viridis

  const here = () => data.palette[theme.current()];

  /** @param {number} place from 0 to 1, dark to light */
  const viridis = (place) => {
    const all = data.palette.viridis;
    return all[Math.min(Math.floor(place * all.length), all.length - 1)];
  };

  return Object.freeze({
    /** How many colours of what has no order can be told apart. */
    get size() {
      return here().unordered.length;
    },
    /** @param {number} i */
    series: (i) => here().unordered[i % here().unordered.length],
    /** Of what has an order, such as the steps of a run. @param {number} t from 0 to 1 */
    shade: (t) => {
      const [first, last] = here().span;
      return viridis(first + t * (last - first));
    },
    /** Of areas, such as a heat map's: a Plotly colour scale, dark to light. */
    get scale() {
      return Array.from({ length: STOPS + 1 }, (_, i) => [i / STOPS, viridis(i / STOPS)]);
    },
    get ink() {
      return here().text;
    },
    get muted() {
      return here().muted;
    },
    get grid() {
      return here().grid;
    },
    get surface() {
      return here().background;
    },
    get accent() {
      return here().accent;
    },
  });
})();
