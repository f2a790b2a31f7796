// What the theme makes when a page is open is given what those need who hear it or use no mouse.

const CODE_BUTTONS = "nav.md-code__nav:not([role])";
const TABLES = ".md-typeset__scrollwrap";

function help() {
  // A landmark for every copy button is none for finding one's way.
  document.querySelectorAll(CODE_BUTTONS).forEach((nav) => nav.setAttribute("role", "none"));
  // A table that is wider than the page can be scrolled by the keyboard.
  document.querySelectorAll(TABLES).forEach((table) => {
    if (table.scrollWidth > table.clientWidth) {
      table.setAttribute("tabindex", "0");
      table.setAttribute("role", "group");
      table.setAttribute("aria-label", "Table");
    } else {
      ["tabindex", "role", "aria-label"].forEach((name) => table.removeAttribute(name));
    }
  });
}

new MutationObserver(help).observe(document.body, { childList: true, subtree: true });
window.addEventListener("resize", help);
help();
