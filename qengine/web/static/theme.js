// The theme that was chosen, before anything is drawn. Without a choice the system's theme holds.
"use strict";
(() => {
  const THEMES = ["system", "light", "dark"];
  const stored = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  const current = () => (THEMES.includes(stored()) ? stored() : "system");
  const apply = (theme) => { document.documentElement.dataset.theme = theme; };
  apply(current());
  document.documentElement.classList.add("script");

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = (theme) => {
      button.textContent = { system: "\u25d0", light: "\u2600", dark: "\u263e" }[theme];
      button.title = `Theme: ${theme}`;
      button.setAttribute("aria-label", `Theme: ${theme}. Change it.`);
    };
    button.hidden = false;
    label(current());
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
      try { localStorage.setItem("theme", next); } catch { /* a private window: the choice holds for this page */ }
      apply(next);
      label(next);
      document.dispatchEvent(new Event("themechange"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();
