"use strict";

/**
 * What depends on eps, read off a spectrum as rankscope/metrics/thresholded.py does, and marked as
 * not exact where rankscope/resolution.py would, or where the page's own rounding matters.
 *
 * @typedef {object} Reading
 * @property {number | null} value
 * @property {string} note why it is undefined or not exact; empty when there is nothing to say
 * @property {boolean} exact
 *
 * @typedef {"frobenius" | "spectral" | "none"} Norm
 */
const metrics = (() => {
  const READING_RTOL = 1e-6; // as in resolution.py

  // A value of a page in float32 is off by 2^-24 of itself; twice that, since it was divided by
  // sigma_1 and multiplied by it again.
  const SINGLE = 2 ** -23;
  // The routes by eigenvalues, as in resolution.py.
  const SQUARING = new Set(["gram", "cuda", "cuda32"]);

  const ROUNDED = "the page holds float32; ask rankscope analyze";

  /** @param {number | null} value @param {string} note @param {boolean} exact @returns {Reading} */
  const reading = (value, note = "", exact = true) => ({ value, note, exact });

  /**
   * How many of the first `length` values of a descending array are strictly above a threshold.
   * @param {Float64Array} sigma @param {number} threshold
   */
  const countAbove = (sigma, threshold, length = sigma.length) => {
    let [low, high] = [0, length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sigma[middle] > threshold) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  /** What eps is relative to. @param {Spectrum} spectrum @param {Norm} norm */
  const normOf = (spectrum, norm) => {
    if (norm === "frobenius") return spectrum.frobeniusNorm;
    return norm === "spectral" ? spectrum.sigma[0] : 1;
  };

  /** How far a value near this one may be off. @param {Spectrum} spectrum @param {number} value */
  const uncertainty = (spectrum, value) => {
    const floor = spectrum.resolution * spectrum.sigma[0];
    return SQUARING.has(spectrum.route) && value > floor ? floor * (floor / (2 * value)) : floor;
  };

  /** Of a value relative to sigma_1, as a share of sigma_1. @param {Spectrum} spectrum */
  const relativeUncertainty = (spectrum, relative) => {
    const floor = spectrum.resolution;
    if (!SQUARING.has(spectrum.route)) return floor;
    return floor * (floor / (2 * Math.max(relative, floor / 2)));
  };

  /** @param {Spectrum} spectrum */
  const unresolved = (spectrum) => {
    const { sigma, resolution, zeros } = spectrum;
    return Math.max(0, sigma.length - zeros - countAbove(sigma, resolution * sigma[0]));
  };

  /** @param {Spectrum} spectrum @param {number} threshold @returns {Reading} */
  const countReading = (spectrum, threshold) => {
    const { sigma, resolution, route, zeros, single } = spectrum;
    if (sigma[0] === 0) return reading(0);
    const known = sigma.length - zeros;
    const margin = uncertainty(spectrum, threshold);
    const count = countAbove(sigma, threshold, known);
    const between = (reach) =>
      countAbove(sigma, threshold - reach, known) - countAbove(sigma, threshold + reach, known);
    if (threshold <= resolution * sigma[0] && unresolved(spectrum) > 0) {
      return reading(count, `threshold lies below what the ${route} route resolves`, false);
    }
    const ties = between(margin);
    if (ties > 0) {
      const near = numbers.general(margin, 1);
      return reading(count, `tie: ${ties} singular values within ${near} of it`, false);
    }
    if (single && between(margin + SINGLE * threshold) > 0) return reading(count, ROUNDED, false);
    return reading(count);
  };

  /** @param {Spectrum} spectrum @param {number} eps @param {Norm} norm */
  const rank = (spectrum, eps, norm) => countReading(spectrum, eps * normOf(spectrum, norm));

  /** The distance to every rank over sigma_1; made once a spectrum. */
  const distances = new WeakMap();
  const tailsOf = (spectrum) => {
    if (distances.has(spectrum)) return distances.get(spectrum);
    const { sigma } = spectrum;
    const tails = new Float64Array(sigma.length + 1);
    let sum = 0;
    for (let i = sigma.length - 1; i >= 0; i -= 1) {
      const relative = sigma[i] / sigma[0];
      sum += relative * relative;
      tails[i] = Math.sqrt(sum);
    }
    distances.set(spectrum, tails);
    return tails;
  };

  /** @param {Spectrum} spectrum @param {number} eps @param {Norm} norm @returns {Reading} */
  const approximationRank = (spectrum, eps, norm) => {
    const { sigma, route, single } = spectrum;
    const allowed = eps * normOf(spectrum, norm);
    if (norm === "spectral") return countReading(spectrum, allowed);
    const [largest, k] = [sigma[0], sigma.length];
    if (largest === 0) return reading(0);
    const tails = tailsOf(spectrum);
    const share = allowed / largest;
    const count = Math.max(countAbove(tails, share), countAbove(sigma, allowed));
    const spread = SQUARING.has(route) ? k : Math.sqrt(k);
    const margin = (uncertainty(spectrum, allowed) / largest) * spread;
    /** Whether the count stays the same however far the distances are off, up to this. */
    const sure = (reach) =>
      countAbove(tails, share + reach) === count &&
      countAbove(tails, Math.max(0, share - reach)) === count;
    if (!sure(margin)) {
      const near = numbers.general(margin * largest, 1);
      return reading(count, `tie: the distance lies within ${near} of the threshold`, false);
    }
    if (single && !sure(margin + SINGLE * share)) return reading(count, ROUNDED, false);
    return reading(count);
  };

  /** @param {Spectrum} spectrum @param {number} eps @param {Norm} norm @returns {Reading} */
  const headMass = (spectrum, eps, norm) => {
    const { sigma, zeros } = spectrum;
    const threshold = eps * normOf(spectrum, norm);
    const largest = sigma[0];
    if (largest === 0) return reading(null, "undefined for a zero matrix");
    const counted = countReading(spectrum, threshold);
    const known = sigma.length - zeros;
    let [head, tail, headError, tailError] = [0, 0, 0, 0];
    for (let i = 0; i < known; i += 1) {
      const relative = sigma[i] / largest;
      const error = relativeUncertainty(spectrum, relative);
      if (i < counted.value) [head, headError] = [head + relative, headError + error];
      else [tail, tailError] = [tail + relative, tailError + error];
    }
    const change = tail * headError + head * tailError;
    // What may lie on the other side of the threshold than it seems.
    const margin = uncertainty(spectrum, threshold) + (spectrum.single ? SINGLE * threshold : 0);
    let moving = 0;
    const last = countAbove(sigma, threshold - margin, known);
    for (let i = countAbove(sigma, threshold + margin, known); i < last; i += 1) {
      moving += sigma[i] / largest;
    }
    const exact = change + moving * (head + tail) <= READING_RTOL * head * (head + tail);
    return reading(head / (head + tail), exact ? "" : counted.note, exact);
  };

  return Object.freeze({
    countAbove,
    normOf,
    rank,
    approximationRank,
    headMass,
    /** By the names of rankscope.metrics. */
    byName: Object.freeze({ rank, approximation_rank: approximationRank, head_mass: headMass }),
  });
})();
