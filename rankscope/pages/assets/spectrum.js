"use strict";

/**
 * Spectra, unpacked from what rankscope/pages/packing.py packs.
 *
 * @typedef {object} Spectrum
 * @property {string} source
 * @property {string} name
 * @property {number | null} step
 * @property {[number, number]} shape
 * @property {string} dtype
 * @property {Float64Array} sigma descending
 * @property {number} frobeniusNorm from the entries
 * @property {number} resolution the least sigma / sigma_1 that is told from zero
 * @property {"gram" | "direct" | "factors" | "cuda" | "cuda32"} route
 * @property {number} zeros how many values at the end are exactly 0
 * @property {boolean} single whether sigma was rounded to float32
 */
const spectra = (() => {
  // Half the gap between 1 and the next float64: no route tells less of the largest value from 0.
  const ROUNDING = 2 ** -53;

  /** @param {string} text @returns {Uint8Array} */
  const fromBase64 = (text) => {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    return bytes;
  };

  /** @param {Uint8Array} bytes @returns {Promise<Uint8Array>} */
  const inflated = async (bytes) => {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  /** Float32 from planes of bytes of differences. @param {Uint8Array} planes */
  const singles = (planes) => {
    const count = planes.length / 4;
    const patterns = new Uint32Array(count);
    let pattern = 0;
    for (let i = 0; i < count; i += 1) {
      const difference =
        planes[i] |
        (planes[count + i] << 8) |
        (planes[2 * count + i] << 16) |
        (planes[3 * count + i] << 24);
      pattern = (i === 0 ? difference : pattern - difference) >>> 0;
      patterns[i] = pattern;
    }
    return new Float32Array(patterns.buffer);
  };

  /** Float64 likewise, in two halves of 32 bits. @param {Uint8Array} planes */
  const doubles = (planes) => {
    const count = planes.length / 8;
    const halves = new Uint32Array(2 * count);
    /** @param {number} i @param {number} plane */
    const half = (i, plane) =>
      (planes[plane * count + i] |
        (planes[(plane + 1) * count + i] << 8) |
        (planes[(plane + 2) * count + i] << 16) |
        (planes[(plane + 3) * count + i] << 24)) >>>
      0;
    let [low, high] = [0, 0];
    for (let i = 0; i < count; i += 1) {
      const [lowPart, highPart] = [half(i, 0), half(i, 4)];
      if (i === 0) [low, high] = [lowPart, highPart];
      else {
        const borrow = low < lowPart ? 1 : 0;
        low = (low - lowPart) >>> 0;
        high = (high - highPart - borrow) >>> 0;
      }
      halves[2 * i] = low; // little-endian, as every machine with a browser is
      halves[2 * i + 1] = high;
    }
    return new Float64Array(halves.buffer);
  };

  /** @param {object} pack @returns {Promise<Spectrum[]>} */
  const unpacked = async (pack) => {
    const planes = await inflated(fromBase64(pack.data));
    const single = pack.type === "float32";
    const numbers = single ? singles(planes) : doubles(planes);
    let start = 0;
    return pack.curves.map((head) => {
      const stop = start + Math.min(...head.shape);
      const values = numbers.subarray(start, stop);
      start = stop;
      return Object.freeze({
        source: head.source,
        name: head.name,
        step: head.step,
        shape: head.shape,
        dtype: head.dtype,
        sigma: single ? Float64Array.from(values, (share) => share * head.largest) : values,
        frobeniusNorm: head.frobenius,
        resolution: head.resolution,
        route: head.route,
        zeros: head.zeros,
        single,
      });
    });
  };

  /** Every pack of the page. @returns {Promise<Record<string, Spectrum[]>>} */
  const all = async () => {
    const names = Object.keys(data.spectra);
    const lists = await Promise.all(names.map((name) => unpacked(data.spectra[name])));
    return Object.fromEntries(names.map((name, i) => [name, lists[i]]));
  };

  return Object.freeze({ all, ROUNDING });
})();
