"use strict";

/**
 * How numbers and names read: as in the terminal (rankscope/views/numbers.py).
 */
const numbers = (() => {
  const NOTHING = "–";

  /**
   * Python's `g` format: so many digits, no zeros behind them, an exponent of two digits.
   * @param {number} value @param {number} digits
   */
  const general = (value, digits) => {
    if (!Number.isFinite(value)) return value > 0 ? "inf" : value < 0 ? "-inf" : "nan";
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    const power = Number(exponent);
    if (power < -4 || power >= digits) {
      const sign = power < 0 ? "-" : "+";
      const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
      return `${short}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
    }
    const fixed = value.toFixed(Math.max(0, digits - 1 - power));
    return fixed.includes(".") ? fixed.replace(/\.?0+$/, "") : fixed;
  };

  /**
   * A real number in at most seven characters; equal magnitudes have equal decimals.
   * @param {number | null | undefined} value
   */
  const number = (value) => {
    if (value === null || value === undefined) return NOTHING;
    if (value === Infinity) return "inf";
    const size = Math.abs(value);
    if (size >= 1e5 && size < 1e7 && (size < 1e6 || Number.isInteger(value))) {
      return value.toFixed(0);
    }
    if (size >= 1e6 || (size > 0 && size < 1e-3)) return general(value, 2);
    const rounded = Number(size.toExponential(3));
    const decimals = rounded < 1 ? 4 : Math.max(0, 3 - Math.floor(Math.log10(rounded)));
    return value.toFixed(decimals);
  };

  /**
   * A count, or a mean of counts.
   * @param {number | null | undefined} value
   */
  const count = (value) => (Number.isInteger(value) ? String(value) : number(value));

  /** @param {number | null | undefined} value from 0 to 1 */
  const share = (value) =>
    value === null || value === undefined ? NOTHING : `${(100 * value).toFixed(1)} %`;

  /**
   * A name as Plotly may show it, which reads some of HTML.
   * @param {string} name
   */
  const text = (name) =>
    name.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  /**
   * The middle left out, more of the end kept: it tells which layer this is.
   * @param {string} name @param {number} width in characters
   */
  const short = (name, width) => {
    if (name.length <= width) return name;
    const head = Math.max(0, Math.floor((width - 1) / 4));
    return `${name.slice(0, head)}…${name.slice(name.length - (width - 1 - head))}`;
  };

  /** @param {number} amount @param {string} one @param {string} many */
  const counted = (amount, one, many) => `${amount} ${amount === 1 ? one : many}`;

  return Object.freeze({ NOTHING, general, number, count, share, text, short, counted });
})();
