"use strict";

/**
 * The threshold of the ranks, and what it is relative to.
 */
const controls = (() => {
  const LEAST = -8; // log10 of the slider's ends; the number field takes any eps
  const MOST = 0;
  const DIGITS = 3; // of what the slider chooses: an eps that one can type again

  const NORMS = {
    frobenius: "Frobenius norm",
    spectral: "spectral norm",
    none: "nothing (absolute)",
  };
  const WORDS = { frobenius: "of the Frobenius norm", spectral: "of the spectral norm", none: "(absolute)" };

  const listeners = [];
  const state = { eps: data.eps[0], norm: data.norm };

  const tell = () => {
    for (const listener of listeners) listener();
  };

  /** @param {number} eps */
  const place = (eps) => (eps > 0 ? Math.min(MOST, Math.max(LEAST, Math.log10(eps))) : LEAST);

  const short = () => `ε = ${numbers.general(state.eps, 6)}`;

  /** The threshold in words. */
  const words = () => `${short()} ${WORDS[state.norm]}`;

  const made = () => {
    const slider = dom("input", {
      type: "range", id: "eps-slider", min: LEAST, max: MOST, step: 0.02,
      "aria-label": "Threshold ε, logarithmic", oninput: () => slid(),
    });
    const field = dom("input", {
      type: "text", inputmode: "decimal", id: "eps", size: 8, autocomplete: "off",
      "aria-describedby": "eps-wrong", oninput: () => typed(), onchange: () => typed(),
    });
    const norm = dom(
      "select",
      { id: "norm", onchange: () => chosen() },
      Object.entries(NORMS).map(([value, label]) => dom("option", { value }, label)),
    );
    const wrong = dom("span", { id: "eps-wrong", class: "wrong", role: "status" });
    const reset = dom("button", { type: "button", onclick: () => asked() }, "Reset");

    const show = (isTyped = false) => {
      slider.value = String(place(state.eps));
      slider.setAttribute("aria-valuetext", words());
      if (!isTyped) field.value = numbers.general(state.eps, 6);
      field.removeAttribute("aria-invalid");
      wrong.textContent = "";
      norm.value = state.norm;
      reset.disabled = state.eps === data.eps[0] && state.norm === data.norm;
    };
    const slid = () => {
      state.eps = Number((10 ** Number(slider.value)).toPrecision(DIGITS));
      show();
      tell();
    };
    const typed = () => {
      const eps = Number(field.value.trim().replace(",", "."));
      if (field.value.trim() === "" || !(eps >= 0) || eps === Infinity) {
        field.setAttribute("aria-invalid", "true");
        wrong.textContent = "expected a number of at least 0";
        return;
      }
      state.eps = eps;
      show(true);
      tell();
    };
    const chosen = () => {
      state.norm = norm.value;
      show();
      tell();
    };
    const asked = () => {
      [state.eps, state.norm] = [data.eps[0], data.norm];
      show();
      tell();
    };
    show();
    return dom(
      "form",
      { class: "controls", "aria-label": "Threshold", onsubmit: (event) => event.preventDefault() },
      dom("span", {}, dom("label", { for: "eps" }, "Threshold ε"), field),
      slider,
      dom("span", {}, dom("label", { for: "norm" }, "relative to"), norm),
      reset, wrong,
    );
  };

  return Object.freeze({
    get eps() {
      return state.eps;
    },
    get norm() {
      return state.norm;
    },
    /** Whether they are what the command was asked. */
    get asAsked() {
      return state.eps === data.eps[0] && state.norm === data.norm;
    },
    short,
    words,
    made,
    /** @param {() => void} listener called after eps or the norm has changed */
    onChange: (listener) => listeners.push(listener),
  });
})();
